/// \file
/// The tile of accumulators that products of many rows are made of, and that of a single row.
///
/// A loop over k with many accumulators is what Cling's register allocator is worst at: it writes all
/// of them to memory at the end of each block, and long blocks do not fit into the cache of decoded
/// instructions. Where most of the time is spent the loop is written in assembler.
#ifndef SOFIE_KERNELS_DENSE_TILE_HXX
#define SOFIE_KERNELS_DENSE_TILE_HXX

#include "sofie/simd.hxx"

#if defined(SOFIE_X86) && SOFIE_SIMD_BYTES == 64
#define SOFIE_DENSE_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

/// How many rows of x such a tile has, or only half of them; and how long a row of its sums is.
inline constexpr int dense_tile_rows = 8, dense_tile_half = 4;
inline constexpr int dense_tile_width = 48;

// clang-format off
// A row: its number of x times the packs of w, which are in zmm24, zmm25 and zmm26.
#define SOFIE_DENSE_ROW_1(x, number, a, b, c)                  \
   "vbroadcastss " x ", %%zmm" #number "\n\t"                  \
   "vfmadd231ps %%zmm24, %%zmm" #number ", %%zmm" #a "\n\t"
#define SOFIE_DENSE_ROW_2(x, number, a, b, c)                  \
   SOFIE_DENSE_ROW_1(x, number, a, b, c)                       \
   "vfmadd231ps %%zmm25, %%zmm" #number ", %%zmm" #b "\n\t"
#define SOFIE_DENSE_ROW_3(x, number, a, b, c)                  \
   SOFIE_DENSE_ROW_2(x, number, a, b, c)                       \
   "vfmadd231ps %%zmm26, %%zmm" #number ", %%zmm" #c "\n\t"

#define SOFIE_DENSE_LOAD_1 "vmovups (%[w]), %%zmm24\n\t"
#define SOFIE_DENSE_LOAD_2 SOFIE_DENSE_LOAD_1 "vmovups 64(%[w]), %%zmm25\n\t"
#define SOFIE_DENSE_LOAD_3 SOFIE_DENSE_LOAD_2 "vmovups 128(%[w]), %%zmm26\n\t"

#define SOFIE_DENSE_ZERO(at, a) "vpxord %%zmm" #a ", %%zmm" #a ", %%zmm" #a "\n\t"
#define SOFIE_DENSE_STORE(at, a) "vmovups %%zmm" #a ", " #at "(%[sums])\n\t"
#define SOFIE_DENSE_ADD(at, a) "vaddps " #at "(%[sums]), %%zmm" #a ", %%zmm" #a "\n\t"

// `each` of the accumulators and its place in the sums, whose rows are 192 bytes long.
#define SOFIE_DENSE_EACH_1(each) each(0, 0) each(192, 3) each(384, 6) each(576, 9) each(768, 12) each(960, 15) each(1152, 18) each(1344, 21)
#define SOFIE_DENSE_SECONDS(each) each(64, 1) each(256, 4) each(448, 7) each(640, 10) each(832, 13) each(1024, 16) each(1216, 19) each(1408, 22)
#define SOFIE_DENSE_THIRDS(each) each(128, 2) each(320, 5) each(512, 8) each(704, 11) each(896, 14) each(1088, 17) each(1280, 20) each(1472, 23)
#define SOFIE_DENSE_EACH_2(each) SOFIE_DENSE_EACH_1(each) SOFIE_DENSE_SECONDS(each)
#define SOFIE_DENSE_EACH_3(each) SOFIE_DENSE_EACH_2(each) SOFIE_DENSE_THIRDS(each)

