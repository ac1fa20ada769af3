/// \file
/// e^x, sigmoid, x sigmoid(x) and tanh of floats in arrays, in assembler for registers of 64 bytes and of 32.
///
/// Step by step what `math.hxx` computes, with the same bits: there for a single pack, here without what Cling's code
/// writes to memory in between.
#ifndef SOFIE_MATH_EXPONENTIALS_HXX
#define SOFIE_MATH_EXPONENTIALS_HXX

#include "sofie/assembler.hxx"
#include "sofie/math.hxx"

#if defined(SOFIE_AVX512_ASSEMBLER) || defined(SOFIE_AVX2_ASSEMBLER)
#define SOFIE_EXPONENTIALS_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

enum class Exponential { exp, sigmoid, swish, tanh };

#ifdef SOFIE_AVX512_ASSEMBLER

/// Those of `MathOf<float>`.
struct ExponentialNumbers {
   float log2_e, shifter, minus_ln2_high, minus_ln2_low;
   float exp[6];
   float one, low, high, two;
   std::uint32_t sign;
};
inline constexpr ExponentialNumbers exponential_numbers{
   MathOf<float>::log2_e,
   static_cast<float>((3ll << (MathOf<float>::mantissa - 1)) + 2 * MathOf<float>::bias),
   -MathOf<float>::ln2_high,
   -MathOf<float>::ln2_low,
   {MathOf<float>::exp[0], MathOf<float>::exp[1], MathOf<float>::exp[2], MathOf<float>::exp[3], MathOf<float>::exp[4],
    MathOf<float>::exp[5]},
   1,
   MathOf<float>::exp_low,
   0,
   2,
   0x80000000U};

// clang-format off
#define SOFIE_EXPONENTIAL_NUMBER(name, to) "vbroadcastss %c[numbers_" #name "](%[numbers]), %%zmm" #to "\n\t"
#define SOFIE_EXPONENTIAL_NUMBER_OF(name, i, to) \
   "vbroadcastss 4*" #i "+%c[numbers_" #name "](%[numbers]), %%zmm" #to "\n\t"
#define SOFIE_EXPONENTIAL_POWER(number) "vfmadd213ps %%zmm" #number ", %%zmm3, %%zmm5\n\t"
// zmm0 = n ln 2 + rest: n in zmm2, e^rest - 1 in zmm5.
#define SOFIE_EXPONENTIAL_REST                                              \
   "vmovaps %%zmm0, %%zmm1\n\t"                                             \
   "vfmadd213ps %%zmm17, %%zmm16, %%zmm1\n\t"                               \
   "vsubps %%zmm17, %%zmm1, %%zmm2\n\t"                                     \
   "vmovaps %%zmm0, %%zmm3\n\t"                                             \
   "vfmadd231ps %%zmm18, %%zmm2, %%zmm3\n\t"                                \
   "vfmadd231ps %%zmm19, %%zmm2, %%zmm3\n\t"                                \
   "vmulps %%zmm3, %%zmm3, %%zmm4\n\t"                                      \
   "vmovaps %%zmm25, %%zmm5\n\t"                                            \
   SOFIE_EXPONENTIAL_POWER(24) SOFIE_EXPONENTIAL_POWER(23) SOFIE_EXPONENTIAL_POWER(22)                            \
   SOFIE_EXPONENTIAL_POWER(21) SOFIE_EXPONENTIAL_POWER(20)                  \
   "vfmadd213ps %%zmm3, %%zmm4, %%zmm5\n\t"
// e^zmm0 in zmm5, 0 where zmm0 is low.
#define SOFIE_EXPONENTIAL_EXP                                               \
   SOFIE_EXPONENTIAL_REST                                                   \
   "vcmpps $5, %%zmm27, %%zmm0, %%k1\n\t"                                   \
   "vaddps %%zmm26, %%zmm5, %%zmm5\n\t"                                     \
   "vscalefps %%zmm2, %%zmm5, %%zmm5%{%%k1%}%{z%}\n\t"
