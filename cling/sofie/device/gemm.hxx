/// \file
/// Matrix products with strided batches, an offset and a function of the result: tiles in local memory.
#ifndef SOFIE_DEVICE_GEMM_HXX
#define SOFIE_DEVICE_GEMM_HXX

#include "sofie/device/base.hxx"

namespace sofie {
namespace device {

/// How a product is cut up: a work-group computes `Rows` x `Columns` elements in steps of `Depth` products each, and a
/// work-item `ItemRows` x `ItemColumns` of them.
template <int Rows, int Columns, int Depth, int ItemRows, int ItemColumns>
struct Tile {
   static constexpr int rows = Rows, columns = Columns, depth = Depth;
   static constexpr int item_rows = ItemRows, item_columns = ItemColumns;
   static constexpr int across = Columns / ItemColumns;
   static constexpr int items = Rows / ItemRows * across;
   static_assert(Rows % ItemRows == 0 && Columns % ItemColumns == 0, "items share a tile evenly");
};

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
   struct Local {
      // One more than needed: neighbours in a column are in different banks.
      T a[static_cast<std::size_t>(Tile::depth)][static_cast<std::size_t>(Tile::rows + 1)];
      T b[static_cast<std::size_t>(Tile::depth)][static_cast<std::size_t>(Tile::columns)];
   };
   struct Sums {
      T at[static_cast<std::size_t>(Tile::item_rows)][static_cast<std::size_t>(Tile::item_columns)];
   };

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
      auto &local = group.local();
      typename Group::template Private<Sums> sums;
      group.last([&](int item) { sums(item) = Sums{}; });
      for (Index begin = 0; begin < k; begin += Tile::depth) {
         group.each([&](int item) { load(local, item, row, column, begin, a, b); });
         group.each([&](int item) { add(sums(item), local, item); });
      }
      group.last(
         [&](int item) { store(typename Group::MathOfIt{}, sums(item), item, row, column, y + matrix * m * n, c...); });
   }

private:
   SOFIE_DEVICE void load(Local &local, int item, Index row, Index column, Index begin, const T *a, const T *b) const
   {
      for (int i = item; i < Tile::rows * Tile::depth; i += items) {
         const int r = i / Tile::depth, d = i % Tile::depth;
         const bool inside = row + r < m && begin + d < k;
         local.a[d][r] = inside ? a[(row + r) * a_strides[0] + (begin + d) * a_strides[1]] : T(0);
      }
      for (int i = item; i < Tile::columns * Tile::depth; i += items) {
         const int d = i / Tile::columns, c = i % Tile::columns;
         const bool inside = column + c < n && begin + d < k;
         local.b[d][c] = inside ? b[(begin + d) * b_strides[0] + (column + c) * b_strides[1]] : T(0);
      }
   }

   SOFIE_DEVICE void add(Sums &sums, const Local &local, int item) const
   {
      const int row = item / Tile::across * Tile::item_rows, column = item % Tile::across * Tile::item_columns;
      for (int d = 0; d < Tile::depth; ++d)
         for (int r = 0; r < Tile::item_rows; ++r)
            for (int c = 0; c < Tile::item_columns; ++c)
               sums.at[r][c] = plus(sums.at[r][c], times(local.a[d][row + r], local.b[d][column + c]));
   }

   template <class M, class... C>
   SOFIE_DEVICE void store(M math, const Sums &sums, int item, Index row, Index column, T *y, const C *...offset) const
   {
      row += item / Tile::across * Tile::item_rows;
      column += item % Tile::across * Tile::item_columns;
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
