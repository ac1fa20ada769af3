/// \file
/// The tile of dense layers whose sums are two chains, both of which it keeps in registers: one for the even
/// steps of k, one for the odd ones, as a single row has them.
#ifndef SOFIE_KERNELS_DENSE_PAIRS_HXX
#define SOFIE_KERNELS_DENSE_PAIRS_HXX

#include "sofie/kernels/linear.hxx"

#ifdef SOFIE_DENSE_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

/// How many rows of x, and packs of columns of w, such a tile has.
inline constexpr int dense_pairs_rows = 6, dense_pairs_packs = 2;

// clang-format off
// Two packs of w in registers u and v, times numbers of x `k` behind a row's place, added to 12 sums.
#define SOFIE_PAIRS_ROW(k, x, number, u, v, a, b)                         \
   "vbroadcastss " #k x ", %%zmm" #number "\n\t"                          \
   "vfmadd231ps %%zmm" #u ", %%zmm" #number ", %%zmm" #a "\n\t"           \
   "vfmadd231ps %%zmm" #v ", %%zmm" #number ", %%zmm" #b "\n\t"
#define SOFIE_PAIRS_STEP(k, w, u, v, a0, b0, a1, b1, a2, b2, a3, b3, a4, b4, a5, b5)  \
   "vmovups (" w "), %%zmm" #u "\n\tvmovups 64(" w "), %%zmm" #v "\n\t"   \
   SOFIE_PAIRS_ROW(k, "(%[x0])", 28, u, v, a0, b0)                        \
   SOFIE_PAIRS_ROW(k, "(%[x0],%[stride])", 29, u, v, a1, b1)              \
   SOFIE_PAIRS_ROW(k, "(%[x0],%[stride],2)", 30, u, v, a2, b2)            \
   SOFIE_PAIRS_ROW(k, "(%[x3])", 31, u, v, a3, b3)                        \
   SOFIE_PAIRS_ROW(k, "(%[x3],%[stride])", 28, u, v, a4, b4)              \
   SOFIE_PAIRS_ROW(k, "(%[x3],%[stride],2)", 29, u, v, a5, b5)
#define SOFIE_PAIRS_EVEN SOFIE_PAIRS_STEP(0, "%[w]", 24, 25, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
#define SOFIE_PAIRS_ODD SOFIE_PAIRS_STEP(4, "%[w],%[next]", 26, 27, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23)
#define SOFIE_PAIRS_EACH(each)                                                                              \
   each(0, 1, 12, 13) each(2, 3, 14, 15) each(4, 5, 16, 17) each(6, 7, 18, 19) each(8, 9, 20, 21) each(10, 11, 22, 23)
#define SOFIE_PAIRS_ZERO(a, b, c, d) SOFIE_DENSE_ZERO(0, a) SOFIE_DENSE_ZERO(0, b) SOFIE_DENSE_ZERO(0, c) SOFIE_DENSE_ZERO(0, d)
#define SOFIE_PAIRS_JOIN(a, b, c, d)                                                                        \
   "vaddps %%zmm" #c ", %%zmm" #a ", %%zmm" #a "\n\tvaddps %%zmm" #d ", %%zmm" #b ", %%zmm" #b "\n\t"       \
   "vaddps %%zmm24, %%zmm" #a ", %%zmm" #a "\n\tvaddps %%zmm25, %%zmm" #b ", %%zmm" #b "\n\t"
#define SOFIE_PAIRS_RELU(a, b, c, d) SOFIE_DENSE_RELU(0, a) SOFIE_DENSE_RELU(0, b)
#define SOFIE_PAIRS_STORE(a, b, c, d)                                                                       \
   "vmovups %%zmm" #a ", (%[x0])\n\tvmovups %%zmm" #b ", 64(%[x0])%{%%k1%}\n\tadd %[x3], %[x0]\n\t"

