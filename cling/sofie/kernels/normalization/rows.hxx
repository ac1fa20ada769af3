/// \file
/// Rows of floats normalised one after the other, in assembler.
///
/// A row is read three times: for the mean, for the deviations with their squares, and for the result. The sums are
/// those of `moments` in `normalization.hxx`, in the same order: of four packs side by side.
#ifndef SOFIE_KERNELS_NORMALIZATION_ROWS_HXX
#define SOFIE_KERNELS_NORMALIZATION_ROWS_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/dense/tile.hxx"

#ifdef SOFIE_AVX512_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

/// What rows are normalised by.
struct RowsRule {
   const float *scale;
   const float *offset; // May be absent.
   Size bytes;          // Of a row.
   Size whole;          // Of its groups of four packs.
   Size masks[4];       // Which numbers there are in the packs behind them.
   float count;
   float epsilon;
   std::int32_t centred; // Else the mean counts as zero.
   std::int32_t tail;    // Whether there is anything behind the groups.
};

// clang-format off
// `each` of the packs of a row, with registers for its numbers and its sums: groups of four, then those with a mask.
#define SOFIE_ROWS_PACKS(each)                                                      \
   "xor %[i], %[i]\n\t"                                                             \
   "cmp %c[rule_whole](%[rule]), %[i]\n\t"                                          \
   "jge 2f\n"                                                                       \
   "1:\n\t"                                                                         \
   each(0, 20, 0, 4, "", "") each(64, 21, 1, 5, "", "") each(128, 22, 2, 6, "", "") each(192, 23, 3, 7, "", "")     \
   "add $256, %[i]\n\t"                                                             \
   "cmp %c[rule_whole](%[rule]), %[i]\n\t"                                          \
   "jl 1b\n"                                                                        \
   "2:\n\t"                                                                         \
   "cmpl $0, %c[rule_tail](%[rule])\n\t"                                            \
   "je 3f\n\t"                                                                      \
   each(0, 20, 0, 4, "%{%%k1%}", "%{z%}") each(64, 21, 1, 5, "%{%%k2%}", "%{z%}")   \
   each(128, 22, 2, 6, "%{%%k3%}", "%{z%}") each(192, 23, 3, 7, "%{%%k4%}", "%{z%}") \
   "3:\n\t"

#define SOFIE_ROWS_LOAD(from, at, to, mask, zero) "vmovups " #at "(%[" #from "],%[i]), %%zmm" #to mask zero "\n\t"
#define SOFIE_ROWS_SUM(at, a, sum, square, mask, zero)                              \
   SOFIE_ROWS_LOAD(x, at, a, mask, zero) "vaddps %%zmm" #a ", %%zmm" #sum ", %%zmm" #sum "\n\t"
// The mean is in zmm16.
#define SOFIE_ROWS_SQUARE(at, a, sum, square, mask, zero)                           \
   SOFIE_ROWS_LOAD(x, at, a, mask, zero)                                            \
   "vsubps %%zmm16, %%zmm" #a ", %%zmm" #a mask zero "\n\t"                         \
   "vaddps %%zmm" #a ", %%zmm" #sum ", %%zmm" #sum "\n\t"                           \
   "vfmadd231ps %%zmm" #a ", %%zmm" #a ", %%zmm" #square "\n\t"
// 1 / deviation is in zmm17, what the mean has missed times that in zmm18.
#define SOFIE_ROWS_SCALED(at, a, mask, zero)                                        \
   SOFIE_ROWS_LOAD(x, at, a, mask, zero)                                            \
   SOFIE_ROWS_LOAD(scale, at, 19, mask, zero)                                       \
   "vsubps %%zmm16, %%zmm" #a ", %%zmm" #a "\n\t"                                   \
   "vfmsub213ps %%zmm18, %%zmm17, %%zmm" #a "\n\t"
#define SOFIE_ROWS_STORE(at, a, mask) "vmovups %%zmm" #a ", " #at "(%[y],%[i])" mask "\n\t"
#define SOFIE_ROWS_RESULT(at, a, sum, square, mask, zero)                           \
   SOFIE_ROWS_SCALED(at, a, mask, zero)                                             \
   "vmulps %%zmm19, %%zmm" #a ", %%zmm" #a "\n\t"                                   \
   SOFIE_ROWS_STORE(at, a, mask)
#define SOFIE_ROWS_SHIFTED(at, a, sum, square, mask, zero)                          \
   SOFIE_ROWS_SCALED(at, a, mask, zero)                                             \
   SOFIE_ROWS_LOAD(offset, at, 24, mask, zero)                                      \
   "vfmadd213ps %%zmm24, %%zmm19, %%zmm" #a "\n\t"                                  \
   SOFIE_ROWS_STORE(at, a, mask)

