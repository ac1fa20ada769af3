/// \file
/// The product of rows with the weights of gates, which lie in panels of packs.
///
/// The order of summation depends on the shape of the weights and on the direction only, so that a row gives
/// the same bits alone and in a batch.
#ifndef SOFIE_KERNELS_RECURRENT_PRODUCT_HXX
#define SOFIE_KERNELS_RECURRENT_PRODUCT_HXX

#include "sofie/kernels/dense/rows_tile.hxx"
#include "sofie/view.hxx"

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
   static constexpr int width = Gates == 0 ? 0 : Hidden <= 0 ? 4 : (known + panels - 1) / panels;
   static constexpr int left = known - (panels - 1) * width;
#ifdef SOFIE_TILE_ASSEMBLER
   static constexpr bool narrow = std::is_same_v<T, float> && Hidden > 0 && width >= 2;
#else
   static constexpr bool narrow = false; // Another width would be more to compile.
#endif
   static constexpr int last = !narrow ? width : left < 2 ? 2 : left;

   /// The columns of all gates with `hidden` units each, filled up to packs or whole panels.
   SOFIE_INLINE static Size columns(Size hidden)
   {
      if constexpr (Gates == 0)
         return 0;
      constexpr Size panel = Gates == 0 ? 1 : width * lanes<T>;
      return (Gates * hidden + panel - 1) / panel * panel - (width - last) * lanes<T>;
   }
};

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
            sum[k % Chains][r][j] =
               multiply_add(splat<Pack<T>>(x[r * x_stride + k]), row[j], sum[k % Chains][r][j]);
      end_step(sum[k % Chains]);
   }
}

/// A matrix of `columns` columns in memory that somebody else owns, rows `stride` apart.
template <class T>
struct RecurrentRows {
   T *data;
   Size stride;

   SOFIE_INLINE RecurrentRows from(Size row, Size column) const { return {data + row * stride + column, stride}; }
};

/// y[r][j] = start[r][j] + sum_k x[r][k] * w[k][j] for `Rows` rows and `Packs` packs of columns.
/// `Chains` partial sums an element run side by side, to hide the latency of additions.
template <int Rows, int Packs, int Chains, class T>
SOFIE_INLINE void recurrent_tile(RecurrentRows<T> y, RecurrentRows<const T> start, RecurrentRows<const T> from,
                                 const T *__restrict w, Size w_stride, Size depth)
{
   const T *const __restrict x = from.data;
   const Size x_stride = from.stride;
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
            sum[c][r][j] = c == 0 ? load<n>(start.data + r * start.stride + j * n) : Pack<T>{};
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
         store(y.data + r * y.stride + j * n, total);
      }
}

/// `Packs` packs of columns of a panel for all rows, `Rows` at a time.
template <int Rows, int Packs, int Chains, class T>
SOFIE_INLINE void recurrent_stripe(RecurrentRows<T> y, RecurrentRows<const T> start, RecurrentRows<const T> x,
                                   const T *w, Size w_stride, Size depth, Size rows)
{
   for (Size i = 0; i < rows; i += Rows) {
      // The last rows: once more with rows that are done already, which gives them the same values.
      const Size r = i + Rows <= rows ? i : rows - Rows;
      recurrent_tile<Rows, Packs, Chains>(y.from(r, 0), start.from(r, 0), x.from(r, 0), w, w_stride, depth);
   }
}

#ifdef SOFIE_TILE_ASSEMBLER
/// What becomes of the sums of a tile: what is in y comes first if `add`, and `start` last if there is one; then they
/// go to y. Strides are in bytes.
struct RecurrentTileEnd {
   float *y;
   Size y_stride;
   const float *start;
   Size start_stride;
   std::int32_t add;
};