/// y[r][j] = f(sum_k x[r][k] * w[k][j] + bias[j]) for 6 rows and 2 packs of columns; `end` has y and what comes last.
SOFIE_KERNEL inline void dense_pairs_tile(const float *x, Size x_stride, const float *w, Size w_stride, Size depth,
                                          const DenseTileEnd &end)
{
   static_assert(__builtin_offsetof(DenseTileEnd, relu) == 44, "the assembler knows where its members are");
   const Size stride = x_stride * Size{sizeof(float)}, next = w_stride * Size{sizeof(float)}, odd = depth % 2;
   const float *x3 = x + 3 * x_stride;
   Size rounds = depth / 2;
   asm volatile(SOFIE_PAIRS_EACH(SOFIE_PAIRS_ZERO)
                "test %[k], %[k]\n\t"
                "jle 2f\n\t"
                ".p2align 5\n"
                "1:\n\t" SOFIE_PAIRS_EVEN SOFIE_PAIRS_ODD
                "add $8, %[x0]\n\t"
                "add $8, %[x3]\n\t"
                "lea (%[w],%[next],2), %[w]\n\t"
                "dec %[k]\n\t"
                "jnz 1b\n"
                "2:\n\t"
                "test %[odd], %[odd]\n\t"
                "jz 3f\n\t" SOFIE_PAIRS_EVEN
                "3:\n\t"
                "mov 24(%[end]), %[w]\n\t"
                "vmovups (%[w]), %%zmm24\n\t"
                "vmovups 64(%[w]), %%zmm25\n\t" SOFIE_PAIRS_EACH(SOFIE_PAIRS_JOIN)
                "cmpl $0, 44(%[end])\n\t"
                "je 4f\n\t" SOFIE_DENSE_ZERO(0, 27) SOFIE_PAIRS_EACH(SOFIE_PAIRS_RELU)
                "4:\n\t"
                "mov 8(%[end]), %[x0]\n\t"
                "mov 16(%[end]), %[x3]\n\t"
                "kmovw 32(%[end]), %%k1\n\t" SOFIE_PAIRS_EACH(SOFIE_PAIRS_STORE)
                : [w] "+&r"(w), [x0] "+&r"(x), [x3] "+&r"(x3), [k] "+&r"(rounds)
                : [stride] "r"(stride), [next] "r"(next), [odd] "r"(odd), [end] "r"(&end)
                : "memory", "cc", "k1", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                  "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20",
                  "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31");
}

// clang-format on

/// Whether the tile fits a layer: one panel of 4 packs, and a function that it knows.
template <class F, class T, Size N>
inline constexpr bool is_for_pairs = std::is_same_v<T, float> && is_in_tile<F> && DenseShape<T, N>::width == 4;

/// All rows, at least 6, of y.
SOFIE_KERNEL inline void dense_pairs(const DenseLayer &layer, float *y, const float *x, Size m)
{
   constexpr Size packs = dense_pairs_packs * lanes<float>;
   for (Size column = 0; column < layer.columns; column += packs) {
      const Size left = layer.columns - column;
      const Size mask = left < packs ? (Size{1} << (left - lanes<float>)) - 1 : 0xffff;
      DenseTileEnd end{nullptr, y, layer.columns * Size{sizeof(float)}, layer.bias + column, mask, 0, layer.relu};
      for (Size i = 0; i < m; i += dense_pairs_rows) {
         // The last rows: once more with rows that are done already, which gives them the same values.
         const Size row = i + dense_pairs_rows <= m ? i : m - dense_pairs_rows;
         end.y = y + row * layer.columns + column;
         dense_pairs_tile(x + row * layer.depth, layer.depth, layer.weights + column, layer.width, layer.depth, end);
      }
   }
}

/// All rows of y, by this tile if there are enough of them.
template <class F, Size K, Size N>
SOFIE_KERNEL void dense_few_or_pairs(const F &f, float *y, const float *x, Size m, const DenseWeights<float, K, N> &w)
{
   if (m >= dense_pairs_rows)
      dense_pairs(dense_layer<F>(w), y, x, m);
   else
      for (Size i = 0; i < m; ++i)
         dense_alone(f, y + i * N, x + i * K, w, 0);
}

} // namespace sofie

SOFIE_END

#endif

#endif