// The sum of four packs and then, halves by halves, of the lanes.
#define SOFIE_ROWS_JOIN(a, b, c, d)                                                 \
   "vaddps %%zmm" #b ", %%zmm" #a ", %%zmm" #a "\n\t"                               \
   "vaddps %%zmm" #d ", %%zmm" #c ", %%zmm" #c "\n\t"                               \
   "vaddps %%zmm" #c ", %%zmm" #a ", %%zmm" #a "\n\t"
#define SOFIE_ROWS_LANES(a, b)                                                      \
   "vextractf64x4 $1, %%zmm" #a ", %%ymm" #b "\n\t"                                 \
   "vaddps %%ymm" #b ", %%ymm" #a ", %%ymm" #a "\n\t"                               \
   "vextractf128 $1, %%ymm" #a ", %%xmm" #b "\n\t"                                  \
   "vaddps %%xmm" #b ", %%xmm" #a ", %%xmm" #a "\n\t"                               \
   "vmovhlps %%xmm" #a ", %%xmm" #a ", %%xmm" #b "\n\t"                             \
   "vaddps %%xmm" #b ", %%xmm" #a ", %%xmm" #a "\n\t"                               \
   "vmovshdup %%xmm" #a ", %%xmm" #b "\n\t"                                         \
   "vaddss %%xmm" #b ", %%xmm" #a ", %%xmm" #a "\n\t"

#define SOFIE_ROWS_ZERO(a) SOFIE_DENSE_ZERO(a)
#define SOFIE_ROWS_ZEROS SOFIE_ROWS_ZERO(0) SOFIE_ROWS_ZERO(1) SOFIE_ROWS_ZERO(2) SOFIE_ROWS_ZERO(3)

#define SOFIE_ROWS_RESULTS                                                          \
   "vmulss %%xmm5, %%xmm6, %%xmm6\n\t"                                              \
   "vbroadcastss %%xmm5, %%zmm17\n\t"                                               \
   "vbroadcastss %%xmm6, %%zmm18\n\t"                                               \
   "test %[offset], %[offset]\n\t"                                                  \
   "jnz 6f\n\t"                                                                     \
   SOFIE_ROWS_PACKS(SOFIE_ROWS_RESULT)                                              \
   "jmp 8f\n"                                                                       \
   "6:\n\t"                                                                         \
   SOFIE_ROWS_PACKS(SOFIE_ROWS_SHIFTED)                                             \
   "8:\n\t"
// One scale and one offset for all of a row: the slope is in zmm17, what is added in zmm18.
#define SOFIE_ROWS_LINE(at, a, sum, square, mask, zero)                             \
   SOFIE_ROWS_LOAD(x, at, a, mask, zero)                                            \
   "vsubps %%zmm16, %%zmm" #a ", %%zmm" #a "\n\t"                                   \
   "vfmadd213ps %%zmm18, %%zmm17, %%zmm" #a "\n\t"                                  \
   SOFIE_ROWS_STORE(at, a, mask)
#define SOFIE_ROWS_LINES                                                            \
   "vmulss (%[scale]), %%xmm5, %%xmm5\n\t"                                          \
   "vmovss (%[offset]), %%xmm4\n\t"                                                 \
   "vfnmadd231ss %%xmm5, %%xmm6, %%xmm4\n\t"                                        \
   "vbroadcastss %%xmm5, %%zmm17\n\t"                                               \
   "vbroadcastss %%xmm4, %%zmm18\n\t"                                               \
   "add $4, %[scale]\n\t"                                                           \
   "add $4, %[offset]\n\t"                                                          \
   SOFIE_ROWS_PACKS(SOFIE_ROWS_LINE)

#define SOFIE_ROWS_RULE                                                             \
   "kmovw %c[rule_masks](%[rule]), %%k1\n\t"                                        \
   "kmovw 8+%c[rule_masks](%[rule]), %%k2\n\t"                                      \
   "kmovw 16+%c[rule_masks](%[rule]), %%k3\n\t"                                     \
   "kmovw 24+%c[rule_masks](%[rule]), %%k4\n\t"                                     \
   "mov %c[rule_scale](%[rule]), %[scale]\n\t"                                      \
   "mov %c[rule_offset](%[rule]), %[offset]\n"
#define SOFIE_ROWS_NEXT                                                             \
   "add %c[rule_bytes](%[rule]), %[x]\n\t"                                          \
   "add %c[rule_bytes](%[rule]), %[y]\n\t"                                          \
   "dec %[rows]\n\t"                                                                \
   "jnz 7b\n\t"

