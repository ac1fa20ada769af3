/// \file
/// Vectors scaled to a norm.
#ifndef SOFIE_KERNELS_NORMALIZATION_NORMS_HXX
#define SOFIE_KERNELS_NORMALIZATION_NORMS_HXX

#include "sofie/kernels/reduction.hxx"

SOFIE_BEGIN

namespace sofie {

template <class V>
SOFIE_INLINE V over_norm(V v, V norm)
{
   return select<V>(norm == V{}, V{}, v / norm);
}

/// Divides `rows` vectors [n, inner] by their norms [rows, inner]; by 0, the result is 0.
template <class T>
SOFIE_KERNEL void divide_by_norms(T *y, const T *x, const T *norms, Size rows, Size n, Size inner)
{
   constexpr int w = lanes<T>;
   using V = Pack<T>;
   // Vectors without inner axis are one row of n, divided by one number.
   const bool is_row = inner == 1;
   const Size length = is_row ? n : inner, lines = is_row ? 1 : n;
   for (Size r = 0; r < rows; ++r, norms += inner) {
      const V only = splat<V>(norms[0]);
      for (Size i = 0; i < lines; ++i, x += length, y += length) {
         Size j = 0;
         for (; j + w <= length; j += w)
            store(y + j, over_norm(load<w>(x + j), is_row ? only : load<w>(norms + j)));
         if (j < length) {
            const Size used = length - j;
            const V norm = is_row ? only : load_some<w>(norms + j, used);
            store_some(y + j, over_norm(load_some<w>(x + j, used), norm), used);
         }
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
