/// \file
/// Matrix products with strided batches, an offset and a function of the result: tiles in local memory.
#ifndef SOFIE_DEVICE_GEMM_HXX
#define SOFIE_DEVICE_GEMM_HXX

#include "sofie/device/tiles.hxx"

namespace sofie {
namespace device {

/// y = function(alpha * a @ b + beta * c) for each matrix of a batch. All strides are in elements: of the rows and of
/// the columns of a matrix, and of the axes of the batch. y is dense. Without c, nothing is added.
template <class T, class F, class Tile, int Batch>
struct Gemm {
   F function;
   double alpha, beta;
   Index m, n, k;
   Sizes<2> a_strides, b_strides, c_strides;
   Sizes<Batch> batch, a_batch, b_batch;

   static constexpr int items = Tile::items;
   using Product = TileProduct<T, Tile>;
   using Local = typename Product::Local;
   using Sums = typename Product::Sums;

   template <class Group, class... C>
   SOFIE_DEVICE void operator()(Group &group, T *y, const T *a, const T *b, const C *...c) const
   {
      static_assert(sizeof...(C) <= 1, "there is one offset or none");
      const Index tiles_across = divided_up(n, Tile::columns), tiles_down = divided_up(m, Tile::rows);
      const Index column = group.index() % tiles_across * Tile::columns;
      const Index row = group.index() / tiles_across % tiles_down * Tile::rows;
      const Index matrix = group.index() / tiles_across / tiles_down;
      Index rest = matrix;
      for (int axis = Batch - 1; axis >= 0; --axis) {
         a += rest % batch[axis] * a_batch[axis];
         b += rest % batch[axis] * b_batch[axis];
         rest /= batch[axis];
      }
      typename Group::template Private<Sums> sums;
      Product::sum(
         group, group.local(), sums, k,
         [&](int r, Index begin, int d) {
            return row + r < m ? a[(row + r) * a_strides[0] + (begin + d) * a_strides[1]] : T(0);
         },
         [&](Index begin, int d, int c) {
            return column + c < n ? b[(begin + d) * b_strides[0] + (column + c) * b_strides[1]] : T(0);
         },
         [](int, Index) {});
      group.last(
         [&](int item) { store(typename Group::MathOfIt{}, sums(item), item, row, column, y + matrix * m * n, c...); });
   }

private:
   template <class M, class... C>
   SOFIE_DEVICE void store(M math, const Sums &sums, int item, Index row, Index column, T *y, const C *...offset) const
   {
      row += Tile::row_of(item);
      column += Tile::column_of(item);
      for (int r = 0; r < Tile::item_rows && row + r < m; ++r)
         for (int c = 0; c < Tile::item_columns && column + c < n; ++c) {
            T value = times(static_cast<T>(alpha), sums.at[r][c]);
            if constexpr (sizeof...(C) != 0)
               value = plus(value, times(static_cast<T>(beta),
                                         (offset[(row + r) * c_strides[0] + (column + c) * c_strides[1]], ...)));
            y[(row + r) * n + column + c] = function(math, value);
         }
   }
};

} // namespace device
} // namespace sofie

#if defined(SOFIE_DEVICE_CUBLAS) || defined(SOFIE_DEVICE_ROCBLAS) || defined(SOFIE_DEVICE_ONEMATH) || \
   defined(SOFIE_DEVICE_CBLAS)
#include "sofie/device/blas.hxx"
#endif

#endif
