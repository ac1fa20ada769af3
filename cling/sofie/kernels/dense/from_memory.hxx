/// \file
/// Products with weights that come from the third cache or from memory.
///
/// They lie in panels of as many columns as one tile has, or two, each of which is read from its begin to its end, and
/// asked for some steps ahead. All rows are summed in one chain, as `dense` does it with as many columns.
#ifndef SOFIE_KERNELS_DENSE_FROM_MEMORY_HXX
#define SOFIE_KERNELS_DENSE_FROM_MEMORY_HXX

#include "sofie/kernels/dense.hxx"

SOFIE_BEGIN

namespace sofie {

#ifdef SOFIE_TILE_ASSEMBLER
/// The packs of a panel. Where a tile has 4, a single row goes through it; else it has a loop of its own, and needs
/// more sums than 3 for these not to wait for each other.
inline constexpr int far_packs = dense_tile_packs > 3 ? dense_tile_packs : 2 * dense_tile_packs;

/// W[K, N] and b[N], packed for `dense_far`.
template <class T, Size K, Size N>
class FarWeights {
   static_assert(DenseShape<T, N>::chains == 1, "all rows are summed in one chain");
   static constexpr Size width = far_packs * lanes<T>, padded = ceil_div(N, width) * width;
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

/// One row of y. The last panel may have columns that y has not.
SOFIE_KERNEL inline void dense_far_row(const DenseLayer &layer, float *y, const float *x)
{
   constexpr Size width = far_packs * lanes<float>;
   alignas(64) float sums[width];
   for (Size first = 0; first < layer.columns; first += width) {
      const Size left = layer.columns - first;
      const DenseRowEnd end{left < width ? sums : y + first, layer.bias + first, 0xffff, layer.relu};
      dense_row_assembler<far_packs>(x, layer.weights + first * layer.depth, layer.depth, end);
      if (left < width)
         __builtin_memcpy(y + first, sums, static_cast<std::size_t>(left) * sizeof(float));
   }
}

/// y[m, n] = f(sum_k x[m, k] * w[k, n] + b[n])
template <class F, Size M, Size K, Size N>
SOFIE_KERNEL void dense_far(const F &f, View<float, M, N> y, View<const float, M, K> x,
                            const FarWeights<float, K, N> &w)
{
   const Size m = x.template extent<0>();
   if constexpr (far_packs > dense_tile_packs) {
      if (m == 1) {
         dense_far_row(dense_layer<F>(w), y.data(), x.data());
         if constexpr (!is_in_tile<F>)
            apply_function(f, y.data(), y.data(), N);
         return;
      }
   }
   dense_many(f, y.data(), x.data(), m, w);
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
