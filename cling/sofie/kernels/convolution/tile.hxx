/// \file
/// The tile of accumulators that convolutions are made of.
#ifndef SOFIE_KERNELS_CONVOLUTION_TILE_HXX
#define SOFIE_KERNELS_CONVOLUTION_TILE_HXX

#include "sofie/kernels/dense.hxx"

// A loop over k with 24 accumulators is what Cling's register allocator is worst at: it writes all of
// them to memory at the end of each block, and unrolling that away takes long to compile. So there is
// one in assembler, of the parts that `dense/tile.hxx` has.

SOFIE_BEGIN

namespace sofie {

/// `Steps` steps of a tile.
template <int Steps, int Rows, int Packs, class T>
SOFIE_INLINE void conv_steps(const T *__restrict w, const T *__restrict x, const std::int32_t *__restrict offsets,
                             Pack<T> (&sum)[Rows][Packs])
{
   SOFIE_UNROLL_ALL
   for (int step = 0; step < Steps; ++step) {
      tile_step<Rows, Packs>(w + step * Rows, 1, x + offsets[step], sum);
      // Loads of later steps stay behind this: done early they would only occupy registers.
      asm volatile("" ::: "memory");
   }
}

/// What becomes of the sums of a tile: they go to `sums`; or, if there is a y, to
/// y[r * stride + j] = max(sums + bias[r] + added[r * stride + j], floor).
template <class T>
struct ConvTileEnd {
   T *sums;
   T *y;
   const T *bias;
   const T *added; // The same part of another tensor, or none.
   Size stride;    // In bytes.
   Size rows;      // That y has.
   Size mask;      // The columns of the last pack that y has.
   std::int32_t add; // Whether what is in `sums` comes first.
   T floor;
};

/// sums[r][j] (+)= sum_k w[k][r] * x[offsets[k] + j], where rows of sums are `Width` long.
template <int Rows, int Packs, int Width, class T>
SOFIE_KERNEL void conv_tile_of_packs(T *__restrict sums, const T *__restrict w, const T *__restrict x,
                                     const std::int32_t *__restrict offsets, Size depth, bool add)
{
   constexpr int n = lanes<T>, block = Rows * Packs >= 12 ? 32 : 16;
   Pack<T> sum[Rows][Packs];
   SOFIE_UNROLL_ALL
   for (int r = 0; r < Rows; ++r)
      SOFIE_UNROLL_ALL
      for (int j = 0; j < Packs; ++j)
         sum[r][j] = Pack<T>{};
   Size k = 0;
   for (; k + block <= depth; k += block)
      conv_steps<block>(w + k * Rows, x, offsets + k, sum);
   for (; k + 4 <= depth; k += 4)
      conv_steps<4>(w + k * Rows, x, offsets + k, sum);
   for (; k < depth; ++k)
      conv_steps<1>(w + k * Rows, x, offsets + k, sum);
   if (add) {
      SOFIE_UNROLL_ALL
      for (int r = 0; r < Rows; ++r)
         SOFIE_UNROLL_ALL
         for (int j = 0; j < Packs; ++j)
            sum[r][j] = plus(sum[r][j], load<n>(sums + r * Width + j * n));
   }
   SOFIE_UNROLL_ALL
   for (int r = 0; r < Rows; ++r)
      SOFIE_UNROLL_ALL
      for (int j = 0; j < Packs; ++j)
         store(sums + r * Width + j * n, sum[r][j]);
}


#ifdef SOFIE_TILE_ASSEMBLER

// clang-format off
#define SOFIE_CONV_STORE(a) SOFIE_DENSE_STORE_AT(a, "(%[at])")
#define SOFIE_CONV_ADD(a) SOFIE_DENSE_ADD_AT(a, "(%[at])")

// A pack of a row of y: its bias, what is added, the floor. Of the last pack the mask says which columns exist.
#ifdef SOFIE_AVX512_ASSEMBLER
#define SOFIE_CONV_BIAS(row, a) "vaddps " #row "*4(%[w])%{1to16%}, %%zmm" #a ", %%zmm" #a "\n\t"
#else
#define SOFIE_CONV_BIAS(row, a) \
   "vbroadcastss " #row "*4(%[w]), %%ymm13\n\tvaddps %%ymm13, %%ymm" #a ", %%ymm" #a "\n\t"
#endif
#define SOFIE_CONV_FLOOR(a) "vmaxps " SOFIE_PACK(a) ", " SOFIE_DENSE_X(31) ", " SOFIE_PACK(a) "\n\t"
#define SOFIE_CONV_ADDED_WHOLE(place, a) "vaddps " place "(%[offsets]), " SOFIE_PACK(a) ", " SOFIE_PACK(a) "\n\t"
#define SOFIE_CONV_ADDED_SOME(place, a) SOFIE_PACK_ADD_SOME(place "(%[offsets])", SOFIE_PACK(a))
#define SOFIE_CONV_RESULT_WHOLE(place, a) "vmovups " SOFIE_PACK(a) ", " place "(%[x])\n\t"
#define SOFIE_CONV_RESULT_SOME(place, a) SOFIE_PACK_STORE_SOME(SOFIE_PACK(a), place "(%[x])")
#define SOFIE_CONV_FINISH(last, row, a, b, c)                                                                   \
   SOFIE_CONV_BIAS(row, a) SOFIE_DENSE_IF_2(SOFIE_CONV_BIAS(row, b)) SOFIE_DENSE_IF_3(SOFIE_CONV_BIAS(row, c))  \
   "test %[offsets], %[offsets]\n\t"                                                                            \
   "jz 5f\n\t"                                                                                                  \
   SOFIE_DENSE_MOVES(SOFIE_CONV_ADDED_WHOLE, SOFIE_CONV_ADDED_##last, a, b, c)                                  \
   "add %[k], %[offsets]\n\t"                                                                                   \
   "5:\n\t"                                                                                                     \
   SOFIE_CONV_FLOOR(a) SOFIE_DENSE_IF_2(SOFIE_CONV_FLOOR(b)) SOFIE_DENSE_IF_3(SOFIE_CONV_FLOOR(c))              \
   SOFIE_DENSE_MOVES(SOFIE_CONV_RESULT_WHOLE, SOFIE_CONV_RESULT_##last, a, b, c)                                \
   "add %[k], %[x]\n\t"                                                                                         \
   "dec %[at]\n\t"                                                                                              \
   "jz 6f\n\t"

// The products of a step with the weights of all rows, and what becomes of the sums of these.
#define SOFIE_CONV_PRODUCTS                                                                                     \
   SOFIE_DENSE_ROW("0(%[w])", 27, 0, 1, 2)                                                                      \
   SOFIE_DENSE_ROW("4(%[w])", 28, 3, 4, 5)                                                                      \
   SOFIE_DENSE_ROW("8(%[w])", 29, 6, 7, 8)                                                                      \
   SOFIE_DENSE_ROW("12(%[w])", 30, 9, 10, 11)                                                                   \
   SOFIE_DENSE_LOWER(                                                                                           \
      SOFIE_DENSE_ROW("16(%[w])", 27, 12, 13, 14)                                                               \
      SOFIE_DENSE_ROW("20(%[w])", 28, 15, 16, 17)                                                               \
      SOFIE_DENSE_ROW("24(%[w])", 29, 18, 19, 20)                                                               \
      SOFIE_DENSE_ROW("28(%[w])", 30, 21, 22, 23))
#define SOFIE_CONV_RESULTS(last)                                                                                \
   SOFIE_CONV_FINISH(last, 0, 0, 1, 2)                                                                          \
   SOFIE_CONV_FINISH(last, 1, 3, 4, 5)                                                                          \
   SOFIE_CONV_FINISH(last, 2, 6, 7, 8)                                                                          \
   SOFIE_CONV_FINISH(last, 3, 9, 10, 11)                                                                        \
   SOFIE_DENSE_LOWER(                                                                                           \
      SOFIE_CONV_FINISH(last, 4, 12, 13, 14)                                                                    \
      SOFIE_CONV_FINISH(last, 5, 15, 16, 17)                                                                    \
      SOFIE_CONV_FINISH(last, 6, 18, 19, 20)                                                                    \
      SOFIE_CONV_FINISH(last, 7, 21, 22, 23))
#define SOFIE_CONV_END(last)                                                                                    \
   "mov %c[end_bias](%[end]), %[w]\n\t"                                                                             \
   "mov %c[end_added](%[end]), %[offsets]\n\t"                                                                      \
   "mov %c[end_stride](%[end]), %[k]\n\t"                                                                           \
   "mov %c[end_rows](%[end]), %[at]\n\t"                                                                        \
   "vbroadcastss %c[end_floor](%[end]), " SOFIE_DENSE_X(31) "\n\t"                                                  \
   SOFIE_CONV_RESULTS(last)
// clang-format on

/// sums (+)= sum_k w[k][rows] * x[offsets[k]][columns] for the rows of a tile and some packs of columns.
template <int Packs>
SOFIE_KERNEL void conv_tile_assembler(const float *w, const float *x, const std::int32_t *offsets, Size depth,
                                      const ConvTileEnd<float> &end)
{
   Size at;
   // Weights are read once in a long time: without asking for them ahead a layer with many of them waits for memory half
   // of its time.
   // clang-format off
   asm volatile(
      SOFIE_DENSE_EACH(SOFIE_DENSE_ZERO)
      "test %[k], %[k]\n\t"
      "jle 2f\n\t"
      ".p2align 5\n"
      "1:\n\t"
      "movslq (%[offsets]), %[at]\n\t"
      SOFIE_DENSE_LOADS("(%[x],%[at],4)")
      SOFIE_CONV_PRODUCTS
      "prefetcht0 2048(%[w])\n\t"
      "add $4*%c[rows], %[w]\n\t"
      "add $4, %[offsets]\n\t"
      "dec %[k]\n\t"
      "jnz 1b\n"
      "2:\n\t"
      "cmpl $0, %c[end_add](%[end])\n\t"
      "je 3f\n\t"
      "mov %c[end_sums](%[end]), %[at]\n\t"
      SOFIE_DENSE_EACH(SOFIE_CONV_ADD)
      "3:\n\t"
      "mov %c[end_y](%[end]), %[x]\n\t"
      "test %[x], %[x]\n\t"
      "jnz 4f\n\t"
      "mov %c[end_sums](%[end]), %[at]\n\t"
      SOFIE_DENSE_EACH(SOFIE_CONV_STORE)
      "jmp 6f\n"
      "4:\n\t"
      SOFIE_DENSE_WHOLE_OR_SOME("%c[end_mask](%[end])", SOFIE_CONV_END(WHOLE), SOFIE_CONV_END(SOME))
      "6:\n\t"
      : [w] "+&r"(w), [x] "+&r"(x), [offsets] "+&r"(offsets), [k] "+&r"(depth), [at] "=&r"(at)
      : [end] "r"(&end), [packs] "i"(Packs), [rows] "i"(dense_tile_rows),
        SOFIE_MEMBERS(end, ConvTileEnd<float>, sums, y, bias, added, stride, rows, mask, add, floor)
      : "memory", "cc", SOFIE_DENSE_REGISTERS);
   // clang-format on
}
#endif

/// Whether tiles are in assembler, which can hand their sums to y; and whether they are those of `conv_few_tiles`.
#ifdef SOFIE_TILE_ASSEMBLER
template <class T>
inline constexpr bool conv_tile_finishes = std::is_same_v<T, float>;
template <class T, int Rows>
inline constexpr bool conv_tile_is_few = conv_tile_finishes<T> && Rows < dense_tile_rows;
#else
template <class T>
inline constexpr bool conv_tile_finishes = false;
template <class T, int Rows>
inline constexpr bool conv_tile_is_few = false;
#endif

/// sums[r][j] (+)= sum_k w[k][r] * x[offsets[k] + j], where rows of sums are `Width` long.
template <int Rows, int Packs, int Width, class T>
SOFIE_INLINE void conv_tile(const T *w, const T *x, const std::int32_t *offsets, Size depth, const ConvTileEnd<T> &end)
{
#ifdef SOFIE_TILE_ASSEMBLER
   if constexpr (conv_tile_finishes<T>) {
      static_assert(Rows == dense_tile_rows && Width == dense_tile_width, "the rows of sums that the assembler knows");
      return conv_tile_assembler<Packs>(w, x, offsets, depth, end);
   } else
#endif
      conv_tile_of_packs<Rows, Packs, Width>(end.sums, w, x, offsets, depth, end.add != 0);
}

} // namespace sofie

SOFIE_END

#endif
