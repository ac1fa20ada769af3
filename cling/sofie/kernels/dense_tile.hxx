/// \file
/// The tile of accumulators that products of many rows are made of, and that of a single row.
///
/// A loop over k with many accumulators is what Cling's register allocator is worst at: it writes all
/// of them to memory at the end of each block, and long blocks do not fit into the cache of decoded
/// instructions. Where most of the time is spent the loop is written in assembler.
#ifndef SOFIE_KERNELS_DENSE_TILE_HXX
#define SOFIE_KERNELS_DENSE_TILE_HXX

#include "sofie/simd.hxx"

#if defined(__x86_64__) && defined(__GNUC__) && SOFIE_SIMD_BYTES == 64
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

// Three rows of x are reached from each of three pointers. Behind the loop they are free. Before it ends, `sums` says
// whether there are 4 rows only.
#define SOFIE_DENSE_TILE(packs)                                                     \
   asm volatile(                                                                    \
      SOFIE_DENSE_EACH_##packs(SOFIE_DENSE_ZERO)                                    \
      "mov 48(%[end]), %[sums]\n\t"                                                 \
      "test %[k], %[k]\n\t"                                                         \
      "jle 2f\n\t"                                                                  \
      ".p2align 5\n"                                                                \
      "1:\n\t"                                                                      \
      SOFIE_DENSE_LOAD_##packs                                                      \
      SOFIE_DENSE_ROW_##packs("(%[x0])", 27, 0, 1, 2)                               \
      SOFIE_DENSE_ROW_##packs("(%[x0],%[stride])", 28, 3, 4, 5)                     \
      SOFIE_DENSE_ROW_##packs("(%[x0],%[stride],2)", 29, 6, 7, 8)                   \
      SOFIE_DENSE_ROW_##packs("(%[x3])", 30, 9, 10, 11)                             \
      "test %[sums], %[sums]\n\t"                                                   \
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
      "mov (%[end]), %[sums]\n\t"                                                   \
      "cmpl $0, 40(%[end])\n\t"                                                     \
      "je 3f\n\t"                                                                   \
      SOFIE_DENSE_EACH_##packs(SOFIE_DENSE_ADD)                                     \
      "3:\n\t"                                                                      \
      "mov 8(%[end]), %[x3]\n\t"                                                    \
      "test %[x3], %[x3]\n\t"                                                       \
      "jnz 4f\n\t"                                                                  \
      SOFIE_DENSE_EACH_##packs(SOFIE_DENSE_STORE)                                   \
      "jmp 6f\n"                                                                    \
      "4:\n\t"                                                                      \
      "mov 24(%[end]), %[w]\n\t"                                                    \
      SOFIE_DENSE_LOAD_##packs                                                      \
      SOFIE_DENSE_EACH_1(SOFIE_DENSE_BIAS_1)                                        \
      SOFIE_DENSE_SECOND_BIAS_##packs                                               \
      SOFIE_DENSE_THIRD_BIAS_##packs                                                \
      "cmpl $0, 44(%[end])\n\t"                                                     \
      "je 5f\n\t"                                                                   \
      SOFIE_DENSE_ZERO(0, 27)                                                       \
      SOFIE_DENSE_EACH_##packs(SOFIE_DENSE_RELU)                                    \
      "5:\n\t"                                                                      \
      "mov 16(%[end]), %[x0]\n\t"                                                   \
      "kmovw 32(%[end]), %%k1\n\t"                                                  \
      SOFIE_DENSE_RESULT_##packs(0, 1, 2)                                           \
      SOFIE_DENSE_RESULT_##packs(3, 4, 5)                                           \
      SOFIE_DENSE_RESULT_##packs(6, 7, 8)                                           \
      SOFIE_DENSE_RESULT_##packs(9, 10, 11)                                         \
      "cmpl $0, 48(%[end])\n\t"                                                     \
      "jne 6f\n\t"                                                                  \
      SOFIE_DENSE_RESULT_##packs(12, 13, 14)                                        \
      SOFIE_DENSE_RESULT_##packs(15, 16, 17)                                        \
      SOFIE_DENSE_RESULT_##packs(18, 19, 20)                                        \
      SOFIE_DENSE_RESULT_##packs(21, 22, 23)                                        \
      "6:\n\t"                                                                      \
      : [w] "+&r"(w), [x0] "+&r"(x), [x3] "+&r"(x3), [x6] "+&r"(x6), [k] "+&r"(depth), [sums] "=&r"(sums)                   \
      : [stride] "r"(stride), [step] "r"(step), [next] "r"(next), [end] "r"(&end)   \
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

/// What becomes of the sums: they go to `sums`, or with the bias to y, if there is one.
struct DenseTileEnd {
   float *sums;
   float *y;
   Size y_stride; // In bytes.
   const float *bias;
   Size mask;        // The columns of the last pack that y has.
   std::int32_t add; // Whether what is in `sums` comes first.
   std::int32_t relu;
   Size half = 0; // Whether there are 4 rows only.
};

/// The tiles of at least 4 rows, one after the other: 8 rows, at the end 4 where that is enough. Of the last tile some
/// rows may be done already: they are computed once more, which gives them the same values.
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
   SOFIE_INLINE bool is_half() const { return count == dense_tile_half; }
};

