/// \file
/// The softmax of 16 queries over their keys, in assembler: a lane for each query, so that all is done lane by lane.
#ifndef SOFIE_KERNELS_SOFTMAX_LANES_HXX
#define SOFIE_KERNELS_SOFTMAX_LANES_HXX

#include "sofie/kernels/dense_tile.hxx"

#ifdef SOFIE_DENSE_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

/// Numbers of e^x = 2^n 2^f. The assembler knows where they are.
struct LanesExponential {
   float log2_e, log2_e_rest;
   float shifter; // Numbers of this size are the integers: adding it rounds.
   float low;     // e^x is 0 here, and 2^n can still be computed.
   // 2^f, |f| <= 1/2, fitted as those in `math.hxx`: degree 6, within 1.9e-9 of itself.
   float power[7];
   float one, lowest;
};
inline constexpr LanesExponential lanes_exponential{
   0x1.715476p+0f,
   0x1.4ae0cp-26f,
   0x1.8p23f,
   -120.0f,
   {1.0f, 0.6931472f, 0.24022646f, 0.055503286f, 0.009618489f, 0.0013399931f, 0.00015345808f},
   1.0f,
   -__builtin_inff()};

// clang-format off
#define SOFIE_SOFTMAX_POWER(a) "vfmadd213ps %%zmm" #a ", %%zmm1, %%zmm2\n\t"

// Most fits in zmm16, NaN if any is. Weights are 0 in lanes without a fit, where k1 does not say otherwise; their sum
// is in zmm17. Then they are divided by that.
#define SOFIE_SOFTMAX_LANES                                                         \
   "vbroadcastss 48(%[numbers]), %%zmm16\n\t"                                       \
   "mov %[fits], %[at]\n\t"                                                         \
   "mov %[keys], %[k]\n"                                                            \
   "1:\n\t"                                                                         \
   "vmovups (%[at]), %%zmm0\n\t"                                                    \
   "vcmpps $3, %%zmm0, %%zmm0, %%k3\n\t"                                            \
   "vmaxps %%zmm16, %%zmm0, %%zmm16\n\t"                                            \
   "vmovaps %%zmm0, %%zmm16%{%%k3%}\n\t"                                            \
   "add $64, %[at]\n\t"                                                             \
   "dec %[k]\n\t"                                                                   \
   "jnz 1b\n\t"                                                                     \
   "kmovw %[attends], %%k1\n\t"                                                     \
   "vcmpps $4, 48(%[numbers])%{1to16%}, %%zmm16, %%k2\n\t"                          \
   "kandw %%k2, %%k1, %%k1\n\t"                                                     \
   "kmovw %[nans], %%k2\n\t"                                                        \
   "korw %%k2, %%k1, %%k1\n\t"                                                      \
   "vpxord %%zmm17, %%zmm17, %%zmm17\n\t"                                           \
   "vbroadcastss 0(%[numbers]), %%zmm18\n\t"                                        \
   "vbroadcastss 4(%[numbers]), %%zmm19\n\t"                                        \
   "vbroadcastss 8(%[numbers]), %%zmm20\n\t"                                        \
   "vbroadcastss 12(%[numbers]), %%zmm21\n\t"                                       \
   "vbroadcastss 16(%[numbers]), %%zmm22\n\t"                                       \
   "vbroadcastss 20(%[numbers]), %%zmm23\n\t"                                       \
   "vbroadcastss 24(%[numbers]), %%zmm24\n\t"                                       \
   "vbroadcastss 28(%[numbers]), %%zmm25\n\t"                                       \
   "vbroadcastss 32(%[numbers]), %%zmm26\n\t"                                       \
   "vbroadcastss 36(%[numbers]), %%zmm27\n\t"                                       \
   "vbroadcastss 40(%[numbers]), %%zmm28\n\t"                                       \
   "mov %[fits], %[at]\n\t"                                                         \
   "mov %[keys], %[k]\n"                                                            \
   "2:\n\t"                                                                         \
   "vmovups (%[at]), %%zmm0\n\t"                                                    \
   "vsubps %%zmm16, %%zmm0, %%zmm0\n\t"                                             \
   "vmaxps %%zmm0, %%zmm21, %%zmm0\n\t"                                             \
   "vmovaps %%zmm0, %%zmm1\n\t"                                                     \
   "vmovaps %%zmm0, %%zmm3\n\t"                                                     \
   "vfmadd213ps %%zmm20, %%zmm18, %%zmm3\n\t"                                       \
   "vsubps %%zmm20, %%zmm3, %%zmm3\n\t"                                             \
   "vfmsub213ps %%zmm3, %%zmm18, %%zmm1\n\t"                                        \
   "vfmadd231ps %%zmm19, %%zmm0, %%zmm1\n\t"                                        \
   "vmovaps %%zmm28, %%zmm2\n\t"                                                    \
   SOFIE_SOFTMAX_POWER(27) SOFIE_SOFTMAX_POWER(26) SOFIE_SOFTMAX_POWER(25) SOFIE_SOFTMAX_POWER(24)                  \
   SOFIE_SOFTMAX_POWER(23) SOFIE_SOFTMAX_POWER(22)                                  \
   "vscalefps %%zmm3, %%zmm2, %%zmm2%{%%k1%}%{z%}\n\t"                              \
   "vaddps %%zmm2, %%zmm17, %%zmm17\n\t"                                            \
   "vmovups %%zmm2, (%[at])\n\t"                                                    \
   "add $64, %[at]\n\t"                                                             \
   "dec %[k]\n\t"                                                                   \
   "jnz 2b\n\t"                                                                     \
   "vbroadcastss 44(%[numbers]), %%zmm0\n\t"                                        \
   "vmovaps %%zmm0, %%zmm1\n\t"                                                     \
   "vdivps %%zmm17, %%zmm0, %%zmm1%{%%k1%}\n\t"                                     \
   "mov %[fits], %[at]\n\t"                                                         \
   "mov %[keys], %[k]\n"                                                            \
   "3:\n\t"                                                                         \
   "vmulps (%[at]), %%zmm1, %%zmm0\n\t"                                             \
   "vmovups %%zmm0, (%[at])\n\t"                                                    \
   "add $64, %[at]\n\t"                                                             \
   "dec %[k]\n\t"                                                                   \
   "jnz 3b\n\t"
// clang-format on

/// fits[key][lane] become e^(fit - largest fit) / their sum; 0 in lanes of which `attends` says so or where all fits
/// are -inf, but NaN if `nans`.
SOFIE_KERNEL inline void softmax_lanes(float *fits, Size keys, Size attends, bool nans)
{
   static_assert(sizeof(LanesExponential) == 52, "the assembler knows where its members are");
   if (keys <= 0)
      return;
   float *at;
   Size k;
   asm volatile(SOFIE_SOFTMAX_LANES
                : [at] "=&r"(at), [k] "=&r"(k)
                : [fits] "r"(fits), [keys] "r"(keys), [attends] "r"(static_cast<std::uint32_t>(attends)),
                  [nans] "r"(nans ? 0xffffU : 0U), [numbers] "r"(&lanes_exponential)
                : "memory", "cc", "k1", "k2", "k3", "xmm0", "xmm1", "xmm2", "xmm3", "xmm16", "xmm17", "xmm18", "xmm19",
                  "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28");
}

} // namespace sofie

SOFIE_END

#endif

#endif