#define SOFIE_ROWS_NORMALIZED(results)                                              \
   SOFIE_ROWS_RULE                                                                  \
   "7:\n\t"                                                                         \
   SOFIE_ROWS_ZERO(16)                                                              \
   "cmpl $0, %c[rule_centred](%[rule])\n\t"                                         \
   "je 4f\n\t"                                                                      \
   SOFIE_ROWS_ZEROS                                                                 \
   SOFIE_ROWS_PACKS(SOFIE_ROWS_SUM)                                                 \
   SOFIE_ROWS_JOIN(0, 1, 2, 3)                                                      \
   SOFIE_ROWS_LANES(0, 1)                                                           \
   "vdivss %c[rule_count](%[rule]), %%xmm0, %%xmm0\n\t"                             \
   "vbroadcastss %%xmm0, %%zmm16\n"                                                 \
   "4:\n\t"                                                                         \
   SOFIE_ROWS_ZEROS SOFIE_ROWS_ZERO(4) SOFIE_ROWS_ZERO(5) SOFIE_ROWS_ZERO(6) SOFIE_ROWS_ZERO(7)                     \
   SOFIE_ROWS_PACKS(SOFIE_ROWS_SQUARE)                                              \
   SOFIE_ROWS_JOIN(4, 5, 6, 7)                                                      \
   SOFIE_ROWS_LANES(4, 5)                                                           \
   "vdivss %c[rule_count](%[rule]), %%xmm4, %%xmm4\n\t"                             \
   SOFIE_ROWS_ZERO(6)                                                               \
   "cmpl $0, %c[rule_centred](%[rule])\n\t"                                         \
   "je 5f\n\t"                                                                      \
   SOFIE_ROWS_JOIN(0, 1, 2, 3)                                                      \
   SOFIE_ROWS_LANES(0, 1)                                                           \
   "vdivss %c[rule_count](%[rule]), %%xmm0, %%xmm0\n\t"                             \
   /* The mean of an infinite row has missed nothing, but NaN. */                   \
   "vcmpss $7, %%xmm0, %%xmm0, %%k5\n\t"                                            \
   "vmovss %%xmm0, %%xmm0, %%xmm6%{%%k5%}%{z%}\n\t"                                 \
   "vfnmadd231ss %%xmm6, %%xmm6, %%xmm4\n\t"                                        \
   SOFIE_ROWS_ZERO(7)                                                               \
   "vmaxss %%xmm4, %%xmm7, %%xmm4\n"                                                \
   "5:\n\t"                                                                         \
   "vaddss %c[rule_epsilon](%[rule]), %%xmm4, %%xmm4\n\t"                           \
   "vsqrtss %%xmm4, %%xmm4, %%xmm4\n\t"                                             \
   "mov $0x3f800000, %k[i]\n\t"                                                     \
   "vmovd %k[i], %%xmm5\n\t"                                                        \
   "vdivss %%xmm4, %%xmm5, %%xmm5\n\t"                                              \
   results                                                                          \
   SOFIE_ROWS_NEXT
// clang-format on

/// y = (x - mean) / sqrt(variance + epsilon) * scale + offset for rows that follow each other. y may be x.
/// `Each`: each row has one scale and one offset, else each of its numbers has.
template <bool Each>
SOFIE_KERNEL void normalize_rows_assembler(float *y, const float *x, Size rows, const RowsRule &rule)
{
   if (rows <= 0)
      return;
   const float *scale, *offset;
   Size i;
#define SOFIE_ROWS_ASSEMBLER(results)                                                                                 \
   asm volatile(                                                                                                      \
      SOFIE_ROWS_NORMALIZED(results)                                                                                  \
      : [x] "+&r"(x), [y] "+&r"(y), [rows] "+&r"(rows), [i] "=&r"(i), [scale] "=&r"(scale), [offset] "=&r"(offset)    \
      : [rule] "r"(&rule),                                                                                            \
        SOFIE_MEMBERS(rule, RowsRule, scale, offset, bytes, whole, masks, count, epsilon, centred, tail)              \
      : "memory", "cc", "k1", "k2", "k3", "k4", "k5", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", \
        "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24")
   if constexpr (Each)
      SOFIE_ROWS_ASSEMBLER(SOFIE_ROWS_LINES);
   else
      SOFIE_ROWS_ASSEMBLER(SOFIE_ROWS_RESULTS);
#undef SOFIE_ROWS_ASSEMBLER
}

SOFIE_INLINE RowsRule rows_rule(const float *scale, const float *offset, Size length, double epsilon, bool centred)
{
   constexpr Size n = lanes<float>, bytes = static_cast<Size>(sizeof(float));
   const Size whole = length / (4 * n) * (4 * n), left = length - whole;
   return {scale,
           offset,
           length * bytes,
           whole * bytes,
           {mask_of_pack(left), mask_of_pack(left - n), mask_of_pack(left - 2 * n), mask_of_pack(left - 3 * n)},
           static_cast<float>(length),
           static_cast<float>(epsilon),
           centred,
           left > 0};
}

} // namespace sofie

SOFIE_END

#endif

#endif