/// sum_k x[r * x_stride + k * x_step] * w[k * w_stride + j] for 8 rows, or 4, and `Packs` packs of columns.
template <int Packs>
SOFIE_KERNEL void dense_tile_assembler(const float *x, Size x_stride, Size x_step, const float *w, Size w_stride,
                                       Size depth, const DenseTileEnd &end)
{
   static_assert(Packs >= 1 && Packs <= 3, "8 rows have registers for 3 packs");
   static_assert(sizeof(DenseTileEnd) == 56, "the assembler knows where its members are");
   constexpr Size bytes = static_cast<Size>(sizeof(float));
   const float *x3 = x + 3 * x_stride, *x6 = x + 6 * x_stride;
   const Size stride = x_stride * bytes, step = x_step * bytes, next = w_stride * bytes;
   float *sums;
   if constexpr (Packs == 3)
      SOFIE_DENSE_TILE(3);
   else if constexpr (Packs == 2)
      SOFIE_DENSE_TILE(2);
   else
      SOFIE_DENSE_TILE(1);
}

// One row ------------------------------------------------------------------------------------------

// clang-format off
#define SOFIE_ROW_PRODUCT(pack, a) "vfmadd231ps " #pack "*64(%[w]), %%zmm31, %%zmm" #a "\n\t"
#define SOFIE_ROW_STEP(packs, k, products) \
   "vbroadcastss " #k "*4(%[x]), %%zmm31\n\t" products "add $" #packs "*64, %[w]\n\t"

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
#define SOFIE_ROW(packs, registers, first, second, third, fourth, join, stores, last) \
   asm volatile(                                                                    \
      SOFIE_ROW_EACH_##registers(SOFIE_ROW_ZERO)                                    \
      "test %[k], %[k]\n\t"                                                         \
      "jle 2f\n\t"                                                                  \
      ".p2align 5\n"                                                                \
      "1:\n\t"                                                                      \
      SOFIE_ROW_STEP(packs, 0, first) SOFIE_ROW_STEP(packs, 1, second)              \
      SOFIE_ROW_STEP(packs, 2, third) SOFIE_ROW_STEP(packs, 3, fourth)              \
      "add $16, %[x]\n\t"                                                           \
      "dec %[k]\n\t"                                                                \
      "jnz 1b\n"                                                                    \
      "2:\n\t"                                                                      \
      "cmp $1, %[rest]\n\t"                                                         \
      "jl 3f\n\t"                                                                   \
      SOFIE_ROW_STEP(packs, 0, first)                                               \
      "cmp $2, %[rest]\n\t"                                                         \
      "jl 3f\n\t"                                                                   \
      SOFIE_ROW_STEP(packs, 1, second)                                              \
      "cmp $3, %[rest]\n\t"                                                         \
      "jl 3f\n\t"                                                                   \
      SOFIE_ROW_STEP(packs, 2, third)                                               \
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
      : [rest] "r"(rest), [end] "r"(&end)                                           \
      : "memory", "cc", "k1", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
        "xmm11", "xmm12", "xmm13", "xmm27", "xmm31")
