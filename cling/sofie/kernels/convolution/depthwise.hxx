/// \file
/// Convolutions of which each feature is of one channel: a sum of rows of the input, read where they are.
///
/// A table says for each pack of outputs which inputs each tap reads and which of its lanes exist; it is
/// made once and serves all channels. Of few places many events lie in the lanes instead, with the same bits.
#ifndef SOFIE_KERNELS_CONVOLUTION_DEPTHWISE_HXX
#define SOFIE_KERNELS_CONVOLUTION_DEPTHWISE_HXX

#include "sofie/kernels/convolution.hxx"
#include "sofie/kernels/elementwise.hxx"
#include "sofie/kernels/transpose/window_lanes.hxx"

SOFIE_BEGIN

namespace sofie {

/// A pack of outputs: where the first is, and how many there are.
struct ConvDepthwisePack {
   Size line, column, count;
};

/// Bit i becomes bit 2 * i.
SOFIE_INLINE std::uint32_t conv_depthwise_apart(std::uint32_t bits)
{
   bits = (bits | bits << 8) & 0x00ff00ff;
   bits = (bits | bits << 4) & 0x0f0f0f0f;
   bits = (bits | bits << 2) & 0x33333333;
   return (bits | bits << 1) & 0x55555555;
}

/// The outputs of a pack for which the input of a tap exists, as bits. Rows of outputs follow each other.
SOFIE_INLINE std::uint32_t conv_depthwise_lanes(const ConvShape &s, const ConvDepthwisePack &pack, Size top, Size left)
{
   std::uint32_t bits = 0;
   Size column = pack.column;
   for (Size lane = 0, line = pack.line; lane < pack.count; ++line, column = 0) {
      const Size rest = s.out[2] - column, some = rest < pack.count - lane ? rest : pack.count - lane;
      const Size h = line * s.strides[1] + top, w = column * s.strides[2] + left;
      const Size begin = conv_below(w, s.strides[2], some, 0), end = conv_below(w, s.strides[2], some, s.in[2]);
      if (h >= 0 && h < s.in[1] && end > begin)
         bits |= ((std::uint32_t{1} << (end - begin)) - 1) << (lane + begin);
      lane += some;
   }
   return bits;
}

/// For each pack the bytes of its taps, its lanes as bits, and where its outputs are; for each tap where
/// its inputs are, which of them exist, and where its weight is. Places are in bytes. The result is how
/// many packs there are.
template <class T>
SOFIE_KERNEL Size conv_depthwise_table(const ConvShape &s, std::int32_t *to)
{
   constexpr Size n = lanes<T>, bytes = static_cast<Size>(sizeof(T));
   // Where a row of outputs is as long as one of inputs, a pack may go on in the next one.
   const bool flat = s.strides[1] == 1 && s.strides[2] == 1 && s.out[2] == s.in[2];
   const Size row = flat ? s.out[1] * s.out[2] : s.out[2], rows = flat ? 1 : s.out[1];
   Size packs = 0;
   for (Size r = 0; r < rows; ++r)
      for (Size i = 0; i < row; i += n, ++packs) {
         const ConvDepthwisePack pack{r + i / s.out[2], i % s.out[2], row - i < n ? row - i : n};
         *to++ = static_cast<std::int32_t>(s.taps() * 3 * static_cast<Size>(sizeof(*to)));
         *to++ = static_cast<std::int32_t>((std::uint32_t{1} << pack.count) - 1);
         *to++ = static_cast<std::int32_t>((pack.line * s.out[2] + pack.column) * bytes);
         for (Size h = 0; h < s.kernel[1]; ++h)
            for (Size w = 0; w < s.kernel[2]; ++w, to += 3) {
               const Size top = h * s.dilations[1] - s.pads[1], left = w * s.dilations[2] - s.pads[2];
               const std::uint32_t lanes_of = conv_depthwise_lanes(s, pack, top, left);
               const Size line = pack.line * s.strides[1] + top, column = pack.column * s.strides[2] + left;
               to[0] = static_cast<std::int32_t>((line * s.in[2] + column) * bytes);
               to[1] = static_cast<std::int32_t>(s.strides[2] == 2 ? conv_depthwise_apart(lanes_of) : lanes_of);
               to[2] = static_cast<std::int32_t>((h * s.kernel[2] + w) * bytes);
            }
      }
   return packs;
}

/// So many channels are summed up side by side.
inline constexpr Size conv_depthwise_channels = 4;

/// Some channels: the table, and the bytes from one to the next of inputs, weights and outputs.
template <class T>
struct ConvDepthwiseRun {
   const std::int32_t *table;
   Size packs, in, weights, out;
   T start[conv_depthwise_channels];
   T floor;
};

#ifdef SOFIE_TILE_ASSEMBLER
// clang-format off
// What differs: masks of a pack's results and of a tap's inputs, which AVX2 has as lanes whose bits are set, where `bits`
// has one bit for each; how every second of two packs is taken; and results of which some exist.
#define SOFIE_DEPTHWISE_LOADS(load, behind, mask, a, b, c, d)                                                      \
   load(behind "(%[from])", a, mask) load(behind "(%[from],%[in])", b, mask)                                       \
   load(behind "(%[from],%[in],2)", c, mask) load(behind "(%[from],%[in3])", d, mask)
#define SOFIE_DEPTHWISE_PUTS(put)                                                                                  \
   put(0, "(%[place])") put(1, "(%[place],%[at])") put(2, "(%[place],%[at],2)") put(3, "(%[place],%[from])")
#ifdef SOFIE_AVX512_ASSEMBLER
#define SOFIE_DEPTHWISE_BEGIN "vmovups (%[at]), %%zmm6\n"
#define SOFIE_DEPTHWISE_EXIST "kmovw 4(%[table]), %%k2\n\t"
#define SOFIE_DEPTHWISE_LOAD(place, a, mask) "vmovups " place ", %%zmm" #a "%{%%k" #mask "%}%{z%}\n\t"
#define SOFIE_DEPTHWISE_INPUTS "kmovw 4(%[table]), %%k1\n\t" SOFIE_DEPTHWISE_LOADS(SOFIE_DEPTHWISE_LOAD, "", 1, 8, 9, 10, 11)
#define SOFIE_DEPTHWISE_EVEN(a, b) "vpermt2ps %%zmm" #b ", %%zmm6, %%zmm" #a "\n\t"
#define SOFIE_DEPTHWISE_MORE "kmovw 6(%[table]), %%k3\n\t" SOFIE_DEPTHWISE_LOADS(SOFIE_DEPTHWISE_LOAD, "64", 3, 12, 13, 14, 15)
#define SOFIE_DEPTHWISE_ADD(place, x, a) "vfmadd231ps " place "%{1to16%}, %%zmm" #x ", %%zmm" #a "\n\t"
#define SOFIE_DEPTHWISE_PUT(a, place) "vmovups %%zmm" #a ", " place "%{%%k2%}\n\t"
#define SOFIE_DEPTHWISE_RESULTS "lea (%[at],%[at],2), %[from]\n\t" SOFIE_DEPTHWISE_PUTS(SOFIE_DEPTHWISE_PUT)
#define SOFIE_DEPTHWISE_REGISTERS                                                                                  \
   "k1", "k2", "k3", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm6", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",     \
      "xmm13", "xmm14", "xmm15"
#else
#define SOFIE_DEPTHWISE_BEGIN "vmovups (%[at]), %%ymm6\n\tvmovups 32(%[at]), %%ymm7\n"
#define SOFIE_DEPTHWISE_MASK(bits, of, mask) \
   "vpand %%ymm" #bits ", %%ymm" #of ", %%ymm" #mask "\n\tvpcmpeqd %%ymm" #bits ", %%ymm" #mask ", %%ymm" #mask "\n\t"
#define SOFIE_DEPTHWISE_EXIST "vpbroadcastd 4(%[table]), %%ymm5\n\t" SOFIE_DEPTHWISE_MASK(6, 5, 5)
#define SOFIE_DEPTHWISE_LOAD(place, a, mask) "vmaskmovps " place ", %%ymm" #mask ", %%ymm" #a "\n\t"
#define SOFIE_DEPTHWISE_INPUTS                                                                                     \
   "vpbroadcastd 4(%[table]), %%ymm4\n\t"                                                                          \
   SOFIE_DEPTHWISE_MASK(6, 4, 13) SOFIE_DEPTHWISE_LOADS(SOFIE_DEPTHWISE_LOAD, "", 13, 8, 9, 10, 11)
#define SOFIE_DEPTHWISE_EVEN(a, b) \
   "vshufps $0x88, %%ymm" #b ", %%ymm" #a ", %%ymm" #a "\n\tvpermpd $0xd8, %%ymm" #a ", %%ymm" #a "\n\t"
#define SOFIE_DEPTHWISE_MORE SOFIE_DEPTHWISE_MASK(7, 4, 15) SOFIE_DEPTHWISE_LOADS(SOFIE_DEPTHWISE_LOAD, "32", 15, 12, 13, 14, 15)
#define SOFIE_DEPTHWISE_ADD(place, x, a) \
   "vbroadcastss " place ", %%ymm12\n\tvfmadd231ps %%ymm12, %%ymm" #x ", %%ymm" #a "\n\t"
// A masked store takes tens of cycles on some CPUs: most packs are whole.
#define SOFIE_DEPTHWISE_PUT(a, place) "vmovups %%ymm" #a ", " place "\n\t"
#define SOFIE_DEPTHWISE_PUT_SOME(a, place) "vmaskmovps %%ymm" #a ", %%ymm5, " place "\n\t"
#define SOFIE_DEPTHWISE_RESULTS                                                                                    \
   "vmovmskps %%ymm5, %k[from]\n\t"                                                                                \
   "cmp $255, %k[from]\n\t"                                                                                        \
   "lea (%[at],%[at],2), %[from]\n\t"                                                                              \
   "jne 3f\n\t"                                                                                                    \
   SOFIE_DEPTHWISE_PUTS(SOFIE_DEPTHWISE_PUT)                                                                       \
   "jmp 4f\n"                                                                                                      \
   "3:\n\t"                                                                                                        \
   SOFIE_DEPTHWISE_PUTS(SOFIE_DEPTHWISE_PUT_SOME)                                                                  \
   "4:\n\t"
#define SOFIE_DEPTHWISE_REGISTERS SOFIE_ALL_YMM
#endif
#define SOFIE_DEPTHWISE_SECOND                                                                                     \
   SOFIE_DEPTHWISE_MORE                                                                                            \
   SOFIE_DEPTHWISE_EVEN(8, 12) SOFIE_DEPTHWISE_EVEN(9, 13) SOFIE_DEPTHWISE_EVEN(10, 14) SOFIE_DEPTHWISE_EVEN(11, 15)
#define SOFIE_DEPTHWISE_START(a) "vbroadcastss %c[run_start]+4*" #a "(%[run]), " SOFIE_PACK(a) "\n\t"
#define SOFIE_DEPTHWISE_FLOOR(a) "vmaxps " SOFIE_PACK(a) ", " SOFIE_PACK(4) ", " SOFIE_PACK(a) "\n\t"
#define SOFIE_DEPTHWISE(second)                                                                                    \
   asm volatile(                                                                                                   \
      SOFIE_DEPTHWISE_BEGIN                                                                                        \
      "1:\n\t"                                                                                                     \
      SOFIE_DEPTHWISE_START(0) SOFIE_DEPTHWISE_START(1) SOFIE_DEPTHWISE_START(2) SOFIE_DEPTHWISE_START(3)          \
      "movslq (%[table]), %[end]\n\t"                                                                              \
      SOFIE_DEPTHWISE_EXIST                                                                                        \
      "lea 12(%[table],%[end]), %[end]\n\t"                                                                        \
      "movslq 8(%[table]), %[place]\n\t"                                                                           \
      "add $12, %[table]\n"                                                                                        \
      "2:\n\t"                                                                                                     \
      "movslq (%[table]), %[from]\n\t"                                                                             \
      "movslq 8(%[table]), %[at]\n\t"                                                                              \
      "add %[x], %[from]\n\t"                                                                                      \
      "add %[w], %[at]\n\t"                                                                                        \
      SOFIE_DEPTHWISE_INPUTS                                                                                       \
      second                                                                                                       \
      SOFIE_DEPTHWISE_ADD("(%[at])", 8, 0)                                                                         \
      SOFIE_DEPTHWISE_ADD("(%[at],%[weights])", 9, 1)                                                              \
      SOFIE_DEPTHWISE_ADD("(%[at],%[weights],2)", 10, 2)                                                           \
      SOFIE_DEPTHWISE_ADD("(%[at],%[weights3])", 11, 3)                                                            \
      "add $12, %[table]\n\t"                                                                                      \
      "cmp %[end], %[table]\n\t"                                                                                   \
      "jne 2b\n\t"                                                                                                 \
      "vbroadcastss %c[run_floor](%[run]), " SOFIE_PACK(4) "\n\t"                                                  \
      SOFIE_DEPTHWISE_FLOOR(0) SOFIE_DEPTHWISE_FLOOR(1) SOFIE_DEPTHWISE_FLOOR(2) SOFIE_DEPTHWISE_FLOOR(3)          \
      "mov %c[run_out](%[run]), %[at]\n\t"                                                                         \
      "add %[y], %[place]\n\t"                                                                                     \
      SOFIE_DEPTHWISE_RESULTS                                                                                      \
      "decq %[packs]\n\t"                                                                                          \
      "jnz 1b\n\t"                                                                                                 \
      : [table] "+&r"(table), [packs] "+m"(packs), [end] "=&r"(end), [place] "=&r"(place), [at] "+&r"(at),         \
        [from] "=&r"(from)                                                                                         \
      : [x] "r"(x), [w] "r"(w), [y] "m"(y), [run] "r"(&run), [in] "r"(run.in), [in3] "r"(3 * run.in),              \
        [weights] "r"(run.weights), [weights3] "r"(3 * run.weights),                                               \
        SOFIE_MEMBERS(run, ConvDepthwiseRun<float>, start, floor, out)                                             \
      : "memory", "cc", SOFIE_DEPTHWISE_REGISTERS)
// clang-format on

/// y = max(start + the sum of weights times inputs, floor) for four channels
template <int Stride>
SOFIE_KERNEL void conv_depthwise_some(float *y, const float *x, const float *w, const ConvDepthwiseRun<float> &run)
{
#ifdef SOFIE_AVX512_ASSEMBLER
   static const std::int32_t order[] = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
#else
   static const std::int32_t order[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
#endif
   const std::int32_t *table = run.table, *end, *at = order;
   const float *from;
   Size packs = run.packs, place;
   if constexpr (Stride == 2)
      SOFIE_DEPTHWISE(SOFIE_DEPTHWISE_SECOND);
   else
      SOFIE_DEPTHWISE("");
}
#endif

/// The inputs of a tap that exist, and zeros; nothing else is read.
template <int Stride, class T>
SOFIE_INLINE Pack<T> conv_depthwise_inputs(const T *from, std::uint32_t exists)
{
   constexpr int n = lanes<T>;
   alignas(64) T read[n] = {};
   if (Stride == 1 && exists == (std::uint32_t{1} << n) - 1)
      return load<n>(from);
   for (int i = 0; i < n; ++i)
      if (exists >> (i * Stride) & 1)
         read[i] = from[i * Stride];
   return load<n>(read);
}

template <int Stride, class T>
SOFIE_KERNEL void conv_depthwise_some(T *y, const T *x, const T *w, const ConvDepthwiseRun<T> &run)
{
   constexpr Size bytes = static_cast<Size>(sizeof(T)), entry = static_cast<Size>(sizeof(std::int32_t));
   const Pack<T> least = splat<Pack<T>>(run.floor);
   for (Size c = 0; c < conv_depthwise_channels; ++c) {
      const std::int32_t *each = run.table;
      for (Size pack = 0; pack < run.packs; ++pack) {
         const std::int32_t *const head = each;
         each += 3;
         Pack<T> sum = splat<Pack<T>>(run.start[c]);
         for (const std::int32_t *const end = each + head[0] / entry; each != end; each += 3)
            sum = accumulate(sum, w[each[2] / bytes],
                             conv_depthwise_inputs<Stride>(x + each[0] / bytes, static_cast<std::uint32_t>(each[1])));
         Size count = 0;
         while (head[1] >> count)
            ++count;
         store_some(y + head[2] / bytes, select(sum < least, least, sum), count);
      }
      // Fewer channels are done one by one.
      if (run.out == 0)
         return;
      x += run.in / bytes;
      w += run.weights / bytes;
      y += run.out / bytes;
   }
}

#ifdef SOFIE_TILE_ASSEMBLER
/// The places of inputs and outputs, and the taps, of events that lie in the lanes, at most.
inline constexpr Size depthwise_inputs = 64, depthwise_outputs = 16, depthwise_taps = 64;

/// A tap: how far it is from the first one, and which one it is.
struct DepthwiseTap {
   Size down, along, tap;
};

/// For each output the inputs that exist, a row of packs each, and their weights, in the order of `taps`.
SOFIE_KERNEL inline void depthwise_list(const ConvShape &s, std::int32_t *to, const DepthwiseTap *taps, Size row)
{
   for (Size i = 0; i < s.out[1]; ++i)
      for (Size j = 0; j < s.out[2]; ++j) {
         std::int32_t *const head = to++;
         const Size top = i * s.strides[1] - s.pads[1], left = j * s.strides[2] - s.pads[2];
         for (const DepthwiseTap *tap = taps; tap != taps + s.taps(); ++tap) {
            const Size h = top + tap->down, w = left + tap->along;
            if (h < 0 || h >= s.in[1] || w < 0 || w >= s.in[2])
               continue;
            *to++ = static_cast<std::int32_t>((h * s.in[2] + w) * row);
            *to++ = static_cast<std::int32_t>(tap->tap * Size{sizeof(float)});
         }
         *head = static_cast<std::int32_t>((to - head - 1) * Size{sizeof(*to)});
      }
}

/// Events in the lanes, where places are few; false where that does not pay. `Tied` is in which order taps are added:
/// up to so many that read neighbouring outputs' inputs come together (see `grouped_taps`), or 1.
template <int Tied, class F>
SOFIE_KERNEL bool depthwise_events(const F &f, const ConvShape &s, float *y, const float *x, const float *w,
                                   const float *bias)
{
   constexpr Size bytes = static_cast<Size>(sizeof(float));
   const Size packs = window_packs_of(s.batch, s.in_channel, s.out_channel);
   if (packs == 0 || s.in_channel > depthwise_inputs || s.out_channel > depthwise_outputs || s.taps() > depthwise_taps)
      return false;
   DepthwiseTap taps[depthwise_taps], *to = taps;
   std::int32_t list[depthwise_outputs * (2 * depthwise_taps + 1)];
   const Size apart = Tied > 1 && s.strides[2] % s.dilations[2] == 0 ? s.strides[2] / s.dilations[2] : s.kernel[2];
   for (Size tied = Tied; tied > 0; --tied)
      for (Size down = 0; down < s.kernel[1]; ++down)
         for (Size along = 0; along < s.kernel[2]; ++along) {
            const Size behind = (s.kernel[2] - 1 - along) / apart + 1;
            if (along / apart % Tied != 0 || (behind < Tied ? behind : Tied) != tied)
               continue;
            for (Size i = along; i < along + tied * apart; i += apart)
               *to++ = {down * s.dilations[1], i * s.dilations[2], down * s.kernel[2] + i};
         }
   depthwise_list(s, list, taps, packs * lanes<float> * bytes);
   const float none = 0;
   const WindowItems items{s.batch, s.in_event, s.out_event,         s.channels, s.in_channel, s.out_channel,
                           list,    w,          bias ? bias : &none, s.taps(),   bias ? 1 : 0, conv_floor<F>};
   if (packs > 1)
      window_items<false, window_packs>(items, y, x);
   else
      window_items<false, 1>(items, y, x);
   if constexpr (!is_in_tile<F>)
      apply_function(f, y, y, s.batch * s.out_event);
   return true;
}
#endif

template <class F, class T>
SOFIE_KERNEL void convolve_depthwise(const F &f, const ConvShape &s, T *y, std::int32_t *table, const T *x, const T *w,
                                     const T *bias)
{
#ifdef SOFIE_TILE_ASSEMBLER
   if constexpr (std::is_same_v<T, float>)
      if (depthwise_events<1>(f, s, y, x, w, bias))
         return;
#endif
   const Size packs = s.out_channel > 0 && s.batch > 0 ? conv_depthwise_table<T>(s, table) : 0;
   constexpr Size most = conv_depthwise_channels, bytes = static_cast<Size>(sizeof(T));
   const Size taps = s.taps(), whole = s.features / most * most;
   for (Size event = 0; event < s.batch && packs; ++event)
      for (Size m = 0; m < s.features;) {
         // Fewer channels are done one by one, as if there were several that are the same.
         const Size some = m < whole ? most : 1, next = m < whole ? bytes : 0;
         ConvDepthwiseRun<T> run{table, packs,           next * s.in_channel, next * taps, next * s.out_channel,
                                 {},    conv_floor<F, T>};
         for (Size i = 0; i < most && bias; ++i)
            run.start[i] = bias[next ? m + i : m];
         if (s.strides[2] == 2)
            conv_depthwise_some<2>(y, x, w + m * taps, run);
         else
            conv_depthwise_some<1>(y, x, w + m * taps, run);
         if constexpr (!is_in_tile<F>)
            apply_function(f, y, y, some * s.out_channel);
         m += some;
         y += some * s.out_channel;
         x += some * s.in_channel;
      }
}

/// y = f(convolution(x, w) + b) with as many groups as channels and features, two axes of space at most,
/// and strides of 1 or 2 along the last one; b may be absent.
template <class F, class Y, class Table, class X, class W, class... B>
SOFIE_INLINE void depthwise_convolution(const F &f, const ConvSizes &sizes, Y y, Table table, X x, W w, B... b)
{
   using T = typename Y::Element;
   const ConvShape s = conv_plain_shape(sizes);
   convolve_depthwise(f, s, y.data(), table.data(), static_cast<const T *>(x.data()), static_cast<const T *>(w.data()),
                      conv_optional<T>(b...));
}

} // namespace sofie

SOFIE_END

#endif
