/// \file
/// Rows of floats normalised one after the other, in assembler: one text for registers of 64 bytes and of 32.
///
/// A row is read three times: for the mean, for the deviations with their squares, and for the result. As many rows as
/// a pack has lanes are read for one of these before the next, so that no row waits for its own sums. The sums are
/// those of `moments` in `normalization.hxx`, in the same order: of four packs side by side.
#ifndef SOFIE_KERNELS_NORMALIZATION_ROWS_HXX
#define SOFIE_KERNELS_NORMALIZATION_ROWS_HXX

#include "sofie/assembler.hxx"
#include "sofie/simd.hxx"

#if defined(SOFIE_AVX512_ASSEMBLER) || defined(SOFIE_AVX2_ASSEMBLER)
#define SOFIE_ROWS_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

/// How a row is read.
struct RowsRule {
   Size length;
   Size bytes; // Of a row.
   Size whole; // Of its groups of four packs.
#ifdef SOFIE_AVX512_ASSEMBLER
   Size masks[4]; // Which numbers there are in the packs behind them.
#else
   std::int32_t masks[4][8];
#endif
   std::int32_t tail; // Whether there is anything behind the groups.
};

// clang-format off
// What differs between the instruction sets: registers, and how a part of a pack is read and written. A mask of AVX2 is
// in ymm13 from the load of a part to its store; behind a pack without any number there are no others.
#ifdef SOFIE_AVX512_ASSEMBLER
#define SOFIE_ROWS_PACK(a) "%%zmm" #a
#define SOFIE_ROWS_AT(c) "64*" #c
#define SOFIE_ROWS_GROUP "256"
#define SOFIE_ROWS_MASK(c) SOFIE_ROWS_MASK_##c
#define SOFIE_ROWS_MASK_0 "%{%%k1%}"
#define SOFIE_ROWS_MASK_1 "%{%%k2%}"
#define SOFIE_ROWS_MASK_2 "%{%%k3%}"
#define SOFIE_ROWS_MASK_3 "%{%%k4%}"
#define SOFIE_ROWS_BEGIN_PART(c)
#define SOFIE_ROWS_LOAD_PART(from, c, to) "vmovups " SOFIE_ROWS_AT(c) "(%[" #from "],%[i]), %%zmm" #to SOFIE_ROWS_MASK(c) "%{z%}\n\t"
#define SOFIE_ROWS_STORE_PART(a, c) "vmovups %%zmm" #a ", " SOFIE_ROWS_AT(c) "(%[y],%[i])" SOFIE_ROWS_MASK(c) "\n\t"
#define SOFIE_ROWS_DEVIATION_PART(a, c) "vsubps %%zmm8, %%zmm" #a ", %%zmm" #a SOFIE_ROWS_MASK(c) "%{z%}\n\t"
#define SOFIE_ROWS_MASKS                                                            \
   "kmovw %c[rule_masks](%[rule]), %%k1\n\t"                                        \
   "kmovw 8+%c[rule_masks](%[rule]), %%k2\n\t"                                      \
   "kmovw 16+%c[rule_masks](%[rule]), %%k3\n\t"                                     \
   "kmovw 24+%c[rule_masks](%[rule]), %%k4\n\t"
#define SOFIE_ROWS_HALF(a, b)                                                       \
   "vextractf64x4 $1, %%zmm" #a ", %%ymm" #b "\n\t"                                 \
   "vaddps %%ymm" #b ", %%ymm" #a ", %%ymm" #a "\n\t"
#define SOFIE_ROWS_CLOBBERED "k1", "k2", "k3", "k4", SOFIE_ALL_PACKS
#else
#define SOFIE_ROWS_PACK(a) "%%ymm" #a
#define SOFIE_ROWS_AT(c) "32*" #c
#define SOFIE_ROWS_GROUP "128"
#define SOFIE_ROWS_BEGIN_PART(c) "cmpl $0, 32*" #c "+%c[rule_masks](%[rule])\n\tje 3f\n\t"
#define SOFIE_ROWS_LOAD_PART(from, c, to)                                           \
   "vmovups 32*" #c "+%c[rule_masks](%[rule]), %%ymm13\n\t"                         \
   "vmaskmovps " SOFIE_ROWS_AT(c) "(%[" #from "],%[i]), %%ymm13, %%ymm" #to "\n\t"
