/// \file
/// Blocks of 16 by 16 numbers of 4 bytes whose rows become columns.
#ifndef SOFIE_KERNELS_TRANSPOSE_BLOCKS_HXX
#define SOFIE_KERNELS_TRANSPOSE_BLOCKS_HXX

#include "sofie/assembler.hxx"
#include "sofie/simd.hxx"

#ifdef SOFIE_AVX512_ASSEMBLER
#define SOFIE_TRANSPOSE_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

// 16 rows become 16 columns: pairs of numbers, pairs of pairs, and then the quarters of registers change places.
// clang-format off
#define SOFIE_TRANSPOSE_EACH(each)                                                                              \
   each(0) each(1) each(2) each(3) each(4) each(5) each(6) each(7) each(8) each(9) each(10) each(11) each(12)   \
   each(13) each(14) each(15)
#define SOFIE_TRANSPOSE_EACH_BACKWARDS(each)                                                                    \
   each(15) each(14) each(13) each(12) each(11) each(10) each(9) each(8) each(7) each(6) each(5) each(4) each(3) \
   each(2) each(1) each(0)
// The next row, as long as there is one.
#define SOFIE_TRANSPOSE_LOAD(a)                                                                                 \
   "vmovups (%[at]), %%zmm" #a "%{%%k1%}%{z%}\n\t"                                                              \
   "dec %[left]\n\tcmovle %[now], %[step]\n\tadd %[step], %[at]\n\t"
// The last row, until it is the turn of its own numbers, and then those before it.
#define SOFIE_TRANSPOSE_STORE(a)                                                                                \
   "vmovups %%zmm" #a ", (%[at])%{%%k1%}\n\t"                                                                   \
   "dec %[left]\n\tcmovl %[step], %[now]\n\tadd %[now], %[at]\n\t"
#define SOFIE_TRANSPOSE_LAST                                                                                    \
   "mov %c[to_step](%[to]), %[step]\n\tmov $16, %[left]\n\tmov %c[to_rows](%[to]), %[at]\n\t"                   \
   "cmp %[left], %[at]\n\tcmovg %[left], %[at]\n\tsub %[at], %[left]\n\t"                                       \
   "dec %[at]\n\timul %[step], %[at]\n\tadd %c[to_first](%[to]), %[at]\n\tneg %[step]\n\t"
#define SOFIE_TRANSPOSE_PAIR(kind, low, high, a, b)                                                             \
   "vunpckl" kind " %%zmm" #b ", %%zmm" #a ", %%zmm" #low "\n\tvunpckh" kind " %%zmm" #b ", %%zmm" #a ", %%zmm" #high "\n\t"
#define SOFIE_TRANSPOSE_QUARTERS(low, high, a, b)                                                               \
   "vshuff32x4 $0x88, %%zmm" #b ", %%zmm" #a ", %%zmm" #low "\n\t"                                              \
   "vshuff32x4 $0xdd, %%zmm" #b ", %%zmm" #a ", %%zmm" #high "\n\t"
#define SOFIE_TRANSPOSE_FOUR(a, b, c, d, e, f, g, h)                                                            \
   SOFIE_TRANSPOSE_PAIR("ps", e, f, a, b) SOFIE_TRANSPOSE_PAIR("ps", g, h, c, d)                                \
   SOFIE_TRANSPOSE_PAIR("pd", a, b, e, g) SOFIE_TRANSPOSE_PAIR("pd", c, d, f, h)
#define SOFIE_TRANSPOSE_COLUMN(a, b, c, d, e, f, g, h)                                                          \
   SOFIE_TRANSPOSE_QUARTERS(e, f, a, b) SOFIE_TRANSPOSE_QUARTERS(g, h, c, d)                                    \
   SOFIE_TRANSPOSE_QUARTERS(a, c, e, g) SOFIE_TRANSPOSE_QUARTERS(b, d, f, h)
// clang-format on

/// 16 rows in memory, or fewer where there are fewer, `step` bytes apart; `mask` has the numbers of each that exist.
/// What is read behind the last one is the last one, and what would be written there is left out.
struct TransposedRows {
   const float *first;
   Size step;
   Size rows;
   Size mask;
};

/// to[j][i] = from[i][j] for 16 by 16 numbers.
SOFIE_KERNEL inline void transpose_block(const TransposedRows &to, const TransposedRows &from)
{
   const float *at;
   Size step, left, now = 0;
   asm volatile(
      "mov %c[from_first](%[from]), %[at]\n\t"
      "mov %c[from_step](%[from]), %[step]\n\t"
      "mov %c[from_rows](%[from]), %[left]\n\t"
      "kmovw %c[from_mask](%[from]), %%k1\n\t" SOFIE_TRANSPOSE_EACH(SOFIE_TRANSPOSE_LOAD)
         SOFIE_TRANSPOSE_FOUR(0, 1, 2, 3, 16, 17, 18, 19) SOFIE_TRANSPOSE_FOUR(4, 5, 6, 7, 20, 21, 22, 23)
            SOFIE_TRANSPOSE_FOUR(8, 9, 10, 11, 24, 25, 26, 27) SOFIE_TRANSPOSE_FOUR(12, 13, 14, 15, 28, 29, 30, 31)
               SOFIE_TRANSPOSE_COLUMN(0, 4, 8, 12, 16, 20, 24, 28) SOFIE_TRANSPOSE_COLUMN(1, 5, 9, 13, 17, 21, 25, 29)
                  SOFIE_TRANSPOSE_COLUMN(2, 6, 10, 14, 18, 22, 26, 30)
                     SOFIE_TRANSPOSE_COLUMN(3, 7, 11, 15, 19, 23, 27, 31) SOFIE_TRANSPOSE_LAST
      "kmovw %c[to_mask](%[to]), %%k1\n\t" SOFIE_TRANSPOSE_EACH_BACKWARDS(SOFIE_TRANSPOSE_STORE)
      : [at] "=&r"(at), [step] "=&r"(step), [left] "=&r"(left), [now] "+&r"(now)
      : [from] "r"(&from), SOFIE_MEMBERS(from, TransposedRows, first, step, rows, mask), [to] "r"(&to),
        SOFIE_MEMBERS(to, TransposedRows, first, step, rows, mask)
      : "memory", "cc", "k1", SOFIE_ALL_PACKS);
}

} // namespace sofie

SOFIE_END

#endif

#endif