#define SOFIE_ROW_EACH_1(each) each(0)
// With so many packs one chain is enough.
#define SOFIE_ROW_WIDE(packs, stores) \
   SOFIE_ROW(packs, packs, SOFIE_ROW_##packs, SOFIE_ROW_##packs, SOFIE_ROW_##packs, SOFIE_ROW_##packs, "", stores, stores)
// clang-format on

/// y[j] = sum_k x[k] * w[k][j] for `Packs` packs of columns, in the chains of `DenseShape`.
template <int Packs>
SOFIE_KERNEL void dense_row_assembler(const float *x, const float *w, Size depth, const DenseTileEnd &end)
{
   static_assert(Packs >= 2 && Packs <= 14, "there are registers for 14 packs; one has 8 chains");
   Size rounds = depth / 4;
   const Size rest = depth % 4;
   if constexpr (Packs == 2)
      SOFIE_ROW(2, 8, SOFIE_ROW_2(0, 1), SOFIE_ROW_2(2, 3), SOFIE_ROW_2(4, 5), SOFIE_ROW_2(6, 7),
                SOFIE_ROW_JOIN(0, 2) SOFIE_ROW_JOIN(0, 4) SOFIE_ROW_JOIN(0, 6) SOFIE_ROW_JOIN(1, 3) SOFIE_ROW_JOIN(1, 5)
                   SOFIE_ROW_JOIN(1, 7),
                1, 1);
   else if constexpr (Packs == 3)
      SOFIE_ROW(3, 6, SOFIE_ROW_3(0, 1, 2), SOFIE_ROW_3(3, 4, 5), SOFIE_ROW_3(0, 1, 2), SOFIE_ROW_3(3, 4, 5),
                SOFIE_ROW_JOIN(0, 3) SOFIE_ROW_JOIN(1, 4) SOFIE_ROW_JOIN(2, 5), 2, 2);
   else if constexpr (Packs == 4)
      SOFIE_ROW(4, 8, SOFIE_ROW_4(0, 1, 2, 3), SOFIE_ROW_4(4, 5, 6, 7), SOFIE_ROW_4(0, 1, 2, 3),
                SOFIE_ROW_4(4, 5, 6, 7),
                SOFIE_ROW_JOIN(0, 4) SOFIE_ROW_JOIN(1, 5) SOFIE_ROW_JOIN(2, 6) SOFIE_ROW_JOIN(3, 7), 3, 3);
   else if constexpr (Packs == 5)
      SOFIE_ROW(5, 10, SOFIE_ROW_5(0, 1, 2, 3, 4), SOFIE_ROW_5(5, 6, 7, 8, 9), SOFIE_ROW_5(0, 1, 2, 3, 4),
                SOFIE_ROW_5(5, 6, 7, 8, 9),
                SOFIE_ROW_JOIN(0, 5) SOFIE_ROW_JOIN(1, 6) SOFIE_ROW_JOIN(2, 7) SOFIE_ROW_JOIN(3, 8)
                   SOFIE_ROW_JOIN(4, 9),
                4, 4);
   else if constexpr (Packs == 6)
      SOFIE_ROW_WIDE(6, 5);
   else if constexpr (Packs == 7)
      SOFIE_ROW_WIDE(7, 6);
   else if constexpr (Packs == 8)
      SOFIE_ROW_WIDE(8, 7);
   else if constexpr (Packs == 9)
      SOFIE_ROW_WIDE(9, 8);
   else if constexpr (Packs == 10)
      SOFIE_ROW_WIDE(10, 9);
   else if constexpr (Packs == 11)
      SOFIE_ROW_WIDE(11, 10);
   else if constexpr (Packs == 12)
      SOFIE_ROW_WIDE(12, 11);
   else if constexpr (Packs == 13)
      SOFIE_ROW_WIDE(13, 12);
   else
      SOFIE_ROW_WIDE(14, 13);
}

} // namespace sofie

SOFIE_END

#endif

#endif