#define SOFIE_ROWS_STORE_PART(a, c) "vmaskmovps %%ymm" #a ", %%ymm13, " SOFIE_ROWS_AT(c) "(%[y],%[i])\n\t"
#define SOFIE_ROWS_DEVIATION_PART(a, c) SOFIE_ROWS_DEVIATION_WHOLE(a, c) "vandps %%ymm13, %%ymm" #a ", %%ymm" #a "\n\t"
#define SOFIE_ROWS_MASKS
#define SOFIE_ROWS_HALF(a, b)
#define SOFIE_ROWS_CLOBBERED SOFIE_ALL_YMM
#endif
#define SOFIE_ROWS_BEGIN_WHOLE(c)
#define SOFIE_ROWS_LOAD_WHOLE(from, c, to) "vmovups " SOFIE_ROWS_AT(c) "(%[" #from "],%[i]), " SOFIE_ROWS_PACK(to) "\n\t"
#define SOFIE_ROWS_STORE_WHOLE(a, c) "vmovups " SOFIE_ROWS_PACK(a) ", " SOFIE_ROWS_AT(c) "(%[y],%[i])\n\t"
#define SOFIE_ROWS_DEVIATION_WHOLE(a, c) SOFIE_ROWS_OP("vsubps", 8, a, a)
// a = op(b, c) as Intel writes operands; those of assembler stand the other way round.
#define SOFIE_ROWS_OP(op, c, b, a) op " " SOFIE_ROWS_PACK(c) ", " SOFIE_ROWS_PACK(b) ", " SOFIE_ROWS_PACK(a) "\n\t"

// `each` of the packs of a row, with registers for its sums: groups of four, then those with a mask.
#define SOFIE_ROWS_PACKS(each)                                                      \
   "xor %[i], %[i]\n\t"                                                             \
   "cmp %c[rule_whole](%[rule]), %[i]\n\t"                                          \
   "jge 2f\n"                                                                       \
   "1:\n\t"                                                                         \
   each(0, 0, 4, WHOLE) each(1, 1, 5, WHOLE) each(2, 2, 6, WHOLE) each(3, 3, 7, WHOLE) \
   "add $" SOFIE_ROWS_GROUP ", %[i]\n\t"                                            \
   "cmp %c[rule_whole](%[rule]), %[i]\n\t"                                          \
   "jl 1b\n"                                                                        \
   "2:\n\t"                                                                         \
   "cmpl $0, %c[rule_tail](%[rule])\n\t"                                            \
   "je 3f\n\t"                                                                      \
   each(0, 0, 4, PART)                                                              \
   SOFIE_ROWS_BEGIN_PART(1) each(1, 1, 5, PART)                                     \
   SOFIE_ROWS_BEGIN_PART(2) each(2, 2, 6, PART)                                     \
   SOFIE_ROWS_BEGIN_PART(3) each(3, 3, 7, PART)                                     \
   "3:\n\t"

#define SOFIE_ROWS_SUM(c, sum, square, part) SOFIE_ROWS_LOAD_##part(x, c, 12) SOFIE_ROWS_OP("vaddps", 12, sum, sum)
// The mean is in register 8.
#define SOFIE_ROWS_SQUARE(c, sum, square, part)                                     \
   SOFIE_ROWS_LOAD_##part(x, c, 12)                                                 \
   SOFIE_ROWS_DEVIATION_##part(12, c)                                               \
   SOFIE_ROWS_OP("vaddps", 12, sum, sum)                                            \
   SOFIE_ROWS_OP("vfmadd231ps", 12, 12, square)
// What the mean has missed is in register 9, 1 / deviation in 10.
#define SOFIE_ROWS_SCALED(c, part)                                                  \
   SOFIE_ROWS_LOAD_##part(x, c, 12)                                                 \
   SOFIE_ROWS_LOAD_##part(scale, c, 11)                                             \
   SOFIE_ROWS_OP("vsubps", 8, 12, 12)                                               \
   SOFIE_ROWS_OP("vsubps", 9, 12, 12)                                               \
   SOFIE_ROWS_OP("vmulps", 10, 12, 12)
#define SOFIE_ROWS_RESULT(c, sum, square, part)                                     \
   SOFIE_ROWS_SCALED(c, part)                                                       \
   SOFIE_ROWS_OP("vmulps", 11, 12, 12)                                              \
   SOFIE_ROWS_STORE_##part(12, c)
