/// \file
/// GELU of floats for registers of 64 bytes, in assembler; and for those of 32, at the end.
///
/// x P(x) = max(x, 0) - a Q(a) with a = |x| and the tail Q(a) = erfc(a / sqrt 2) / 2 of the normal
/// distribution, as everywhere (`math.hxx`). Here what is left of Q beside e^(-a^2 / 2) is a polynomial for each of
/// 32 parts of 1 + a, eight of each octave: its coefficients come from registers by the upper bits of 1 + a, which
/// costs less than a division and twice as many coefficients. The same instructions serve a single pack and many.
#ifndef SOFIE_MATH_GELU_HXX
#define SOFIE_MATH_GELU_HXX

#include "sofie/assembler.hxx"
#include "sofie/math.hxx"

#if defined(SOFIE_AVX512_ASSEMBLER) && (defined(SOFIE_TARGET) || defined(__AVX512DQ__))
#define SOFIE_GELU_ASSEMBLER
#define SOFIE_GELU_ARRAYS

SOFIE_BEGIN

namespace sofie {

/// Fitted as those in `math.hxx`.
struct alignas(64) GeluNumbers {
   // 2^(a^2 scale) Q(a), for the `scale` below, by powers of 1 + a - centre: the parts of 1 + a from 2, 4, 8 and 1
   // on. Degree 4, within 6.1e-8 of itself.
   float tail[5][32];
   // 2^f, |f| <= 1/2: degree 6, within 1.9e-9 of itself.
   float power[7];
   float scale;   // -log2(e) / 2, rounded: `tail` knows by how much.
   float shifter; // Numbers of this size are the integers: adding it rounds.
   float far;     // No number is larger on its way to Q.
   float one;
   std::uint32_t part, centre; // The bits of 1 + a that say which part it is in; that of its centre.
   std::uint32_t positive;     // What becomes of x by its kind: NaN of -inf, -0 of other negative numbers, else x.
   float low, high;            // The result is -0 from here down, and x from here up.
   float doubtful;             // From here down results may be denormal numbers,
   float units, normal;        // which are fewer than `-normal` times 2^-units,
   std::uint32_t sign;         // and whose bits are how many, with this one.
   float inner_low;            // Between layers the result is -0 from here down, before it is denormal.
   float density;              // 1 / sqrt(2 pi)
};
inline constexpr GeluNumbers gelu_numbers{
   {{2.4533139e-1f, 2.1763982e-1f,  1.950231e-1f,  1.7629088e-1f, 1.605801e-1f,  1.4725406e-1f, 1.3583559e-1f,
     1.2596172e-1f, 1.13452055e-1f, 1.000392e-1f,  8.9359306e-2f, 8.0675386e-2f, 7.348822e-2f,  6.744922e-2f,
     6.230847e-2f,  5.7882614e-2f,  5.2293077e-2f, 4.6310022e-2f, 4.1543264e-2f, 3.765883e-2f,  3.4434028e-2f,
     3.1714894e-2f, 2.9391697e-2f,  2.7384186e-2f, 4.7601113e-1f, 4.331823e-1f,  3.9621183e-1f, 3.6410487e-1f,
     3.3606142e-1f, 3.11434e-1f,    2.8969508e-1f, 2.7041242e-1f},
    {-1.2294428e-1f, -9.9687405e-2f, -8.202965e-2f,  -6.8396814e-2f, -5.7709537e-2f, -4.921385e-2f,  -4.2373817e-2f,
     -3.6802318e-2f, -3.0222967e-2f, -2.3795186e-2f, -1.9165143e-2f, -1.5734117e-2f, -1.3129058e-2f, -1.1109195e-2f,
     -9.514235e-3f,  -8.234516e-3f,  -6.7440234e-3f, -5.306901e-3f,  -4.2810338e-3f, -3.5242618e-3f, -2.9506064e-3f,
     -2.5057117e-3f, -2.1539049e-3f, -1.871017e-3f,  -3.6919147e-1f, -3.177205e-1f,  -2.75126e-1f,   -2.3964636e-1f,
     -2.099077e-1f,  -1.848314e-1f,  -1.6356501e-1f, -1.4543062e-1f},
    {5.350943e-2f,  4.0284734e-2f, 3.0862397e-2f, 2.4023386e-2f, 1.897363e-2f,  1.5185563e-2f, 1.2302142e-2f,
     1.0077515e-2f, 7.613514e-3f,  5.403514e-3f,  3.9536553e-3f, 2.9691278e-3f, 2.2803093e-3f, 1.7856644e-3f,
     1.4222516e-3f, 1.1498231e-3f, 8.563502e-4f,  6.006346e-4f,  4.3670522e-4f, 3.2704373e-4f, 2.5104106e-4f,
     1.9677028e-4f, 1.5701777e-4f, 1.2725289e-4f, 2.2646835e-1f, 1.8680486e-1f, 1.5511748e-1f, 1.2962979e-1f,
     1.0899417e-1f, 9.21812e-2f,   7.839924e-2f,  6.703559e-2f},
    {-2.0964278e-2f, -1.4796216e-2f, -1.0646064e-2f, -7.7974917e-3f, -5.805707e-3f, -4.3887636e-3f, -3.3644396e-3f,
     -2.6127924e-3f, -1.8336256e-3f, -1.181271e-3f,  -7.8959874e-4f, -5.449016e-4f, -3.8661642e-4f, -2.8105002e-4f,
     -2.0871797e-4f, -1.579568e-4f,  -1.0763764e-4f, -6.7423374e-5f, -4.424794e-5f, -3.01781e-5f,   -2.1257027e-5f,
     -1.5388969e-5f, -1.1405952e-5f, -8.628049e-6f,  -1.1845805e-1f, -9.431588e-2f, -7.561439e-2f,  -6.1026357e-2f,
     -4.9570076e-2f, -4.051436e-2f,  -3.331088e-2f,  -2.754571e-2f},
    {7.5064753e-3f, 5.002825e-3f,  3.4033242e-3f, 2.3598934e-3f, 1.6657575e-3f, 1.1954402e-3f, 8.712514e-4f,
     6.441647e-4f,  4.208467e-4f,  2.4782534e-4f, 1.5220605e-4f, 9.698054e-5f,  6.3819454e-5f, 4.320955e-5f,
     3.0002193e-5f, 2.1304282e-5f, 1.3271614e-5f, 7.4516806e-6f, 4.4262365e-6f, 2.7550293e-6f, 1.783685e-6f,
     1.1942069e-6f, 8.2297447e-7f, 5.815648e-7f,  5.4793876e-2f, 4.230387e-2f,  3.289208e-2f,  2.5749587e-2f,
     2.029191e-2f,  1.609373e-2f,  1.2843428e-2f, 1.0311138e-2f}},
   {1.0f, 6.931472e-1f, 2.4022646e-1f, 5.5503286e-2f, 9.618489e-3f, 1.3399931e-3f, 1.5345808e-4f},
   -7.213475e-1f,
   0x1.8p23f,
   16.0f,
   1.0f,
   0xfff00000U,
   0x00080000U,
   0x17131122U,
   -14.5f,
   6.5f,
   -12.9f,
   149.0f,
   -0x1p23f,
   0x80000000U,
   -13.0f,
   0.3989423f};

// clang-format off
// The numbers' registers: zmm13 to zmm17 have the second halves of `tail`, the others follow.
#define SOFIE_GELU_HALF(k, to) "vmovups " #k "*128+64+%c[numbers_tail](%[numbers]), %%zmm" #to "\n\t"
#define SOFIE_GELU_POWER_OF(k, to) "vbroadcastss 4*" #k "+%c[numbers_power](%[numbers]), %%zmm" #to "\n\t"
#define SOFIE_GELU_NUMBER(name, to) "vbroadcastss %c[numbers_" #name "](%[numbers]), %%zmm" #to "\n\t"
#define SOFIE_GELU_NUMBERS                                                                                          \
   SOFIE_GELU_HALF(0, 13) SOFIE_GELU_HALF(1, 14) SOFIE_GELU_HALF(2, 15) SOFIE_GELU_HALF(3, 16) SOFIE_GELU_HALF(4, 17) \
   SOFIE_GELU_POWER_OF(0, 18) SOFIE_GELU_POWER_OF(1, 19) SOFIE_GELU_POWER_OF(2, 20) SOFIE_GELU_POWER_OF(3, 21)      \
   SOFIE_GELU_POWER_OF(4, 22) SOFIE_GELU_POWER_OF(5, 23) SOFIE_GELU_POWER_OF(6, 24)                                 \
   SOFIE_GELU_NUMBER(scale, 25) SOFIE_GELU_NUMBER(shifter, 26) SOFIE_GELU_NUMBER(far, 27)                           \
   SOFIE_GELU_NUMBER(one, 28) SOFIE_GELU_NUMBER(part, 29) SOFIE_GELU_NUMBER(centre, 30)                             \
   SOFIE_GELU_NUMBER(positive, 31) SOFIE_GELU_NUMBER(high, 7)
#define SOFIE_GELU_MEMBERS                                                                                          \
   SOFIE_MEMBERS(numbers, GeluNumbers, tail, power, scale, shifter, far, one, part, centre, positive, low, high,    \
      doubtful, units, normal, sign, inner_low, density)
#define SOFIE_GELU_OPERAND(name) "%c[numbers_" #name "](%[numbers])%{1to16%}, "
#define SOFIE_GELU_POWER(number) "vfmadd213ps %%zmm" #number ", %%zmm2, %%zmm5\n\t"
#define SOFIE_GELU_TAIL(k, half) \
   "vmovups " #k "*128+%c[numbers_tail](%[numbers]), %%zmm12\n\tvpermt2ps %%zmm" #half ", %%zmm8, %%zmm12\n\t"
#define SOFIE_GELU_TAIL_STEP(k, half) SOFIE_GELU_TAIL(k, half) "vfmadd213ps %%zmm12, %%zmm9, %%zmm11\n\t"

// x is in zmm0, -a in zmm1, the fraction f of 2^(n + f) = e^(-a^2 / 2) in zmm2 (a^2 and what it lost by rounding, times
// the scale), 2^f in zmm5, the part of 1 + a in zmm8, its distance from the centre in zmm9, n in zmm10, the tail in zmm11.
#define SOFIE_GELU_BEGIN(combined)                                                            \
   "vmovups (%[x]), %%zmm0\n\t"                                                     \
   "vrangeps $14, %%zmm27, %%zmm0, %%zmm1\n\t"                                      \
   "vmulps %%zmm1, %%zmm1, %%zmm2\n\t"                                              \
   "vsubps %%zmm1, %%zmm28, %%zmm8\n\t"                                             \
   "vmovaps %%zmm2, %%zmm3\n\t"                                                     \
   "vfmsub231ps %%zmm1, %%zmm1, %%zmm3\n\t"                                         \
   "vmovaps %%zmm2, %%zmm4\n\t"                                                     \
   "vfmadd213ps %%zmm26, %%zmm25, %%zmm4\n\t"                                       \
   "vsubps %%zmm26, %%zmm4, %%zmm10\n\t"                                            \
   "vmovaps %%zmm8, %%zmm9\n\t"                                                     \
   "vpternlogd $0xea, %%zmm30, %%zmm29, %%zmm9\n\t"                                 \
   "vsubps %%zmm9, %%zmm8, %%zmm9\n\t"                                              \
   "vpsrld $20, %%zmm8, %%zmm8\n\t"                                                 \
   "vfmsub213ps %%zmm10, %%zmm25, %%zmm2\n\t"                                       \
   "vfmadd231ps %%zmm25, %%zmm3, %%zmm2\n\t"                                        \
   "vmovaps %%zmm24, %%zmm5\n\t"                                                    \
   SOFIE_GELU_TAIL(4, 17)                                                           \
   "vmovaps %%zmm12, %%zmm11\n\t"                                                   \
   SOFIE_GELU_POWER(23) SOFIE_GELU_TAIL_STEP(3, 16)                                 \
   SOFIE_GELU_POWER(22) SOFIE_GELU_TAIL_STEP(2, 15)                                 \
   SOFIE_GELU_POWER(21) SOFIE_GELU_TAIL_STEP(1, 14)                                 \
   SOFIE_GELU_POWER(20) SOFIE_GELU_TAIL_STEP(0, 13)                                 \
   SOFIE_GELU_POWER(19)                                                             \
   combined                                                                         \
   SOFIE_GELU_POWER(18)                                                             \
   "vmulps %%zmm11, %%zmm5, %%zmm5\n\t"                                             \
   "vcmpps $14, %%zmm6, %%zmm0, %%k1\n\t"                                           \
   "vcmpps $1, %%zmm7, %%zmm0, %%k1%{%%k1%}\n\t"
// -a times the tail.
#define SOFIE_GELU_TIMES "vmulps %%zmm1, %%zmm11, %%zmm11\n\t"
#define SOFIE_GELU_END                                                              \
   "vscalefps %%zmm10, %%zmm5, %%zmm5%{%%k1%}%{z%}\n\t"                             \
   "vfixupimmps $0, %%zmm31, %%zmm0, %%zmm0\n\t"                                    \
   "vaddps %%zmm5, %%zmm0, %%zmm0%{%%k1%}\n\t"
// To where denormal numbers are made of integers: as results of multiplications they cost 13 packs.
#define SOFIE_GELU_IF_DENORMAL                                                      \
   "vcmpps $1, " SOFIE_GELU_OPERAND(doubtful) "%%zmm0, %%k2%{%%k1%}\n\t"            \
   "kortestw %%k2, %%k2\n\t"                                                       \
   "jnz 3f\n\t"
#define SOFIE_GELU_DENORMAL                                                         \
   "3:\n\t"                                                                        \
   "vaddps " SOFIE_GELU_OPERAND(units) "%%zmm10, %%zmm3\n\t"                        \
   "vscalefps %%zmm3, %%zmm5, %%zmm3\n\t"                                           \
   "vcmpps $14, " SOFIE_GELU_OPERAND(normal) "%%zmm3, %%k2%{%%k2%}\n\t"             \
   "vcvtps2dq %%zmm3, %%zmm4\n\t"                                                  \
   "vpabsd %%zmm4, %%zmm4\n\t"                                                     \
   "vpord " SOFIE_GELU_OPERAND(sign) "%%zmm4, %%zmm4\n\t"                           \
   "kandnw %%k1, %%k2, %%k3\n\t"                                                   \
   "kmovw %%k3, %%k1\n\t"                                                          \
   SOFIE_GELU_END                                                                   \
   "vmovdqa32 %%zmm4, %%zmm0%{%%k2%}\n\t"                                           \
   "jmp 2b\n"
#define SOFIE_GELU_LOOP(least, if_denormal, denormal)                                                                \
   asm volatile(SOFIE_GELU_NUMBERS SOFIE_GELU_NUMBER(least, 6)                                                       \
                ".p2align 5\n"                                                                                       \
                "1:\n\t" SOFIE_GELU_BEGIN(SOFIE_GELU_TIMES) if_denormal SOFIE_GELU_END                               \
                "2:\n\t"                                                                                             \
                "vmovups %%zmm0, (%[y])\n\t"                                                                         \
                "add $64, %[x]\n\t"                                                                                  \
                "add $64, %[y]\n\t"                                                                                  \
                "dec %[packs]\n\t"                                                                                   \
                "jnz 1b\n\t"                                                                                         \
                "jmp 4f\n" denormal                                                                                  \
                "4:\n\t"                                                                                             \
                : [x] "+&r"(x), [y] "+&r"(y), [packs] "+&r"(packs)                                                   \
                : [numbers] "r"(&gelu_numbers), SOFIE_GELU_MEMBERS                                                   \
                : "memory", "cc", "k1", "k2", "k3", SOFIE_ALL_PACKS)
// g times P(x) + x p(x): R = Q(a) - a p(a), or 1 - R where x is positive; x - x is NaN for what is not finite.
#define SOFIE_GELU_SLOPE                                                            \
   "vscalefps %%zmm10, %%zmm5, %%zmm5%{%%k1%}%{z%}\n\t"                             \
   "vsubps %%zmm0, %%zmm0, %%zmm3\n\t"                                              \
   "vcmpps $14, %%zmm3, %%zmm0, %%k2\n\t"                                           \
   "vsubps %%zmm5, %%zmm28, %%zmm5%{%%k2%}\n\t"                                     \
   "vaddps %%zmm3, %%zmm5, %%zmm5\n\t"                                              \
   "vmulps (%[g]), %%zmm5, %%zmm0\n\t"
#define SOFIE_GELU_PLUS_DENSITY "vfmadd231ps " SOFIE_GELU_OPERAND(density) "%%zmm1, %%zmm11\n\t"
// clang-format on

/// y = GELU of x, for whole packs; `Inner` if it is for the next layer of a run. y may be x.
template <bool Inner>
SOFIE_KERNEL void gelu_packs(float *y, const float *x, Size packs)
{
   if (packs <= 0)
      return;
   if constexpr (Inner)
      SOFIE_GELU_LOOP(inner_low, "", "");
   else
      SOFIE_GELU_LOOP(low, SOFIE_GELU_IF_DENORMAL, SOFIE_GELU_DENORMAL);
}

/// y = g times the derivative of GELU at x, for whole packs. y may be g or x.
SOFIE_KERNEL inline void gelu_slope_packs(float *y, const float *g, const float *x, Size packs)
{
   if (packs <= 0)
      return;
   asm volatile(SOFIE_GELU_NUMBERS SOFIE_GELU_NUMBER(inner_low, 6) ".p2align 5\n"
                                                                   "1:\n\t" SOFIE_GELU_BEGIN(SOFIE_GELU_PLUS_DENSITY)
                                                                      SOFIE_GELU_SLOPE "vmovups %%zmm0, (%[y])\n\t"
                                                                                       "add $64, %[x]\n\t"
                                                                                       "add $64, %[g]\n\t"
                                                                                       "add $64, %[y]\n\t"
                                                                                       "dec %[packs]\n\t"
                                                                                       "jnz 1b\n\t"
                : [x] "+&r"(x), [g] "+&r"(g), [y] "+&r"(y), [packs] "+&r"(packs)
                : [numbers] "r"(&gelu_numbers), SOFIE_GELU_MEMBERS
                : "memory", "cc", "k1", "k2", SOFIE_ALL_PACKS);
}

template <bool Inner, class V>
SOFIE_INLINE V gelu_of_pack(V x)
{
   constexpr int n = lanes<float>;
   alignas(64) float numbers[(width<V> + n - 1) / n * n] = {};
   store(numbers, x);
   gelu_packs<Inner>(numbers, numbers, (width<V> + n - 1) / n);
   return load<width<V>>(numbers);
}

/// The same for `count` numbers.
template <bool Inner>
SOFIE_INLINE void gelu_array(float *y, const float *x, Size count)
{
   in_whole_packs(y, x, count, gelu_packs<Inner>);
}

template <class V>
SOFIE_INLINE V gelu_slope_of_pack(V g, V x)
{
   constexpr int n = lanes<float>;
   constexpr int packs = (width<V> + n - 1) / n;
   alignas(64) float numbers[2][std::size_t{packs * n}] = {};
   store(numbers[0], g);
   store(numbers[1], x);
   gelu_slope_packs(numbers[0], numbers[0], numbers[1], packs);
   return load<width<V>>(numbers[0]);
}

/// The same for `count` numbers.
SOFIE_INLINE void gelu_slope_array(float *y, const float *g, const float *x, Size count)
{
   constexpr int n = lanes<float>;
   gelu_slope_packs(y, g, x, count / n);
   if (const Size done = count / n * n; done < count) {
      alignas(64) float some[2][static_cast<std::size_t>(n)];
      store(some[0], load_some<n>(g + done, count - done));
      store(some[1], load_some<n>(x + done, count - done));
      gelu_slope_packs(some[0], some[0], some[1], 1);
      store_some(y + done, load<n>(some[0]), count - done);
   }
}

} // namespace sofie

