/// \file
/// Windows over planes of floats with AVX-512: rows of input are pooled into rows of a buffer, and these
/// along themselves, for as many rows of as many planes as the first cache keeps.
#ifndef SOFIE_KERNELS_POOLING_ROWS_HXX
#define SOFIE_KERNELS_POOLING_ROWS_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/dense/tile.hxx"

SOFIE_BEGIN

namespace sofie {

/// Floats that the buffer has at least, beyond one row.
inline constexpr Size pool_buffer = 4096;

#ifdef SOFIE_AVX512_ASSEMBLER

/// `rows` rows of results of each of `planes` planes. For each row the table has the bytes of its list, the
/// number of rows that a window has there, and the list of where those are in a plane. Packs have a
/// mask each; distances, and numbers of packs in masks, are in bytes; `left` is the assembler's own.
struct PoolRun {
   const float *x;
   float *y, *buffer;
   const std::int32_t *table;
   const Size *inputs, *results; // masks
   Size planes, rows, input_masks, result_masks;
   Size plane, pitch, result_row, taps, tap;
   const float *members;
   const std::int32_t *order;
   Size begin, stride;
   Size left;
   float neutral;
};

// clang-format off
// NaN stays, as a number is no larger: where there is none yet, it is the larger one or the other, which may be NaN.
#define SOFIE_POOL_MAX(mask, with)                                     \
   "vcmpps $7, %%zmm0, %%zmm0, %%k2" mask "\n\t"                       \
   "vmaxps " with ", %%zmm0, %%zmm0%{%%k2%}\n\t"
#define SOFIE_POOL_SUM(mask, with) "vaddps " with ", %%zmm0, %%zmm0" mask "\n\t"
#define SOFIE_POOL_SHARED "vbroadcastss 4(%[table]), %%zmm29\n\t" "movslq (%[table]), %[at]\n\t" "lea 8(%[table],%[at]), %[table]\n\t"
#define SOFIE_POOL_MEAN                                                \
   "mov %c[of_members](%[of]), %[off]\n\t"                             \
   "vmulps (%[off],%[at],8), %%zmm29, %%zmm2\n\t"                      \
   "vdivps %%zmm2, %%zmm0, %%zmm0\n\t"
#define SOFIE_POOL_EACH(a) "vmovups (%[off]), %%zmm" #a "\n\t"
#define SOFIE_POOL_SECOND(a)                                           \
   "vmovups (%[off]), %%zmm" #a "\n\t"                                 \
   "vmovups 64(%[off]), %%zmm3\n\t"                                    \
   "vpermt2ps %%zmm3, %%zmm30, %%zmm" #a "\n\t"
#define SOFIE_POOL_OTHER(a)                                            \
   "kxnorw %%k3, %%k3, %%k3\n\t"                                       \
   "vpxord %%zmm" #a ", %%zmm" #a ", %%zmm" #a "\n\t"                  \
   "vgatherdps (%[off],%%zmm30,4), %%zmm" #a "%{%%k3%}\n\t"
#define SOFIE_POOL_RUN(rule, load, shared, mean)                                                                      \
   asm volatile(                                                                                                      \
      "vbroadcastss %c[of_neutral](%[of]), %%zmm31\n\t"                                                               \
      "mov %c[of_order](%[of]), %[at]\n\t"                                                                            \
      "vmovups (%[at]), %%zmm30\n\t"                                                                                  \
      /* Rows of input into rows of the buffer. */                                                                    \
      "mov %c[of_planes](%[of]), %[at]\n\t"                                                                           \
      "mov %[at], %c[of_left](%[of])\n\t"                                                                             \
      "mov (%[of]), %[x]\n\t"                                                                                         \
      "mov %c[of_buffer](%[of]), %[row]\n\t"                                                                          \
      "mov %c[of_inputs](%[of]), %[masks]\n"                                                                          \
      "1:\n\t"                                                                                                        \
      "mov %c[of_table](%[of]), %[table]\n\t"                                                                         \
      "mov %c[of_rows](%[of]), %[rows]\n"                                                                             \
      "2:\n\t"                                                                                                        \
      "movslq (%[table]), %[end]\n\t"                                                                                 \
      "add $8, %[table]\n\t"                                                                                          \
      "add %[table], %[end]\n\t"                                                                                      \
      "xor %k[at], %k[at]\n"                                                                                          \
      "3:\n\t"                                                                                                        \
      "kmovw (%[masks],%[at]), %%k1\n\t"                                                                              \
      "vmovaps %%zmm31, %%zmm0\n\t"                                                                                   \
      "mov %[table], %[tap]\n\t"                                                                                      \
      "cmp %[end], %[tap]\n\t"                                                                                        \
      "jae 5f\n\t"                                                                                                    \
      "movslq (%[tap]), %[off]\n\t"                                                                                   \
      "add %[x], %[off]\n\t"                                                                                          \
      "vmovups (%[off],%[at],8), %%zmm0%{%%k1%}%{z%}\n\t"                                                             \
      "add $4, %[tap]\n\t"                                                                                            \
      "cmp %[end], %[tap]\n\t"                                                                                        \
      "jae 5f\n"                                                                                                      \
      "4:\n\t"                                                                                                        \
      "movslq (%[tap]), %[off]\n\t"                                                                                   \
      "add %[x], %[off]\n\t"                                                                                          \
      rule("%{%%k1%}", "(%[off],%[at],8)")                                                                            \
      "add $4, %[tap]\n\t"                                                                                            \
      "cmp %[end], %[tap]\n\t"                                                                                        \
      "jb 4b\n"                                                                                                       \
      "5:\n\t"                                                                                                        \
      "vmovups %%zmm0, (%[row],%[at],8)%{%%k1%}\n\t"                                                                  \
      "add $8, %[at]\n\t"                                                                                             \
      "cmp %c[of_input_masks](%[of]), %[at]\n\t"                                                                      \
      "jb 3b\n\t"                                                                                                     \
      "add %c[of_pitch](%[of]), %[row]\n\t"                                                                           \
      "mov %[end], %[table]\n\t"                                                                                      \
      "dec %[rows]\n\t"                                                                                               \
      "jnz 2b\n\t"                                                                                                    \
      "add %c[of_plane](%[of]), %[x]\n\t"                                                                             \
      "decq %c[of_left](%[of])\n\t"                                                                                   \
      "jnz 1b\n\t"                                                                                                    \
      /* Along the rows of the buffer. */                                                                             \
      "mov %c[of_planes](%[of]), %[at]\n\t"                                                                           \
      "mov %[at], %c[of_left](%[of])\n\t"                                                                             \
      "mov %c[of_y](%[of]), %[x]\n\t"                                                                                 \
      "mov %c[of_buffer](%[of]), %[row]\n\t"                                                                          \
      "sub %c[of_begin](%[of]), %[row]\n\t"                                                                           \
      "mov %c[of_results](%[of]), %[masks]\n"                                                                         \
      "6:\n\t"                                                                                                        \
      "mov %c[of_table](%[of]), %[table]\n\t"                                                                         \
      "mov %c[of_rows](%[of]), %[rows]\n"                                                                             \
      "7:\n\t"                                                                                                        \
      shared                                                                                                          \
      "xor %k[at], %k[at]\n"                                                                                          \
      "8:\n\t"                                                                                                        \
      "kmovw (%[masks],%[at]), %%k1\n\t"                                                                              \
      "mov %c[of_stride](%[of]), %[off]\n\t"                                                                          \
      "imul %[at], %[off]\n\t"                                                                                        \
      "lea (%[row],%[off],8), %[off]\n\t"                                                                             \
      load(0)                                                                                                         \
      "mov %c[of_taps](%[of]), %[tap]\n\t"                                                                            \
      "dec %[tap]\n\t"                                                                                                \
      "jz 10f\n"                                                                                                      \
      "9:\n\t"                                                                                                        \
      "add %c[of_tap](%[of]), %[off]\n\t"                                                                             \
      load(1)                                                                                                         \
      rule("", "%%zmm1")                                                                                              \
      "dec %[tap]\n\t"                                                                                                \
      "jnz 9b\n"                                                                                                      \
      "10:\n\t"                                                                                                       \
      mean                                                                                                            \
      "vmovups %%zmm0, (%[x],%[at],8)%{%%k1%}\n\t"                                                                    \
      "add $8, %[at]\n\t"                                                                                             \
      "cmp %c[of_result_masks](%[of]), %[at]\n\t"                                                                     \
      "jb 8b\n\t"                                                                                                     \
      "add %c[of_pitch](%[of]), %[row]\n\t"                                                                           \
      "add %c[of_result_row](%[of]), %[x]\n\t"                                                                        \
      "dec %[rows]\n\t"                                                                                               \
      "jnz 7b\n\t"                                                                                                    \
      "decq %c[of_left](%[of])\n\t"                                                                                   \
      "jnz 6b\n\t"                                                                                                    \
      : [x] "=&r"(x), [row] "=&r"(row), [masks] "=&r"(masks), [table] "=&r"(table), [rows] "=&r"(rows), [end] "=&r"(end), \
        [at] "=&r"(at), [tap] "=&r"(tap), [off] "=&r"(off)                                                            \
      : [of] "r"(&run),                                                                                               \
        SOFIE_MEMBERS(of, PoolRun, y, buffer, table, inputs, results, planes, rows, input_masks,                      \
           result_masks, plane, pitch, result_row, taps, tap, members, order, begin, stride, left, neutral)           \
      : "memory", "cc", "k1", "k2", "k3", "xmm0", "xmm1", "xmm2", "xmm3", "xmm29", "xmm30", "xmm31")
// clang-format on

/// The largest elements of windows, or the means; with a stride of 1, 2, or (0) any other.
template <bool Largest, int Stride>
SOFIE_KERNEL void pool_run(PoolRun run)
{
   static_assert(__builtin_offsetof(PoolRun, x) == 0, "the assembler has no operand left for it");
   Size x, row, masks, table, rows, end, at, tap, off;
   if constexpr (Largest && Stride == 1)
      SOFIE_POOL_RUN(SOFIE_POOL_MAX, SOFIE_POOL_EACH, "", "");
   else if constexpr (Largest && Stride == 2)
      SOFIE_POOL_RUN(SOFIE_POOL_MAX, SOFIE_POOL_SECOND, "", "");
   else if constexpr (Largest)
      SOFIE_POOL_RUN(SOFIE_POOL_MAX, SOFIE_POOL_OTHER, "", "");
   else if constexpr (Stride == 1)
      SOFIE_POOL_RUN(SOFIE_POOL_SUM, SOFIE_POOL_EACH, SOFIE_POOL_SHARED, SOFIE_POOL_MEAN);
   else if constexpr (Stride == 2)
      SOFIE_POOL_RUN(SOFIE_POOL_SUM, SOFIE_POOL_SECOND, SOFIE_POOL_SHARED, SOFIE_POOL_MEAN);
   else
      SOFIE_POOL_RUN(SOFIE_POOL_SUM, SOFIE_POOL_OTHER, SOFIE_POOL_SHARED, SOFIE_POOL_MEAN);
}

#endif

} // namespace sofie

SOFIE_END

#endif
