/// \file
/// Products of long rows with up to 16 columns: three rows at a time with all chains of their sums side by side.
///
/// One chain after the other would read all of the rows again and again, from the second cache where they are long.
#ifndef SOFIE_KERNELS_DENSE_THIN_HXX
#define SOFIE_KERNELS_DENSE_THIN_HXX

#include "sofie/kernels/dense_tile.hxx"

#ifdef SOFIE_DENSE_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

/// How many rows and chains there are, and from how many steps on that is faster.
inline constexpr Size thin_rows = 3, thin_chains = 8, thin_depth = 128;

/// How many steps these rows take before the next ones do, and how many rows take turns: weights and chains that go on
/// stay in the first cache.
inline constexpr Size thin_steps = 256, thin_turn = 24;
static_assert(thin_steps % thin_chains == 0 && thin_turn % thin_rows == 0, "each turn begins with the first chain");

// clang-format off
// Step number i of a round: of three rows, whose sums are in a, b and c.
#define SOFIE_THIN_STEP(i, a, b, c)                                                                \
   "vmovups " #i "*64(%[w]), %%zmm24\n\t"                                                          \
   "vfmadd231ps " #i "*4(%[x])%{1to16%}, %%zmm24, %%zmm" #a "\n\t"                                 \
   "vfmadd231ps " #i "*4(%[x],%[stride])%{1to16%}, %%zmm24, %%zmm" #b "\n\t"                       \
   "vfmadd231ps " #i "*4(%[x],%[stride],2)%{1to16%}, %%zmm24, %%zmm" #c "\n\t"
#define SOFIE_THIN_LAST(i, a, b, c) "cmp $" #i ", %[rest]\n\tjle 3f\n\t" SOFIE_THIN_STEP(i, a, b, c)
#define SOFIE_THIN_ZERO(i, a, b, c) SOFIE_DENSE_ZERO(0, a) SOFIE_DENSE_ZERO(0, b) SOFIE_DENSE_ZERO(0, c)
#define SOFIE_THIN_JOIN(i, a, b, c)                                                                \
   "vaddps %%zmm" #a ", %%zmm0, %%zmm0\n\t"                                                        \
   "vaddps %%zmm" #b ", %%zmm8, %%zmm8\n\t"                                                        \
   "vaddps %%zmm" #c ", %%zmm16, %%zmm16\n\t"
#define SOFIE_THIN_OTHERS(each)                                                                    \
   each(1, 1, 9, 17) each(2, 2, 10, 18) each(3, 3, 11, 19) each(4, 4, 12, 20) each(5, 5, 13, 21)   \
   each(6, 6, 14, 22)
#define SOFIE_THIN_MORE(each) SOFIE_THIN_OTHERS(each) each(7, 7, 15, 23)
#define SOFIE_THIN_EACH(each) each(0, 0, 8, 16) SOFIE_THIN_MORE(each)
// Chains that go on.
#define SOFIE_THIN_LOAD(i, a, b, c)                                                                \
   "vmovups " #a "*64(%[chains]), %%zmm" #a "\n\t"                                                 \
   "vmovups " #b "*64(%[chains]), %%zmm" #b "\n\t"                                                 \
   "vmovups " #c "*64(%[chains]), %%zmm" #c "\n\t"
#define SOFIE_THIN_STORE(i, a, b, c)                                                               \
   "vmovups %%zmm" #a ", " #a "*64(%[chains])\n\t"                                                 \
   "vmovups %%zmm" #b ", " #b "*64(%[chains])\n\t"                                                 \
   "vmovups %%zmm" #c ", " #c "*64(%[chains])\n\t"

/// sums[r][j] = sum_k x[r * stride + k] * w[k][j] for 3 rows and 16 columns; the stride is in bytes. If it `goes_on`,
/// the chains begin with what is in `chains`; without `sums` they are stored there.
SOFIE_KERNEL inline void thin_tile(const float *x, Size stride, const float *w, Size depth, float *chains,
                                   bool goes_on, float *sums)
{
   const Size rest = depth % thin_chains, begun = goes_on;
   Size rounds = depth / thin_chains;
   asm volatile(
      SOFIE_THIN_EACH(SOFIE_THIN_ZERO)
      "test %[begun], %[begun]\n\t"
      "jz 5f\n\t"
      SOFIE_THIN_EACH(SOFIE_THIN_LOAD)
      "5:\n\t"
      "test %[rounds], %[rounds]\n\t"
      "jz 2f\n\t"
      ".p2align 5\n"
      "1:\n\t"
      SOFIE_THIN_EACH(SOFIE_THIN_STEP)
      "add $32, %[x]\n\t"
      "add $512, %[w]\n\t"
      "dec %[rounds]\n\t"
      "jnz 1b\n"
      "2:\n\t"
      SOFIE_THIN_LAST(0, 0, 8, 16)
      SOFIE_THIN_OTHERS(SOFIE_THIN_LAST)
      "3:\n\t"
      "test %[sums], %[sums]\n\t"
      "jnz 4f\n\t"
      SOFIE_THIN_EACH(SOFIE_THIN_STORE)
      "jmp 6f\n"
      "4:\n\t"
      SOFIE_THIN_MORE(SOFIE_THIN_JOIN)
      "vmovups %%zmm0, (%[sums])\n\t"
      "vmovups %%zmm8, 64(%[sums])\n\t"
      "vmovups %%zmm16, 128(%[sums])\n"
      "6:\n\t"
      : [x] "+&r"(x), [w] "+&r"(w), [rounds] "+&r"(rounds)
      : [stride] "r"(stride), [rest] "r"(rest), [chains] "r"(chains), [begun] "r"(begun), [sums] "r"(sums)
      : "memory", "cc", SOFIE_ALL_PACKS);
}
// clang-format on

} // namespace sofie

SOFIE_END

#endif

#endif
