/// \file
/// Vectors scaled to a norm.
#ifndef SOFIE_KERNELS_NORMALIZATION_NORMS_HXX
#define SOFIE_KERNELS_NORMALIZATION_NORMS_HXX

#include "sofie/kernels/reduction.hxx"

SOFIE_BEGIN

namespace sofie {

/// Divides `rows` vectors [n, inner] by their norms [rows, inner]; by 0, the result is 0.
template <class T>
SOFIE_KERNEL void divide_by_norms(T *y, const T *x, const T *norms, Size rows, Size n, Size inner)
{
   constexpr int w = lanes<T>;
   using V = Pack<T>;
   for (Size r = 0; r < rows; ++r, norms += inner) {
      // Vectors without inner axis are one row of n, divided by one number.
      const Size length = inner == 1 ? n : inner;
      for (Size i = 0; i < (inner == 1 ? 1 : n); ++i, x += length, y += length)
         for (Size j = 0; j < length; j += w) {
            const Size used = length - j < w ? length - j : w;
            const V norm = inner == 1 ? splat<V>(norms[0]) : load_some<w>(norms + j, used);
            store_some(y + j, select<V>(norm == V{}, V{}, load_some<w>(x + j, used) / norm), used);
         }
   }
}

#ifdef SOFIE_COLUMNS_ASSEMBLER
// clang-format off
/// y[r] = x[r] * factors[r] for rows of `count` floats, at least one of each.
SOFIE_KERNEL inline void scale_float_rows(float *y, const float *x, const float *factors, Size rows, Size count)
{
   Size k;
   asm volatile(
      "kmovw %k[mask], %%k1\n"
      "1:\n\t"
      "vbroadcastss (%[factors]), %%zmm1\n\t"
      "mov %[packs], %[k]\n\t"
      "test %[k], %[k]\n\t"
      "jz 3f\n"
      "2:\n\t"
      "vmulps (%[x]), %%zmm1, %%zmm0\n\t"
      "vmovups %%zmm0, (%[y])\n\t"
      "add $64, %[x]\n\t"
      "add $64, %[y]\n\t"
      "dec %[k]\n\t"
      "jnz 2b\n"
      "3:\n\t"
      "vmulps (%[x]), %%zmm1, %%zmm0%{%%k1%}%{z%}\n\t"
      "vmovups %%zmm0, (%[y])%{%%k1%}\n\t"
      "add %[rest], %[x]\n\t"
      "add %[rest], %[y]\n\t"
      "add $4, %[factors]\n\t"
      "dec %[rows]\n\t"
      "jnz 1b\n\t"
      : [y] "+&r"(y), [x] "+&r"(x), [factors] "+&r"(factors), [rows] "+&r"(rows), [k] "=&r"(k)
      : [packs] "r"(count / 16), [mask] "r"((Size{1} << count % 16) - 1), [rest] "r"(count % 16 * 4)
      : "memory", "cc", "k1", "xmm0", "xmm1");
}
// clang-format on

/// Rows of `count` floats over their norms, of which there is room for as many.
template <class R>
SOFIE_KERNEL void normalize_float_rows(float *y, float *norms, const float *x, Size rows, Size count)
{
   using V = Pack<float>;
   constexpr int n = lanes<float>;
   constexpr bool is_root = std::is_same_v<R, ReduceL2>;
   reduce_rows<is_root ? RowRule::squares : RowRule::magnitudes>(norms, x, rows, count, 0);
   bool all_safe = true;
   for (Size i = 0; i < rows; i += n) {
      const Size some = rows - i < n ? rows - i : n;
      const V sums = load_some<n>(norms + i, some);
      // Sums and reciprocals of these are ordinary numbers.
      const auto safe = (sums > splat<V>(0x1p-90f)) & (sums < splat<V>(0x1p90f));
      const V factors = splat<V>(1) / (is_root ? sqrt(sums) : sums);
      store_some(norms + i, select<V>(safe, factors, V{}), some);
      all_safe &= !any<V>(~safe & (lane_numbers<V>() < static_cast<std::int32_t>(some)));
   }
   scale_float_rows(y, x, norms, rows, count);
   if (all_safe)
      return;
   const Size shape[3] = {1, count, 1};
   const Reduction row(shape, 3, 2, 0);
   for (Size r = 0; r < rows; ++r)
      if (norms[r] == 0) {
         reduce_axes<R>(norms + r, x + r * count, row);
         divide_by_norms(y + r * count, x + r * count, static_cast<const float *>(norms + r), 1, count, 1);
      }
}
#endif

/// y = x / norm of x along the middle axis; for `dynamic` see `Reduction`.
template <class R, class Y, class W, class X>
SOFIE_INLINE void normalize(Y y, W norms, X x, Size dynamic)
{
   using T = typename Y::Element;
   const Size outer = x.template extent<0>(), n = x.template extent<1>(), inner = x.template extent<2>();
   const Size most = inner ? norms.size() / inner : 1;
   for (Size o = 0; o < outer && n * inner > 0; o += most) {
      const Size rows = outer - o < most ? outer - o : most;
      const Size shape[3] = {rows, n, inner};
      const T *const from = x.data() + o * n * inner;
      const Reduction reduction(shape, 3, 2, dynamic);
#ifdef SOFIE_COLUMNS_ASSEMBLER
      if constexpr (std::is_same_v<T, float>)
         if (inner == 1 && reduction.is_fixed && n <= reduced_row) {
            normalize_float_rows<R>(y.data() + o * n, norms.data(), from, rows, n);
            continue;
         }
#endif
      reduce_axes<R>(norms.data(), from, reduction);
      divide_by_norms(y.data() + o * n * inner, from, static_cast<const T *>(norms.data()), rows, n, inner);
   }
}

} // namespace sofie

SOFIE_END

#endif