// The limit in zmm28; NaN stays.
#define SOFIE_EXPONENTIAL_OF_EXP "vminps (%[x]), %%zmm28, %%zmm0\n\t" SOFIE_EXPONENTIAL_EXP
// zmm6 is what decides, zmm28 its factor.
#define SOFIE_EXPONENTIAL_SHARE                                             \
   "vorps %%zmm30, %%zmm6, %%zmm0\n\t"                                      \
   SOFIE_EXPONENTIAL_EXP                                                    \
   "vcmpps $1, %%zmm31, %%zmm6, %%k2\n\t"                                   \
   "vaddps %%zmm26, %%zmm5, %%zmm0\n\t"                                     \
   "vmovaps %%zmm26, %%zmm1\n\t"                                            \
   "vmovaps %%zmm5, %%zmm1%{%%k2%}\n\t"
#define SOFIE_EXPONENTIAL_OF_SIGMOID                                        \
   "vmovups (%[x]), %%zmm6\n\t"                                             \
   SOFIE_EXPONENTIAL_SHARE                                                  \
   "vdivps %%zmm0, %%zmm1, %%zmm5\n\t"
#define SOFIE_EXPONENTIAL_OF_SWISH                                          \
   "vmovups (%[x]), %%zmm7\n\t"                                             \
   "vmulps %%zmm7, %%zmm28, %%zmm6\n\t"                                     \
   SOFIE_EXPONENTIAL_SHARE                                                  \
   "vmulps %%zmm1, %%zmm7, %%zmm1\n\t"                                      \
   "vdivps %%zmm0, %%zmm1, %%zmm5\n\t"
#define SOFIE_EXPONENTIAL_OF_TANH                                           \
   "vmovups (%[x]), %%zmm6\n\t"                                             \
   "vandnps %%zmm6, %%zmm30, %%zmm0\n\t"                                    \
   "vminps %%zmm0, %%zmm28, %%zmm0\n\t"                                     \
   "vaddps %%zmm0, %%zmm0, %%zmm0\n\t"                                      \
   SOFIE_EXPONENTIAL_REST                                                   \
   "vscalefps %%zmm2, %%zmm26, %%zmm1\n\t"                                  \
   "vsubps %%zmm26, %%zmm1, %%zmm2\n\t"                                     \
   "vfmadd213ps %%zmm2, %%zmm1, %%zmm5\n\t"                                 \
   "vaddps %%zmm29, %%zmm5, %%zmm1\n\t"                                     \
   "vdivps %%zmm1, %%zmm5, %%zmm5\n\t"                                      \
   "vpternlogd $0xd8, %%zmm30, %%zmm6, %%zmm5\n\t"
#define SOFIE_EXPONENTIAL_LOOP(function)                                                                              \
   asm volatile(                                                                                                      \
      SOFIE_EXPONENTIAL_NUMBER(log2_e, 16) SOFIE_EXPONENTIAL_NUMBER(shifter, 17) SOFIE_EXPONENTIAL_NUMBER(minus_ln2_high, 18) \
      SOFIE_EXPONENTIAL_NUMBER(minus_ln2_low, 19) SOFIE_EXPONENTIAL_NUMBER_OF(exp, 0, 20) SOFIE_EXPONENTIAL_NUMBER_OF(exp, 1, 21) \
      SOFIE_EXPONENTIAL_NUMBER_OF(exp, 2, 22) SOFIE_EXPONENTIAL_NUMBER_OF(exp, 3, 23) SOFIE_EXPONENTIAL_NUMBER_OF(exp, 4, 24) \
      SOFIE_EXPONENTIAL_NUMBER_OF(exp, 5, 25) SOFIE_EXPONENTIAL_NUMBER(one, 26) SOFIE_EXPONENTIAL_NUMBER(low, 27)     \
      SOFIE_EXPONENTIAL_NUMBER(two, 29) SOFIE_EXPONENTIAL_NUMBER(sign, 30)                                            \
      "vbroadcastss (%[factor]), %%zmm28\n\t"                                                                         \
      "vpxord %%zmm31, %%zmm31, %%zmm31\n\t"                                                                          \
      ".p2align 5\n"                                                                                                  \
      "1:\n\t"                                                                                                        \
      function                                                                                                        \
      "vmovups %%zmm5, (%[y])\n\t"                                                                                    \
      "add $64, %[x]\n\t"                                                                                             \
      "add $64, %[y]\n\t"                                                                                             \
      "dec %[packs]\n\t"                                                                                              \
      "jnz 1b\n\t"                                                                                                    \
      : [x] "+&r"(x), [y] "+&r"(y), [packs] "+&r"(packs)                                                              \
      : [numbers] "r"(&exponential_numbers), [factor] "r"(&factor),                                                   \
        SOFIE_MEMBERS(numbers, ExponentialNumbers, log2_e, shifter, minus_ln2_high, minus_ln2_low, exp, one, low,     \
           two, sign)                                                                                                 \
      : "memory", "cc", "k1", "k2", SOFIE_ALL_PACKS)
