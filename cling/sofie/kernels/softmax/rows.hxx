/// \file
/// Softmax of rows of floats with AVX-512, in assembler: sixteen rows' largest numbers and sums, then all that is
/// divided by these. And the exponentials of columns.
#ifndef SOFIE_KERNELS_SOFTMAX_ROWS_HXX
#define SOFIE_KERNELS_SOFTMAX_ROWS_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/softmax/lanes.hxx"
#include "sofie/math.hxx"

#ifdef SOFIE_AVX512_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

/// The same, for results that may be denormal numbers.
inline constexpr LanesExponential rows_exponential{
   lanes_exponential.log2_e,
   lanes_exponential.log2_e_rest,
   lanes_exponential.shifter,
   -104.0f,
   {1.0f, 0.6931472f, 0.24022646f, 0.055503286f, 0.009618489f, 0.0013399931f, 0.00015345808f},
   1.0f,
   -__builtin_inff()};

/// Some rows that follow each other.
struct SoftmaxRows {
   const float *x;
   float *y;
   Size rows, quads, packs, mask, rest; // Of a row: four packs each, packs behind those, and what is left, in bytes.
   float *most, *sums;
};

// clang-format off
#define SOFIE_ROWS_LOWEST(a) "vmovaps %%zmm31, %%zmm" #a "\n\t"
// The larger one, or what there is where x is NaN.
#define SOFIE_ROWS_MOST(at, x, a) "vmovups " #at "(%[at]), %%zmm" #x "\n\tvmaxps %%zmm" #a ", %%zmm" #x ", %%zmm" #a "\n\t"
#define SOFIE_ROWS_FOLD(op)                                                                                      \
   "vextractf64x4 $1, %%zmm0, %%ymm1\n\t" op " %%ymm1, %%ymm0, %%ymm0\n\t"                                       \
   "vextractf128 $1, %%ymm0, %%xmm1\n\t" op " %%xmm1, %%xmm0, %%xmm0\n\t"                                        \
   "vpermilps $0x0e, %%xmm0, %%xmm1\n\t" op " %%xmm1, %%xmm0, %%xmm0\n\t"                                        \
   "vpermilps $0x01, %%xmm0, %%xmm1\n\t" op " %%xmm1, %%xmm0, %%xmm0\n\t"
#define SOFIE_ROWS_POWER(number) "vfmadd213ps %%zmm" #number ", %%zmm5, %%zmm4\n\t"
// zmm4 = e^(zmm4 - most) in the lanes of a mask, else 0; added to the sum.
#define SOFIE_ROWS_EXP(mask)                                                        \
   "vsubps %%zmm16, %%zmm4, %%zmm4\n\t"                                             \
   "vcmpps $6, %%zmm21, %%zmm4, %%k3" mask "\n\t"                                   \
   "vmovaps %%zmm4, %%zmm5\n\t"                                                     \
   "vmovaps %%zmm4, %%zmm6\n\t"                                                     \
   "vfmadd213ps %%zmm20, %%zmm18, %%zmm6\n\t"                                       \
   "vsubps %%zmm20, %%zmm6, %%zmm6\n\t"                                             \
   "vfmsub213ps %%zmm6, %%zmm18, %%zmm5\n\t"                                        \
   "vfmadd231ps %%zmm19, %%zmm4, %%zmm5\n\t"                                        \
   "vmovaps %%zmm28, %%zmm4\n\t"                                                    \
   SOFIE_ROWS_POWER(27) SOFIE_ROWS_POWER(26) SOFIE_ROWS_POWER(25)                   \
   SOFIE_ROWS_POWER(24) SOFIE_ROWS_POWER(23) SOFIE_ROWS_POWER(22)                   \
   "vscalefps %%zmm6, %%zmm4, %%zmm4%{%%k3%}%{z%}\n\t"                              \
   "vaddps %%zmm4, %%zmm17, %%zmm17\n\t"
