/// \file
/// Transposed convolutions with up to four features.
///
/// Rows of outputs that are a stride apart are a convolution of rows of the input: with every stride-th tap along the
/// columns, and with all taps along a row as if they were features. What an output gets of the taps along a row is
/// added up afterwards. Channels are copied with zeros behind each row, so that one row follows the other in a tile,
/// however long they are.
#ifndef SOFIE_KERNELS_CONVOLUTION_TRANSPOSED_FEW_FEATURES_HXX
#define SOFIE_KERNELS_CONVOLUTION_TRANSPOSED_FEW_FEATURES_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/convolution/few_features.hxx"
#include "sofie/kernels/convolution/transposed.hxx"

SOFIE_BEGIN

namespace sofie {

/// How many of the products that are left go through a tile together.
SOFIE_INLINE Size few_together(Size left)
{
   return left > 2 ? 4 : left;
}

/// W[C, M, kernel...] and b[M], packed for `few_transposed_convolution`: for each phase of the rows, and up to four
/// features and taps along a row, the weights of all taps along the columns and all channels. Where some are not
/// finite, which zeros around the input must not meet, or without the assembler, there are none but those of
/// `transposed_convolution`.
template <class T, Size Stride>
class FewTransposedWeights : public ConvTransposedWeights<T, 1> {
   Buffer<T> taps_;
   Buffer<T> bias_ = Buffer<T>(4);

   template <class W>
   void pack([[maybe_unused]] W w)
   {
#ifdef SOFIE_AVX512_ASSEMBLER
      const Size channels = w.template extent<0>(), features = w.template extent<1>();
      const Size width = w.template extent<W::rank - 1>(), rows = features * width;
      const Size height = w.size() / (channels * rows);
      for (Size i = 0; i < w.size(); ++i)
         if (!(w.data()[i] - w.data()[i] == 0))
            return;
      taps_ = Buffer<T>(channels * height * (rows + 1));
      T *to = taps_.data();
      for (Size phase = 0; phase < Stride; ++phase)
         for (Size row = 0; row < rows; row += 4) {
            const Size some = few_together(rows - row);
            for (Size tap = phase; tap < height; tap += Stride)
               for (Size c = 0; c < channels; ++c, to += some)
                  for (Size r = 0; r < some && row + r < rows; ++r) {
                     const Size feature = (row + r) / width, place = (row + r) % width;
                     to[r] = w.data()[((c * features + feature) * height + tap) * width + place];
                  }
         }
#endif
   }

public:
   template <class W>
   explicit FewTransposedWeights(W w) : ConvTransposedWeights<T, 1>(w)
   {
      pack(w);
   }
   template <class W, class B>
   FewTransposedWeights(W w, B b) : ConvTransposedWeights<T, 1>(w, b)
   {
      pack(w);
      for (Size m = 0; m < b.size(); ++m)
         bias_.data()[m] = b.data()[m];
   }
   SOFIE_INLINE const T *taps() const { return taps_.size() ? taps_.data() : nullptr; }
   SOFIE_INLINE const T *added() const { return bias_.data(); }
};

#ifdef SOFIE_AVX512_ASSEMBLER

/// So many numbers are behind the copied input, and before and behind the sums of a row: packs are read whole.
inline constexpr Size few_margin = 16;

/// One axis: output number i of a phase is the sum over its taps t of the inputs first + i - t.
struct FewAxis {
   Size in, out, kernel, stride, pad;
   Size before, all; // Zeros in front of the input, and all numbers with these and those behind it.