// clang-format on

#else

/// Those of `MathOf<float>`; an array is a pack that instructions read from memory, for which no register is left.
struct alignas(32) ExponentialPacks {
   float log2_e[8], exp_last[8], one[8], two[8], low[8];
   std::uint32_t sign[8];
   std::int32_t bias[8];
   float shifter, minus_ln2_high, minus_ln2_low;
   float exp[5];
};
inline constexpr ExponentialPacks exponential_packs_of_8{
   SOFIE_EIGHT(MathOf<float>::log2_e),
   SOFIE_EIGHT(MathOf<float>::exp[5]),
   SOFIE_EIGHT(1),
   SOFIE_EIGHT(2),
   SOFIE_EIGHT(MathOf<float>::exp_low),
   SOFIE_EIGHT(0x80000000U),
   SOFIE_EIGHT(MathOf<float>::bias),
   static_cast<float>((3ll << (MathOf<float>::mantissa - 1)) + 2 * MathOf<float>::bias),
   -MathOf<float>::ln2_high,
   -MathOf<float>::ln2_low,
   {MathOf<float>::exp[0], MathOf<float>::exp[1], MathOf<float>::exp[2], MathOf<float>::exp[3], MathOf<float>::exp[4]}};

// clang-format off
#define SOFIE_EXPONENTIAL_PACK(name) "%c[numbers_" #name "](%[numbers])"
#define SOFIE_EXPONENTIAL_NUMBER(name, to) "vbroadcastss %c[numbers_" #name "](%[numbers]), %%ymm" #to "\n\t"
#define SOFIE_EXPONENTIAL_NUMBER_OF(name, i, to) \
   "vbroadcastss 4*" #i "+%c[numbers_" #name "](%[numbers]), %%ymm" #to "\n\t"
#define SOFIE_EXPONENTIAL_NUMBERS                                                                                     \
   SOFIE_EXPONENTIAL_NUMBER_OF(exp, 0, 7) SOFIE_EXPONENTIAL_NUMBER_OF(exp, 1, 8) SOFIE_EXPONENTIAL_NUMBER_OF(exp, 2, 9) \
   SOFIE_EXPONENTIAL_NUMBER_OF(exp, 3, 10) SOFIE_EXPONENTIAL_NUMBER_OF(exp, 4, 11)                                    \
   SOFIE_EXPONENTIAL_NUMBER(minus_ln2_low, 12) SOFIE_EXPONENTIAL_NUMBER(minus_ln2_high, 13)                           \
   SOFIE_EXPONENTIAL_NUMBER(shifter, 14)
#define SOFIE_EXPONENTIAL_MEMBERS                                                                                     \
   SOFIE_MEMBERS(numbers, ExponentialPacks, log2_e, exp_last, one, two, low, sign, bias, shifter, minus_ln2_high,   \
      minus_ln2_low, exp)
#define SOFIE_EXPONENTIAL_POWER(number) "vfmadd213ps %%ymm" #number ", %%ymm0, %%ymm5\n\t"
// ymm0 = n ln 2 + rest: n + 2 bias in the low bits of ymm1, e^rest - 1 in ymm5.
#define SOFIE_EXPONENTIAL_REST                                              \
   "vmovaps %%ymm0, %%ymm1\n\t"                                             \
   "vfmadd132ps " SOFIE_EXPONENTIAL_PACK(log2_e) ", %%ymm14, %%ymm1\n\t"    \
   "vsubps %%ymm14, %%ymm1, %%ymm2\n\t"                                     \
   "vfmadd231ps %%ymm13, %%ymm2, %%ymm0\n\t"                                \
   "vfmadd231ps %%ymm12, %%ymm2, %%ymm0\n\t"                                \
   "vmovaps " SOFIE_EXPONENTIAL_PACK(exp_last) ", %%ymm5\n\t"               \
   "vmulps %%ymm0, %%ymm0, %%ymm4\n\t"                                      \
   SOFIE_EXPONENTIAL_POWER(11) SOFIE_EXPONENTIAL_POWER(10) SOFIE_EXPONENTIAL_POWER(9) \
   SOFIE_EXPONENTIAL_POWER(8) SOFIE_EXPONENTIAL_POWER(7)                    \
   "vfmadd213ps %%ymm0, %%ymm4, %%ymm5\n\t"