// clang-format off
// A row of memory, which is added to registers, or which they are stored in; then the next one.
#define SOFIE_RECURRENT_ADD_PACK(a, place) "vaddps " place "(%[x3]), " SOFIE_PACK(a) ", " SOFIE_PACK(a) "\n\t"
#define SOFIE_RECURRENT_STORE_PACK(a, place) "vmovups " SOFIE_PACK(a) ", " place "(%[x3])\n\t"
#define SOFIE_RECURRENT_PACKS(each, a, b, c)                                                                        \
   each(a, "") each(b, SOFIE_PACK_BYTES) SOFIE_DENSE_IF_3(each(c, "2*" SOFIE_PACK_BYTES))
#define SOFIE_RECURRENT_NEXT "add %[x0], %[x3]\n\t"
// Of all rows, or of 4 if `half`.
#define SOFIE_RECURRENT_ROWS(each)                                                                                  \
   SOFIE_RECURRENT_PACKS(each, 0, 1, 2) SOFIE_RECURRENT_NEXT SOFIE_RECURRENT_PACKS(each, 3, 4, 5)                   \
   SOFIE_RECURRENT_NEXT SOFIE_RECURRENT_PACKS(each, 6, 7, 8) SOFIE_RECURRENT_NEXT                                   \
   SOFIE_RECURRENT_PACKS(each, 9, 10, 11)                                                                           \
   SOFIE_DENSE_LOWER(                                                                                               \
      "test %[half], %[half]\n\t"                                                                                   \
      "jnz 8f\n\t"                                                                                                  \
      SOFIE_RECURRENT_NEXT SOFIE_RECURRENT_PACKS(each, 12, 13, 14) SOFIE_RECURRENT_NEXT                             \
      SOFIE_RECURRENT_PACKS(each, 15, 16, 17) SOFIE_RECURRENT_NEXT SOFIE_RECURRENT_PACKS(each, 18, 19, 20)          \
      SOFIE_RECURRENT_NEXT SOFIE_RECURRENT_PACKS(each, 21, 22, 23)                                                  \
      "8:\n\t")
// clang-format on

/// The tile of `dense_tile_assembler` with such an end; of its first 4 rows only if `half`.
template <int Packs>
SOFIE_KERNEL void recurrent_tile_assembler(const float *x, Size x_stride, Size x_step, const float *w, Size w_stride,
                                           Size depth, const RecurrentTileEnd &end, Size half)
{
   static_assert(Packs == 2 || Packs == 3, "there are registers for 3 packs");
   using End = RecurrentTileEnd;
   constexpr Size bytes = static_cast<Size>(sizeof(float));
   const float *x3 = x + 3 * x_stride, *x6 = x + (dense_tile_rows - 2) * x_stride;
   const Size stride = x_stride * bytes, step = x_step * bytes, next = w_stride * bytes;
   // clang-format off
   asm volatile(
      SOFIE_DENSE_EACH(SOFIE_DENSE_ZERO)
      "test %[k], %[k]\n\t"
      "jle 2f\n\t"
      SOFIE_DENSE_STEPS
      "cmpl $0, %c[add](%[end])\n\t"
      "je 3f\n\t"
      "mov %c[y](%[end]), %[x3]\n\t"
      "mov %c[y_stride](%[end]), %[x0]\n\t"
      SOFIE_RECURRENT_ROWS(SOFIE_RECURRENT_ADD_PACK)
      "3:\n\t"
      "mov %c[start](%[end]), %[x3]\n\t"
      "test %[x3], %[x3]\n\t"
      "jz 4f\n\t"
      "mov %c[start_stride](%[end]), %[x0]\n\t"
      SOFIE_RECURRENT_ROWS(SOFIE_RECURRENT_ADD_PACK)
      "4:\n\t"
      "mov %c[y](%[end]), %[x3]\n\t"
      "mov %c[y_stride](%[end]), %[x0]\n\t"
      SOFIE_RECURRENT_ROWS(SOFIE_RECURRENT_STORE_PACK)
      : [w] "+&r"(w), [x0] "+&r"(x), [x3] "+&r"(x3), [x6] "+&r"(x6), [k] "+&r"(depth)
      : [stride] "r"(stride), [step] "r"(step), [next] "r"(next), [end] "r"(&end), [half] "r"(half),
        [packs] "i"(Packs), [y] "i"(__builtin_offsetof(End, y)), [y_stride] "i"(__builtin_offsetof(End, y_stride)),
        [start] "i"(__builtin_offsetof(End, start)), [start_stride] "i"(__builtin_offsetof(End, start_stride)),
        [add] "i"(__builtin_offsetof(End, add))
      : "memory", "cc", SOFIE_DENSE_REGISTERS);
   // clang-format on
}

