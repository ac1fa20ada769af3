/// \file
/// The product of rows with the weights of gates, which lie in panels of packs.
///
/// The order of summation depends on the shape of the weights only, so that a row gives the same bits
/// alone and in a batch.
#ifndef SOFIE_KERNELS_RECURRENT_PRODUCT_HXX
#define SOFIE_KERNELS_RECURRENT_PRODUCT_HXX

#include "sofie/kernels/dense_tile.hxx"
#include "sofie/view.hxx"

SOFIE_BEGIN

namespace sofie {

/// How the columns of the gates are cut: into panels of `width` packs, each stored row after row.
template <class T, int Gates, Size Hidden>
struct RecurrentPanels {
   static constexpr int known = Hidden == dyn ? 0 : static_cast<int>((Gates * Hidden + lanes<T> - 1) / lanes<T>);
   /// The most packs that one row of accumulators may have, out of 32 registers (16 with AVX2).
   static constexpr int most = SOFIE_SIMD_BYTES == 64 ? 14 : 12;
   /// Two at least of what the first cache does not hold, so that the next step finds one of them there.
   static constexpr int least = known > 1 && known * Hidden * SOFIE_SIMD_BYTES > 32768 ? 2 : 1;
   static constexpr int panels = (known > most * least) ? (known + most - 1) / most : least;
   static constexpr int width = Gates == 0 ? 0 : Hidden <= 0 ? 4 : (known + panels - 1) / panels;
};

/// The columns of `gates` gates with `hidden` units each, filled up to whole panels.
template <class T, int Width>
SOFIE_INLINE Size recurrent_columns(Size gates, Size hidden)
{
   if constexpr (Width == 0)
      return 0;
   constexpr Size panel = Width == 0 ? 1 : Width * lanes<T>;
   return (gates * hidden + panel - 1) / panel * panel;
}

/// `Steps` values of k: sum[k % Chains][r][j] += x[r][k] * w[k][j]
template <int Steps, int Rows, int Packs, int Chains, class T>
SOFIE_INLINE void recurrent_block(const T *__restrict x, Size x_stride, const T *__restrict w, Size w_stride,
                                  Pack<T> (&sum)[Chains][Rows][Packs])
{
   constexpr int n = lanes<T>;
   SOFIE_UNROLL_ALL
   for (int k = 0; k < Steps; ++k) {
      Pack<T> row[Packs];
      SOFIE_UNROLL_ALL
      for (int j = 0; j < Packs; ++j)
         row[j] = load<n>(w + k * w_stride + j * n);
      SOFIE_UNROLL_ALL
      for (int r = 0; r < Rows; ++r)
         SOFIE_UNROLL_ALL
         for (int j = 0; j < Packs; ++j)
            sum[k % Chains][r][j] = sum[k % Chains][r][j] + x[r * x_stride + k] * row[j];
   }
}

/// y[r][j] = start[r][j] + sum_k x[r][k] * w[k][j] for `Rows` rows and `Packs` packs of columns.
/// `Chains` partial sums an element run side by side, to hide the latency of additions.
template <int Rows, int Packs, int Chains, class T>
SOFIE_INLINE void recurrent_tile(T *__restrict y, Size y_stride, const T *__restrict start, Size start_stride,
                                 const T *__restrict x, Size x_stride, const T *__restrict w, Size w_stride, Size depth)
{
   constexpr int n = lanes<T>;
   // At the end of each block Cling's register allocator writes all sums to memory.
   constexpr int block = 16, rest = 4;
   Pack<T> sum[Chains][Rows][Packs];
   SOFIE_UNROLL_ALL
   for (int c = 0; c < Chains; ++c)
      SOFIE_UNROLL_ALL
      for (int r = 0; r < Rows; ++r)
         SOFIE_UNROLL_ALL
         for (int j = 0; j < Packs; ++j)
            sum[c][r][j] = c == 0 ? load<n>(start + r * start_stride + j * n) : Pack<T>{};
   Size k = 0;
   for (; k + block <= depth; k += block)
      recurrent_block<block>(x + k, x_stride, w + k * w_stride, w_stride, sum);
   for (; k + rest <= depth; k += rest)
      recurrent_block<rest>(x + k, x_stride, w + k * w_stride, w_stride, sum);
   for (; k < depth; ++k)
      recurrent_block<1>(x + k, x_stride, w + k * w_stride, w_stride, sum);
   SOFIE_UNROLL_ALL
   for (int r = 0; r < Rows; ++r)
      SOFIE_UNROLL_ALL
      for (int j = 0; j < Packs; ++j) {
         Pack<T> total = sum[0][r][j];
         SOFIE_UNROLL_ALL
         for (int c = 1; c < Chains; ++c)
            total += sum[c][r][j];
         store(y + r * y_stride + j * n, total);
      }
}

/// A matrix of `columns` columns in memory that somebody else owns, rows `stride` apart.
template <class T>
struct RecurrentRows {
   T *data;
   Size stride;
};

/// `Packs` packs of columns of a panel for all rows, `Rows` at a time.
template <int Rows, int Packs, int Chains, class T>
SOFIE_INLINE void recurrent_stripe(RecurrentRows<T> y, RecurrentRows<const T> start, RecurrentRows<const T> x,
                                   const T *w, Size w_stride, Size depth, Size rows)
{
   for (Size i = 0; i < rows; i += Rows) {
      // The last rows: once more with rows that are done already, which gives them the same values.
      const Size r = i + Rows <= rows ? i : rows - Rows;
      recurrent_tile<Rows, Packs, Chains>(y.data + r * y.stride, y.stride, start.data + r * start.stride, start.stride,
                                          x.data + r * x.stride, x.stride, w, w_stride, depth);
   }
}

#ifdef SOFIE_DENSE_ASSEMBLER
/// `Packs` packs of columns of a panel for all rows, 8 at a time, at least 8.
template <int Packs, int Chains>
SOFIE_KERNEL void recurrent_stripe_assembler(RecurrentRows<float> y, RecurrentRows<const float> start,
                                             RecurrentRows<const float> x, const float *w, Size w_stride, Size depth,
                                             Size rows)
{
   constexpr int n = lanes<float>;
   alignas(64) float sums[dense_tile_rows * dense_tile_width];
   for (Size i = 0; i < rows; i += dense_tile_rows) {
      // The last rows: once more with rows that are done already, which gives them the same values.
      const Size first = i + dense_tile_rows <= rows ? i : rows - dense_tile_rows;
      for (int c = 0; c < Chains; ++c)
         dense_tile_assembler<Packs>(x.data + first * x.stride + c, x.stride, Chains, w + c * w_stride, Chains * w_stride,
                                     (depth - c + Chains - 1) / Chains,
                                     DenseTileEnd{sums, nullptr, 0, nullptr, 0, c > 0, false});
      for (int r = 0; r < dense_tile_rows; ++r)
         for (int j = 0; j < Packs * n; j += n)
            store(y.data + (first + r) * y.stride + j, load<n>(sums + r * dense_tile_width + j) +
                                                          load<n>(start.data + (first + r) * start.stride + j));
   }
}

/// y = start + x w for panels of `Width` packs, the last one first if it goes backwards.
template <int Width>
SOFIE_KERNEL void recurrent_product_assembler(RecurrentRows<float> y, RecurrentRows<const float> start,
                                              RecurrentRows<const float> x, const float *panels, Size depth,
                                              Size columns, Size rows, bool backwards)
{
   constexpr int n = lanes<float>, chains = Width >= 6 ? 1 : Width >= 3 ? 2 : 4;
   constexpr int threes = Width % 3 == 1 ? Width / 3 - 1 : Width / 3;
   constexpr Size panel = Width * n;
   for (Size i = 0; i < columns; i += panel) {
      const Size c = backwards ? columns - panel - i : i;
      const float *const w = panels + c * depth;
      if (rows < dense_tile_rows) {
         for (Size r = 0; r < rows; ++r)
            dense_row_assembler<Width>(x.data + r * x.stride, w, depth,
                                       DenseTileEnd{nullptr, y.data + r * y.stride + c, 0,
                                                    start.data + r * start.stride + c, 0xffff, false, false});
         continue;
      }
      Size j = c;
      for (; j < c + threes * 3 * n; j += 3 * n)
         recurrent_stripe_assembler<3, chains>({y.data + j, y.stride}, {start.data + j, start.stride}, x, w + j - c, panel,
                                               depth, rows);
      for (; j < c + panel; j += 2 * n)
         recurrent_stripe_assembler<2, chains>({y.data + j, y.stride}, {start.data + j, start.stride}, x, w + j - c, panel,
                                               depth, rows);
   }
}
#endif

/// y = start + x w for panels of `Width` packs; `y` and `start` are different memory.
template <int Width, class T>
SOFIE_KERNEL void recurrent_product_of_packs(RecurrentRows<T> y, RecurrentRows<const T> start,
                                             RecurrentRows<const T> x, const T *w, Size depth, Size columns, Size rows)
{
   constexpr int n = lanes<T>;
   constexpr int chains = Width >= 6 ? 1 : Width >= 3 ? 2 : 4;
   constexpr int sums = SOFIE_SIMD_BYTES == 64 ? 24 : 12;
   constexpr int most = SOFIE_SIMD_BYTES == 64 ? 4 : 2;
   constexpr int block = Width < most ? Width : most;
   constexpr int rest = Width % block;
   constexpr int fit = sums / (block * chains);
   constexpr int tile = fit < 2 ? 2 : fit > 6 ? 6 : fit;
   constexpr Size panel = Width * n;
   for (Size c = 0; c < columns; c += panel, w += depth * panel) {
      if (rows < tile) {
         for (Size r = 0; r < rows; ++r)
            recurrent_tile<1, Width, chains>(y.data + r * y.stride + c, 0, start.data + r * start.stride + c, 0,
                                             x.data + r * x.stride, 0, w, panel, depth);
         continue;
      }
      for (Size j = 0; j + block * n <= panel; j += block * n)
         recurrent_stripe<tile, block, chains>(RecurrentRows<T>{y.data + c + j, y.stride},
                                               RecurrentRows<const T>{start.data + c + j, start.stride}, x, w + j,
                                               panel, depth, rows);
      if constexpr (rest > 0) {
         constexpr Size j = (Width - rest) * n;
         recurrent_stripe<tile, rest, chains>(RecurrentRows<T>{y.data + c + j, y.stride},
                                              RecurrentRows<const T>{start.data + c + j, start.stride}, x, w + j, panel,
                                              depth, rows);
      }
   }
}

/// The same, by whichever tile there is for it. One step after the other should go forwards and `backwards` in turn: what
/// was read last is in the first cache still.
template <int Width, class T>
SOFIE_INLINE void recurrent_product(RecurrentRows<T> y, RecurrentRows<const T> start, RecurrentRows<const T> x,
                                    const T *w, Size depth, Size columns, Size rows, [[maybe_unused]] bool backwards = false)
{
#ifdef SOFIE_DENSE_ASSEMBLER
   if constexpr (std::is_same_v<T, float> && Width >= 2)
      recurrent_product_assembler<Width>(y, start, x, w, depth, columns, rows, backwards);
   else
#endif
      recurrent_product_of_packs<Width>(y, start, x, w, depth, columns, rows);
}

} // namespace sofie

SOFIE_END

#endif