// e^ymm0 in ymm5, 0 where ymm0 is low. 2^n is two factors, as it can be out of range.
#define SOFIE_EXPONENTIAL_EXP                                               \
   "vcmpps $1, " SOFIE_EXPONENTIAL_PACK(low) ", %%ymm0, %%ymm3\n\t"         \
   "vandnps %%ymm0, %%ymm3, %%ymm0\n\t"                                     \
   SOFIE_EXPONENTIAL_REST                                                   \
   "vpsrld $1, %%ymm1, %%ymm2\n\t"                                          \
   "vaddps " SOFIE_EXPONENTIAL_PACK(one) ", %%ymm5, %%ymm5\n\t"             \
   "vpsubd %%ymm2, %%ymm1, %%ymm1\n\t"                                      \
   "vpslld $23, %%ymm2, %%ymm2\n\t"                                         \
   "vpslld $23, %%ymm1, %%ymm1\n\t"                                         \
   "vmulps %%ymm2, %%ymm5, %%ymm5\n\t"                                      \
   "vmulps %%ymm1, %%ymm5, %%ymm5\n\t"                                      \
   "vandnps %%ymm5, %%ymm3, %%ymm5\n\t"
// The limit in ymm15; NaN stays.
#define SOFIE_EXPONENTIAL_OF_EXP "vminps (%[x]), %%ymm15, %%ymm0\n\t" SOFIE_EXPONENTIAL_EXP
// The share's numerator in ymm1, its denominator in ymm0; ymm6 is what decides.
#define SOFIE_EXPONENTIAL_SHARE                                             \
   "vorps " SOFIE_EXPONENTIAL_PACK(sign) ", %%ymm6, %%ymm0\n\t"             \
   SOFIE_EXPONENTIAL_EXP                                                    \
   "vmovaps " SOFIE_EXPONENTIAL_PACK(one) ", %%ymm1\n\t"                    \
   "vaddps %%ymm1, %%ymm5, %%ymm0\n\t"                                      \
   "vblendvps %%ymm6, %%ymm5, %%ymm1, %%ymm1\n\t"
#define SOFIE_EXPONENTIAL_OF_SIGMOID                                        \
   "vmovups (%[x]), %%ymm6\n\t"                                             \
   SOFIE_EXPONENTIAL_SHARE                                                  \
   "vdivps %%ymm0, %%ymm1, %%ymm5\n\t"
#define SOFIE_EXPONENTIAL_OF_SWISH                                          \
   "vmulps (%[x]), %%ymm15, %%ymm6\n\t"                                     \
   SOFIE_EXPONENTIAL_SHARE                                                  \
   "vmulps (%[x]), %%ymm1, %%ymm1\n\t"                                      \
   "vdivps %%ymm0, %%ymm1, %%ymm5\n\t"
#define SOFIE_EXPONENTIAL_OF_TANH                                           \
   "vmovups (%[x]), %%ymm6\n\t"                                             \
   "vmovaps " SOFIE_EXPONENTIAL_PACK(sign) ", %%ymm3\n\t"                   \
   "vandnps %%ymm6, %%ymm3, %%ymm0\n\t"                                     \
   "vminps %%ymm0, %%ymm15, %%ymm0\n\t"                                     \
   "vandps %%ymm6, %%ymm3, %%ymm6\n\t"                                      \
   "vaddps %%ymm0, %%ymm0, %%ymm0\n\t"                                      \
   SOFIE_EXPONENTIAL_REST                                                   \
   "vpsubd " SOFIE_EXPONENTIAL_PACK(bias) ", %%ymm1, %%ymm1\n\t"            \
   "vpslld $23, %%ymm1, %%ymm1\n\t"                                         \
   "vsubps " SOFIE_EXPONENTIAL_PACK(one) ", %%ymm1, %%ymm2\n\t"             \
   "vfmadd213ps %%ymm2, %%ymm1, %%ymm5\n\t"                                 \
   "vaddps " SOFIE_EXPONENTIAL_PACK(two) ", %%ymm5, %%ymm1\n\t"             \
   "vdivps %%ymm1, %%ymm5, %%ymm5\n\t"                                      \
   "vandnps %%ymm5, %%ymm3, %%ymm5\n\t"                                     \
   "vorps %%ymm6, %%ymm5, %%ymm5\n\t"