   SOFIE_INLINE Size first(Size phase) const { return phase < pad ? (pad - phase + stride - 1) / stride : 0; }
   /// Where the first output of a phase is.
   SOFIE_INLINE Size begin(Size phase) const { return first(phase) * stride + phase - pad; }
   /// How many outputs and taps a phase has.
   SOFIE_INLINE Size count(Size phase) const
   {
      return begin(phase) < out ? (out - begin(phase) + stride - 1) / stride : 0;
   }
   SOFIE_INLINE Size taps(Size phase) const { return phase < kernel ? (kernel - phase + stride - 1) / stride : 0; }
};

/// With zeros on either side, or, where rows follow each other, with those that are behind one row and before the next.
SOFIE_KERNEL inline FewAxis few_axis(const ConvShape &s, int axis, bool rows_follow)
{
   FewAxis of{s.in[axis], s.out[axis], s.kernel[axis], s.strides[axis], s.pads[axis], 0, 0};
   const Size least = of.pad / of.stride, largest = (of.out - 1 + of.pad) / of.stride, taps = of.taps(0);
   const Size before = taps - 1 > least ? taps - 1 - least : 0, behind = largest >= of.in ? largest + 1 - of.in : 0;
   of.before = rows_follow ? 0 : before;
   of.all = of.in + (!rows_follow ? before + behind : before > behind ? before : behind);
   // Few zeros more, and no load of a pack crosses a cache line.
   const Size lines = ceil_div(of.all, few_margin) * few_margin;
   of.all = rows_follow && 7 * lines <= 8 * of.all ? lines : of.all;
   return of;
}

/// Rows of `count` numbers, to places that are further apart, and zeros between them. Packs that reach into the next
/// row come first.
SOFIE_KERNEL inline void few_copy(float *to, Size to_step, const float *from, Size rows, Size count)
{
   constexpr Size n = lanes<float>, bytes = static_cast<Size>(sizeof(float));
   const Size to_next = to_step * bytes, from_next = count * bytes;
   for (Size at = (to_step - 1) / n * n; at >= 0; at -= n) {
      const std::int32_t mask = static_cast<std::int32_t>(mask_of_pack(count - at));
      float *row = to + at;
      const float *source = from + at;
      Size left = rows;
      asm volatile("kmovw %[mask], %%k1\n"
                   "1:\n\t"
                   "vmovups (%[source]), %%zmm0%{%%k1%}%{z%}\n\t"
                   "vmovups %%zmm0, (%[row])\n\t"
                   "add %[from], %[source]\n\t"
                   "add %[to], %[row]\n\t"
                   "dec %[left]\n\t"
                   "jnz 1b\n\t"
                   : [row] "+&r"(row), [source] "+&r"(source), [left] "+&r"(left)
                   : [mask] "r"(mask), [from] "r"(from_next), [to] "r"(to_next)
                   : "memory", "cc", "k1", "xmm0");
   }
}

/// to[i] = 0 for i < count, and perhaps for some more
SOFIE_INLINE void few_zeros(float *to, Size count)
{
   for (Size i = 0; i < count; i += lanes<float>)
      store(to + i, Pack<float>{});
}

/// The products of some rows of taps with copied inputs; sums of two of them are `apart`.
struct FewProducts {
   const float *x, *w;
   const std::int32_t *offsets;
   Size depth, columns, rows, apart;
   float *sums;
};

/// sums[m][j] = sum_k w[k][m] * x[offsets[k] + j]
template <int Rows>
SOFIE_KERNEL void few_products(const FewProducts &of)
{
   constexpr Size width = ConvTile<float, Rows>::width, bytes = static_cast<Size>(sizeof(float));
   const float zeros[Rows] = {};
   for (Size at = 0; at < of.columns;) {
      // Tiles side by side that are full, then one of the rest.
      const Size full = (of.columns - at) / width, tiles = full > 0 ? full : 1;
      ConvFewTiles run{};
      run.end.y = of.sums + at;
      run.end.bias = zeros;
      run.end.stride = of.apart * bytes;
      run.end.rows = of.rows;
      run.end.floor = -__builtin_inff();
      run.x_step = run.y_step = width * bytes;
      run.tiles = tiles;
      conv_few_columns(run, full > 0 ? width : of.columns - at);
      conv_few_tiles<Rows>(of.w, of.x + at, of.offsets, of.depth, run);
      at += tiles * width;
   }
}

/// Up to two packs of some rows of the output of a feature, and of the sums for them, for even and for odd places, or
/// for all. Distances are in bytes: from row to row, and from the sums of a tap to those of the next one of that phase.
struct FewRows {
   float *y;
   Size step, rows;
   const float *even, *odd;
   Size pitch, next, even_taps, odd_taps;
   std::int32_t mask, second_mask; // Which places of a pack y has.
   float bias, floor;
};

/// y[r][j] = max(bias + sums, floor), or in turn those of even and odd places
SOFIE_KERNEL inline void few_rows(const FewRows &of)
{
   alignas(64) const std::int32_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                               8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
   const float *even, *odd, *sums;
   float *y;
   Size rows, taps;
   asm volatile(
      "mov %c[of_y](%[of]), %[y]\n\t"
      "mov %c[of_rows](%[of]), %[rows]\n\t"
      "mov %c[of_even](%[of]), %[even]\n\t"
      "mov %c[of_odd](%[of]), %[odd]\n\t"
      "kmovw %c[of_mask](%[of]), %%k1\n\t"
      "kmovw %c[of_second_mask](%[of]), %%k2\n\t"
      "vbroadcastss %c[of_bias](%[of]), %%zmm6\n\t"
      "vbroadcastss %c[of_floor](%[of]), %%zmm7\n\t"
      "vmovups (%[order]), %%zmm4\n\t"
      "vmovups 64(%[order]), %%zmm5\n"
      "1:\n\t"
      "vmovaps %%zmm6, %%zmm0\n\t"
      "mov %[even], %[sums]\n\t"
      "mov %c[of_even_taps](%[of]), %[taps]\n\t"
      "test %[taps], %[taps]\n\t"
      "jz 3f\n"
      "2:\n\t"
      "vaddps (%[sums]), %%zmm0, %%zmm0\n\t"
      "add %c[of_next](%[of]), %[sums]\n\t"
      "dec %[taps]\n\t"
      "jnz 2b\n"
      "3:\n\t"
      // What is there where that is NaN.
      "vmaxps %%zmm0, %%zmm7, %%zmm0\n\t"
      "test %[odd], %[odd]\n\t"
      "jz 6f\n\t"
      "vmovaps %%zmm6, %%zmm1\n\t"
      "mov %[odd], %[sums]\n\t"
      "mov %c[of_odd_taps](%[of]), %[taps]\n\t"
      "test %[taps], %[taps]\n\t"
      "jz 5f\n"
      "4:\n\t"
      "vaddps (%[sums]), %%zmm1, %%zmm1\n\t"
      "add %c[of_next](%[of]), %[sums]\n\t"
      "dec %[taps]\n\t"
      "jnz 4b\n"
      "5:\n\t"
      "vmaxps %%zmm1, %%zmm7, %%zmm1\n\t"
      "vmovaps %%zmm0, %%zmm2\n\t"
      "vpermt2ps %%zmm1, %%zmm4, %%zmm0\n\t"
      "vpermt2ps %%zmm1, %%zmm5, %%zmm2\n\t"
      "vmovups %%zmm2, 64(%[y])%{%%k2%}\n\t"
      "add %c[of_pitch](%[of]), %[odd]\n"
      "6:\n\t"
      "vmovups %%zmm0, (%[y])%{%%k1%}\n\t"
      "add %c[of_pitch](%[of]), %[even]\n\t"
      "add %c[of_step](%[of]), %[y]\n\t"
      "dec %[rows]\n\t"
      "jnz 1b\n\t"
      : [y] "=&r"(y), [rows] "=&r"(rows), [even] "=&r"(even), [odd] "=&r"(odd), [sums] "=&r"(sums), [taps] "=&r"(taps)
      : [of] "r"(&of),
        SOFIE_MEMBERS(of, FewRows, y, step, rows, even, odd, pitch, next, even_taps, odd_taps, mask, second_mask, bias,
                      floor),
        [order] "r"(order)
      : "memory", "cc", "k1", "k2", "xmm0", "xmm1", "xmm2", "xmm4", "xmm5", "xmm6", "xmm7");
}

/// A phase of the rows of an event; x is its copied input, `w` the weights of the phase.
struct FewPhase {
   const FewAxis &height, &width;
   Size phase;
   const float *x, *w;
   float *sums;
   std::int32_t *offsets;
};

/// Its products; the result are the weights of the next phase.
SOFIE_KERNEL inline const float *few_phase_products(const ConvShape &s, const FewPhase &of, Size apart)
{
   const Size pitch = of.width.all, first = of.height.first(of.phase) + of.height.before,
              taps = of.height.taps(of.phase);
   Size depth = 0;
   for (Size t = 0; t < taps; ++t)
      for (Size c = 0; c < s.channels; ++c)
         of.offsets[depth++] = static_cast<std::int32_t>((c * of.height.all + first - t) * pitch);
   const Size rows = s.features * of.width.kernel, columns = of.height.count(of.phase) * pitch;
   const float *w = of.w;
   for (Size row = 0; row < rows; row += 4) {
      const Size some = few_together(rows - row), exist = rows - row < 4 ? rows - row : 4;
      const FewProducts products{of.x, w, of.offsets, depth, columns, exist, apart, of.sums + row * apart};
      if (some == 4)
         few_products<4>(products);
      else if (some == 2)
         few_products<2>(products);
      else
         few_products<1>(products);
      w += depth * some;
   }
   return w;
}

/// Its outputs.
SOFIE_KERNEL inline void few_phase_outputs(const ConvShape &s, const FewPhase &of, Size apart,
                                           const ConvSpreadEnd<float> &end)
{
   constexpr Size n = lanes<float>, bytes = static_cast<Size>(sizeof(float));
   const FewAxis &width = of.width, &height = of.height;
   const Size stride = width.stride, across = stride * n, even = width.pad % stride, odd = (width.pad + 1) % stride;
   FewRows rows{};
   rows.step = height.stride * s.out_row * bytes;
   rows.rows = height.count(of.phase);
   rows.pitch = width.all * bytes;
   rows.next = (stride * apart - 1) * bytes;
   rows.even_taps = width.taps(even);
   rows.odd_taps = width.taps(odd);
   rows.floor = end.floor;
   for (Size m = 0; m < s.features && rows.rows > 0; ++m) {
      const float *const sums = of.sums + m * width.kernel * apart;
      rows.bias = end.bias[m];
      for (Size i = 0; i < width.out; i += across) {
         const Size left = width.out - i;
         rows.y = end.y + m * s.out_channel + height.begin(of.phase) * s.out_row + i;
         rows.even = sums + even * apart + width.first(even) + i / stride;
         rows.odd = stride == 1 ? nullptr : sums + odd * apart + width.first(odd) + i / stride;
         rows.mask = static_cast<std::int32_t>(mask_of_pack(left));
         rows.second_mask = static_cast<std::int32_t>(mask_of_pack(left - n));
         few_rows(rows);
      }
   }
}

/// All events. The scratch memory has the copied input and the sums of a phase.
SOFIE_KERNEL inline void few_transposed(const ConvShape &s, float *scratch, std::int32_t *offsets, const float *x,
                                        const float *taps, ConvSpreadEnd<float> end)
{
   const FewAxis height = few_axis(s, 1, false), width = few_axis(s, 2, true);
   const Size pitch = width.all, plane = height.all * pitch, inputs = s.channels * plane + few_margin;
   // Zeros come before the sums of each row, as between rows.
   const Size most = ceil_div(height.out, height.stride), apart = most * pitch + 2 * few_margin;
   float *const sums = scratch + inputs + few_margin;
   for (Size row = 0; row < s.features * width.kernel; ++row)
      few_zeros(sums + row * apart - few_margin, few_margin);
   for (Size event = 0; event < s.batch; ++event, x += s.in_event, end.y += s.out_event) {
      for (Size c = 0; c < s.channels; ++c) {
         float *const to = scratch + c * plane, *const behind = to + (height.before + s.in[1]) * pitch;
         few_zeros(to, height.before * pitch);
         few_copy(to + height.before * pitch, pitch, x + c * s.in_channel, s.in[1], s.in[2]);
         few_zeros(behind, to + plane - behind);
      }
      FewPhase phase{height, width, 0, scratch, taps, sums, offsets};
      for (; phase.phase < height.stride; ++phase.phase) {
         const float *const behind = few_phase_products(s, phase, apart);
         few_phase_outputs(s, phase, apart, end);
         phase.w = behind;
      }
      if (end.apply)
         end.apply(end.f, end.y, s.out_event);
   }
}
#endif

/// `transposed_convolution` of few features, of images or sequences without dilations and groups.
template <class F, class Y, class Scratch, class Offsets, class X, Size Stride>
SOFIE_INLINE void few_transposed_convolution(const F &f, const ConvSizes &sizes, Y y, Scratch scratch, Offsets offsets,
                                             X x, const FewTransposedWeights<float, Stride> &w)
{
#ifdef SOFIE_AVX512_ASSEMBLER
   if (w.taps()) {
      constexpr bool relu = std::is_same_v<F, Relu>;
      ConvSpreadEnd<float> end{y.data(), w.added(), relu ? 0.0f : -__builtin_inff(), nullptr, nullptr};
      if constexpr (!relu && !std::is_same_v<F, Identity>) {
         end.apply = &conv_apply<F, float>;
         end.f = &f;
      }
      return few_transposed(conv_plain_shape(sizes), scratch.data(), offsets.data(), x.data(), w.taps(), end);
   }
#endif
   transposed_convolution(f, sizes, y, scratch, offsets, x, w);
}

} // namespace sofie

SOFIE_END

#endif
