/// \file
/// Convolutions of which each feature is of one channel, with sixteen channels side by side in the lanes.
///
/// Some rows of sixteen channels become one row of places with sixteen numbers each, with their padding; a row of
/// outputs is then a sum of neighbours times weights, each a whole register, wherever strides and dilations put them.
#ifndef SOFIE_KERNELS_CONVOLUTION_DEPTHWISE_LANES_HXX
#define SOFIE_KERNELS_CONVOLUTION_DEPTHWISE_LANES_HXX

#include "sofie/kernels/convolution_depthwise.hxx"
#include "sofie/kernels/channel_lanes.hxx"

SOFIE_BEGIN

namespace sofie {

#ifdef SOFIE_TURN_ASSEMBLER
/// Rows of outputs, in blocks. Distances are in bytes; the assembler knows where the members are.
struct DepthwiseLanes {
   const float *x, *w, *bias;
   float *y;
   // Where each group of taps reads, and where its weights are: three, two, or one, that read neighbouring outputs'
   // inputs, so that an input is loaded once for all of them.
   const std::int32_t *taps;
   Size threes, twos, ones, apart; // How many there are, and how far apart their weights are.
   Size rows, blocks, x_row, y_row, x_block;
   float floor;
};

// clang-format off
#define SOFIE_DEPTHWISE_EACH_8(each)                                                                                \
   each(0) each(1) each(2) each(3) each(4) each(5) each(6) each(7)
#define SOFIE_DEPTHWISE_EACH_14(each)                                                                               \
   SOFIE_DEPTHWISE_EACH_8(each) each(8) each(9) each(10) each(11) each(12) each(13)
#define SOFIE_DEPTHWISE_START(a) "vmovaps %%zmm29, %%zmm" #a "\n\t"
#define SOFIE_DEPTHWISE_RESULT(a) \
   "vmaxps %%zmm" #a ", %%zmm30, %%zmm" #a "\n\tvmovups %%zmm" #a ", 64*" #a "(%[to])\n\t"
// An input, and the outputs for which the first, the second, and the third weight are.
#define SOFIE_DEPTHWISE_X(stride, t, x) "vmovups 64*" #stride "*" #t "(%[from]), %%zmm" #x "\n\t"
#define SOFIE_DEPTHWISE_W(x, w, a) "vfmadd231ps %%zmm" #x ", %%zmm" #w ", %%zmm" #a "\n\t"
#define SOFIE_DEPTHWISE_A(stride, t, x, a) SOFIE_DEPTHWISE_X(stride, t, x) SOFIE_DEPTHWISE_W(x, 16, a)
#define SOFIE_DEPTHWISE_B(stride, t, x, b) SOFIE_DEPTHWISE_X(stride, t, x) SOFIE_DEPTHWISE_W(x, 17, b)
#define SOFIE_DEPTHWISE_C(stride, t, x, c) SOFIE_DEPTHWISE_X(stride, t, x) SOFIE_DEPTHWISE_W(x, 18, c)
#define SOFIE_DEPTHWISE_AB(stride, t, x, a, b) SOFIE_DEPTHWISE_A(stride, t, x, a) SOFIE_DEPTHWISE_W(x, 17, b)
#define SOFIE_DEPTHWISE_BC(stride, t, x, b, c) SOFIE_DEPTHWISE_B(stride, t, x, b) SOFIE_DEPTHWISE_W(x, 18, c)
#define SOFIE_DEPTHWISE_ABC(stride, t, x, a, b, c) SOFIE_DEPTHWISE_AB(stride, t, x, a, b) SOFIE_DEPTHWISE_W(x, 18, c)
#define SOFIE_DEPTHWISE_ONE_1(a) "vfmadd231ps 64*" #a "(%[from]), %%zmm16, %%zmm" #a "\n\t"
#define SOFIE_DEPTHWISE_ONE_2(a) "vfmadd231ps 128*" #a "(%[from]), %%zmm16, %%zmm" #a "\n\t"
#define SOFIE_DEPTHWISE_TWO_8(stride) \
   SOFIE_DEPTHWISE_A(stride, 0, 20, 0) SOFIE_DEPTHWISE_AB(stride, 1, 21, 1, 0) \
   SOFIE_DEPTHWISE_AB(stride, 2, 22, 2, 1) SOFIE_DEPTHWISE_AB(stride, 3, 23, 3, 2) \
   SOFIE_DEPTHWISE_AB(stride, 4, 20, 4, 3) SOFIE_DEPTHWISE_AB(stride, 5, 21, 5, 4) \
   SOFIE_DEPTHWISE_AB(stride, 6, 22, 6, 5) SOFIE_DEPTHWISE_AB(stride, 7, 23, 7, 6) \
   SOFIE_DEPTHWISE_B(stride, 8, 20, 7)
#define SOFIE_DEPTHWISE_THREE_8(stride) \
   SOFIE_DEPTHWISE_A(stride, 0, 20, 0) SOFIE_DEPTHWISE_AB(stride, 1, 21, 1, 0) \
   SOFIE_DEPTHWISE_ABC(stride, 2, 22, 2, 1, 0) SOFIE_DEPTHWISE_ABC(stride, 3, 23, 3, 2, 1) \
   SOFIE_DEPTHWISE_ABC(stride, 4, 20, 4, 3, 2) SOFIE_DEPTHWISE_ABC(stride, 5, 21, 5, 4, 3) \
   SOFIE_DEPTHWISE_ABC(stride, 6, 22, 6, 5, 4) SOFIE_DEPTHWISE_ABC(stride, 7, 23, 7, 6, 5) \
   SOFIE_DEPTHWISE_BC(stride, 8, 20, 7, 6) SOFIE_DEPTHWISE_C(stride, 9, 21, 7)
#define SOFIE_DEPTHWISE_TWO_14(stride) \
   SOFIE_DEPTHWISE_A(stride, 0, 20, 0) SOFIE_DEPTHWISE_AB(stride, 1, 21, 1, 0) \
   SOFIE_DEPTHWISE_AB(stride, 2, 22, 2, 1) SOFIE_DEPTHWISE_AB(stride, 3, 23, 3, 2) \
   SOFIE_DEPTHWISE_AB(stride, 4, 20, 4, 3) SOFIE_DEPTHWISE_AB(stride, 5, 21, 5, 4) \
   SOFIE_DEPTHWISE_AB(stride, 6, 22, 6, 5) SOFIE_DEPTHWISE_AB(stride, 7, 23, 7, 6) \
   SOFIE_DEPTHWISE_AB(stride, 8, 20, 8, 7) SOFIE_DEPTHWISE_AB(stride, 9, 21, 9, 8) \
   SOFIE_DEPTHWISE_AB(stride, 10, 22, 10, 9) SOFIE_DEPTHWISE_AB(stride, 11, 23, 11, 10) \
   SOFIE_DEPTHWISE_AB(stride, 12, 20, 12, 11) SOFIE_DEPTHWISE_AB(stride, 13, 21, 13, 12) \
   SOFIE_DEPTHWISE_B(stride, 14, 22, 13)
#define SOFIE_DEPTHWISE_THREE_14(stride) \
   SOFIE_DEPTHWISE_A(stride, 0, 20, 0) SOFIE_DEPTHWISE_AB(stride, 1, 21, 1, 0) \
   SOFIE_DEPTHWISE_ABC(stride, 2, 22, 2, 1, 0) SOFIE_DEPTHWISE_ABC(stride, 3, 23, 3, 2, 1) \
   SOFIE_DEPTHWISE_ABC(stride, 4, 20, 4, 3, 2) SOFIE_DEPTHWISE_ABC(stride, 5, 21, 5, 4, 3) \
   SOFIE_DEPTHWISE_ABC(stride, 6, 22, 6, 5, 4) SOFIE_DEPTHWISE_ABC(stride, 7, 23, 7, 6, 5) \
   SOFIE_DEPTHWISE_ABC(stride, 8, 20, 8, 7, 6) SOFIE_DEPTHWISE_ABC(stride, 9, 21, 9, 8, 7) \
   SOFIE_DEPTHWISE_ABC(stride, 10, 22, 10, 9, 8) SOFIE_DEPTHWISE_ABC(stride, 11, 23, 11, 10, 9) \
   SOFIE_DEPTHWISE_ABC(stride, 12, 20, 12, 11, 10) SOFIE_DEPTHWISE_ABC(stride, 13, 21, 13, 12, 11) \
   SOFIE_DEPTHWISE_BC(stride, 14, 22, 13, 12) SOFIE_DEPTHWISE_C(stride, 15, 23, 13)
#define SOFIE_DEPTHWISE_GROUPS(count, first, next, weights, products)        \
   "mov " count "(%[of]), %[k]\n\t"                                        \
   "test %[k], %[k]\n\t"                                                  \
   "jle " next "f\n"                                                       \
   first ":\n\t"                                                          \
   "movslq (%[at]), %[from]\n\t"                                          \
   "movslq 4(%[at]), %[w]\n\t"                                            \
   "add %[x], %[from]\n\t"                                                \
   "add 8(%[of]), %[w]\n\t"                                               \
   "add $8, %[at]\n\t"                                                    \
   "vmovups (%[w]), %%zmm16\n\t"                                          \
   weights products                                                        \
   "dec %[k]\n\t"                                                         \
   "jnz " first "b\n"                                                      \
   next ":\n\t"
#define SOFIE_DEPTHWISE_LANES(columns, stride)                             \
   asm volatile(                                                           \
      "mov 16(%[of]), %[at]\n\t"                                          \
      "vmovups (%[at]), %%zmm29\n\t"                                      \
      "vbroadcastss 112(%[of]), %%zmm30\n\t"                              \
      "mov 64(%[of]), %[apart]\n"                                         \
      "1:\n\t"                                                            \
      "mov (%[of]), %[x]\n\t"                                             \
      "mov 24(%[of]), %[to]\n\t"                                          \
      "mov 80(%[of]), %[block]\n"                                         \
      "2:\n\t"                                                            \
      SOFIE_DEPTHWISE_EACH_##columns(SOFIE_DEPTHWISE_START)                \
      "mov 32(%[of]), %[at]\n\t"                                          \
      SOFIE_DEPTHWISE_GROUPS("40", "3", "4",                               \
         "vmovups (%[w],%[apart]), %%zmm17\n\tvmovups (%[w],%[apart],2), %%zmm18\n\t", SOFIE_DEPTHWISE_THREE_##columns(stride)) \
      SOFIE_DEPTHWISE_GROUPS("48", "5", "6", "vmovups (%[w],%[apart]), %%zmm17\n\t", SOFIE_DEPTHWISE_TWO_##columns(stride))     \
      SOFIE_DEPTHWISE_GROUPS("56", "7", "8", "", SOFIE_DEPTHWISE_EACH_##columns(SOFIE_DEPTHWISE_ONE_##stride))                  \
      SOFIE_DEPTHWISE_EACH_##columns(SOFIE_DEPTHWISE_RESULT)               \
      "add $64*" #columns ", %[to]\n\t"                                   \
      "add 104(%[of]), %[x]\n\t"                                          \
      "dec %[block]\n\t"                                                  \
      "jnz 2b\n\t"                                                        \
      "mov 88(%[of]), %[at]\n\t"                                          \
      "add %[at], (%[of])\n\t"                                            \
      "mov 96(%[of]), %[at]\n\t"                                          \
      "add %[at], 24(%[of])\n\t"                                          \
      "decq 72(%[of])\n\t"                                                \
      "jnz 1b\n\t"                                                        \
      : [x] "=&r"(x), [w] "=&r"(w), [to] "=&r"(to), [from] "=&r"(from), [at] "=&r"(at), [k] "=&r"(k),                  \
        [block] "=&r"(block), [apart] "=&r"(apart)                                                                      \
      : [of] "r"(&of)                                                                                                   \
      : "memory", "cc", SOFIE_ALL_PACKS)
// clang-format on

/// y = max(bias + the sum of weights times inputs, floor) for `Columns` columns at a time, perhaps more than a row has.
template <int Columns, int Stride>
SOFIE_KERNEL void depthwise_lanes_rows(DepthwiseLanes &of)
{
   static_assert(sizeof(DepthwiseLanes) == 120, "the assembler knows where its members are");
   const float *x, *w, *from;
   const std::int32_t *at;
   float *to;
   Size k, block, apart;
   if constexpr (Columns == 14 && Stride == 2)
      SOFIE_DEPTHWISE_LANES(14, 2);
   else if constexpr (Columns == 14)
      SOFIE_DEPTHWISE_LANES(14, 1);
   else if constexpr (Stride == 2)
      SOFIE_DEPTHWISE_LANES(8, 2);
   else
      SOFIE_DEPTHWISE_LANES(8, 1);
}

/// Up to sixteen channels of one event; `lines` rows of outputs at a time.
template <int Columns, int Stride>
SOFIE_KERNEL void depthwise_lanes_block(const ConvShape &s, const DepthwiseLanes &start, float *y, float *scratch,
                                        const float *x, Size channels, Size lines)
{
   constexpr Size n = 16, bytes = Size{sizeof(float)}, place = n * bytes;
   const Size pitch = lanes_pitch(s.out[2], Stride, s.kernel[2], s.dilations[2], s.pads[2], s.in[2]);
   const Size high = (s.kernel[1] - 1) * s.dilations[1] + 1;
   const bool padded = pitch != s.in[2] || s.pads[1] != 0 || (s.out[1] - 1) * s.strides[1] + high > s.in[1];
   for (Size line = 0; line < s.out[1]; line += lines) {
      const Size rows = s.out[1] - line < lines ? s.out[1] - line : lines;
      const Size first = line * s.strides[1] - s.pads[1], all = (rows - 1) * s.strides[1] + high;
      const Size begin = first < 0 ? 0 : first, last = first + all < s.in[1] ? first + all : s.in[1];
      const Size read = last > begin ? (last - begin) * s.in[2] : 0;
      float *const image = padded ? scratch + read * n : scratch;
      // Blocks at the ends of rows read and write behind them.
      float *const sums = image + (all * pitch + Columns * Stride) * n;
      channels_to_lanes(scratch, x + begin * s.in[2], s.in_channel, channels, read);
      if (padded)
         pad_lanes(image, scratch, {s.in[1], s.in[2], s.pads[2], pitch}, first, all, begin, 0);
      // Not what somebody left there: denormal numbers take long.
      fill_line_of_lanes(image + all * pitch * n, image, Columns * Stride, 0, 0, 0);
      DepthwiseLanes of = start;
      of.x = image;
      of.y = sums;
      of.rows = rows;
      of.blocks = (s.out[2] + Columns - 1) / Columns;
      of.x_row = s.strides[1] * pitch * place;
      of.y_row = s.out[2] * place;
      of.x_block = Columns * Stride * place;
      depthwise_lanes_rows<Columns, Stride>(of);
      lanes_to_channels(y + line * s.out[2], sums, s.out_channel, channels, rows * s.out[2]);
   }
}

/// The groups of taps: those of three first, then of two and of one.
SOFIE_KERNEL inline void depthwise_lanes_taps(DepthwiseLanes &of, std::int32_t *taps, const ConvShape &s)
{
   constexpr Size place = 64;
   const Size pitch = lanes_pitch(s.out[2], s.strides[2], s.kernel[2], s.dilations[2], s.pads[2], s.in[2]);
   // So many taps further on is what the next output reads at this one; no such tap is a distance beyond all.
   const Size apart = s.strides[2] % s.dilations[2] == 0 ? s.strides[2] / s.dilations[2] : s.kernel[2];
   of.taps = taps;
   of.apart = apart * place;
   Size counts[4] = {};
   for (Size together = 3; together > 0; --together)
      for (Size h = 0; h < s.kernel[1]; ++h)
         for (Size w = 0; w < s.kernel[2]; ++w) {
            // The place of a tap among those that are a multiple of that distance apart, and how many follow it.
            const Size before = w / apart, behind = (s.kernel[2] - 1 - w) / apart + 1;
            if (before % 3 != 0 || (behind < 3 ? behind : 3) != together)
               continue;
            *taps++ = static_cast<std::int32_t>((h * s.dilations[1] * pitch + w * s.dilations[2]) * place);
            *taps++ = static_cast<std::int32_t>((h * s.kernel[2] + w) * place);
            ++counts[together];
         }
   of.threes = counts[3];
   of.twos = counts[2];
   of.ones = counts[1];
}

template <int Columns, int Stride, class F>
SOFIE_KERNEL void convolve_depthwise_lanes(const F &f, const ConvShape &s, Size lines, float *y, std::int32_t *table,
                                           float *scratch, const float *x, const float *w, const float *bias)
{
   constexpr Size n = 16;
   const Size taps = s.taps();
   if (s.batch <= 0 || s.out_channel <= 0)
      return;
   alignas(64) float biases[n];
   DepthwiseLanes start{};
   depthwise_lanes_taps(start, table, s);
   start.w = scratch;
   start.bias = biases;
   start.floor = std::is_same_v<F, Relu> ? 0.0f : -__builtin_inff();
   float *const image = scratch + (taps + n - 1) / n * n * n;
   for (Size c = 0; c < s.channels; c += n) {
      const Size channels = s.channels - c < n ? s.channels - c : n;
      channels_to_lanes(scratch, w + c * taps, taps, channels, taps);
      for (Size i = 0; i < n; ++i)
         biases[i] = bias ? bias[c + (i < channels ? i : channels - 1)] : 0;
      for (Size event = 0; event < s.batch; ++event) {
         float *const to = y + (event * s.channels + c) * s.out_channel;
         depthwise_lanes_block<Columns, Stride>(s, start, to, image, x + event * s.in_event + c * s.in_channel,
                                                channels, lines);
         if constexpr (!std::is_same_v<F, Relu> && !std::is_same_v<F, Identity>)
            conv_depthwise_apply(f, to, channels * s.out_channel);
      }
   }
}
#endif

/// The same as `depthwise_convolution`, of floats; so many rows of outputs are computed together, in blocks of so many
/// columns.
template <int Columns, int Stride, class F, class Y, class Table, class Scratch, class X, class W, class... B>
SOFIE_INLINE void depthwise_lanes(const F &f, Size lines, const Sizes<4> &counts, const Sizes<3> &in,
                                  const Sizes<3> &kernel, const Sizes<3> &out, const Sizes<3> &strides,
                                  const Sizes<3> &dilations, const Sizes<3> &pads, Y y, Table table, Scratch scratch,
                                  X x, W w, B... b)
{
#ifdef SOFIE_TURN_ASSEMBLER
   ConvShape s{counts[0], counts[1], counts[2], counts[3], in, kernel, out, strides, dilations, pads, 0, 0, 0, 0, 0, 0};
   s.in_channel = ConvShape::product(in);
   s.out_channel = ConvShape::product(out);
   s.in_event = s.channels * s.in_channel;
   convolve_depthwise_lanes<Columns, Stride>(f, s, lines, y.data(), table.data(), scratch.data(),
                                             static_cast<const float *>(x.data()), static_cast<const float *>(w.data()),
                                             conv_optional<float>(b...));
#else
   depthwise_convolution(f, counts, in, kernel, out, strides, dilations, pads, y, table, x, w, b...);
#endif
}

} // namespace sofie

SOFIE_END

#endif
