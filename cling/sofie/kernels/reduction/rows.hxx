/// \file
/// Reductions of rows of floats that follow each other, one number each, in assembler.
///
/// Cling's code writes to memory what it has in registers at the end of each short block, of which a short row has
/// many.
#ifndef SOFIE_KERNELS_REDUCTION_ROWS_HXX
#define SOFIE_KERNELS_REDUCTION_ROWS_HXX

#include "sofie/kernels/reduction/columns.hxx"

SOFIE_BEGIN

namespace sofie {

/// What is done with all numbers of a row, if it is one of these.
enum class RowRule { none, sum, magnitudes, squares, product, largest, least };

#ifdef SOFIE_COLUMNS_ASSEMBLER
/// Longer rows are summed up pairwise.
inline constexpr Size reduced_row = 8192;

// clang-format off
#define SOFIE_REDUCE_SUM(x, a) "vaddps %%zmm" #x ", %%zmm" #a ", %%zmm" #a "\n\t"
// Without the sign bit.
#define SOFIE_REDUCE_MAGNITUDES(x, a) \
   "vpslld $1, %%zmm" #x ", %%zmm" #x "\n\tvpsrld $1, %%zmm" #x ", %%zmm" #x "\n\t" SOFIE_REDUCE_SUM(x, a)
#define SOFIE_REDUCE_SQUARES(x, a) "vfmadd231ps %%zmm" #x ", %%zmm" #x ", %%zmm" #a "\n\t"
#define SOFIE_REDUCE_PRODUCT(x, a) "vmulps %%zmm" #x ", %%zmm" #a ", %%zmm" #a "\n\t"
// NaN stays: where there is none yet, it is the larger one or the second, which may be NaN.
#define SOFIE_REDUCE_ORDERED(instruction, x, a) \
   "vcmpps $7, %%zmm" #a ", %%zmm" #a ", %%k2\n\t" instruction " %%zmm" #x ", %%zmm" #a ", %%zmm" #a "%{%%k2%}\n\t"
#define SOFIE_REDUCE_LARGEST(x, a) SOFIE_REDUCE_ORDERED("vmaxps", x, a)
#define SOFIE_REDUCE_LEAST(x, a) SOFIE_REDUCE_ORDERED("vminps", x, a)
#define SOFIE_REDUCE_PACK(rule, at, x, a) "vmovups " #at "(%[x]), %%zmm" #x "\n\t" rule(x, a)
// All lanes of zmm0 as one number, which is y.
#define SOFIE_REDUCE_LANES(join)                                           \
   "vextractf64x4 $1, %%zmm0, %%ymm1\n\t" join(1, 0)                       \
   "vextractf128 $1, %%ymm0, %%xmm1\n\t" join(1, 0)                        \
   "vpermilps $0x0e, %%xmm0, %%xmm1\n\t" join(1, 0)                        \
   "vpermilps $0x01, %%xmm0, %%xmm1\n\t" join(1, 0)                        \
   "vmovss %%xmm0, (%[y])\n\t"
#define SOFIE_REDUCE_ROWS(rule, join)                                      \
   asm volatile(                                                           \
      "vbroadcastss (%[neutral]), %%zmm31\n\t"                             \
      "kmovw %k[mask], %%k1\n"                                             \
      "1:\n\t"                                                             \
      "vmovaps %%zmm31, %%zmm0\n\t"                                        \
      "vmovaps %%zmm31, %%zmm1\n\t"                                        \
      "mov %[quads], %[k]\n\t"                                             \
      "test %[k], %[k]\n\t"                                                \
      "jz 3f\n\t"                                                          \
      "vmovaps %%zmm31, %%zmm2\n\t"                                        \
      "vmovaps %%zmm31, %%zmm3\n"                                          \
      "2:\n\t"                                                             \
      SOFIE_REDUCE_PACK(rule, 0, 4, 0) SOFIE_REDUCE_PACK(rule, 64, 5, 1)   \
      SOFIE_REDUCE_PACK(rule, 128, 6, 2) SOFIE_REDUCE_PACK(rule, 192, 7, 3) \
      "add $256, %[x]\n\t"                                                 \
      "dec %[k]\n\t"                                                       \
      "jnz 2b\n\t"                                                         \
      join(2, 0)                                                           \
      join(3, 1)                                                           \
      "3:\n\t"                                                             \
      "mov %[packs], %[k]\n\t"                                             \
      "test %[k], %[k]\n\t"                                                \
      "jz 5f\n"                                                            \
      "4:\n\t"                                                             \
      SOFIE_REDUCE_PACK(rule, 0, 4, 0)                                     \
      "add $64, %[x]\n\t"                                                  \
      "dec %[k]\n\t"                                                       \
      "jnz 4b\n"                                                           \
      "5:\n\t"                                                             \
      "vmovaps %%zmm31, %%zmm4\n\t"                                        \
      "vmovups (%[x]), %%zmm4%{%%k1%}\n\t"                                 \
      "add %[rest], %[x]\n\t"                                              \
      rule(4, 1)                                                           \
      join(1, 0)                                                           \
      SOFIE_REDUCE_LANES(join)                                             \
      "add $4, %[y]\n\t"                                                   \
      "dec %[rows]\n\t"                                                    \
      "jnz 1b\n\t"                                                         \
      : [x] "+&r"(x), [y] "+&r"(y), [rows] "+&r"(rows), [k] "=&r"(k)                                                   \
      : [quads] "r"(count / 64), [packs] "r"(count / 16 % 4), [mask] "r"((Size{1} << count % 16) - 1),                  \
        [rest] "r"(count % 16 * 4), [neutral] "r"(&neutral)                                                             \
      : "memory", "cc", "k1", "k2", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm31")
// clang-format on

/// y[r] = all `count` numbers of row r as one.
template <RowRule Rule>
SOFIE_KERNEL void reduce_rows(float *y, const float *x, Size rows, Size count, float neutral)
{
   if (rows <= 0)
      return;
   Size k;
   if constexpr (Rule == RowRule::sum)
      SOFIE_REDUCE_ROWS(SOFIE_REDUCE_SUM, SOFIE_REDUCE_SUM);
   else if constexpr (Rule == RowRule::magnitudes)
      SOFIE_REDUCE_ROWS(SOFIE_REDUCE_MAGNITUDES, SOFIE_REDUCE_SUM);
   else if constexpr (Rule == RowRule::squares)
      SOFIE_REDUCE_ROWS(SOFIE_REDUCE_SQUARES, SOFIE_REDUCE_SUM);
   else if constexpr (Rule == RowRule::product)
      SOFIE_REDUCE_ROWS(SOFIE_REDUCE_PRODUCT, SOFIE_REDUCE_PRODUCT);
   else if constexpr (Rule == RowRule::largest)
      SOFIE_REDUCE_ROWS(SOFIE_REDUCE_LARGEST, SOFIE_REDUCE_LARGEST);
   else
      SOFIE_REDUCE_ROWS(SOFIE_REDUCE_LEAST, SOFIE_REDUCE_LEAST);
}

// clang-format off
#define SOFIE_REDUCE_COLUMNS_4(rule)                                       \
   SOFIE_REDUCE_PACK(rule, 0, 4, 0) SOFIE_REDUCE_PACK(rule, 64, 5, 1)      \
   SOFIE_REDUCE_PACK(rule, 128, 6, 2) SOFIE_REDUCE_PACK(rule, 192, 7, 3)
#define SOFIE_REDUCE_COLUMNS(rule)                                         \
   asm volatile(                                                           \
      "vbroadcastss (%[neutral]), %%zmm0\n\t"                              \
      "vmovaps %%zmm0, %%zmm1\n\t"                                         \
      "vmovaps %%zmm0, %%zmm2\n\t"                                         \
      "vmovaps %%zmm0, %%zmm3\n\t"                                         \
      "test %[rows], %[rows]\n\t"                                          \
      "jle 2f\n"                                                           \
      "1:\n\t"                                                             \
      SOFIE_REDUCE_COLUMNS_4(rule)                                         \
      "add %[apart], %[x]\n\t"                                             \
      "dec %[rows]\n\t"                                                    \
      "jnz 1b\n"                                                           \
      "2:\n\t"                                                             \
      "vmovups %%zmm0, (%[y])\n\t"                                         \
      "vmovups %%zmm1, 64(%[y])\n\t"                                       \
      "vmovups %%zmm2, 128(%[y])\n\t"                                      \
      "vmovups %%zmm3, 192(%[y])\n\t"                                      \
      : [x] "+&r"(x), [rows] "+&r"(rows)                                                                                \
      : [y] "r"(y), [apart] "r"(apart * 4), [neutral] "r"(&neutral)                                                     \
      : "memory", "cc", "k2", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7")
// clang-format on

/// y[j] = the largest (or the least) number of column j, for 64 columns of rows that are `apart`.
template <RowRule Rule>
SOFIE_KERNEL void reduce_columns(float *y, const float *x, Size apart, Size rows, float neutral)
{
   if constexpr (Rule == RowRule::largest)
      SOFIE_REDUCE_COLUMNS(SOFIE_REDUCE_LARGEST);
   else
      SOFIE_REDUCE_COLUMNS(SOFIE_REDUCE_LEAST);
}
#endif

} // namespace sofie

SOFIE_END

#endif