#define SOFIE_ROWS_STATISTICS(store, store_rest)                                                               \
   asm volatile(                                                                                               \
      SOFIE_SOFTMAX_NUMBERS SOFIE_SOFTMAX_NUMBER(lowest, 31)                                                   \
      "kmovw %c[of_mask](%[of]), %%k1\n\t"                                                                     \
      "mov %c[of_x](%[of]), %[x]\n\t"                                                                          \
      "mov %c[of_y](%[of]), %[y]\n\t"                                                                          \
      "xor %k[row], %k[row]\n"                                                                                 \
      "1:\n\t"                                                                                                 \
      SOFIE_ROWS_LOWEST(0) SOFIE_ROWS_LOWEST(1) SOFIE_ROWS_LOWEST(2) SOFIE_ROWS_LOWEST(3) SOFIE_ROWS_LOWEST(4) \
      "mov %[x], %[at]\n\t"                                                                                    \
      "mov %c[of_quads](%[of]), %[k]\n\t"                                                                      \
      "test %[k], %[k]\n\t"                                                                                    \
      "jz 3f\n"                                                                                                \
      "2:\n\t"                                                                                                 \
      SOFIE_ROWS_MOST(0, 5, 0) SOFIE_ROWS_MOST(64, 6, 1) SOFIE_ROWS_MOST(128, 7, 2) SOFIE_ROWS_MOST(192, 8, 3) \
      "add $256, %[at]\n\t"                                                                                    \
      "dec %[k]\n\t"                                                                                           \
      "jnz 2b\n"                                                                                               \
      "3:\n\t"                                                                                                 \
      "mov %c[of_packs](%[of]), %[k]\n\t"                                                                      \
      "test %[k], %[k]\n\t"                                                                                    \
      "jz 5f\n"                                                                                                \
      "4:\n\t"                                                                                                 \
      SOFIE_ROWS_MOST(0, 5, 0)                                                                                 \
      "add $64, %[at]\n\t"                                                                                     \
      "dec %[k]\n\t"                                                                                           \
      "jnz 4b\n"                                                                                               \
      "5:\n\t"                                                                                                 \
      "vmovups (%[at]), %%zmm4%{%%k1%}\n\t"                                                                    \
      "vmaxps %%zmm0, %%zmm4, %%zmm0\n\t"                                                                      \
      "vmaxps %%zmm1, %%zmm2, %%zmm1\n\t"                                                                      \
      "vmaxps %%zmm3, %%zmm0, %%zmm0\n\t"                                                                      \
      "vmaxps %%zmm1, %%zmm0, %%zmm0\n\t"                                                                      \
      SOFIE_ROWS_FOLD("vmaxps")                                                                                \
      "vbroadcastss %%xmm0, %%zmm16\n\t"                                                                       \
      "mov %c[of_most](%[of]), %[k]\n\t"                                                                       \
      "vmovss %%xmm0, (%[k],%[row],4)\n\t"                                                                     \
      SOFIE_DENSE_ZERO(17)                                                                                     \
      "mov %c[of_quads](%[of]), %[k]\n\t"                                                                      \
      "shl $2, %[k]\n\t"                                                                                       \
      "add %c[of_packs](%[of]), %[k]\n\t"                                                                      \
      "test %[k], %[k]\n\t"                                                                                    \
      "jz 7f\n"                                                                                                \
      "6:\n\t"                                                                                                 \
      "vmovups (%[x]), %%zmm4\n\t"                                                                             \
      SOFIE_ROWS_EXP("")                                                                                       \
      store                                                                                                    \
      "add $64, %[x]\n\t"                                                                                      \
      "add $64, %[y]\n\t"                                                                                      \
      "dec %[k]\n\t"                                                                                           \
      "jnz 6b\n"                                                                                               \
      "7:\n\t"                                                                                                 \
      "cmpq $0, %c[of_rest](%[of])\n\t"                                                                        \
      "je 8f\n\t"                                                                                              \
      "vmovups (%[x]), %%zmm4%{%%k1%}%{z%}\n\t"                                                                \
      SOFIE_ROWS_EXP("%{%%k1%}")                                                                               \
      store_rest                                                                                               \
      "add %c[of_rest](%[of]), %[x]\n\t"                                                                       \
      "add %c[of_rest](%[of]), %[y]\n"                                                                         \
      "8:\n\t"                                                                                                 \
      "vmovaps %%zmm17, %%zmm0\n\t"                                                                            \
      SOFIE_ROWS_FOLD("vaddps")                                                                                \
      "mov %c[of_sums](%[of]), %[k]\n\t"                                                                       \
      "vmovss %%xmm0, (%[k],%[row],4)\n\t"                                                                     \
      "inc %[row]\n\t"                                                                                         \
      "cmp %c[of_rows](%[of]), %[row]\n\t"                                                                     \
      "jl 1b\n\t"                                                                                              \
      : [x] "=&r"(x), [y] "=&r"(y), [at] "=&r"(at), [k] "=&r"(k), [row] "=&r"(row)                             \
      : [of] "r"(&of),                                                                                         \
        SOFIE_MEMBERS(of, SoftmaxRows, x, y, rows, quads, packs, mask, rest, most, sums),                      \
        [numbers] "r"(&rows_exponential),                                                                \
        SOFIE_SOFTMAX_MEMBERS                                                                            \
      : "memory", "cc", "k1", "k3", SOFIE_ALL_PACKS)
