/// \file
/// Products of long rows with up to 32 columns: three rows at a time with all chains of their sums side by side.
///
/// One chain after the other would read all of the rows again and again, from the second cache where they are long.
#ifndef SOFIE_KERNELS_DENSE_FEW_COLUMNS_HXX
#define SOFIE_KERNELS_DENSE_FEW_COLUMNS_HXX

#include "sofie/kernels/dense.hxx"

SOFIE_BEGIN

namespace sofie {

/// W[K, N] and b[N], packed for `dense_few_columns`.
template <class T, Size K, Size N>
class FewColumnsWeights : public DenseWeights<T, K, N> {
public:
   using DenseWeights<T, K, N>::DenseWeights;
};

#ifdef SOFIE_AVX512_ASSEMBLER

/// How many rows a tile has, and up to how many rows that is faster where columns are two packs.
inline constexpr Size thin_rows = 3, thin_wide_rows = 6;
/// How many registers the sums of a tile have, all chains together.
inline constexpr Size thin_registers = 24;

/// How many steps these rows take before the next ones do, of one pack of columns, and how many rows take turns:
/// weights and chains that go on stay in the first cache.
inline constexpr Size thin_steps = 256, thin_turn = 24;
static_assert(thin_turn % thin_rows == 0, "all tiles of a turn but the last one are of rows of their own");

// clang-format off
// Step number i of a round, which belongs to chain i: of three rows, whose sums are in a, b and c, or in pairs of these.
#define SOFIE_THIN_STEP_1(i, a, b, c)                                                              \
   "vmovups " #i "*64(%[w]), %%zmm24\n\t"                                                          \
   "vfmadd231ps " #i "*4(%[x])%{1to16%}, %%zmm24, %%zmm" #a "\n\t"                                 \
   "vfmadd231ps " #i "*4(%[x],%[stride])%{1to16%}, %%zmm24, %%zmm" #b "\n\t"                       \
   "vfmadd231ps " #i "*4(%[x],%[stride],2)%{1to16%}, %%zmm24, %%zmm" #c "\n\t"
#define SOFIE_THIN_PAIR(x, a, b)                                                                   \
   "vbroadcastss " x ", %%zmm26\n\t"                                                               \
   "vfmadd231ps %%zmm26, %%zmm24, %%zmm" #a "\n\t"                                                 \
   "vfmadd231ps %%zmm26, %%zmm25, %%zmm" #b "\n\t"
#define SOFIE_THIN_STEP_2(i, a, b, c, d, e, f)                                                     \
   "vmovups " #i "*128(%[w]), %%zmm24\n\t"                                                         \
   "vmovups 64+" #i "*128(%[w]), %%zmm25\n\t"                                                      \
   SOFIE_THIN_PAIR(#i "*4(%[x])", a, b)                                                            \
   SOFIE_THIN_PAIR(#i "*4(%[x],%[stride])", c, d)                                                  \
   SOFIE_THIN_PAIR(#i "*4(%[x],%[stride],2)", e, f)
// The registers of each chain.
#define SOFIE_THIN_FIRST_1(each) each(0, 0, 8, 16)
#define SOFIE_THIN_MIDDLE_1(each)                                                                  \
   each(1, 1, 9, 17) each(2, 2, 10, 18) each(3, 3, 11, 19) each(4, 4, 12, 20) each(5, 5, 13, 21)   \
   each(6, 6, 14, 22)
#define SOFIE_THIN_FINAL_1(each) each(7, 7, 15, 23)
#define SOFIE_THIN_FIRST_2(each) each(0, 0, 1, 2, 3, 4, 5)
#define SOFIE_THIN_MIDDLE_2(each) each(1, 6, 7, 8, 9, 10, 11) each(2, 12, 13, 14, 15, 16, 17)
#define SOFIE_THIN_FINAL_2(each) each(3, 18, 19, 20, 21, 22, 23)
// Steps behind the last round.
#define SOFIE_THIN_REST "cmp %[rest], %[rounds]\n\tjge 3f\n\tinc %[rounds]\n\t"
#define SOFIE_THIN_REST_1(i, a, b, c) SOFIE_THIN_REST SOFIE_THIN_STEP_1(i, a, b, c)
#define SOFIE_THIN_REST_2(i, a, b, c, d, e, f) SOFIE_THIN_REST SOFIE_THIN_STEP_2(i, a, b, c, d, e, f)
#define SOFIE_THIN_ADD(a, to) "vaddps %%zmm" #a ", %%zmm" #to ", %%zmm" #to "\n\t"
#define SOFIE_THIN_JOIN_1(i, a, b, c) SOFIE_THIN_ADD(a, 0) SOFIE_THIN_ADD(b, 8) SOFIE_THIN_ADD(c, 16)
#define SOFIE_THIN_JOIN_2(i, a, b, c, d, e, f)                                                     \
   SOFIE_THIN_ADD(a, 0) SOFIE_THIN_ADD(b, 1) SOFIE_THIN_ADD(c, 2) SOFIE_THIN_ADD(d, 3)             \
   SOFIE_THIN_ADD(e, 4) SOFIE_THIN_ADD(f, 5)
#define SOFIE_THIN_SUM(place, a) "vmovups %%zmm" #a ", " #place "*64(%[sums])\n\t"
#define SOFIE_THIN_SUMS_1 SOFIE_THIN_SUM(0, 0) SOFIE_THIN_SUM(1, 8) SOFIE_THIN_SUM(2, 16)
#define SOFIE_THIN_SUMS_2                                                                          \
   SOFIE_THIN_SUM(0, 0) SOFIE_THIN_SUM(1, 1) SOFIE_THIN_SUM(2, 2) SOFIE_THIN_SUM(3, 3)             \
   SOFIE_THIN_SUM(4, 4) SOFIE_THIN_SUM(5, 5)
// Chains that go on.
#define SOFIE_THIN_LOAD(a) "vmovups " #a "*64(%[chains]), %%zmm" #a "\n\t"
#define SOFIE_THIN_STORE(a) "vmovups %%zmm" #a ", " #a "*64(%[chains])\n\t"

// A round is a step of each chain, which are so many.
#define SOFIE_THIN_TILE(packs, count)                                                              \
   asm volatile(                                                                                   \
      SOFIE_DENSE_ALL(SOFIE_DENSE_ZERO)                                                         \
      "test %[begun], %[begun]\n\t"                                                                \
      "jz 5f\n\t"                                                                                  \
      SOFIE_DENSE_ALL(SOFIE_THIN_LOAD)                                                          \
      "5:\n\t"                                                                                     \
      "test %[rounds], %[rounds]\n\t"                                                              \
      "jz 2f\n\t"                                                                                  \
      ".p2align 5\n"                                                                               \
      "1:\n\t"                                                                                     \
      SOFIE_THIN_FIRST_##packs(SOFIE_THIN_STEP_##packs)                                            \
      SOFIE_THIN_MIDDLE_##packs(SOFIE_THIN_STEP_##packs)                                           \
      SOFIE_THIN_FINAL_##packs(SOFIE_THIN_STEP_##packs)                                            \
      "add $4*" #count ", %[x]\n\t"                                                                \
      "add $512, %[w]\n\t"                                                                         \
      "dec %[rounds]\n\t"                                                                          \
      "jnz 1b\n"                                                                                   \
      "2:\n\t"                                                                                     \
      SOFIE_THIN_FIRST_##packs(SOFIE_THIN_REST_##packs)                                            \
      SOFIE_THIN_MIDDLE_##packs(SOFIE_THIN_REST_##packs)                                           \
      "3:\n\t"                                                                                     \
      "test %[sums], %[sums]\n\t"                                                                  \
      "jnz 4f\n\t"                                                                                 \
      SOFIE_DENSE_ALL(SOFIE_THIN_STORE)                                                         \
      "jmp 6f\n"                                                                                   \
      "4:\n\t"                                                                                     \
      SOFIE_THIN_MIDDLE_##packs(SOFIE_THIN_JOIN_##packs)                                           \
      SOFIE_THIN_FINAL_##packs(SOFIE_THIN_JOIN_##packs)                                            \
      SOFIE_THIN_SUMS_##packs                                                                      \
      "6:\n\t"                                                                                     \
      : [x] "+&r"(x), [w] "+&r"(w), [rounds] "+&r"(rounds)                                         \
      : [stride] "r"(stride), [rest] "r"(rest), [chains] "r"(chains), [begun] "r"(begun), [sums] "r"(sums) \
      : "memory", "cc", SOFIE_ALL_PACKS)
// clang-format on

/// sums[r][j] = sum_k x[r * stride + k] * w[k][j] for 3 rows and `Packs` packs of columns; the stride is in bytes. If
/// it `goes_on`, the chains begin with what is in `chains`; without `sums` they are stored there.
template <int Packs>
SOFIE_KERNEL void thin_tile(const float *x, Size stride, const float *w, Size depth, float *chains, bool goes_on,
                            float *sums)
{
   static_assert(Packs == 1 || Packs == 2, "there are registers for all chains of two packs");
   constexpr Size count = thin_registers / (thin_rows * Packs);
   static_assert(thin_steps / Packs % count == 0, "each turn begins with the first chain");
   const Size rest = depth % count, begun = goes_on;
   Size rounds = depth / count;
   if constexpr (Packs == 1)
      SOFIE_THIN_TILE(1, 8);
   else
      SOFIE_THIN_TILE(2, 4);
}

/// At least 3 rows of y, whose columns are `Packs` packs.
template <int Packs, class F>
SOFIE_KERNEL void dense_thin(const F &f, const DenseLayer &layer, float *y, const float *x, Size m)
{
   constexpr Size n = lanes<float>, width = Packs * n, most = thin_steps / Packs;
   constexpr Size bytes = static_cast<Size>(sizeof(float)), tile = thin_registers * n;
   alignas(64) float chains[thin_turn / thin_rows * tile], sums[thin_turn * width];
   for (Size next = 0; next < m; next += thin_turn) {
      // The last rows: once more with rows that are done already.
      const Size begin = next + thin_rows <= m ? next : m - thin_rows;
      const Size rows = m - begin < thin_turn ? m - begin : thin_turn;
      for (Size k = 0; k < layer.depth; k += most) {
         const Size left = layer.depth - k, steps = left < most ? left : most;
         for (Size i = 0; i < rows; i += thin_rows) {
            const Size row = i + thin_rows <= rows ? i : rows - thin_rows;
            thin_tile<Packs>(x + (begin + row) * layer.depth + k, layer.depth * bytes, layer.weights + k * width, steps,
                             chains + i / thin_rows * tile, k > 0, left <= most ? sums + row * width : nullptr);
         }
      }
      dense_rows(f, y + begin * layer.columns, layer.columns, sums, width, layer.bias, rows, layer.columns);
   }
}

#endif

/// y[m, n] = f(sum_k x[m, k] * w[k, n] + b[n])
template <class F, class T, Size M, Size K, Size N>
SOFIE_KERNEL void dense_few_columns(const F &f, View<T, M, N> y, View<const T, M, K> x,
                                    const FewColumnsWeights<T, K, N> &w)
{
#ifdef SOFIE_AVX512_ASSEMBLER
   constexpr int packs = static_cast<int>(DenseShape<T, N>::packs);
   static_assert(packs <= 2 && DenseShape<T, N>::chains * packs == thin_registers / thin_rows, "the chains of a tile");
   const Size m = x.template extent<0>();
   // Four rows of two packs fill a tile of their own.
   if (m >= thin_rows && (packs == 1 || (m <= thin_wide_rows && m != dense_tile_half)))
      dense_thin<packs>(f, dense_layer<F>(w), y.data(), x.data(), m);
   else if constexpr (packs == 1)
      dense_one_by_one(f, y, x, w);
   else
      dense(f, y, x, static_cast<const DenseWeights<T, K, N> &>(w));
#else
   dense(f, y, x, static_cast<const DenseWeights<T, K, N> &>(w));
#endif
}

/// The same for those who call the kernel that weights are packed for.
template <class F, class T, Size M, Size K, Size N>
SOFIE_INLINE void dense(const F &f, View<T, M, N> y, View<const T, M, K> x, const FewColumnsWeights<T, K, N> &w)
{
   dense_few_columns(f, y, x, w);
}

} // namespace sofie

SOFIE_END

#endif