#define SOFIE_ROWS_SHIFTED(c, sum, square, part)                                    \
   SOFIE_ROWS_SCALED(c, part)                                                       \
   SOFIE_ROWS_LOAD_##part(offset, c, 14)                                            \
   SOFIE_ROWS_OP("vfmadd213ps", 14, 11, 12)                                         \
   SOFIE_ROWS_STORE_##part(12, c)
// One slope and one offset for all of a row, in registers 10 and 11.
#define SOFIE_ROWS_LINE(c, sum, square, part)                                       \
   SOFIE_ROWS_LOAD_##part(x, c, 12)                                                 \
   SOFIE_ROWS_OP("vsubps", 8, 12, 12)                                               \
   SOFIE_ROWS_OP("vsubps", 9, 12, 12)                                               \
   SOFIE_ROWS_OP("vfmadd213ps", 11, 10, 12)                                         \
   SOFIE_ROWS_STORE_##part(12, c)

// The sum of four packs and then, halves by halves, of the lanes.
#define SOFIE_ROWS_JOIN(a, b, c, d) \
   SOFIE_ROWS_OP("vaddps", b, a, a) SOFIE_ROWS_OP("vaddps", d, c, c) SOFIE_ROWS_OP("vaddps", c, a, a)
#define SOFIE_ROWS_LANES(a, b)                                                      \
   SOFIE_ROWS_HALF(a, b)                                                            \
   "vextractf128 $1, %%ymm" #a ", %%xmm" #b "\n\t"                                  \
   "vaddps %%xmm" #b ", %%xmm" #a ", %%xmm" #a "\n\t"                               \
   "vmovhlps %%xmm" #a ", %%xmm" #a ", %%xmm" #b "\n\t"                             \
   "vaddps %%xmm" #b ", %%xmm" #a ", %%xmm" #a "\n\t"                               \
   "vmovshdup %%xmm" #a ", %%xmm" #b "\n\t"                                         \
   "vaddss %%xmm" #b ", %%xmm" #a ", %%xmm" #a "\n\t"

#define SOFIE_ROWS_ZERO(a) "vxorps %%xmm" #a ", %%xmm" #a ", %%xmm" #a "\n\t"
#define SOFIE_ROWS_ZEROS SOFIE_ROWS_ZERO(0) SOFIE_ROWS_ZERO(1) SOFIE_ROWS_ZERO(2) SOFIE_ROWS_ZERO(3)

#define SOFIE_ROWS_NEXT "add %c[rule_bytes](%[rule]), %[x]\n\t"
#define SOFIE_ROWS_EACH "dec %[rows]\n\tjnz 7b\n\t"
#define SOFIE_ROWS_BROADCAST(from, at, to) "vbroadcastss " at "(%[" #from "]), " SOFIE_ROWS_PACK(to) "\n\t"

/// The sums of rows that follow each other.
SOFIE_KERNEL inline void sums_of_rows(float *sums, const float *x, Size rows, const RowsRule &rule)
{
   Size i;
   asm volatile(
      SOFIE_ROWS_MASKS
      "7:\n\t"
      SOFIE_ROWS_ZEROS
      SOFIE_ROWS_PACKS(SOFIE_ROWS_SUM)
      SOFIE_ROWS_JOIN(0, 1, 2, 3)
      SOFIE_ROWS_LANES(0, 1)
      "vmovss %%xmm0, (%[sums])\n\t"
      "add $4, %[sums]\n\t"
      SOFIE_ROWS_NEXT SOFIE_ROWS_EACH
      : [x] "+&r"(x), [sums] "+&r"(sums), [rows] "+&r"(rows), [i] "=&r"(i)
      : [rule] "r"(&rule), SOFIE_MEMBERS(rule, RowsRule, bytes, whole, masks, tail)
      : "memory", "cc", SOFIE_ROWS_CLOBBERED);
}

