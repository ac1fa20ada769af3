/// \file
/// Sums of rows of floats, many columns side by side: of what reductions compute, what networks need most.
///
/// Sums that are pairwise have many short blocks, at the end of each of which Cling's code writes to memory what it
/// has in registers. In assembler they take a quarter of the time.
#ifndef SOFIE_KERNELS_REDUCTION_COLUMNS_HXX
#define SOFIE_KERNELS_REDUCTION_COLUMNS_HXX

#include "sofie/simd.hxx"

#ifdef SOFIE_AVX512_ASSEMBLER
#define SOFIE_COLUMNS_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

/// How many columns are summed together.
inline constexpr Size columns_together = 64;

// clang-format off
#define SOFIE_COLUMNS_EACH(each) each(0, 0, 1, 2, 3) each(64, 4, 5, 6, 7) each(128, 8, 9, 10, 11) each(192, 12, 13, 14, 15)
// Eight rows as one: pairs, pairs of pairs, and both halves.
#define SOFIE_COLUMNS_EIGHT(at, a, b, c, d)                                                                        \
   "vmovups " #at "(%[from]), %%zmm" #a "\n\tvaddps " #at "(%[next]), %%zmm" #a ", %%zmm" #a "\n\t"                \
   "vmovups " #at "(%[from],%[apart],2), %%zmm" #b "\n\t"                                                          \
   "vaddps " #at "(%[next],%[apart],2), %%zmm" #b ", %%zmm" #b "\n\t"                                              \
   "vmovups " #at "(%[from],%[apart],4), %%zmm" #c "\n\t"                                                          \
   "vaddps " #at "(%[next],%[apart],4), %%zmm" #c ", %%zmm" #c "\n\t"                                              \
   "vmovups " #at "(%[from],%[three],2), %%zmm" #d "\n\t"                                                          \
   "vaddps " #at "(%[next],%[three],2), %%zmm" #d ", %%zmm" #d "\n\t"                                              \
   "vaddps %%zmm" #b ", %%zmm" #a ", %%zmm" #a "\n\tvaddps %%zmm" #d ", %%zmm" #c ", %%zmm" #c "\n\t"              \
   "vaddps %%zmm" #c ", %%zmm" #a ", %%zmm" #a "\n\t"
#define SOFIE_COLUMNS_ZERO(at, a, b, c, d) "vpxord %%zmm" #a ", %%zmm" #a ", %%zmm" #a "\n\t"
#define SOFIE_COLUMNS_ROW(at, a, b, c, d) "vmovups " #at "(%[from]), %%zmm" #a "\n\t"
#define SOFIE_COLUMNS_ADD_ROW(at, a, b, c, d) "vaddps " #at "(%[from]), %%zmm" #a ", %%zmm" #a "\n\t"
#define SOFIE_COLUMNS_ADD(at, a, b, c, d) "vaddps " #at "(%[next]), %%zmm" #a ", %%zmm" #a "\n\t"
#define SOFIE_COLUMNS_STORE(at, a, b, c, d) "vmovups %%zmm" #a ", " #at "(%[next])\n\t"

/// to[j] = sum_r from[r][j] for `rows` rows that are `apart` and 64 columns, in the order of `gather_lanes`.
SOFIE_KERNEL inline void sum_columns(float *to, const float *from, Size apart, Size rows)
{
   alignas(64) float levels[48 * columns_together];
   const Size step = apart * Size{sizeof(float)}, three = 3 * step;
   Size blocks, bits;
   float *next;
   asm volatile(
      "xor %[blocks], %[blocks]\n\t"
      "jmp 2f\n"
      "1:\n\t"
      "lea (%[from],%[apart]), %[next]\n\t"
      SOFIE_COLUMNS_EACH(SOFIE_COLUMNS_EIGHT)
      "lea (%[from],%[apart],8), %[from]\n\t"
      "sub $8, %[rows]\n"
      // Level l is the sum of 2^l blocks, if bit l of their number is set.
      "3:\n\t"
      "mov %[blocks], %[bits]\n\t"
      "mov %[levels], %[next]\n"
      "4:\n\t"
      "shr %[bits]\n\t"
      "jnc 5f\n\t"
      SOFIE_COLUMNS_EACH(SOFIE_COLUMNS_ADD)
      "add $256, %[next]\n\t"
      "jmp 4b\n"
      "5:\n\t"
      SOFIE_COLUMNS_EACH(SOFIE_COLUMNS_STORE)
      "inc %[blocks]\n"
      "2:\n\t"
      "cmp $8, %[rows]\n\t"
      "jge 1b\n\t"
      "test %[rows], %[rows]\n\t"
      "jle 7f\n\t"
      SOFIE_COLUMNS_EACH(SOFIE_COLUMNS_ROW)
      "6:\n\t"
      "dec %[rows]\n\t"
      "jz 3b\n\t"
      "add %[apart], %[from]\n\t"
      SOFIE_COLUMNS_EACH(SOFIE_COLUMNS_ADD_ROW)
      "jmp 6b\n"
      "7:\n\t"
      SOFIE_COLUMNS_EACH(SOFIE_COLUMNS_ZERO)
      "mov %[levels], %[next]\n"
      "8:\n\t"
      "test %[blocks], %[blocks]\n\t"
      "jz 10f\n\t"
      "shr %[blocks]\n\t"
      "jnc 9f\n\t"
      SOFIE_COLUMNS_EACH(SOFIE_COLUMNS_ADD)
      "9:\n\t"
      "add $256, %[next]\n\t"
      "jmp 8b\n"
      "10:\n\t"
      "mov %[to], %[next]\n\t"
      SOFIE_COLUMNS_EACH(SOFIE_COLUMNS_STORE)
      : [from] "+&r"(from), [rows] "+&r"(rows), [next] "=&r"(next), [blocks] "=&r"(blocks), [bits] "=&r"(bits)
      : [apart] "r"(step), [three] "r"(three), [levels] "r"(levels), [to] "r"(to)
      : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
        "xmm12", "xmm13", "xmm14", "xmm15");
}
// clang-format on

} // namespace sofie

SOFIE_END

#endif

#endif