/// `Packs` packs of columns of a panel for all rows, at least a tile: a tile at a time, at the end 4 where that is enough.
template <int Packs, int Chains>
SOFIE_KERNEL void recurrent_stripe_assembler(RecurrentRows<float> y, RecurrentRows<const float> start,
                                             RecurrentRows<const float> x, const float *w, Size w_stride, Size depth,
                                             Size rows, bool backwards)
{
   constexpr Size bytes = static_cast<Size>(sizeof(float));
   for (Size i = 0; i < rows; i += dense_tile_rows) {
      const Size half = rows - i <= dense_tile_half, count = half ? dense_tile_half : dense_tile_rows;
      // The last rows: once more with rows that are done already, which gives them the same values.
      const Size first = i + count <= rows ? i : rows - count;
      RecurrentTileEnd end{y.data + first * y.stride, y.stride * bytes, nullptr, start.stride * bytes, 0};
      for (int c = 0; c < Chains; ++c) {
         end.add = c > 0;
         end.start = c + 1 < Chains ? nullptr : start.data + first * start.stride;
         const Size k = backwards ? depth - 1 - c : c, step = backwards ? -Chains : Chains;
         recurrent_tile_assembler<Packs>(x.data + first * x.stride + k, x.stride, step, w + k * w_stride,
                                         step * w_stride, (depth - c + Chains - 1) / Chains, end, half);
      }
   }
}

#ifdef SOFIE_AVX512_ASSEMBLER
/// From how many weights of a panel on two rows and more read them together: less are in the first cache.
inline constexpr Size recurrent_far = 8192;

/// Whether tiles of 4 packs and of as many rows as there are compute less in vain than those of 4 and 8 rows; where there
/// are less than 8, whether they take less time than row after row.
SOFIE_INLINE bool recurrent_takes_quads(Size rows, Size packs, Size weights)
{
   if (rows < dense_tile_rows)
      return rows >= dense_quads_least && weights >= recurrent_far;
   return rows * ((packs + 3) / 4) < (rows + 3) / 4 * packs;
}

/// A panel of `Width` packs for 2 rows and more, in the order of `dense_row_assembler`, which is a single chain if it goes
/// backwards.
template <int Width>
SOFIE_KERNEL void recurrent_quads_assembler(RecurrentRows<float> y, RecurrentRows<const float> start,
                                            RecurrentRows<const float> x, const float *w, Size depth, Size rows,
                                            Size chains, bool backwards)
{
   constexpr Size n = lanes<float>, panel = Width * n;
   alignas(64) float sums[dense_quads_rows * dense_quads_packs * n];
   const Size k = backwards ? depth - 1 : 0, step = backwards ? -1 : 1;
   for (Size next = 0; next < Width; next += dense_quads_packs) {
      // The last columns: once more with columns that are done already.
      const Size first = (next + dense_quads_packs <= Width ? next : Width - dense_quads_packs) * n;
      DenseQuads of = dense_quads_of({x.data + k, x.stride, step}, {w + k * panel + first, step * panel}, depth, chains,
                                     {y.data + first, y.stride}, {start.data + first, start.stride}, sums);
      dense_quads(of, rows);
   }
}

#endif

