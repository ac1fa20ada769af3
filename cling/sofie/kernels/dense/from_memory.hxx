/// \file
/// Products with weights that come from the third cache or from memory.
///
/// They lie in panels of as many columns as a tile has, each of which is read from its begin to its end, and asked for
/// some steps ahead. All rows are summed in one chain, as `dense` does it with as many columns.
#ifndef SOFIE_KERNELS_DENSE_FROM_MEMORY_HXX
#define SOFIE_KERNELS_DENSE_FROM_MEMORY_HXX

#include "sofie/kernels/dense.hxx"

SOFIE_BEGIN

namespace sofie {

#ifdef SOFIE_TILE_ASSEMBLER
/// W[K, N] and b[N], packed for `dense_far`.
template <class T, Size K, Size N>
class FarWeights {
   static_assert(DenseShape<T, N>::chains == 1, "all rows are summed in one chain");
   static constexpr Size width = dense_tile_packs * lanes<T>, padded = ceil_div(N, width) * width;
   Buffer<T> panels_, bias_;

public:
   FarWeights(View<const T, K, N> w, View<const T, N> b) : panels_(K * padded), bias_(padded)
   {
      dense_pack(panels_.data(), w.data(), K, N, K, width);
      __builtin_memcpy(bias_.data(), b.data(), static_cast<std::size_t>(N) * sizeof(T));
   }
   SOFIE_INLINE DenseLayer layer(bool relu) const { return {panels_.data(), bias_.data(), K, N, width, 1, relu, true}; }
};

template <class F, Size K, Size N>
SOFIE_INLINE DenseLayer dense_layer(const FarWeights<float, K, N> &w)
{
   return w.layer(std::is_same_v<F, Relu>);
}

/// y[m, n] = f(sum_k x[m, k] * w[k, n] + b[n])
template <class F, Size M, Size K, Size N>
SOFIE_KERNEL void dense_far(const F &f, View<float, M, N> y, View<const float, M, K> x,
                            const FarWeights<float, K, N> &w)
{
   dense_many(f, y.data(), x.data(), x.template extent<0>(), w);
}
#else
/// Without assembler there is no such tile.
template <class T, Size K, Size N>
using FarWeights = DenseWeights<T, K, N>;

template <class F, Size M, Size K, Size N>
SOFIE_INLINE void dense_far(const F &f, View<float, M, N> y, View<const float, M, K> x,
                            const FarWeights<float, K, N> &w)
{
   dense(f, y, x, w);
}
#endif

} // namespace sofie

SOFIE_END

#endif
