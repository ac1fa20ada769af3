/// \file
/// The softmax of packs of queries over their keys, in assembler: a lane for each query.
#ifndef SOFIE_KERNELS_SOFTMAX_LANES_HXX
#define SOFIE_KERNELS_SOFTMAX_LANES_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/dense/tile.hxx"

#ifdef SOFIE_AVX512_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

/// Numbers of e^x = 2^n 2^f.
struct LanesExponential {
   float log2_e, log2_e_rest;
   float shifter; // Numbers of this size are the integers: adding it rounds.
   float low;     // e^x counts as 0 up to here: an underflow costs as much as 15 packs.
   // 2^f, |f| <= 1/2, fitted as those in `math.hxx`: degree 6, within 1.9e-9 of itself.
   float power[7];
   float one, lowest;
};
inline constexpr LanesExponential lanes_exponential{
   0x1.715476p+0f,
   0x1.4ae0cp-26f,
   0x1.8p23f,
   -87.0f,
   {1.0f, 0.6931472f, 0.24022646f, 0.055503286f, 0.009618489f, 0.0013399931f, 0.00015345808f},
   1.0f,
   -__builtin_inff()};

// clang-format off
// Per pack: its place in a row of scores, registers for the largest score and the sum, and two for what is computed; its mask.
#define SOFIE_SOFTMAX_EACH_1(each) each(0, 16, 17, 0, 1, 1)
#define SOFIE_SOFTMAX_EACH_2(each) SOFIE_SOFTMAX_EACH_1(each) each(64, 29, 30, 4, 5, 4)

#define SOFIE_SOFTMAX_START(at, most, sum, x, f, mask)                              \
   "vbroadcastss %c[numbers_lowest](%[numbers]), %%zmm" #most "\n\t" SOFIE_DENSE_ZERO(sum)
// NaN if any is.
#define SOFIE_SOFTMAX_MOST(at, most, sum, x, f, mask)                               \
   "vmovups " #at "(%[at]), %%zmm" #x "\n\t"                                        \
   "vcmpps $3, %%zmm" #x ", %%zmm" #x ", %%k3\n\t"                                  \
   "vmaxps %%zmm" #most ", %%zmm" #x ", %%zmm" #most "\n\t"                         \
   "vmovaps %%zmm" #x ", %%zmm" #most "%{%%k3%}\n\t"
// The lanes with weights: those that attend to anything and have a score above -inf, or all.
#define SOFIE_SOFTMAX_LIVE(at, most, sum, x, f, mask)                               \
   "kmovw " #at "/8(%[attends]), %%k" #mask "\n\t"                                  \
   "vcmpps $4, %c[numbers_lowest](%[numbers])%{1to16%}, %%zmm" #most ", %%k3\n\t"   \
   "kandw %%k3, %%k" #mask ", %%k" #mask "\n\t"                                     \
   "korw %%k2, %%k" #mask ", %%k" #mask "\n\t"
#define SOFIE_SOFTMAX_POWER(x, f, number) "vfmadd213ps %%zmm" #number ", %%zmm" #f ", %%zmm" #x "\n\t"
#define SOFIE_SOFTMAX_WEIGHT(at, most, sum, x, f, mask)                             \
   "vmovups " #at "(%[at]), %%zmm" #x "\n\t"                                        \
   "vsubps %%zmm" #most ", %%zmm" #x ", %%zmm" #x "\n\t"                            \
   "vcmpps $6, %%zmm21, %%zmm" #x ", %%k3%{%%k" #mask "%}\n\t"                      \
   "vmovaps %%zmm" #x ", %%zmm" #f "\n\t"                                           \
   "vmovaps %%zmm" #x ", %%zmm3\n\t"                                                \
   "vfmadd213ps %%zmm20, %%zmm18, %%zmm3\n\t"                                       \
   "vsubps %%zmm20, %%zmm3, %%zmm3\n\t"                                             \
   "vfmsub213ps %%zmm3, %%zmm18, %%zmm" #f "\n\t"                                   \
   "vfmadd231ps %%zmm19, %%zmm" #x ", %%zmm" #f "\n\t"                              \
   "vmovaps %%zmm28, %%zmm" #x "\n\t"                                               \
   SOFIE_SOFTMAX_POWER(x, f, 27) SOFIE_SOFTMAX_POWER(x, f, 26) SOFIE_SOFTMAX_POWER(x, f, 25)                        \
   SOFIE_SOFTMAX_POWER(x, f, 24) SOFIE_SOFTMAX_POWER(x, f, 23) SOFIE_SOFTMAX_POWER(x, f, 22)                        \
   "vscalefps %%zmm3, %%zmm" #x ", %%zmm" #x "%{%%k3%}%{z%}\n\t"                    \
   "vaddps %%zmm" #x ", %%zmm" #sum ", %%zmm" #sum "\n\t"                           \
   "vmovups %%zmm" #x ", " #at "(%[at])\n\t"