/// The sums of deviations from the means of rows, and those of their squares.
SOFIE_KERNEL inline void squares_of_rows(float *sums, float *squares, const float *x, Size rows, const float *means,
                                         const RowsRule &rule)
{
   Size i;
   asm volatile(
      SOFIE_ROWS_MASKS
      "7:\n\t"
      SOFIE_ROWS_BROADCAST(means, "", 8)
      SOFIE_ROWS_ZEROS SOFIE_ROWS_ZERO(4) SOFIE_ROWS_ZERO(5) SOFIE_ROWS_ZERO(6) SOFIE_ROWS_ZERO(7)
      SOFIE_ROWS_PACKS(SOFIE_ROWS_SQUARE)
      SOFIE_ROWS_JOIN(0, 1, 2, 3) SOFIE_ROWS_JOIN(4, 5, 6, 7)
      SOFIE_ROWS_LANES(0, 1) SOFIE_ROWS_LANES(4, 5)
      "vmovss %%xmm0, (%[sums])\n\t"
      "vmovss %%xmm4, (%[squares])\n\t"
      "add $4, %[sums]\n\t"
      "add $4, %[squares]\n\t"
      "add $4, %[means]\n\t"
      SOFIE_ROWS_NEXT SOFIE_ROWS_EACH
      : [x] "+&r"(x), [sums] "+&r"(sums), [squares] "+&r"(squares), [means] "+&r"(means), [rows] "+&r"(rows),
        [i] "=&r"(i)
      : [rule] "r"(&rule), SOFIE_MEMBERS(rule, RowsRule, bytes, whole, masks, tail)
      : "memory", "cc", SOFIE_ROWS_CLOBBERED);
}

/// What rows are scaled by: that many numbers of each, one behind the other.
struct RowFactors {
   float mean[lanes<float>], rest[lanes<float>], factor[lanes<float>], offset[lanes<float>];
};
#define SOFIE_ROWS_SCALE(each, offsets)                                                                    \
   asm volatile(                                                                                           \
      SOFIE_ROWS_MASKS                                                                                     \
      "7:\n\t"                                                                                             \
      SOFIE_ROWS_BROADCAST(of, "%c[of_mean]", 8) SOFIE_ROWS_BROADCAST(of, "%c[of_rest]", 9)                \
      SOFIE_ROWS_BROADCAST(of, "%c[of_factor]", 10) offsets                                                \
      SOFIE_ROWS_PACKS(each)                                                                               \
      "add $4, %[of]\n\t"                                                                                  \
      "add %c[rule_bytes](%[rule]), %[y]\n\t"                                                              \
      SOFIE_ROWS_NEXT SOFIE_ROWS_EACH                                                                      \
      : [x] "+&r"(x), [y] "+&r"(y), [of] "+&r"(of), [rows] "+&r"(rows), [i] "=&r"(i)                       \
      : [rule] "r"(&rule), [scale] "r"(scale), [offset] "r"(offset),                                       \
        SOFIE_MEMBERS(rule, RowsRule, bytes, whole, masks, tail),                                          \
        SOFIE_MEMBERS(of, RowFactors, mean, rest, factor, offset)                                          \
      : "memory", "cc", SOFIE_ROWS_CLOBBERED)

/// y = (x - mean - rest) * factor * scale + offset, where each number of a row has its own scale and, perhaps, offset.
/// y may be x.
SOFIE_KERNEL inline void scale_rows(float *y, const float *x, Size rows, const RowFactors *of, const float *scale,
                                    const float *offset, const RowsRule &rule)
{
   Size i;
   if (offset)
      SOFIE_ROWS_SCALE(SOFIE_ROWS_SHIFTED, "");
   else
      SOFIE_ROWS_SCALE(SOFIE_ROWS_RESULT, "");
}

/// y = (x - mean - rest) * factor + offset of each row. y may be x.
SOFIE_KERNEL inline void scale_rows(float *y, const float *x, Size rows, const RowFactors *of, const RowsRule &rule)
{
   Size i;
   const float *const scale = nullptr, *const offset = nullptr;
   SOFIE_ROWS_SCALE(SOFIE_ROWS_LINE, SOFIE_ROWS_BROADCAST(of, "%c[of_offset]", 11));
}
// clang-format on

SOFIE_INLINE RowsRule rows_rule(Size length)
{
   constexpr Size n = lanes<float>, bytes = static_cast<Size>(sizeof(float));
   const Size whole = length / (4 * n) * (4 * n), left = length - whole;
   RowsRule rule{length, length * bytes, whole * bytes, {}, left > 0};
   for (int c = 0; c < 4; ++c)
#ifdef SOFIE_AVX512_ASSEMBLER
      rule.masks[c] = mask_of_pack(left - c * n);
#else
      for (int i = 0; i < n; ++i)
         rule.masks[c][i] = c * n + i < left ? -1 : 0;
#endif
   return rule;
}

} // namespace sofie

SOFIE_END

#else

SOFIE_BEGIN

namespace sofie {

struct RowsRule {
   Size length;
};

SOFIE_INLINE RowsRule rows_rule(Size length)
{
   return {length};
}

} // namespace sofie

SOFIE_END

#endif

#endif