#define SOFIE_ROWS_FINISH(from, work)                                                    \
   asm volatile(                                                                         \
      "kmovw %c[of_mask](%[of]), %%k1\n\t"                                               \
      "mov %c[of_" #from "](%[of]), %[x]\n\t"                                            \
      "mov %c[of_y](%[of]), %[y]\n\t"                                                    \
      "xor %k[row], %k[row]\n"                                                           \
      "1:\n\t"                                                                           \
      "mov %c[of_most](%[of]), %[at]\n\t"                                                \
      "vbroadcastss (%[at],%[row],4), %%zmm16\n\t"                                       \
      "mov %c[of_sums](%[of]), %[at]\n\t"                                                \
      "vbroadcastss (%[at],%[row],4), %%zmm17\n\t"                                       \
      "mov %c[of_quads](%[of]), %[k]\n\t"                                                \
      "shl $2, %[k]\n\t"                                                                 \
      "add %c[of_packs](%[of]), %[k]\n\t"                                                \
      "test %[k], %[k]\n\t"                                                              \
      "jz 3f\n"                                                                          \
      "2:\n\t"                                                                           \
      "vmovups (%[x]), %%zmm0\n\t"                                                       \
      work                                                                               \
      "vmovups %%zmm0, (%[y])\n\t"                                                       \
      "add $64, %[x]\n\t"                                                                \
      "add $64, %[y]\n\t"                                                                \
      "dec %[k]\n\t"                                                                     \
      "jnz 2b\n"                                                                         \
      "3:\n\t"                                                                           \
      "cmpq $0, %c[of_rest](%[of])\n\t"                                                  \
      "je 4f\n\t"                                                                        \
      "vmovups (%[x]), %%zmm0%{%%k1%}%{z%}\n\t"                                          \
      work                                                                               \
      "vmovups %%zmm0, (%[y])%{%%k1%}\n\t"                                               \
      "add %c[of_rest](%[of]), %[x]\n\t"                                                 \
      "add %c[of_rest](%[of]), %[y]\n"                                                   \
      "4:\n\t"                                                                           \
      "inc %[row]\n\t"                                                                   \
      "cmp %c[of_rows](%[of]), %[row]\n\t"                                               \
      "jl 1b\n\t"                                                                        \
      : [x] "=&r"(x), [y] "=&r"(y), [at] "=&r"(at), [k] "=&r"(k), [row] "=&r"(row)       \
      : [of] "r"(&of),                                                                   \
        SOFIE_MEMBERS(of, SoftmaxRows, x, y, rows, quads, packs, mask, rest, most, sums) \
      : "memory", "cc", "k1", "xmm0", "xmm16", "xmm17")
// clang-format on

/// The largest number of each of up to sixteen rows, at least one, without those that are NaN, and the sum of
/// e^(x - most), which become y if asked for.
template <bool Stores>
SOFIE_KERNEL void softmax_statistics(const SoftmaxRows &of)
{
   const float *x, *at;
   float *y;
   Size k, row;
   if constexpr (Stores)
      SOFIE_ROWS_STATISTICS("vmovups %%zmm4, (%[y])\n\t", "vmovups %%zmm4, (%[y])%{%%k1%}\n\t");
   else
      SOFIE_ROWS_STATISTICS("", "");
}