#define SOFIE_SOFTMAX_FACTOR(at, most, sum, x, f, mask)                             \
   "vbroadcastss %c[numbers_one](%[numbers]), %%zmm" #f "\n\t"                      \
   "vmovaps %%zmm" #f ", %%zmm" #x "\n\t"                                           \
   "vdivps %%zmm" #sum ", %%zmm" #x ", %%zmm" #f "%{%%k" #mask "%}\n\t"
#define SOFIE_SOFTMAX_SCALE(at, most, sum, x, f, mask)                              \
   "vmulps " #at "(%[at]), %%zmm" #f ", %%zmm" #x "\n\t"                            \
   "vmovups %%zmm" #x ", " #at "(%[at])\n\t"

#define SOFIE_SOFTMAX_KEYS(packs, each)                                             \
   "mov %[scores], %[at]\n\t"                                                         \
   "mov %[keys], %[k]\n"                                                            \
   "1:\n\t"                                                                         \
   SOFIE_SOFTMAX_EACH_##packs(each)                                                 \
   "add $64*" #packs ", %[at]\n\t"                                                  \
   "dec %[k]\n\t"                                                                   \
   "jnz 1b\n\t"
#define SOFIE_SOFTMAX_NUMBER(name, to) "vbroadcastss %c[numbers_" #name "](%[numbers]), %%zmm" #to "\n\t"
#define SOFIE_SOFTMAX_NUMBER_OF(name, i, to) "vbroadcastss 4*" #i "+%c[numbers_" #name "](%[numbers]), %%zmm" #to "\n\t"
// All of them but `one` and `lowest`, in registers; and where they are.
#define SOFIE_SOFTMAX_NUMBERS                                                       \
   SOFIE_SOFTMAX_NUMBER(log2_e, 18) SOFIE_SOFTMAX_NUMBER(log2_e_rest, 19) SOFIE_SOFTMAX_NUMBER(shifter, 20)         \
   SOFIE_SOFTMAX_NUMBER(low, 21)                                                    \
   SOFIE_SOFTMAX_NUMBER_OF(power, 0, 22) SOFIE_SOFTMAX_NUMBER_OF(power, 1, 23) SOFIE_SOFTMAX_NUMBER_OF(power, 2, 24) \
   SOFIE_SOFTMAX_NUMBER_OF(power, 3, 25) SOFIE_SOFTMAX_NUMBER_OF(power, 4, 26) SOFIE_SOFTMAX_NUMBER_OF(power, 5, 27) \
   SOFIE_SOFTMAX_NUMBER_OF(power, 6, 28)
#define SOFIE_SOFTMAX_MEMBERS \
   SOFIE_MEMBERS(numbers, LanesExponential, log2_e, log2_e_rest, shifter, low, power, one, lowest)
#define SOFIE_SOFTMAX_LANES(packs)                                                  \
   asm volatile(                                                                    \
      SOFIE_SOFTMAX_EACH_##packs(SOFIE_SOFTMAX_START)                               \
      SOFIE_SOFTMAX_KEYS(packs, SOFIE_SOFTMAX_MOST)                                 \
      "kmovw %[nans], %%k2\n\t"                                                     \
      SOFIE_SOFTMAX_EACH_##packs(SOFIE_SOFTMAX_LIVE)                                \
      SOFIE_SOFTMAX_NUMBERS                                                         \
      SOFIE_SOFTMAX_KEYS(packs, SOFIE_SOFTMAX_WEIGHT)                               \
      SOFIE_SOFTMAX_EACH_##packs(SOFIE_SOFTMAX_FACTOR)                              \
      SOFIE_SOFTMAX_KEYS(packs, SOFIE_SOFTMAX_SCALE)                                \
      : [at] "=&r"(at), [k] "=&r"(k)                                                \
      : [scores] "r"(scores), [keys] "r"(keys), [attends] "r"(attends), [nans] "r"(nans ? 0xffffU : 0U),                \
        [numbers] "r"(&lanes_exponential),                                          \
        SOFIE_SOFTMAX_MEMBERS                       \
      : "memory", "cc", "k1", "k2", "k3", "k4", "xmm0", "xmm1", "xmm3", "xmm4", "xmm5", "xmm16", "xmm17", "xmm18",  \
        "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30")
// clang-format on

/// scores[key][lane] become e^(score - largest score) / their sum; 0 in lanes of which `attends` says so or where all
/// scores are -inf, but NaN if `nans`.
template <int Packs>
SOFIE_KERNEL void softmax_lanes(float *scores, Size keys, const Size *attends, bool nans)
{
   if (keys <= 0)
      return;
   float *at;
   Size k;
   if constexpr (Packs == 2)
      SOFIE_SOFTMAX_LANES(2);
   else
      SOFIE_SOFTMAX_LANES(1);
}

} // namespace sofie

SOFIE_END

#endif

#endif