#define SOFIE_EXPONENTIAL_LOOP(function)                                    \
   asm volatile(                                                            \
      SOFIE_EXPONENTIAL_NUMBERS                                             \
      "vbroadcastss (%[factor]), %%ymm15\n\t"                               \
      ".p2align 5\n"                                                        \
      "1:\n\t"                                                              \
      function                                                              \
      "vmovups %%ymm5, (%[y])\n\t"                                          \
      "add $32, %[x]\n\t"                                                   \
      "add $32, %[y]\n\t"                                                   \
      "dec %[packs]\n\t"                                                    \
      "jnz 1b\n\t"                                                          \
      : [x] "+&r"(x), [y] "+&r"(y), [packs] "+&r"(packs)                    \
      : [numbers] "r"(&exponential_packs_of_8), [factor] "r"(&factor), SOFIE_EXPONENTIAL_MEMBERS \
      : "memory", "cc", SOFIE_ALL_YMM)

// Sums of e^(x - most), the largest x in ymm15, the sums in ymm6.
#define SOFIE_EXPONENTIAL_SUMS(store_result)                                \
   asm volatile(                                                            \
      SOFIE_EXPONENTIAL_NUMBERS                                             \
      "vmovups (%[most]), %%ymm15\n\t"                                      \
      "vmovups (%[sums]), %%ymm6\n\t"                                       \
      ".p2align 5\n"                                                        \
      "1:\n\t"                                                              \
      "vmovups (%[x]), %%ymm0\n\t"                                          \
      "vsubps %%ymm15, %%ymm0, %%ymm0\n\t"                                  \
      SOFIE_EXPONENTIAL_EXP                                                 \
      "vaddps %%ymm5, %%ymm6, %%ymm6\n\t"                                   \
      store_result                                                          \
      "add $32, %[x]\n\t"                                                   \
      "dec %[packs]\n\t"                                                    \
      "jnz 1b\n\t"                                                          \
      "vmovups %%ymm6, (%[sums])\n\t"                                       \
      : [x] "+&r"(x), [y] "+&r"(y), [packs] "+&r"(packs)                    \
      : [numbers] "r"(&exponential_packs_of_8), [most] "r"(most), [sums] "r"(sums), SOFIE_EXPONENTIAL_MEMBERS \
      : "memory", "cc", SOFIE_ALL_YMM)

/// Adds e^(x - most) to `sums`, pack after pack, where no x is larger than `most`; y gets them too if it is to be stored.
template <bool Store>
SOFIE_KERNEL void sum_exponentials(float *y, const float *x, Size packs, const float *most, float *sums)
{
   if (packs <= 0)
      return;
   if constexpr (Store)
      SOFIE_EXPONENTIAL_SUMS("vmovups %%ymm5, (%[y])\n\tadd $32, %[y]\n\t");
   else
      SOFIE_EXPONENTIAL_SUMS("");
}
// clang-format on

#endif

/// y = function of x, for whole packs, y may be x; `factor` is what x is limited to, or multiplied by within Swish.
template <Exponential Function>
SOFIE_KERNEL void exponential_packs(float *y, const float *x, Size packs, float factor)
{
   if (packs <= 0)
      return;
   if constexpr (Function == Exponential::exp)
      SOFIE_EXPONENTIAL_LOOP(SOFIE_EXPONENTIAL_OF_EXP);
   else if constexpr (Function == Exponential::sigmoid)
      SOFIE_EXPONENTIAL_LOOP(SOFIE_EXPONENTIAL_OF_SIGMOID);
   else if constexpr (Function == Exponential::swish)
      SOFIE_EXPONENTIAL_LOOP(SOFIE_EXPONENTIAL_OF_SWISH);
   else
      SOFIE_EXPONENTIAL_LOOP(SOFIE_EXPONENTIAL_OF_TANH);
}

/// The same for `count` numbers.
template <Exponential Function>
SOFIE_INLINE void exponential_array(float *y, const float *x, Size count, float factor)
{
   in_whole_packs(y, x, count, [factor](float *to, const float *from, Size packs) {
      exponential_packs<Function>(to, from, packs, factor);
   });
}

} // namespace sofie

SOFIE_END

#endif

#endif
