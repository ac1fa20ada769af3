/// \file
/// The tile of accumulators that products of many rows are made of.
///
/// A loop over k with 24 accumulators is what Cling's register allocator is worst at: it writes all
/// of them to memory at the end of each block. Where most of the time is spent the loop is written
/// in assembler.
#ifndef SOFIE_KERNELS_DENSE_TILE_HXX
#define SOFIE_KERNELS_DENSE_TILE_HXX

#include "sofie/simd.hxx"

#if defined(__x86_64__) && defined(__GNUC__) && SOFIE_SIMD_BYTES == 64
#define SOFIE_DENSE_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

/// How many rows of x such a tile has, and how long a row of its sums is.
inline constexpr int dense_tile_rows = 8;
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

// Three rows of x are reached from each of three pointers. Behind the loop they are free.
#define SOFIE_DENSE_TILE(packs)                                                     \
   asm volatile(                                                                    \
      SOFIE_DENSE_EACH_##packs(SOFIE_DENSE_ZERO)                                    \
      "test %[k], %[k]\n\t"                                                         \
      "jle 2f\n\t"                                                                  \
      ".p2align 5\n"                                                                \
      "1:\n\t"                                                                      \
      SOFIE_DENSE_LOAD_##packs                                                      \
      SOFIE_DENSE_ROW_##packs("(%[x0])", 27, 0, 1, 2)                               \
      SOFIE_DENSE_ROW_##packs("(%[x0],%[stride])", 28, 3, 4, 5)                     \
      SOFIE_DENSE_ROW_##packs("(%[x0],%[stride],2)", 29, 6, 7, 8)                   \
      SOFIE_DENSE_ROW_##packs("(%[x3])", 30, 9, 10, 11)                             \
      SOFIE_DENSE_ROW_##packs("(%[x3],%[stride])", 27, 12, 13, 14)                  \
      SOFIE_DENSE_ROW_##packs("(%[x3],%[stride],2)", 28, 15, 16, 17)                \
      SOFIE_DENSE_ROW_##packs("(%[x6])", 29, 18, 19, 20)                            \
      SOFIE_DENSE_ROW_##packs("(%[x6],%[stride])", 30, 21, 22, 23)                  \
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
      SOFIE_DENSE_RESULT_##packs(12, 13, 14)                                        \
      SOFIE_DENSE_RESULT_##packs(15, 16, 17)                                        \
      SOFIE_DENSE_RESULT_##packs(18, 19, 20)                                        \
      SOFIE_DENSE_RESULT_##packs(21, 22, 23)                                        \
      "6:\n\t"                                                                      \
      : [w] "+r"(w), [x0] "+r"(x), [x3] "+r"(x3), [x6] "+r"(x6), [k] "+r"(depth), [sums] "=&r"(sums)                   \
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
};

/// sum_k x[r * x_stride + k * x_step] * w[k * w_stride + j] for 8 rows and `Packs` packs of columns.
template <int Packs>
SOFIE_KERNEL void dense_tile_assembler(const float *x, Size x_stride, Size x_step, const float *w, Size w_stride,
                                       Size depth, const DenseTileEnd &end)
{
   static_assert(Packs >= 1 && Packs <= 3, "8 rows have registers for 3 packs");
   static_assert(sizeof(DenseTileEnd) == 48, "the assembler knows where its members are");
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

} // namespace sofie

SOFIE_END

#endif

#endif
