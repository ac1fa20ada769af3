/// \file
/// Products of matrices by a work-group: tiles in local memory, of elements that two functions give.
#ifndef SOFIE_DEVICE_TILES_HXX
#define SOFIE_DEVICE_TILES_HXX

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

   /// The first row and the first column of a work-item.
   SOFIE_DEVICE static int row_of(int item) { return item / across * ItemRows; }
   SOFIE_DEVICE static int column_of(int item) { return item % across * ItemColumns; }
};

/// One tile of a @ b in type T.
template <class T, class Tile>
struct TileProduct {
   struct Local {
      // One more than needed: neighbours in a column are in different banks.
      T a[static_cast<std::size_t>(Tile::depth)][static_cast<std::size_t>(Tile::rows + 1)];
      T b[static_cast<std::size_t>(Tile::depth)][static_cast<std::size_t>(Tile::columns)];
   };
   /// The sums of a work-item.
   struct Sums {
      T at[static_cast<std::size_t>(Tile::item_rows)][static_cast<std::size_t>(Tile::item_columns)];
   };

   /// Adds k products to `sums` of each work-item: a(row, d) * b(d, column) for d < k, of rows and columns of the tile.
   /// `after(begin)` is what all work-items do once the elements from `begin` on are in local memory.
   template <class Group, class Private, class A, class B, class After>
   SOFIE_DEVICE static void sum(Group &group, Local &local, Private &sums, Index k, const A &a, const B &b,
                                const After &after)
   {
      group.last([&](int item) { sums(item) = Sums{}; });
      for (Index begin = 0; begin < k; begin += Tile::depth) {
         group.each([&](int item) {
            for (int i = item; i < Tile::rows * Tile::depth; i += Tile::items) {
               const int row = i / Tile::depth, d = i % Tile::depth;
               local.a[d][row] = begin + d < k ? a(row, begin, d) : T(0);
            }
            for (int i = item; i < Tile::columns * Tile::depth; i += Tile::items) {
               const int d = i / Tile::columns, column = i % Tile::columns;
               local.b[d][column] = begin + d < k ? b(begin, d, column) : T(0);
            }
         });
         group.each([&](int item) {
            add(sums(item), local, Tile::row_of(item), Tile::column_of(item));
            after(item, begin);
         });
      }
   }

private:
   SOFIE_DEVICE static void add(Sums &sums, const Local &local, int row, int column)
   {
      for (int d = 0; d < Tile::depth; ++d)
         for (int r = 0; r < Tile::item_rows; ++r)
            for (int c = 0; c < Tile::item_columns; ++c)
               sums.at[r][c] = plus(sums.at[r][c], times(local.a[d][row + r], local.b[d][column + c]));
   }
};

} // namespace device
} // namespace sofie

#endif