#define SOFIE_DENSE_BIAS_1(at, a) "vaddps %%zmm24, %%zmm" #a ", %%zmm" #a "\n\t"
#define SOFIE_DENSE_BIAS_2(at, a) "vaddps %%zmm25, %%zmm" #a ", %%zmm" #a "\n\t"
#define SOFIE_DENSE_BIAS_3(at, a) "vaddps %%zmm26, %%zmm" #a ", %%zmm" #a "\n\t"
// max(0, a), which is a where that is NaN or -0.
#define SOFIE_DENSE_RELU(at, a) "vmaxps %%zmm" #a ", %%zmm27, %%zmm" #a "\n\t"
// A row of y: the mask has the columns of its last pack that exist.
#define SOFIE_DENSE_RESULT_1(a, b, c) "vmovups %%zmm" #a ", (%[x3])%{%%k1%}\n\tadd %[x0], %[x3]\n\t"
#define SOFIE_DENSE_RESULT_2(a, b, c) "vmovups %%zmm" #a ", (%[x3])\n\tvmovups %%zmm" #b ", 64(%[x3])%{%%k1%}\n\tadd %[x0], %[x3]\n\t"
#define SOFIE_DENSE_RESULT_3(a, b, c) "vmovups %%zmm" #a ", (%[x3])\n\tvmovups %%zmm" #b ", 64(%[x3])\n\tvmovups %%zmm" #c ", 128(%[x3])%{%%k1%}\n\tadd %[x0], %[x3]\n\t"

