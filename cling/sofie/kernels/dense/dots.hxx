/// \file
/// Products with a single column of weights, which is stored as a row: sums along it.
#ifndef SOFIE_KERNELS_DENSE_DOTS_HXX
#define SOFIE_KERNELS_DENSE_DOTS_HXX

#include "sofie/kernels/elementwise/map.hxx"
#include "sofie/session/weights.hxx"

SOFIE_BEGIN

namespace sofie {

/// w[K] and b, packed for `dense_dots`.
template <class T, Size K>
class DotWeights {
   Buffer<T> row_;
   T bias_;

public:
   DotWeights(View<const T, K, 1> w, View<const T, 1> b) : row_(K + lanes<T>), bias_(b.data()[0])
   {
      __builtin_memcpy(row_.data(), w.data(), static_cast<std::size_t>(K) * sizeof(T));
   }
   SOFIE_INLINE const T *row() const { return row_.data(); }
   SOFIE_INLINE T bias() const { return bias_; }
};

/// sum_k x[k] * w[k]
template <class T>
SOFIE_INLINE T dot(const T *__restrict x, const T *__restrict w, Size depth)
{
   constexpr int n = lanes<T>;
   constexpr int chains = 4;
   using V = Pack<T>;
   V sum[chains] = {};
   const Size whole = depth / (chains * n) * (chains * n);
   SOFIE_UNROLL(4)
   for (Size k = 0; k < whole; k += chains * n)
      SOFIE_UNROLL_ALL
      for (int c = 0; c < chains; ++c)
         sum[c] = multiply_add(load<n>(x + k + c * n), load<n>(w + k + c * n), sum[c]);
   SOFIE_UNROLL_ALL
   for (int c = 0; c < chains; ++c) {
      const Size k = whole + c * n, left = depth - k;
      if (left >= n)
         sum[c] = multiply_add(load<n>(x + k), load<n>(w + k), sum[c]);
      else if (left > 0)
         sum[c] = multiply_add(load_some<n>(x + k, left), load_some<n>(w + k, left), sum[c]);
   }
   return sum_of_lanes((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

/// y[m, 1] = f(sum_k x[m, k] * w[k] + b)
template <class F, class T, Size M, Size K>
SOFIE_KERNEL void dense_dots(const F &f, View<T, M, 1> y, View<const T, M, K> x, const DotWeights<T, K> &w)
{
   constexpr int n = lanes<T>;
   const Size m = x.template extent<0>();
   alignas(64) T sums[n];
   for (Size i = 0; i < m; i += n) {
      const Size rows = m - i < n ? m - i : n;
      // All of it, because what is read as a pack must have been written as one to be there at once.
      store(sums, splat<Pack<T>>(dot(x.data() + i * K, w.row(), K) + w.bias()));
      for (Size r = 1; r < rows; ++r)
         sums[r] = dot(x.data() + (i + r) * K, w.row(), K) + w.bias();
      // A whole pack: masks and copies of what is left take as long as the function.
      if constexpr (has_array_form<F, T>)
         f.array(sums, sums, n);
      else
         store(sums, f(load<n>(sums)));
      for (Size r = 0; r < rows; ++r)
         y.data()[i + r] = sums[r];
   }
}

} // namespace sofie

SOFIE_END

#endif
