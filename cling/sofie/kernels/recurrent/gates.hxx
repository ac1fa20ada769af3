/// \file
/// The functions of the gates of RNN, GRU and LSTM.
#ifndef SOFIE_KERNELS_RECURRENT_GATES_HXX
#define SOFIE_KERNELS_RECURRENT_GATES_HXX

#include "sofie/math.hxx"

SOFIE_BEGIN

namespace sofie {

#ifdef SOFIE_AVX512_ASSEMBLER
#define SOFIE_GATE_ASSEMBLER

// clang-format off
// A number of the table for all elements.
#define SOFIE_GATE_NUMBER(i) #i "*4(%[numbers])%{1to16%}"
#define SOFIE_GATE_HORNER(i) "vfmadd213ps " SOFIE_GATE_NUMBER(i) ", %[t], %[p]\n\t"
// t is x between two bounds, NaN if x is; then n = round(t / ln 2), as the low bits of `shifted`, and t the rest.
#define SOFIE_GATE_REDUCE                                                            \
   "vbroadcastss (%[numbers]), %[t]\n\t"                                             \
   "vbroadcastss 4(%[numbers]), %[p]\n\t"                                            \
   "vmaxps %[x], %[t], %[t]\n\t"                                                     \
   "vbroadcastss 8(%[numbers]), %[shifted]\n\t"                                      \
   "vminps %[t], %[p], %[t]\n\t"                                                     \
   "vfmadd231ps " SOFIE_GATE_NUMBER(3) ", %[t], %[shifted]\n\t"                      \
   "vsubps " SOFIE_GATE_NUMBER(2) ", %[shifted], %[p]\n\t"                           \
   "vpslld $23, %[shifted], %[shifted]\n\t"                                          \
   "vfmadd231ps " SOFIE_GATE_NUMBER(4) ", %[p], %[t]\n\t"                            \
   "vfmadd231ps " SOFIE_GATE_NUMBER(5) ", %[p], %[t]\n\t"                            \
   "vbroadcastss 6*4(%[numbers]), %[p]\n\t"                                          \
   SOFIE_GATE_HORNER(7) SOFIE_GATE_HORNER(8) SOFIE_GATE_HORNER(9) SOFIE_GATE_HORNER(10)
// clang-format on

/// Bounds, 1.5 * 2^23 + 127, which rounds and is the exponent's bias, +-log2(e), ln 2 in two parts, a polynomial, and
/// what is left. Those of the sigmoid are for -x, with (e^-t - 1 + t) / t^2, e^-t within 3.1e-9 of itself; those of
/// the tanh for 2 x, with (e^2t - 1 - 2t) / t^2, e^2t - 1 within 1.4e-8 of itself.
inline constexpr float sigmoid_numbers[] = {-87.0f,         87.0f,           12583039.0f,     -1.44269504f,
                                            0x1.62e4p-1f,   0x1.7f7d1cp-20f, 0x1.6a2352p-10f, -0x1.123a6cp-7f,
                                            0x1.5558f4p-5f, -0x1.55549p-3f,  0x1.fffffcp-2f,  -1.0f,
                                            1.0f,           -87.0f};
inline constexpr float tanh_numbers[] = {
   -10.0f,         10.0f,          12583039.0f,    2 * 1.44269504f, -0x1.62e4p-2f, -0x1.7f7d1cp-21f,
   0x1.6bebf4p-4f, 0x1.1227f6p-2f, 0x1.555674p-1f, 0x1.5554bp0f,    0x1.fffffep0f, 2.0f,
   1.0f,           -0.0f};

// Compilers copy constants between registers and reduce in more steps than these functions need: in assembler they take
// little more than half of the time.

// clang-format off
/// 1 / (1 + e^-x) as `gate::Sigmoid` has it: 2.5 ULP.
SOFIE_INLINE PackN<float, 16> sigmoid_assembler(PackN<float, 16> x)
{
   PackN<float, 16> shifted, t, p;
   asm(SOFIE_GATE_REDUCE SOFIE_GATE_HORNER(11) SOFIE_GATE_HORNER(12)
       "vcmpps $5, " SOFIE_GATE_NUMBER(13) ", %[x], %%k1\n\t"
       "vfmadd213ps " SOFIE_GATE_NUMBER(12) ", %[shifted], %[p]\n\t"
       "vrcp14ps %[p], %[t]\n\t"
       "vfnmadd213ps " SOFIE_GATE_NUMBER(12) ", %[t], %[p]\n\t"
       "vfmadd213ps %[t], %[t], %[p]%{%%k1%}%{z%}\n\t"
       : [shifted] "=&v"(shifted), [t] "=&v"(t), [p] "=&v"(p)
       : [x] "v"(x), [numbers] "r"(sigmoid_numbers)
       : "k1");
   return p;
}

/// (e^2x - 1) / (e^2x + 1), with a remainder that makes up for the estimate of an inverse, and with the sign of x,
/// which may be -0: 2.5 ULP. The square of a rest is not computed: that of a tiny one would be denormal.
SOFIE_INLINE PackN<float, 16> tanh_assembler(PackN<float, 16> x)
{
   PackN<float, 16> shifted, t, p, q;
   asm(SOFIE_GATE_REDUCE
       "vaddps %[t], %[t], %[q]\n\t"
       "vmulps %[t], %[p], %[p]\n\t"
       "vfmadd213ps %[q], %[t], %[p]\n\t"
       "vsubps " SOFIE_GATE_NUMBER(12) ", %[shifted], %[t]\n\t"
       "vfmadd213ps %[t], %[p], %[shifted]\n\t"
       "vaddps " SOFIE_GATE_NUMBER(11) ", %[shifted], %[t]\n\t"
       "vrcp14ps %[t], %[p]\n\t"
       "vmulps %[shifted], %[p], %[q]\n\t"
       "vfnmadd213ps %[shifted], %[q], %[t]\n\t"
       "vfmadd213ps %[q], %[t], %[p]\n\t"
       "vpternlogd $0xd8, " SOFIE_GATE_NUMBER(13) ", %[x], %[p]\n\t"
       : [shifted] "=&v"(shifted), [t] "=&v"(t), [p] "=&v"(p), [q] "=&v"(q)
       : [x] "v"(x), [numbers] "r"(tanh_numbers));
   return p;
}
// clang-format on
#endif

/// The activation functions of the gates; `F::of(x, alpha, beta)`.
namespace gate {

struct Relu {
   template <class V>
   SOFIE_INLINE static V of(V x, V, V)
   {
      return select<V>(x < V{}, V{}, x);
   }
};
/// As `tanh` of math.hxx.
struct Tanh {
   template <class V>
   SOFIE_INLINE static V of(V x, V, V)
   {
#ifdef SOFIE_GATE_ASSEMBLER
      if constexpr (std::is_same_v<V, PackN<float, 16>>)
         return tanh_assembler(x);
#endif
      using Of = MathFor<V>;
      const V size = at_most(abs(x), Of::tanh_high);
      const Reduced<V> reduced = reduce_by_ln2(size + size);
      const V power = power_of_two<V>(reduced.power - Of::bias);
      const V difference = multiply_add(power, expm1_of_rest(reduced.rest), power - splat<V>(1));
      return copysign(difference / (difference + splat<V>(2)), x);
   }
};
/// 1 / (1 + e^-x), and 0 from where on it would be about as small as the smallest normal number: what gates make of
/// denormal ones takes a CPU hundreds of cycles.
struct Sigmoid {
   template <class V>
   SOFIE_INLINE static V of(V x, V, V)
   {
#ifdef SOFIE_GATE_ASSEMBLER
      if constexpr (std::is_same_v<V, PackN<float, 16>>)
         return sigmoid_assembler(x);
#endif
      using Of = MathFor<V>;
      constexpr ElementOf<V> most = Of::bias == 127 ? 87 : 708;
      const Reduced<V> reduced = reduce_by_ln2(at_least(at_most(-x, most), -most));
      const V power = power_of_two<V>(reduced.power - Of::bias);
      const V result = splat<V>(1) / (multiply_add(power, expm1_of_rest(reduced.rest), power) + splat<V>(1));
      return select<V>(x < splat<V>(-most), V{}, result);
   }
};
struct Affine {
   template <class V>
   SOFIE_INLINE static V of(V x, V alpha, V beta)
   {
      return multiply_add(alpha, x, beta);
   }
};
struct LeakyRelu {
   template <class V>
   SOFIE_INLINE static V of(V x, V alpha, V)
   {
      return select<V>(x < V{}, alpha * x, x);
   }
};
struct ThresholdedRelu {
   template <class V>
   SOFIE_INLINE static V of(V x, V alpha, V)
   {
      return select<V>(x < alpha, V{}, x);
   }
};
struct ScaledTanh {
   template <class V>
   SOFIE_INLINE static V of(V x, V alpha, V beta)
   {
      return alpha * Tanh::of(beta * x, alpha, beta);
   }
};
struct HardSigmoid {
   template <class V>
   SOFIE_INLINE static V of(V x, V alpha, V beta)
   {
      return at_least(at_most(multiply_add(alpha, x, beta), 1), 0);
   }
};
struct Elu {
   template <class V>
   SOFIE_INLINE static V of(V x, V alpha, V)
   {
      return select<V>(x < V{}, alpha * expm1(x), x);
   }
};
struct Softsign {
   template <class V>
   SOFIE_INLINE static V of(V x, V, V)
   {
      return x / (splat<V>(1) + abs(x));
   }
};
struct Softplus {
   template <class V>
   SOFIE_INLINE static V of(V x, V, V)
   {
      return softplus(x);
   }
};

/// `F` of x, which is first brought into [-clip, clip] if `Clipped`.
template <class F, bool Clipped, class V>
SOFIE_INLINE V activated(V x, double alpha, double beta, double clip)
{
   using T = ElementOf<V>;
   if constexpr (Clipped)
      x = at_least(at_most(x, static_cast<T>(clip)), -static_cast<T>(clip));
   return F::of(x, splat<V>(static_cast<T>(alpha)), splat<V>(static_cast<T>(beta)));
}

} // namespace gate

} // namespace sofie

SOFIE_END

#endif