/// Such rows of `count` numbers.
SOFIE_INLINE SoftmaxRows softmax_rows_of(float *y, const float *x, Size rows, Size count, float *most, float *sums)
{
   constexpr Size n = lanes<float>;
   return {x,
           y,
           rows < n ? rows : n,
           count / n / 4,
           count / n % 4,
           (Size{1} << count % n) - 1,
           count % n * Size{sizeof(float)},
           most,
           sums};
}

/// Up to sixteen rows, at least one: y = e^(x - most) / sum, or x - most - log(sum).
template <bool Log>
SOFIE_KERNEL void softmax_some_rows(float *y_rows, const float *x_rows, Size rows, Size count)
{
   constexpr int n = lanes<float>;
   alignas(64) float most[n] = {}, sums[n] = {};
   const SoftmaxRows of = softmax_rows_of(y_rows, x_rows, rows, count, most, sums);
   softmax_statistics<!Log>(of);
   const float *x, *at;
   float *y;
   Size k, row;
   if constexpr (Log) {
      store(sums, log(load<n>(sums)));
      SOFIE_ROWS_FINISH(x, "vsubps %%zmm16, %%zmm0, %%zmm0\n\tvsubps %%zmm17, %%zmm0, %%zmm0\n\t");
   } else {
      store(sums, splat<Pack<float>>(1) / load<n>(sums));
      SOFIE_ROWS_FINISH(y, "vmulps %%zmm17, %%zmm0, %%zmm0\n\t");
   }
}

/// The softmax of rows of `count` numbers, or its logarithm.
template <bool Log>
SOFIE_KERNEL void softmax_rows(float *y, const float *x, Size rows, Size count)
{
   constexpr Size n = lanes<float>;
   for (Size i = 0; i < rows && count > 0; i += n)
      softmax_some_rows<Log>(y + i * count, x + i * count, rows - i, count);
}

// clang-format off
#define SOFIE_COLUMNS_EXPONENTIALS(store)                                                           \
   asm volatile(                                                                                    \
      SOFIE_SOFTMAX_NUMBERS                                                                         \
      "kmovw %k[mask], %%k1\n\t"                                                                    \
      "vmovups (%[most]), %%zmm16\n\t"                                                              \
      SOFIE_DENSE_ZERO(17)                                                                          \
      "1:\n\t"                                                                                      \
      "vmovups (%[x]), %%zmm4%{%%k1%}%{z%}\n\t"                                                     \
      SOFIE_ROWS_EXP("%{%%k1%}")                                                                    \
      store                                                                                         \
      "add %[apart], %[x]\n\t"                                                                      \
      "add %[apart], %[y]\n\t"                                                                      \
      "dec %[packs]\n\t"                                                                            \
      "jnz 1b\n\t"                                                                                  \
      "vmovups %%zmm17, (%[sum])\n\t"                                                               \
      : [x] "+&r"(x), [y] "+&r"(y), [packs] "+&r"(packs)                                            \
      : [most] "r"(&most), [sum] "r"(&sum), [apart] "r"(step * 4), [mask] "r"((Size{1} << count) - 1), \
        [numbers] "r"(&rows_exponential), SOFIE_SOFTMAX_MEMBERS                                     \
      : "memory", "cc", "k1", "k3", SOFIE_ALL_PACKS)
// clang-format on

/// The sum of e^(x - most) in packs of `count` numbers, at least one, `step` apart; y gets them if asked for.
template <bool Stores>
SOFIE_KERNEL Pack<float> sum_column_exponentials(float *y, const float *x, Size packs, Size step,
                                                 const Pack<float> &most, Size count)
{
   Pack<float> sum;
   if constexpr (Stores)
      SOFIE_COLUMNS_EXPONENTIALS("vmovups %%zmm4, (%[y])%{%%k1%}\n\t");
   else
      SOFIE_COLUMNS_EXPONENTIALS("");
   return sum;
}

} // namespace sofie

SOFIE_END

#endif

#endif
