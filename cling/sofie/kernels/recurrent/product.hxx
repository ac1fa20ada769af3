/// \file
/// The product of rows with the weights of gates, which lie in panels of packs.
///
/// The order of summation depends on the shape of the weights and on the direction only, so that a row gives
/// the same bits alone and in a batch.
#ifndef SOFIE_KERNELS_RECURRENT_PRODUCT_HXX
#define SOFIE_KERNELS_RECURRENT_PRODUCT_HXX

#include "sofie/kernels/dense.hxx"

SOFIE_BEGIN

namespace sofie {

/// How the columns of the gates are cut: into panels of `width` packs, the last one of `last`, each stored row after
/// row.
template <class T, int Gates, Size Hidden>
struct RecurrentPanels {
   static constexpr int known = Hidden == dyn ? 0 : static_cast<int>((Gates * Hidden + lanes<T> - 1) / lanes<T>);
   /// The most packs that one row of accumulators may have, out of 32 registers (16 with AVX2).
   static constexpr int most = SOFIE_SIMD_BYTES == 64 ? 14 : 12;
   static constexpr int panels = known > most ? (known + most - 1) / most : 1;
#ifdef SOFIE_TILE_ASSEMBLER
   static constexpr bool in_assembler = std::is_same_v<T, float>;
#else
   static constexpr bool in_assembler = false;
#endif
   static constexpr int least = in_assembler ? 2 : 1; // Of a row in assembler.
   static constexpr int wanted = Hidden <= 0 ? 4 : (known + panels - 1) / panels, left = known - (panels - 1) * wanted;
   static constexpr int width = Gates == 0 ? 0 : wanted < least ? least : wanted;
   // Without assembler another width would be more to compile.
   static constexpr int last = !in_assembler || Hidden <= 0 ? width : left < least ? least : left;
   /// Whether a row in assembler is all columns.
   static constexpr bool in_one = in_assembler && Hidden > 0 && panels == 1;

   /// The columns of all gates with `hidden` units each, filled up to packs or whole panels.
   SOFIE_INLINE static Size columns(Size hidden)
   {
      if constexpr (Gates == 0)
         return 0;
      constexpr Size panel = Gates == 0 ? 1 : width * lanes<T>;
      return (Gates * hidden + panel - 1) / panel * panel - (width - last) * lanes<T>;
   }
};

/// Rows that are `stride` apart. (A struct of three would be passed in memory.)
template <class T>
struct RecurrentRows {
   T *data;
   Size stride;
};

/// y = start + x w for a panel of `Width` packs, from the first number of x on, or from the last one back.
template <int Width, class T>
SOFIE_INLINE void recurrent_panel(RecurrentRows<T> y, RecurrentRows<const T> start, RecurrentRows<const T> x,
                                  const T *w, Size depth, Size rows, bool backwards)
{
   constexpr Size columns = Width * lanes<T>;
   constexpr int chains = dense_chains(Width);
   const Size first = backwards ? depth - 1 : 0, step = backwards ? -1 : 1;
   const auto panel = [&] {
      return DensePanel<T>{{x.data + first, x.stride, step},
                           {w + first * columns, step * columns},
                           {start.data, start.stride},
                           {y.data, y.stride},
                           columns,
                           depth,
                           chains};
   };
#ifdef SOFIE_TILE_ASSEMBLER
   if constexpr (std::is_same_v<T, float>) {
      const bool far = dense_is_far(depth * columns);
      if (rows >= (far ? dense_least_rows(Width, far) : dense_tile_rows))
         return dense_panel_stripes(panel(), rows);
      for (Size r = 0; r < rows; ++r)
         dense_row_assembler<Width, true>(x.data + r * x.stride, w, depth,
                                          DenseRowEnd{y.data + r * y.stride, start.data + r * start.stride, 0xffff, 0},
                                          backwards);
      return;
   }
#endif
   if (rows >= dense_least_block)
      return dense_blocks<Width, chains, dyn>(Identity{}, panel(), rows);
   for (Size r = 0; r < rows; ++r)
      dense_tile<1, Width, chains, dyn>(Identity{}, panel(), r, 0);
}

/// y = start + x w for all panels of these gates, of rows of which x has `depth` numbers. In assembler one step after
/// the other should go forwards and `backwards` in turn: what was read last is in the first cache still. The sums have
/// another order then, so a step must go the same way for all.
template <class Panels, class T>
SOFIE_KERNEL void recurrent_product(RecurrentRows<T> y, RecurrentRows<const T> start, RecurrentRows<const T> x,
                                    const T *w, Size depth, Size columns, Size rows, bool backwards = false)
{
   constexpr Size n = lanes<T>, width = Panels::width * n, last = Panels::last * n;
   const Size whole = columns - last;
   backwards = backwards && Panels::in_assembler;
   for (Size i = 0; i <= whole; i += width) {
      const Size c = backwards ? whole - i : i;
      const RecurrentRows<T> own{y.data + c, y.stride};
      const RecurrentRows<const T> bias{start.data + c, start.stride};
      if (width == last || c == whole)
         recurrent_panel<Panels::last>(own, bias, x, w + c * depth, depth, rows, backwards);
      else
         recurrent_panel<Panels::width>(own, bias, x, w + c * depth, depth, rows, backwards);
   }
}

/// The same without a call in between where a few rows are one panel each: that takes as long as some steps.
template <class Panels, class T>
SOFIE_INLINE void recurrent_few(RecurrentRows<T> y, RecurrentRows<const T> start, RecurrentRows<const T> x, const T *w,
                                Size depth, Size columns, Size rows, bool backwards = false)
{
#ifdef SOFIE_TILE_ASSEMBLER
   if constexpr (Panels::in_one)
      if (rows == 1 || (rows < dense_tile_rows && !dense_is_far(depth * columns))) {
         for (Size r = 0; r < rows; ++r)
            dense_row_assembler<Panels::last, true>(
               x.data + r * x.stride, w, depth,
               DenseRowEnd{y.data + r * y.stride, start.data + r * start.stride, 0xffff, 0}, backwards);
         return;
      }
#endif
   recurrent_product<Panels>(y, start, x, w, depth, columns, rows, backwards);
}

} // namespace sofie

SOFIE_END

#endif