/// y = start + x w for a panel of `Width` packs.
template <int Width>
SOFIE_INLINE void recurrent_panel_assembler(RecurrentRows<float> y, RecurrentRows<const float> start,
                                            RecurrentRows<const float> x, const float *w, Size depth, Size rows,
                                            bool backwards)
{
   constexpr int n = lanes<float>, chains = Width >= 6 ? 1 : Width >= 3 ? 2 : 4;
   constexpr int threes = Width % 3 == 1 ? Width / 3 - 1 : Width / 3;
   constexpr Size panel = Width * n;
#ifdef SOFIE_AVX512_ASSEMBLER
   if constexpr (Width >= dense_quads_packs)
      if (recurrent_takes_quads(rows, Width, depth * panel) && (chains == 1 || !backwards))
         return recurrent_quads_assembler<Width>(y, start, x, w, depth, rows, chains, backwards);
#endif
   if (rows < dense_tile_rows) {
      for (Size r = 0; r < rows; ++r)
         dense_row_assembler<Width>(
            x.data + r * x.stride, w, depth,
            DenseTileEnd{nullptr, y.data + r * y.stride, 0, start.data + r * start.stride, 0xffff, false, false},
            backwards);
      return;
   }
   Size j = 0;
   for (; j < threes * 3 * n; j += 3 * n)
      recurrent_stripe_assembler<3, chains>({y.data + j, y.stride}, {start.data + j, start.stride}, x, w + j, panel,
                                            depth, rows, backwards);
   for (; j < panel; j += 2 * n)
      recurrent_stripe_assembler<2, chains>({y.data + j, y.stride}, {start.data + j, start.stride}, x, w + j, panel,
                                            depth, rows, backwards);
}

/// y = start + x w for panels of `Width` packs and one of `Last`; if it goes backwards, from the last panel's last row on.
template <int Width, int Last>
SOFIE_KERNEL void recurrent_product_assembler(RecurrentRows<float> y, RecurrentRows<const float> start,
                                              RecurrentRows<const float> x, const float *panels, Size depth,
                                              Size columns, Size rows, bool backwards)
{
   constexpr Size panel = Width * lanes<float>;
   const Size whole = columns - Last * lanes<float>;
   if (rows == 1 && whole == 0)
      return dense_row_assembler<Last>(x.data, panels, depth, DenseTileEnd{nullptr, y.data, 0, start.data, 0xffff, 0, 0},
                                       backwards);
   for (Size i = 0; i <= whole; i += panel) {
      const Size c = backwards ? whole - i : i;
      const RecurrentRows<float> of_y{y.data + c, y.stride};
      const RecurrentRows<const float> of_start{start.data + c, start.stride};
      if (c < whole)
         recurrent_panel_assembler<Width>(of_y, of_start, x, panels + c * depth, depth, rows, backwards);
      else
         recurrent_panel_assembler<Last>(of_y, of_start, x, panels + c * depth, depth, rows, backwards);
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
            recurrent_tile<1, Width, chains>(y.from(r, c), start.from(r, c), x.from(r, 0), w, panel, depth);
         continue;
      }
      for (Size j = 0; j + block * n <= panel; j += block * n)
         recurrent_stripe<tile, block, chains>(y.from(0, c + j), start.from(0, c + j), x, w + j, panel, depth, rows);
      if constexpr (rest > 0) {
         constexpr Size j = (Width - rest) * n;
         recurrent_stripe<tile, rest, chains>(y.from(0, c + j), start.from(0, c + j), x, w + j, panel, depth, rows);
      }
   }
}

/// The same, by whichever tile there is for it. One step after the other should go forwards and `backwards` in turn: what
/// was read last is in the first cache still. The sums have another order then, so a step must go the same way for all.
template <class Panels, class T>
SOFIE_INLINE void recurrent_product(RecurrentRows<T> y, RecurrentRows<const T> start, RecurrentRows<const T> x,
                                    const T *w, Size depth, Size columns, Size rows, [[maybe_unused]] bool backwards = false)
{
#ifdef SOFIE_TILE_ASSEMBLER
   if constexpr (std::is_same_v<T, float> && Panels::width >= 2)
      recurrent_product_assembler<Panels::width, Panels::last>(y, start, x, w, depth, columns, rows, backwards);
   else
#endif
      recurrent_product_of_packs<Panels::width>(y, start, x, w, depth, columns, rows);
}

} // namespace sofie

SOFIE_END

#endif
