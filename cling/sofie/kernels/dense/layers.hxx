/// \file
/// Dense layers one after the other: a few rows go through all of them before the next ones do, so
/// that what is between two layers stays in the first cache.
///
/// With AVX-512 these rows lie side by side in the lanes of registers on their way.
/// The order of summation is that of `dense`, so a row gives the same bits in either form.
#ifndef SOFIE_KERNELS_DENSE_LAYERS_HXX
#define SOFIE_KERNELS_DENSE_LAYERS_HXX

#include "sofie/kernels/dense.hxx"
#include "sofie/kernels/dense/dots.hxx"
#include "sofie/kernels/transpose/blocks.hxx"

SOFIE_BEGIN

namespace sofie {

/// How many rows go through all layers together.
inline constexpr Size layers_rows = 64;

/// A layer whose weights come next.
template <class Pass, class F>
struct PassWith {
   Pass &pass;
   const F &f;

   template <class W>
   SOFIE_INLINE Pass &operator<<(const W &w) const
   {
      pass.layer(f, w);
      return pass;
   }
};

/// Some rows on their way through layers, `pass << f_1 << w_1 << f_2 << ...`: what a layer gives is in
/// `next`, then in `other`, in turn, and at last in y. Only the last layer has a single column. (Templates that call
/// themselves with one layer less each time take Cling long to compile.) Products of one row with one panel each are
/// called one after the other, without a branch between them: a function for each layer takes as long as some steps.
template <class T, bool One>
struct RowsPass {
   const T *x;
   T *next;
   T *other;
   T *y;
   Size rows;
   int left; // Layers.

   template <class F>
   SOFIE_INLINE PassWith<RowsPass, F> operator<<(const F &f)
   {
      return {*this, f};
   }
   template <class F, template <class, Size, Size> class W, class Q, Size K, Size N>
   SOFIE_INLINE void layer(const F &f, const W<Q, K, N> &w)
   {
      T *const to = --left > 0 ? next : y;
#ifdef SOFIE_AVX512_ASSEMBLER
      constexpr bool alone = One && std::is_same_v<Q, float> && is_in_tile<F> && DenseShape<Q, N>::panels == 1;
#else
      constexpr bool alone = false;
#endif
      if constexpr (alone)
         dense_alone(f, to, x, w, 0);
      else
         dense(f, View<T, dyn, N>(to, rows), View<const T, dyn, K>(x, rows), w);
      x = to;
      next = other;
      other = to;
   }
   template <class F, Size K>
   SOFIE_INLINE void layer(const F &f, const DotWeights<T, K> &w)
   {
      dense_dots(f, View<T, dyn, 1>(y, rows), View<const T, dyn, K>(x, rows), w);
   }
};

#ifdef SOFIE_AVX512_ASSEMBLER

/// How many rows lie side by side, and from how many on that is faster than rows one below the other.
inline constexpr Size lanes_rows = 32, lanes_together = 25;

/// Rows become lanes, y[k][r] = x[r][k]; or, if `back`, lanes become rows, y[r][k] = x[k][r]. Lanes behind
/// the last row are like it, so they may be written over it.
SOFIE_KERNEL inline void transpose_rows(float *y, const float *x, Size rows, Size columns, bool back)
{
   constexpr Size n = lanes<float>, bytes = static_cast<Size>(sizeof(float));
   for (Size first = 0; first < lanes_rows; first += n)
      for (Size k = 0; k < columns; k += n) {
         const Size left = columns - k, at_row = first * columns + k, at_lane = k * lanes_rows + first;
         const Size mask = left < n ? (Size{1} << left) - 1 : 0xffff;
         const TransposedRows outer{(back ? y : x) + at_row, columns * bytes, rows - first, mask};
         const TransposedRows inner{(back ? x : y) + at_lane, lanes_rows * bytes, n, 0xffff};
         transpose_block(back ? outer : inner, back ? inner : outer);
      }
}

/// y[j][r] = f(sum_k x[k][r] * w[k][j] + b[j]): the tile of dense layers, whose rows are columns of w here, and whose
/// columns are rows of x.
SOFIE_KERNEL inline void lanes_columns(const DenseLayer &layer, const float *x, float *y)
{
   for (Size panel = 0; panel < layer.columns; panel += layer.width) {
      const Size left = layer.columns - panel;
      dense_stripe({{layer.weights + panel * layer.depth, 1, layer.width},
                    {x, lanes_rows},
                    {layer.bias + panel, 1, 0},
                    {y + panel * lanes_rows, lanes_rows},
                    lanes_rows,
                    layer.depth,
                    layer.chains,
                    layer.relu},
                   left < layer.width ? left : layer.width, 0, lanes_rows / lanes<float>);
   }
}

/// The same for rows that lie in lanes. A single column, which is the last layer, is added up in another
/// order: before that they become rows again.
struct LanesPass {
   float *x;
   float *next;
   float *y;
   Size rows;
   int left;

