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
      reduce_axes<ReductionWay::found, R>(norms.data(), from, reduction);
      divide_by_norms(y.data() + o * n * inner, from, static_cast<const T *>(norms.data()), rows, n, inner);
   }
}

} // namespace sofie

SOFIE_END

#endif