SOFIE_END

#endif

SOFIE_BEGIN

namespace sofie {

/// The tail of the normal distribution for packs without assembler, fitted as `MathOf`.
template <class T>
struct TailOf;

template <>
struct TailOf<float> {
   // The tail Q of the normal distribution is 0 from here on; between layers,
   // from shortly before results are denormal numbers; the centre and the pole of its fit.
   static constexpr float high = 14.5f, inner = 13.0f, centre = 1.25f, pole = 3.25f;
   // Q(a) e^(a^2 / 2) (a + pole) in (a - centre) / (a + pole), 0 <= a <= 14.5: degree 9, within 7.6e-9 of itself.
   static constexpr float tail[] = {1.0384214f,   -1.1990391f,  0.7846611f,    -0.19866633f,   -0.07601195f,
                                    0.043813393f, 0.017807871f, -0.008590766f, -0.0069482457f, 0.0034907858f};
};

template <>
struct TailOf<double> {
   static constexpr double high = 38.5, inner = 37.5, centre = 3.0, pole = 6.0;
   // 0 <= a <= 38.5: degree 22, 3.5e-18.
   static constexpr double tail[] = {
      1.0936255352000595,     -1.692809726914381,      2.1957131480286445,     -2.3999346835435285,
      2.2049005160942943,     -1.682806260905107,      1.0392687817965445,     -0.4904235871387638,
      0.15094315525261942,    -0.008800628978966753,   -0.018101486903955875,  0.008053311454906077,
      0.0004176822952817241,  -0.001490070990796522,   0.00024947918103509397, 0.00023421922430218926,
      -8.009803687897498e-05, -3.885036595367234e-05,  1.986778187990711e-05,  6.5428874390281e-06,
      -4.779353222158195e-06, -1.8362866678058918e-07, 3.9802620681973453e-07};
};

/// `x P(x)`, which is max(x, 0) where |x| is larger than `high`.
template <class V>
SOFIE_INLINE V gelu_up_to(V x, ElementOf<V> high)
{
   using Of = TailOf<ElementOf<V>>;
   const MaskOf<V> far = abs(x) > splat<V>(high), positive = x > V{};
   const V a = select(far, V{}, abs(x));
   // a^2 = first^2 + low; the square is exact, since `first` has half of the bits.
   constexpr auto low_bits = static_cast<ElementOf<MaskOf<V>>>((1ll << (mantissa_bits<ElementOf<V>> / 2 + 1)) - 1);
   const V first = bits<V>(bits<MaskOf<V>>(a) & ~low_bits);
   const V minus_half = splat<V>(-0.5f);
   const V low = (a - first) * (a + first) * minus_half;
   const Reduced<V> reduced = reduce_by_ln2(first * first * minus_half, a * a * minus_half);
   const V inverse = splat<V>(1) / (a + splat<V>(Of::pole));
   const V factor = select<V>(positive, -a, x);
   const V slow = factor * inverse * polynomial<Of::tail>((a - splat<V>(Of::centre)) * inverse);
   const V product = multiply_add(slow, expm1_of_rest(reduced.rest + low), slow);
   return select(far, factor * V{}, times_power(product, reduced)) + select<V>(positive, x, splat<V>(-0.0f));
}

/// `x P(x) = max(x, 0) - |x| Q(|x|)`, with the normal distribution P and its tail `Q(a) = erfc(a / sqrt 2) / 2`, which
/// is `e^(-a^2 / 2)` times what varies slowly: 5 ULP / 6 ULP, also where x P(x) is small. NaN for -inf, as 0 times that
/// is.
template <class V>
SOFIE_INLINE V gelu(V x)
{
#ifdef SOFIE_GELU_ASSEMBLER
   if constexpr (std::is_same_v<ElementOf<V>, float>)
      return gelu_of_pack<false>(x);
#endif
   return gelu_up_to(x, TailOf<ElementOf<V>>::high);
}

/// The same, but -0 below -13 / -37.5, where results are near to denormal numbers, which are slow in all that reads
/// them.
template <class V>
SOFIE_INLINE V inner_gelu(V x)
{
#ifdef SOFIE_GELU_ASSEMBLER
   if constexpr (std::is_same_v<ElementOf<V>, float>)
      return gelu_of_pack<true>(x);
#endif
   return gelu_up_to(x, TailOf<ElementOf<V>>::inner);
}

/// `g (P(x) + x p(x))` with the density p, the derivative of `x P(x)`: 1 - R for positive x and R for others, where
/// `R = Q(|x|) - |x| p(x)`. 2 ULP of g. NaN for infinities, as x p(x) is.
template <class V>
SOFIE_INLINE V gelu_slope(V g, V x)
{
#ifdef SOFIE_GELU_ASSEMBLER
   if constexpr (std::is_same_v<ElementOf<V>, float>)
      return gelu_slope_of_pack(g, x);
#endif
   using Of = TailOf<ElementOf<V>>;
   const MaskOf<V> far = abs(x) > splat<V>(Of::inner);
   const V a = select(far, V{}, abs(x));
   const V minus_half = splat<V>(-0.5f);
   const Reduced<V> reduced = reduce_by_ln2(a * a * minus_half);
   const V inverse = splat<V>(1) / (a + splat<V>(Of::pole));
   const V density = a * splat<V>(static_cast<ElementOf<V>>(-0.39894228040143267794));
   const V slow = multiply_add(polynomial<Of::tail>((a - splat<V>(Of::centre)) * inverse), inverse, density);
   const V product = multiply_add(slow, expm1_of_rest(reduced.rest), slow);
   const V below = select(far, x - x, product * power_of_two<V>(reduced.power - MathFor<V>::bias));
   return g * select<V>(x > V{}, splat<V>(1) - below, below);
}

#ifdef SOFIE_AVX2_ASSEMBLER
#define SOFIE_GELU_ARRAYS
/// The numbers of `gelu_up_to` as packs, which instructions read from memory: there are more than registers.
struct alignas(32) GeluPacks {
   float tail[10][8], exp[6][8];
   float log2_e[8], minus_ln2_high[8], minus_ln2_low[8], shifter[8];
   float centre[8], pole[8], one[8], minus_half[8];
   std::uint32_t sign[8], first_bits[8];
};
// clang-format off
#define SOFIE_EIGHT_OF(k, numbers) SOFIE_EIGHT(numbers[k])
inline constexpr GeluPacks gelu_packs_of_8{
   {SOFIE_EIGHT_OF(0, TailOf<float>::tail), SOFIE_EIGHT_OF(1, TailOf<float>::tail), SOFIE_EIGHT_OF(2, TailOf<float>::tail),
    SOFIE_EIGHT_OF(3, TailOf<float>::tail), SOFIE_EIGHT_OF(4, TailOf<float>::tail), SOFIE_EIGHT_OF(5, TailOf<float>::tail),
    SOFIE_EIGHT_OF(6, TailOf<float>::tail), SOFIE_EIGHT_OF(7, TailOf<float>::tail), SOFIE_EIGHT_OF(8, TailOf<float>::tail),
    SOFIE_EIGHT_OF(9, TailOf<float>::tail)},
   {SOFIE_EIGHT_OF(0, MathOf<float>::exp), SOFIE_EIGHT_OF(1, MathOf<float>::exp), SOFIE_EIGHT_OF(2, MathOf<float>::exp),
    SOFIE_EIGHT_OF(3, MathOf<float>::exp), SOFIE_EIGHT_OF(4, MathOf<float>::exp), SOFIE_EIGHT_OF(5, MathOf<float>::exp)},
   SOFIE_EIGHT(MathOf<float>::log2_e),
   SOFIE_EIGHT(-MathOf<float>::ln2_high),
   SOFIE_EIGHT(-MathOf<float>::ln2_low),
   SOFIE_EIGHT(static_cast<float>((3ll << (MathOf<float>::mantissa - 1)) + 2 * MathOf<float>::bias)),
   SOFIE_EIGHT(TailOf<float>::centre),
   SOFIE_EIGHT(TailOf<float>::pole),
   SOFIE_EIGHT(1),
   SOFIE_EIGHT(-0.5f),
   SOFIE_EIGHT(0x80000000U),
   SOFIE_EIGHT(~((1U << (mantissa_bits<float> / 2 + 1)) - 1))};
#undef SOFIE_EIGHT_OF

#define SOFIE_GELU_PACK(name) "%c[numbers_" #name "](%[numbers])"
#define SOFIE_GELU_PACK_OF(name, k) "32*" #k "+%c[numbers_" #name "](%[numbers])"
#define SOFIE_GELU_HORNER(name, k, x) "vfmadd213ps " SOFIE_GELU_PACK_OF(name, k) ", %%ymm" #x ", %%ymm10\n\t"

/// y = GELU of x for whole packs, step by step as `gelu_up_to`; y may be x.
SOFIE_KERNEL inline void gelu_packs(float *y, const float *x, Size packs, float high)
{
   if (packs <= 0)
      return;
   asm volatile(
      "vmovaps " SOFIE_GELU_PACK(minus_half) ", %%ymm11\n\t"
      "vmovaps " SOFIE_GELU_PACK(shifter) ", %%ymm12\n\t"
      "vmovaps " SOFIE_GELU_PACK(sign) ", %%ymm13\n\t"
      "vmovaps " SOFIE_GELU_PACK(one) ", %%ymm14\n\t"
      "vbroadcastss (%[high]), %%ymm15\n\t"
      ".p2align 5\n"
      "1:\n\t"
      "vmovups (%[x]), %%ymm0\n\t"
      // |x| > high in ymm3, where a is 0; a in ymm2.
      "vandnps %%ymm0, %%ymm13, %%ymm2\n\t"
      "vcmpps $14, %%ymm15, %%ymm2, %%ymm3\n\t"
      "vandnps %%ymm2, %%ymm3, %%ymm2\n\t"
      // -a^2 / 2 is ymm4, which is exact, and ymm5; rounded in ymm6.
      "vandps " SOFIE_GELU_PACK(first_bits) ", %%ymm2, %%ymm4\n\t"
      "vsubps %%ymm4, %%ymm2, %%ymm5\n\t"
      "vaddps %%ymm4, %%ymm2, %%ymm6\n\t"
      "vmulps %%ymm6, %%ymm5, %%ymm5\n\t"
      "vmulps %%ymm11, %%ymm5, %%ymm5\n\t"
      "vmulps %%ymm4, %%ymm4, %%ymm4\n\t"
      "vmulps %%ymm11, %%ymm4, %%ymm4\n\t"
      "vmulps %%ymm2, %%ymm2, %%ymm6\n\t"
      "vmulps %%ymm11, %%ymm6, %%ymm6\n\t"
      // n ln 2 + ymm4, with n + 2 bias in the low bits of ymm6.
      "vfmadd132ps " SOFIE_GELU_PACK(log2_e) ", %%ymm12, %%ymm6\n\t"
      "vsubps %%ymm12, %%ymm6, %%ymm7\n\t"
      "vfmadd231ps " SOFIE_GELU_PACK(minus_ln2_high) ", %%ymm7, %%ymm4\n\t"
      "vfmadd231ps " SOFIE_GELU_PACK(minus_ln2_low) ", %%ymm7, %%ymm4\n\t"
      "vaddps %%ymm5, %%ymm4, %%ymm4\n\t"
      // 1 / (a + pole) in ymm5, the polynomial's argument in ymm7.
      "vaddps " SOFIE_GELU_PACK(pole) ", %%ymm2, %%ymm5\n\t"
      "vdivps %%ymm5, %%ymm14, %%ymm5\n\t"
      "vsubps " SOFIE_GELU_PACK(centre) ", %%ymm2, %%ymm7\n\t"
      "vmulps %%ymm5, %%ymm7, %%ymm7\n\t"
      // x > 0 in ymm8; the factor in ymm9: -a there, else x.
      "vxorps %%ymm8, %%ymm8, %%ymm8\n\t"
      "vcmpps $1, %%ymm0, %%ymm8, %%ymm8\n\t"
      "vorps %%ymm13, %%ymm2, %%ymm9\n\t"
      "vblendvps %%ymm8, %%ymm9, %%ymm0, %%ymm9\n\t"
      "vmovaps " SOFIE_GELU_PACK_OF(tail, 9) ", %%ymm10\n\t"
      SOFIE_GELU_HORNER(tail, 8, 7) SOFIE_GELU_HORNER(tail, 7, 7) SOFIE_GELU_HORNER(tail, 6, 7)
      SOFIE_GELU_HORNER(tail, 5, 7) SOFIE_GELU_HORNER(tail, 4, 7) SOFIE_GELU_HORNER(tail, 3, 7)
      SOFIE_GELU_HORNER(tail, 2, 7) SOFIE_GELU_HORNER(tail, 1, 7) SOFIE_GELU_HORNER(tail, 0, 7)
      "vmulps %%ymm5, %%ymm9, %%ymm5\n\t"
      "vmulps %%ymm10, %%ymm5, %%ymm5\n\t"
      // Times e^ymm4.
      "vmovaps " SOFIE_GELU_PACK_OF(exp, 5) ", %%ymm10\n\t"
      SOFIE_GELU_HORNER(exp, 4, 4) SOFIE_GELU_HORNER(exp, 3, 4) SOFIE_GELU_HORNER(exp, 2, 4)
      SOFIE_GELU_HORNER(exp, 1, 4) SOFIE_GELU_HORNER(exp, 0, 4)
      "vmulps %%ymm4, %%ymm4, %%ymm7\n\t"
      "vfmadd213ps %%ymm4, %%ymm7, %%ymm10\n\t"
      "vfmadd213ps %%ymm5, %%ymm5, %%ymm10\n\t"
      "vpsrld $1, %%ymm6, %%ymm7\n\t"
      "vpsubd %%ymm7, %%ymm6, %%ymm6\n\t"
      "vpslld $23, %%ymm7, %%ymm7\n\t"
      "vpslld $23, %%ymm6, %%ymm6\n\t"
      "vmulps %%ymm7, %%ymm10, %%ymm10\n\t"
      "vmulps %%ymm6, %%ymm10, %%ymm10\n\t"
      // The factor times 0 far away; then x is added where it is positive, else -0.
      "vxorps %%ymm7, %%ymm7, %%ymm7\n\t"
      "vmulps %%ymm7, %%ymm9, %%ymm9\n\t"
      "vblendvps %%ymm3, %%ymm9, %%ymm10, %%ymm10\n\t"
      "vblendvps %%ymm8, %%ymm0, %%ymm13, %%ymm0\n\t"
      "vaddps %%ymm0, %%ymm10, %%ymm10\n\t"
      "vmovups %%ymm10, (%[y])\n\t"
      "add $32, %[x]\n\t"
      "add $32, %[y]\n\t"
      "dec %[packs]\n\t"
      "jnz 1b\n\t"
      : [x] "+&r"(x), [y] "+&r"(y), [packs] "+&r"(packs)
      : [numbers] "r"(&gelu_packs_of_8), [high] "r"(&high),
        SOFIE_MEMBERS(numbers, GeluPacks, tail, exp, log2_e, minus_ln2_high, minus_ln2_low, shifter, centre, pole, one,
           minus_half, sign, first_bits)
      : "memory", "cc", SOFIE_ALL_YMM);
}
// clang-format on

/// y = GELU of x; `Inner` if it is for the next layer of a run.
template <bool Inner>
SOFIE_INLINE void gelu_array(float *y, const float *x, Size count)
{
   in_whole_packs(y, x, count, [](float *to, const float *from, Size packs) {
      gelu_packs(to, from, packs, Inner ? TailOf<float>::inner : TailOf<float>::high);
   });
}
#endif

} // namespace sofie

SOFIE_END

#endif