   template <class F>
   SOFIE_INLINE PassWith<LanesPass, F> operator<<(const F &f)
   {
      return {*this, f};
   }
   template <class F, Size K, Size N>
   SOFIE_INLINE void layer(const F &f, const DenseWeights<float, K, N> &w)
   {
      lanes_columns(dense_layer<F>(w), x, next);
      if constexpr (!is_in_tile<F>)
         apply_function(f, next, next, N * lanes_rows);
      if (--left == 0)
         transpose_rows(y, next, rows, N, true);
      float *const read = x;
      x = next;
      next = read;
   }
   template <class F, Size K>
   SOFIE_INLINE void layer(const F &f, const DotWeights<float, K> &w)
   {
      transpose_rows(next, x, rows, K, true);
      dense_dots(f, View<float, dyn, 1>(y, rows), View<const float, dyn, K>(next, rows), w);
   }
};
#endif

/// All rows from number `first` on, some at a time.
template <class T, Size M, Size N, Size S, Size K, class... Layers>
SOFIE_INLINE void layers_by_rows(View<T, M, N> y, View<T, S> scratch, View<const T, M, K> x, Size first,
                                 const Layers &...layers)
{
   const Size m = x.template extent<0>();
   T *const one = scratch.data(), *const other = one + S / 2;
   for (Size i = first; i < m; i += layers_rows) {
      const Size rows = m - i < layers_rows ? m - i : layers_rows;
      RowsPass<T, false> pass{x.data() + i * K, one, other, y.data() + i * N, rows, sizeof...(Layers) / 2};
      (pass << ... << layers);
   }
}

/// y = f_n(... f_1(x @ w_1 + b_1) ... @ w_n + b_n) for `layers` f_1, w_1 with b_1, f_2, ...; one row.
template <class T, Size M, Size N, Size S, Size K, class... Layers>
SOFIE_KERNEL void dense_layers_one_row(View<T, M, N> y, View<T, S> scratch, View<const T, M, K> x,
                                       const Layers &...layers)
{
#ifdef SOFIE_AVX512_ASSEMBLER
   RowsPass<T, true> pass{x.data(), scratch.data(), scratch.data() + S / 2, y.data(), 1, sizeof...(Layers) / 2};
   (pass << ... << layers);
#else
   dense_layers(y, scratch, x, layers...);
#endif
}

/// The same for any number of rows.
template <class T, Size M, Size N, Size S, Size K, class... Layers>
SOFIE_KERNEL void dense_layers(View<T, M, N> y, View<T, S> scratch, View<const T, M, K> x, const Layers &...layers)
{
#ifdef SOFIE_AVX512_ASSEMBLER
   if constexpr (std::is_same_v<T, float>)
      if (x.template extent<0>() == 1)
         return dense_layers_one_row(y, scratch, x, layers...);
#endif
   layers_by_rows(y, scratch, x, 0, layers...);
}

/// The same for rows that lie in lanes, as far as there are enough of them.
template <class T, Size M, Size N, Size S, Size K, class... Layers>
SOFIE_KERNEL void dense_layers_lanes(View<T, M, N> y, View<T, S> scratch, View<const T, M, K> x,
                                     const Layers &...layers)
{
#ifdef SOFIE_AVX512_ASSEMBLER
   const Size m = x.template extent<0>();
   if (m == 1)
      return dense_layers_one_row(y, scratch, x, layers...);
   Size i = 0;
   for (; m - i >= lanes_together; i += lanes_rows) {
      const Size rows = m - i < lanes_rows ? m - i : lanes_rows;
      transpose_rows(scratch.data(), x.data() + i * K, rows, K, false);
      LanesPass pass{scratch.data(), scratch.data() + S / 2, y.data() + i * N, rows, sizeof...(Layers) / 2};
      (pass << ... << layers);
   }
   layers_by_rows(y, scratch, x, i, layers...);
#else
   dense_layers(y, scratch, x, layers...);
#endif
}

} // namespace sofie

SOFIE_END

#endif