// Three rows of x are reached from each of three pointers, behind the loop free. `half` says whether there are 4 rows
// only. The loops over tiles and passes are here because Cling's code between two tiles costs as much as some steps.
#define SOFIE_DENSE_TILES(packs)                                                    \
   asm volatile(                                                                    \
      "mov 24(%[of]), %[stride]\n\t"                                                \
      "mov 32(%[of]), %[step]\n\t"                                                  \
      "mov 48(%[of]), %[next]\n"                                                    \
      /* A tile; if there are too few rows left it begins before them. */           \
      "20:\n\t"                                                                     \
      "mov 16(%[of]), %[k]\n\t"                                                     \
      "mov 128(%[of]), %[half]\n\t"                                                 \
      "mov $1, %k[x3]\n\t"                                                          \
      "cmp $4, %[k]\n\t"                                                            \
      "cmovle %[x3], %[half]\n\t"                                                   \
      "mov $8, %k[x6]\n\t"                                                          \
      "mov $4, %k[x3]\n\t"                                                          \
      "test %[half], %[half]\n\t"                                                   \
      "cmovnz %[x3], %[x6]\n\t"                                                     \
      "sub %[k], %[x6]\n\t"                                                         \
      "jle 21f\n\t"                                                                 \
      "mov %[x6], %[x3]\n\t"                                                        \
      "imul %[stride], %[x3]\n\t"                                                   \
      "sub %[x3], (%[of])\n\t"                                                      \
      "imul 56(%[of]), %[x6]\n\t"                                                   \
      "sub %[x6], 8(%[of])\n"                                                       \
      "21:\n\t"                                                                     \
      "mov (%[of]), %[x0]\n\t"                                                      \
      "mov 40(%[of]), %[w]\n\t"                                                     \
      "movq $0, 152(%[of])\n"                                                       \
      /* A pass. */                                                                 \
      "22:\n\t"                                                                     \
      "mov %[x0], 160(%[of])\n\t"                                                   \
      "mov %[w], 168(%[of])\n\t"                                                    \
      "lea (%[x0],%[stride],2), %[x3]\n\t"                                          \
      "add %[stride], %[x3]\n\t"                                                    \
      "lea (%[x3],%[stride],2), %[x6]\n\t"                                          \
      "add %[stride], %[x6]\n\t"                                                    \
      SOFIE_DENSE_EACH_##packs(SOFIE_DENSE_ZERO)                                    \
      "mov 80(%[of]), %[k]\n\t"                                                     \
      "mov 88(%[of]), %[sums]\n\t"                                                  \
      "cmp %[sums], 152(%[of])\n\t"                                                 \
      "jge 23f\n\t"                                                                 \
      "inc %[k]\n"                                                                  \
      "23:\n\t"                                                                     \
      "mov 104(%[of]), %[sums]\n\t"                                                 \
      "dec %[sums]\n\t"                                                             \
      "cmp 152(%[of]), %[sums]\n\t"                                                 \
      "cmove 96(%[of]), %[k]\n\t"                                                   \
      "test %[k], %[k]\n\t"                                                         \
      "jle 2f\n\t"                                                                  \
      ".p2align 5\n"                                                                \
      "1:\n\t"                                                                      \
      SOFIE_DENSE_LOAD_##packs                                                      \
      SOFIE_DENSE_ROW_##packs("(%[x0])", 27, 0, 1, 2)                               \
      SOFIE_DENSE_ROW_##packs("(%[x0],%[stride])", 28, 3, 4, 5)                     \
      SOFIE_DENSE_ROW_##packs("(%[x0],%[stride],2)", 29, 6, 7, 8)                   \
      SOFIE_DENSE_ROW_##packs("(%[x3])", 30, 9, 10, 11)                             \
      "test %[half], %[half]\n\t"                                                   \
      "jnz 9f\n\t"                                                                  \
      SOFIE_DENSE_ROW_##packs("(%[x3],%[stride])", 27, 12, 13, 14)                  \
      SOFIE_DENSE_ROW_##packs("(%[x3],%[stride],2)", 28, 15, 16, 17)                \
      SOFIE_DENSE_ROW_##packs("(%[x6])", 29, 18, 19, 20)                            \
      SOFIE_DENSE_ROW_##packs("(%[x6],%[stride])", 30, 21, 22, 23)                  \
      "9:\n\t"                                                                      \
      "add %[step], %[x0]\n\t"                                                      \
      "add %[step], %[x3]\n\t"                                                      \
      "add %[step], %[x6]\n\t"                                                      \
      "add %[next], %[w]\n\t"                                                       \
      "dec %[k]\n\t"                                                                \
      "jnz 1b\n"                                                                    \
      "2:\n\t"                                                                      \
      "mov 144(%[of]), %[sums]\n\t"                                                 \
      "mov 136(%[of]), %[k]\n\t"                                                    \
      "or 152(%[of]), %[k]\n\t"                                                     \
      "jz 3f\n\t"                                                                   \
      SOFIE_DENSE_EACH_##packs(SOFIE_DENSE_ADD)                                     \
      "3:\n\t"                                                                      \
      "mov 152(%[of]), %[k]\n\t"                                                    \
      "inc %[k]\n\t"                                                                \
      "cmp 104(%[of]), %[k]\n\t"                                                    \
      "jge 4f\n\t"                                                                  \
      SOFIE_DENSE_EACH_##packs(SOFIE_DENSE_STORE)                                   \
      "mov %[k], 152(%[of])\n\t"                                                    \
      "mov 160(%[of]), %[x0]\n\t"                                                   \
      "add 112(%[of]), %[x0]\n\t"                                                   \
      "mov 168(%[of]), %[w]\n\t"                                                    \
      "add 120(%[of]), %[w]\n\t"                                                    \
      "jmp 22b\n"                                                                   \
      "4:\n\t"                                                                      \
      "mov 8(%[of]), %[x3]\n\t"                                                     \
      "test %[x3], %[x3]\n\t"                                                       \
      "jnz 5f\n\t"                                                                  \
      SOFIE_DENSE_EACH_##packs(SOFIE_DENSE_STORE)                                   \
      "jmp 8f\n"                                                                    \
      "5:\n\t"                                                                      \
      "mov 64(%[of]), %[w]\n\t"                                                     \
      "test %[w], %[w]\n\t"                                                         \
      "jz 6f\n\t"                                                                   \
      SOFIE_DENSE_LOAD_##packs                                                      \
      SOFIE_DENSE_EACH_1(SOFIE_DENSE_BIAS_1)                                        \
      SOFIE_DENSE_SECOND_BIAS_##packs                                               \
      SOFIE_DENSE_THIRD_BIAS_##packs                                                \
      "cmpl $0, 76(%[of])\n\t"                                                      \
      "je 6f\n\t"                                                                   \
      SOFIE_DENSE_ZERO(0, 27)                                                       \
      SOFIE_DENSE_EACH_##packs(SOFIE_DENSE_RELU)                                    \
      "6:\n\t"                                                                      \
      "mov 56(%[of]), %[x0]\n\t"                                                    \
      "kmovw 72(%[of]), %%k1\n\t"                                                   \
      SOFIE_DENSE_RESULT_##packs(0, 1, 2)                                           \
      SOFIE_DENSE_RESULT_##packs(3, 4, 5)                                           \
      SOFIE_DENSE_RESULT_##packs(6, 7, 8)                                           \
      SOFIE_DENSE_RESULT_##packs(9, 10, 11)                                         \
      "test %[half], %[half]\n\t"                                                   \
      "jnz 7f\n\t"                                                                  \
      SOFIE_DENSE_RESULT_##packs(12, 13, 14)                                        \
      SOFIE_DENSE_RESULT_##packs(15, 16, 17)                                        \
      SOFIE_DENSE_RESULT_##packs(18, 19, 20)                                        \
      SOFIE_DENSE_RESULT_##packs(21, 22, 23)                                        \
      "7:\n\t"                                                                      \
      "mov %[x3], 8(%[of])\n\t"                                                     \
      "lea (,%[stride],4), %[x6]\n\t"                                               \
      "mov $4, %k[k]\n\t"                                                           \
      "test %[half], %[half]\n\t"                                                   \
      "jnz 10f\n\t"                                                                 \
      "add %[x6], %[x6]\n\t"                                                        \
      "add %[k], %[k]\n"                                                            \
      "10:\n\t"                                                                     \
      "add %[x6], (%[of])\n\t"                                                      \
      "sub %[k], 16(%[of])\n\t"                                                     \
      "jg 20b\n"                                                                    \
      "8:\n\t"                                                                      \
      : [w] "=&r"(w), [x0] "=&r"(x), [x3] "=&r"(x3), [x6] "=&r"(x6), [k] "=&r"(k), [sums] "=&r"(sums), [half] "=&r"(half),  \
        [stride] "=&r"(stride), [step] "=&r"(step), [next] "=&r"(next)              \
      : [of] "r"(&of)                                                               \
      : "memory", "cc", "k1", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22",    \
        "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30")
#define SOFIE_DENSE_SECOND_BIAS_1
#define SOFIE_DENSE_SECOND_BIAS_2 SOFIE_DENSE_SECONDS(SOFIE_DENSE_BIAS_2)
#define SOFIE_DENSE_SECOND_BIAS_3 SOFIE_DENSE_SECONDS(SOFIE_DENSE_BIAS_2)
#define SOFIE_DENSE_THIRD_BIAS_1
#define SOFIE_DENSE_THIRD_BIAS_2
#define SOFIE_DENSE_THIRD_BIAS_3 SOFIE_DENSE_THIRDS(SOFIE_DENSE_BIAS_3)
// clang-format on

/// y[r][j] = sum_k x[r][k] * w[k][j] for at least 4 rows, or, if there is no y, sums of one tile of them: the assembler
/// knows where its members are. Steps and strides are in bytes. A row is added up in passes, each from where the one
/// before began: x_pass and w_pass further. Where there is a bias comes max(0, y + bias) or y + bias.
struct DenseTiles {
   const float *x;
   float *y;
   Size rows;
   Size x_stride, x_step;
   const float *w;
   Size w_step;
   Size y_stride;
   const float *bias;
   std::int32_t mask = 0xffff; // The columns of the last pack that y has.
   std::int32_t relu = 0;
   Size depth = 0;  // How many steps a pass takes,
   Size longer = 0; // but the first few of them one more,
   Size last = 0;   // and the last one these.
   Size passes = 1;
   Size x_pass = 0, w_pass = 0;
   Size halves = 0; // Whether all tiles have 4 rows.
   Size add = 0;    // Whether what is in `sums` comes first.
   float *sums = nullptr;
   // What is going on: the pass, and where it began.
   Size pass = 0;
   const float *pass_x = nullptr, *pass_w = nullptr;
};

/// What `of` says, for `Packs` packs of columns: 8 rows at a time, at the end 4 where that is enough. Of the last rows
/// some may be computed once more, which gives them the same values.
template <int Packs>
SOFIE_KERNEL void dense_tiles(DenseTiles &of)
{
   static_assert(Packs >= 1 && Packs <= 3, "8 rows have registers for 3 packs");
   static_assert(sizeof(DenseTiles) == 176, "the assembler knows where its members are");
   of.halves = of.rows < dense_tile_rows;
   const float *x, *x3, *x6, *w;
   float *sums;
   Size k, half, stride, step, next;
   if constexpr (Packs == 3)
      SOFIE_DENSE_TILES(3);
   else if constexpr (Packs == 2)
      SOFIE_DENSE_TILES(2);
   else
      SOFIE_DENSE_TILES(1);
}

/// What becomes of the sums of a tile: they go to `sums`, or with the bias to y, if there is one.
struct DenseTileEnd {
   float *sums;
   float *y;
   Size y_stride; // In bytes.
   const float *bias;
   Size mask;        // The columns of the last pack that y has.
   std::int32_t add; // Whether what is in `sums` comes first.
   std::int32_t relu;
};

/// y[r * y_stride + j] = sum_k x[r * x_stride + k * x_step] * w[k * w_stride + j], all of it in one pass.
SOFIE_INLINE DenseTiles dense_tiles_of(const float *x, Size x_stride, Size x_step, const float *w, Size w_stride,
                                       Size depth, float *y, Size y_stride, Size rows)
{
   constexpr Size bytes = static_cast<Size>(sizeof(float));
   DenseTiles of{x, y, rows, x_stride * bytes, x_step * bytes, w, w_stride * bytes, y_stride * bytes, nullptr};
   of.last = depth;
   return of;
}

/// The tiles of `dense_tiles`, for those who look at the sums of each.
struct DenseTileRows {
   Size rows;
   Size first = 0, count = 0;

   /// Goes on to the next tile, if there is one.
   SOFIE_INLINE bool next()
   {
      const Size done = first + count;
      if (done >= rows)
         return false;
      count = rows < dense_tile_rows || rows - done <= dense_tile_half ? dense_tile_half : dense_tile_rows;
      first = done + count <= rows ? done : rows - count;
      return true;
   }
};

/// sum_k x[r * x_stride + k * x_step] * w[k * w_stride + j] for a tile of 8 rows and `Packs` packs of columns.
template <int Packs>
SOFIE_INLINE void dense_tile_assembler(const float *x, Size x_stride, Size x_step, const float *w, Size w_stride,
                                       Size depth, const DenseTileEnd &end)
{
   DenseTiles of = dense_tiles_of(x, x_stride, x_step, w, w_stride, depth, end.y, 0, dense_tile_rows);
   of.y_stride = end.y_stride;
   of.bias = end.bias;
   of.mask = static_cast<std::int32_t>(end.mask);
   of.relu = end.relu;
   of.add = end.add;
   of.sums = end.sums;
   dense_tiles<Packs>(of);
}

// One row ------------------------------------------------------------------------------------------

// clang-format off
#define SOFIE_ROW_PRODUCT(pack, a) "vfmadd231ps " #pack "*64(%[w]), %%zmm31, %%zmm" #a "\n\t"
// A step, which goes on to the next number and row.
#define SOFIE_ROW_STEP(products) "vbroadcastss (%[x]), %%zmm31\n\t" products "add %[next], %[w]\n\tadd %[step], %[x]\n\t"
// In a round the code of each step is the same, begins at multiples of 2^align bytes, and crosses no page. Zen 5 has a
// prefetcher that learns how far an instruction's addresses are apart. In a round of 2 kB or more, or one that goes
// backwards, that costs a third of the rate of the second cache. It takes the same instructions of all steps that are
// so aligned for one, and learns nothing; then both directions read as fast as is possible.
#define SOFIE_ROW_ALIGNED(align, products) ".p2align " #align "\n\t" SOFIE_ROW_STEP(products)

// A pack of columns each, and where that takes too few registers, another chain of sums for the next k.
#define SOFIE_ROW_2(a, b) SOFIE_ROW_PRODUCT(0, a) SOFIE_ROW_PRODUCT(1, b)
#define SOFIE_ROW_3(a, b, c) SOFIE_ROW_2(a, b) SOFIE_ROW_PRODUCT(2, c)
#define SOFIE_ROW_4(a, b, c, d) SOFIE_ROW_3(a, b, c) SOFIE_ROW_PRODUCT(3, d)
#define SOFIE_ROW_5(a, b, c, d, e) SOFIE_ROW_4(a, b, c, d) SOFIE_ROW_PRODUCT(4, e)
#define SOFIE_ROW_6 SOFIE_ROW_5(0, 1, 2, 3, 4) SOFIE_ROW_PRODUCT(5, 5)
#define SOFIE_ROW_7 SOFIE_ROW_6 SOFIE_ROW_PRODUCT(6, 6)
#define SOFIE_ROW_8 SOFIE_ROW_7 SOFIE_ROW_PRODUCT(7, 7)
#define SOFIE_ROW_9 SOFIE_ROW_8 SOFIE_ROW_PRODUCT(8, 8)
#define SOFIE_ROW_10 SOFIE_ROW_9 SOFIE_ROW_PRODUCT(9, 9)
#define SOFIE_ROW_11 SOFIE_ROW_10 SOFIE_ROW_PRODUCT(10, 10)
#define SOFIE_ROW_12 SOFIE_ROW_11 SOFIE_ROW_PRODUCT(11, 11)
#define SOFIE_ROW_13 SOFIE_ROW_12 SOFIE_ROW_PRODUCT(12, 12)
#define SOFIE_ROW_14 SOFIE_ROW_13 SOFIE_ROW_PRODUCT(13, 13)

#define SOFIE_ROW_EACH_2(each) each(0) each(1)
#define SOFIE_ROW_EACH_3(each) SOFIE_ROW_EACH_2(each) each(2)
#define SOFIE_ROW_EACH_4(each) SOFIE_ROW_EACH_3(each) each(3)
#define SOFIE_ROW_EACH_5(each) SOFIE_ROW_EACH_4(each) each(4)
#define SOFIE_ROW_EACH_6(each) SOFIE_ROW_EACH_5(each) each(5)
#define SOFIE_ROW_EACH_7(each) SOFIE_ROW_EACH_6(each) each(6)
#define SOFIE_ROW_EACH_8(each) SOFIE_ROW_EACH_7(each) each(7)
#define SOFIE_ROW_EACH_9(each) SOFIE_ROW_EACH_8(each) each(8)
#define SOFIE_ROW_EACH_10(each) SOFIE_ROW_EACH_9(each) each(9)
#define SOFIE_ROW_EACH_11(each) SOFIE_ROW_EACH_10(each) each(10)
#define SOFIE_ROW_EACH_12(each) SOFIE_ROW_EACH_11(each) each(11)
#define SOFIE_ROW_EACH_13(each) SOFIE_ROW_EACH_12(each) each(12)
#define SOFIE_ROW_EACH_14(each) SOFIE_ROW_EACH_13(each) each(13)

#define SOFIE_ROW_ZERO(a) SOFIE_DENSE_ZERO(0, a)
#define SOFIE_ROW_JOIN(a, b) "vaddps %%zmm" #b ", %%zmm" #a ", %%zmm" #a "\n\t"
#define SOFIE_ROW_SUMS(a) "vmovups %%zmm" #a ", " #a "*64(%[x])\n\t"
#define SOFIE_ROW_BIAS(a) "vaddps " #a "*64(%[w]), %%zmm" #a ", %%zmm" #a "\n\t"
#define SOFIE_ROW_RELU(a) SOFIE_DENSE_RELU(0, a)

// Four steps, each with its sums; then the sums are joined. The last pack is stored with a mask.
#define SOFIE_ROW(align, packs, registers, first, second, third, fourth, join, stores, last) \
   asm volatile(                                                                    \
      SOFIE_ROW_EACH_##registers(SOFIE_ROW_ZERO)                                    \
      "test %[k], %[k]\n\t"                                                         \
      "jle 2f\n\t"                                                                  \
      "jmp 1f\n\t"                                                                  \
      ".p2align 9\n"                                                                \
      "1:\n\t"                                                                      \
      SOFIE_ROW_ALIGNED(align, first)                                               \
      SOFIE_ROW_ALIGNED(align, second)                                              \
      SOFIE_ROW_ALIGNED(align, third)                                               \
      SOFIE_ROW_ALIGNED(align, fourth)                                              \
      "dec %[k]\n\t"                                                                \
      "jnz 1b\n"                                                                    \
      "2:\n\t"                                                                      \
      "cmp $1, %[rest]\n\t"                                                         \
      "jl 3f\n\t"                                                                   \
      SOFIE_ROW_STEP(first)                                                         \
      "cmp $2, %[rest]\n\t"                                                         \
      "jl 3f\n\t"                                                                   \
      SOFIE_ROW_STEP(second)                                                        \
      "cmp $3, %[rest]\n\t"                                                         \
      "jl 3f\n\t"                                                                   \
      SOFIE_ROW_STEP(third)                                                         \
      "3:\n\t"                                                                      \
      join                                                                          \
      "mov 8(%[end]), %[x]\n\t"                                                     \
      "test %[x], %[x]\n\t"                                                         \
      "jnz 4f\n\t"                                                                  \
      "mov (%[end]), %[x]\n\t"                                                      \
      SOFIE_ROW_EACH_##packs(SOFIE_ROW_SUMS)                                        \
      "jmp 6f\n"                                                                    \
      "4:\n\t"                                                                      \
      "mov 24(%[end]), %[w]\n\t"                                                    \
      SOFIE_ROW_EACH_##packs(SOFIE_ROW_BIAS)                                        \
      "cmpl $0, 44(%[end])\n\t"                                                     \
      "je 5f\n\t"                                                                   \
      SOFIE_DENSE_ZERO(0, 27)                                                       \
      SOFIE_ROW_EACH_##packs(SOFIE_ROW_RELU)                                        \
      "5:\n\t"                                                                      \
      "kmovw 32(%[end]), %%k1\n\t"                                                  \
      SOFIE_ROW_EACH_##stores(SOFIE_ROW_SUMS)                                       \
      "vmovups %%zmm" #last ", " #last "*64(%[x])%{%%k1%}\n\t"                       \
      "6:\n\t"                                                                      \
      : [x] "+&r"(x), [w] "+&r"(w), [k] "+&r"(rounds)                                  \
      : [rest] "r"(rest), [end] "r"(&end), [step] "r"(step), [next] "r"(next)       \
      : "memory", "cc", "k1", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
        "xmm11", "xmm12", "xmm13", "xmm27", "xmm31")
#define SOFIE_ROW_EACH_1(each) each(0)
// With so many packs one chain is enough.
#define SOFIE_ROW_WIDE(align, packs, stores) \
   SOFIE_ROW(align, packs, packs, SOFIE_ROW_##packs, SOFIE_ROW_##packs, SOFIE_ROW_##packs, SOFIE_ROW_##packs, "", stores, stores)
// clang-format on

/// y[j] = sum_k x[k] * w[k][j] for `Packs` packs of columns, in the chains of `DenseShape`, from the first k on or from
/// the last one back.
template <int Packs>
SOFIE_KERNEL void dense_row_assembler(const float *x, const float *w, Size depth, const DenseTileEnd &end,
                                      bool backwards = false)
{
   static_assert(Packs >= 2 && Packs <= 14, "there are registers for 14 packs; one has 8 chains");
   // Without a branch: Cling would keep everything in memory across it.
   const Size rest = depth & 3, back = -static_cast<Size>(backwards), ahead = 1 + 2 * back;
   const Size step = 4 * ahead, next = 64 * Packs * ahead, last = (depth - 1) & back;
   Size rounds = depth >> 2;
   x += last;
   w += last * 16 * Packs;
   if constexpr (Packs == 2)
      SOFIE_ROW(6, 2, 8, SOFIE_ROW_2(0, 1), SOFIE_ROW_2(2, 3), SOFIE_ROW_2(4, 5), SOFIE_ROW_2(6, 7),
                SOFIE_ROW_JOIN(0, 2) SOFIE_ROW_JOIN(0, 4) SOFIE_ROW_JOIN(0, 6) SOFIE_ROW_JOIN(1, 3) SOFIE_ROW_JOIN(1, 5)
                   SOFIE_ROW_JOIN(1, 7),
                1, 1);
   else if constexpr (Packs == 3)
      SOFIE_ROW(6, 3, 6, SOFIE_ROW_3(0, 1, 2), SOFIE_ROW_3(3, 4, 5), SOFIE_ROW_3(0, 1, 2), SOFIE_ROW_3(3, 4, 5),
                SOFIE_ROW_JOIN(0, 3) SOFIE_ROW_JOIN(1, 4) SOFIE_ROW_JOIN(2, 5), 2, 2);
   else if constexpr (Packs == 4)
      SOFIE_ROW(6, 4, 8, SOFIE_ROW_4(0, 1, 2, 3), SOFIE_ROW_4(4, 5, 6, 7), SOFIE_ROW_4(0, 1, 2, 3),
                SOFIE_ROW_4(4, 5, 6, 7),
                SOFIE_ROW_JOIN(0, 4) SOFIE_ROW_JOIN(1, 5) SOFIE_ROW_JOIN(2, 6) SOFIE_ROW_JOIN(3, 7), 3, 3);
   else if constexpr (Packs == 5)
      SOFIE_ROW(6, 5, 10, SOFIE_ROW_5(0, 1, 2, 3, 4), SOFIE_ROW_5(5, 6, 7, 8, 9), SOFIE_ROW_5(0, 1, 2, 3, 4),
                SOFIE_ROW_5(5, 6, 7, 8, 9),
                SOFIE_ROW_JOIN(0, 5) SOFIE_ROW_JOIN(1, 6) SOFIE_ROW_JOIN(2, 7) SOFIE_ROW_JOIN(3, 8)
                   SOFIE_ROW_JOIN(4, 9),
                4, 4);
   else if constexpr (Packs == 6)
      SOFIE_ROW_WIDE(6, 6, 5);
   else if constexpr (Packs == 7)
      SOFIE_ROW_WIDE(6, 7, 6);
   else if constexpr (Packs == 8)
      SOFIE_ROW_WIDE(7, 8, 7);
   else if constexpr (Packs == 9)
      SOFIE_ROW_WIDE(7, 9, 8);
   else if constexpr (Packs == 10)
      SOFIE_ROW_WIDE(7, 10, 9);
   else if constexpr (Packs == 11)
      SOFIE_ROW_WIDE(7, 11, 10);
   else if constexpr (Packs == 12)
      SOFIE_ROW_WIDE(7, 12, 11);
   else if constexpr (Packs == 13)
      SOFIE_ROW_WIDE(7, 13, 12);
   else
      SOFIE_ROW_WIDE(7, 14, 13);
}

} // namespace sofie

SOFIE_END

#endif

#endif
