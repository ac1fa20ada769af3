/// \file
/// Windows over planes of floats: rows of input are pooled into rows of a buffer, and these along themselves, for as
/// many rows of as many planes as the first cache keeps. One text for AVX-512 and AVX2.
#ifndef SOFIE_KERNELS_POOLING_ROWS_HXX
#define SOFIE_KERNELS_POOLING_ROWS_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/dense/tile.hxx"

SOFIE_BEGIN

namespace sofie {

/// Floats that the buffer has at least, beyond one row.
inline constexpr Size pool_buffer = 4096;

#ifdef SOFIE_TILE_ASSEMBLER

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
// What differs: the lanes of a pack that exist, where a mask of AVX2 is a register that has the bits of its lanes; and how
// every second number is read. NaN stays, as a number is no larger: where there is none yet, it is the larger one or the
// other, which may be NaN.
#ifdef SOFIE_AVX512_ASSEMBLER
#define SOFIE_POOL_PACK "8"
#define SOFIE_POOL_BEGIN ""
#define SOFIE_POOL_MASK "kmovw (%[masks],%[at]), %%k1\n\t"
#define SOFIE_POOL_READ(place) "vmovups " place ", %%zmm0%{%%k1%}\n\t"
#define SOFIE_POOL_READ_MAX(place)                                     \
   "vcmpps $7, %%zmm0, %%zmm0, %%k2%{%%k1%}\n\t"                       \
   "vmaxps " place ", %%zmm0, %%zmm0%{%%k2%}\n\t"
#define SOFIE_POOL_READ_SUM(place) "vaddps " place ", %%zmm0, %%zmm0%{%%k1%}\n\t"
#define SOFIE_POOL_REST ""
#define SOFIE_POOL_MAX_OF(x, a)                                        \
   "vcmpps $7, %%zmm" #a ", %%zmm" #a ", %%k2\n\t"                      \
   "vmaxps %%zmm" #x ", %%zmm" #a ", %%zmm" #a "%{%%k2%}\n\t"
#define SOFIE_POOL_SECOND(a)                                           \
   "vmovups (%[off]), %%zmm" #a "\n\t"                                 \
   "vmovups 64(%[off]), %%zmm3\n\t"                                    \
   "vpermt2ps %%zmm3, %%zmm6, %%zmm" #a "\n\t"
#define SOFIE_POOL_OTHER(a)                                            \
   "kxnorw %%k3, %%k3, %%k3\n\t"                                       \
   "vpxord %%zmm" #a ", %%zmm" #a ", %%zmm" #a "\n\t"                  \
   "vgatherdps (%[off],%%zmm6,4), %%zmm" #a "%{%%k3%}\n\t"
#define SOFIE_POOL_STORE "vmovups %%zmm0, (%[x],%[at],8)%{%%k1%}\n\t"
#define SOFIE_POOL_REGISTERS "k1", "k2", "k3", "xmm0", "xmm1", "xmm2", "xmm3", "xmm5", "xmm6", "xmm7"
#else
#define SOFIE_POOL_PACK "4"
#define SOFIE_POOL_BEGIN "vmovups 32(%[at]), %%ymm9\n\t"
#define SOFIE_POOL_MASK                                                \
   "vpbroadcastd (%[masks],%[at]), %%ymm4\n\t"                         \
   "vpand %%ymm9, %%ymm4, %%ymm4\n\t"                                  \
   "vpcmpeqd %%ymm9, %%ymm4, %%ymm4\n\t"
#define SOFIE_POOL_READ(place) "vmaskmovps " place ", %%ymm4, %%ymm0\n\t"
#define SOFIE_POOL_READ_MAX(place) "vmaskmovps " place ", %%ymm4, %%ymm1\n\t" SOFIE_POOL_MAX_OF(1, 0)
#define SOFIE_POOL_READ_SUM(place) "vmaskmovps " place ", %%ymm4, %%ymm1\n\t" SOFIE_POOL_SUM_OF(1, 0)
#define SOFIE_POOL_REST "vblendvps %%ymm4, %%ymm0, %%ymm7, %%ymm0\n\t"
#define SOFIE_POOL_MAX_OF(x, a)                                        \
   "vcmpps $3, %%ymm" #a ", %%ymm" #a ", %%ymm8\n\t"                    \
   "vmaxps %%ymm" #x ", %%ymm" #a ", %%ymm" #x "\n\t"                   \
   "vblendvps %%ymm8, %%ymm" #a ", %%ymm" #x ", %%ymm" #a "\n\t"
#define SOFIE_POOL_SECOND(a)                                           \
   "vmovups (%[off]), %%ymm" #a "\n\t"                                 \
   "vshufps $0x88, 32(%[off]), %%ymm" #a ", %%ymm" #a "\n\t"           \
   "vpermpd $0xd8, %%ymm" #a ", %%ymm" #a "\n\t"
#define SOFIE_POOL_OTHER(a)                                            \
   "vpcmpeqd %%ymm3, %%ymm3, %%ymm3\n\t"                               \
   "vpxor %%ymm" #a ", %%ymm" #a ", %%ymm" #a "\n\t"                   \
   "vgatherdps %%ymm3, (%[off],%%ymm6,4), %%ymm" #a "\n\t"
#define SOFIE_POOL_STORE                                               \
   "cmpb $-1, (%[masks],%[at])\n\t"                                    \
   "jne 11f\n\t"                                                       \
   "vmovups %%ymm0, (%[x],%[at],4)\n\t"                                \
   "jmp 12f\n"                                                         \
   "11:\n\t"                                                           \
   "vmaskmovps %%ymm0, %%ymm4, (%[x],%[at],4)\n"                       \
   "12:\n\t"
#define SOFIE_POOL_REGISTERS SOFIE_ALL_YMM
#endif
#define SOFIE_POOL_SUM_OF(x, a) "vaddps " SOFIE_PACK(x) ", " SOFIE_PACK(a) ", " SOFIE_PACK(a) "\n\t"
#define SOFIE_POOL_EACH(a) "vmovups (%[off]), " SOFIE_PACK(a) "\n\t"
#define SOFIE_POOL_SHARED \
   "vbroadcastss 4(%[table]), " SOFIE_PACK(5) "\n\tmovslq (%[table]), %[at]\n\tlea 8(%[table],%[at]), %[table]\n\t"
#define SOFIE_POOL_MEAN                                                \
   "mov %c[of_members](%[of]), %[off]\n\t"                             \
   "vmulps (%[off],%[at]," SOFIE_POOL_PACK "), " SOFIE_PACK(5) ", " SOFIE_PACK(2) "\n\t" \
   "vdivps " SOFIE_PACK(2) ", " SOFIE_PACK(0) ", " SOFIE_PACK(0) "\n\t"
#define SOFIE_POOL_RUN(rule, load, shared, mean)                                                              \
   asm volatile(                                                                                              \
      "vbroadcastss %c[of_neutral](%[of]), " SOFIE_PACK(7) "\n\t"                                             \
      "mov %c[of_order](%[of]), %[at]\n\t"                                                                    \
      "vmovups (%[at]), " SOFIE_PACK(6) "\n\t" SOFIE_POOL_BEGIN                                               \
      /* Rows of input into rows of the buffer. */                                                            \
      "mov %c[of_planes](%[of]), %[at]\n\t"                                                                   \
      "mov %[at], %c[of_left](%[of])\n\t"                                                                     \
      "mov (%[of]), %[x]\n\t"                                                                                 \
      "mov %c[of_buffer](%[of]), %[row]\n\t"                                                                  \
      "mov %c[of_inputs](%[of]), %[masks]\n"                                                                  \
      "1:\n\t"                                                                                                \
      "mov %c[of_table](%[of]), %[table]\n\t"                                                                 \
      "mov %c[of_rows](%[of]), %[rows]\n"                                                                     \
      "2:\n\t"                                                                                                \
      "movslq (%[table]), %[end]\n\t"                                                                         \
      "add $8, %[table]\n\t"                                                                                  \
      "add %[table], %[end]\n\t"                                                                              \
      "xor %k[at], %k[at]\n"                                                                                  \
      "3:\n\t"                                                                                                \
      SOFIE_POOL_MASK                                                                                         \
      "vmovaps " SOFIE_PACK(7) ", " SOFIE_PACK(0) "\n\t"                                                      \
      "mov %[table], %[tap]\n\t"                                                                              \
      "cmp %[end], %[tap]\n\t"                                                                                \
      "jae 5f\n\t"                                                                                            \
      "movslq (%[tap]), %[off]\n\t"                                                                           \
      "add %[x], %[off]\n\t"                                                                                  \
      SOFIE_POOL_READ("(%[off],%[at]," SOFIE_POOL_PACK ")")                                                   \
      "add $4, %[tap]\n\t"                                                                                    \
      "cmp %[end], %[tap]\n\t"                                                                                \
      "jae 5f\n"                                                                                              \
      "4:\n\t"                                                                                                \
      "movslq (%[tap]), %[off]\n\t"                                                                           \
      "add %[x], %[off]\n\t"                                                                                  \
      SOFIE_POOL_READ_##rule("(%[off],%[at]," SOFIE_POOL_PACK ")")                                            \
      "add $4, %[tap]\n\t"                                                                                    \
      "cmp %[end], %[tap]\n\t"                                                                                \
      "jb 4b\n"                                                                                               \
      "5:\n\t"                                                                                                \
      SOFIE_POOL_REST "vmovups " SOFIE_PACK(0) ", (%[row],%[at]," SOFIE_POOL_PACK ")\n\t"                     \
      "add $8, %[at]\n\t"                                                                                     \
      "cmp %c[of_input_masks](%[of]), %[at]\n\t"                                                              \
      "jb 3b\n\t"                                                                                             \
      "add %c[of_pitch](%[of]), %[row]\n\t"                                                                   \
      "mov %[end], %[table]\n\t"                                                                              \
      "dec %[rows]\n\t"                                                                                       \
      "jnz 2b\n\t"                                                                                            \
      "add %c[of_plane](%[of]), %[x]\n\t"                                                                     \
      "decq %c[of_left](%[of])\n\t"                                                                           \
      "jnz 1b\n\t"                                                                                            \
      /* Along the rows of the buffer. */                                                                     \
      "mov %c[of_planes](%[of]), %[at]\n\t"                                                                   \
      "mov %[at], %c[of_left](%[of])\n\t"                                                                     \
      "mov %c[of_y](%[of]), %[x]\n\t"                                                                         \
      "mov %c[of_buffer](%[of]), %[row]\n\t"                                                                  \
      "sub %c[of_begin](%[of]), %[row]\n\t"                                                                   \
      "mov %c[of_results](%[of]), %[masks]\n"                                                                 \
      "6:\n\t"                                                                                                \
      "mov %c[of_table](%[of]), %[table]\n\t"                                                                 \
      "mov %c[of_rows](%[of]), %[rows]\n"                                                                     \
      "7:\n\t"                                                                                                \
      shared                                                                                                  \
      "xor %k[at], %k[at]\n"                                                                                  \
      "8:\n\t"                                                                                                \
      SOFIE_POOL_MASK                                                                                         \
      "mov %c[of_stride](%[of]), %[off]\n\t"                                                                  \
      "imul %[at], %[off]\n\t"                                                                                \
      "lea (%[row],%[off]," SOFIE_POOL_PACK "), %[off]\n\t"                                                   \
      load(0)                                                                                                 \
      "mov %c[of_taps](%[of]), %[tap]\n\t"                                                                    \
      "dec %[tap]\n\t"                                                                                        \
      "jz 10f\n"                                                                                              \
      "9:\n\t"                                                                                                \
      "add %c[of_tap](%[of]), %[off]\n\t"                                                                     \
      load(1)                                                                                                 \
      SOFIE_POOL_##rule##_OF(1, 0)                                                                            \
      "dec %[tap]\n\t"                                                                                        \
      "jnz 9b\n"                                                                                              \
      "10:\n\t"                                                                                               \
      mean                                                                                                    \
      SOFIE_POOL_STORE                                                                                        \
      "add $8, %[at]\n\t"                                                                                     \
      "cmp %c[of_result_masks](%[of]), %[at]\n\t"                                                             \
      "jb 8b\n\t"                                                                                             \
      "add %c[of_pitch](%[of]), %[row]\n\t"                                                                   \
      "add %c[of_result_row](%[of]), %[x]\n\t"                                                                \
      "dec %[rows]\n\t"                                                                                       \
      "jnz 7b\n\t"                                                                                            \
      "decq %c[of_left](%[of])\n\t"                                                                           \
      "jnz 6b\n\t"                                                                                            \
      : [x] "=&r"(x), [row] "=&r"(row), [masks] "=&r"(masks), [table] "=&r"(table), [rows] "=&r"(rows), [end] "=&r"(end), \
        [at] "=&r"(at), [tap] "=&r"(tap), [off] "=&r"(off)                                                    \
      : [of] "r"(&run),                                                                                       \
        SOFIE_MEMBERS(of, PoolRun, y, buffer, table, inputs, results, planes, rows, input_masks,              \
           result_masks, plane, pitch, result_row, taps, tap, members, order, begin, stride, left, neutral)   \
      : "memory", "cc", SOFIE_POOL_REGISTERS)
// clang-format on

/// The largest elements of windows, or the means; with a stride of 1, 2, or (0) any other.
template <bool Largest, int Stride>
SOFIE_KERNEL void pool_run(PoolRun run)
{
   static_assert(__builtin_offsetof(PoolRun, x) == 0, "the assembler has no operand left for it");
   Size x, row, masks, table, rows, end, at, tap, off;
   if constexpr (Largest && Stride == 1)
      SOFIE_POOL_RUN(MAX, SOFIE_POOL_EACH, "", "");
   else if constexpr (Largest && Stride == 2)
      SOFIE_POOL_RUN(MAX, SOFIE_POOL_SECOND, "", "");
   else if constexpr (Largest)
      SOFIE_POOL_RUN(MAX, SOFIE_POOL_OTHER, "", "");
   else if constexpr (Stride == 1)
      SOFIE_POOL_RUN(SUM, SOFIE_POOL_EACH, SOFIE_POOL_SHARED, SOFIE_POOL_MEAN);
   else if constexpr (Stride == 2)
      SOFIE_POOL_RUN(SUM, SOFIE_POOL_SECOND, SOFIE_POOL_SHARED, SOFIE_POOL_MEAN);
   else
      SOFIE_POOL_RUN(SUM, SOFIE_POOL_OTHER, SOFIE_POOL_SHARED, SOFIE_POOL_MEAN);
}

#endif

} // namespace sofie

SOFIE_END

#endif
