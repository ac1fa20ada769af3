/// \file
/// erf of floats for registers of 64 bytes, in assembler.
///
/// A polynomial for each of 32 parts of |x|, around multiples of 1/8: its coefficients come from registers by the
/// number of the part, which costs less than an exponential. The same instructions serve a single pack and many.
#ifndef SOFIE_MATH_ERF_HXX
#define SOFIE_MATH_ERF_HXX

#include "sofie/assembler.hxx"
#include "sofie/math.hxx"

#ifdef SOFIE_AVX512_ASSEMBLER
#define SOFIE_ERF_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

/// Fitted as those in `math.hxx`.
struct alignas(64) ErfNumbers {
   // erf by powers of |x| - part / 8: degree 5, within 3.2e-10 of itself; in the first part |x| less,
   // and odd.
   float parts[6][32];
   float shifter; // Numbers of this size are the eighths: adding it rounds, and its low bits count them.
   float limit;   // erf is 1 from here on.
   std::uint32_t sign;
};
inline constexpr ErfNumbers erf_numbers{
   {{0.0f,          1.403162e-01f,  2.763264e-01f,  4.041169e-01f,  5.204999e-01f,  6.232409e-01f,  7.1115565e-01f,
     7.840751e-01f, 8.427008e-01f,  8.883882e-01f,  9.2290014e-01f, 9.4817007e-01f, 9.6610516e-01f, 9.7844374e-01f,
     9.866717e-01f, 9.9199003e-01f, 9.953223e-01f,  9.97346e-01f,   9.985373e-01f,  9.9921703e-01f, 9.99593e-01f,
     9.997946e-01f, 9.998994e-01f,  9.9995214e-01f, 9.999779e-01f,  9.999901e-01f,  9.999957e-01f,  9.999982e-01f,
     9.999993e-01f, 9.999997e-01f,  9.999999e-01f,  9.9999994e-01f},
    {1.2837917e-01f, 1.1108853e+00f, 1.0600141e+00f, 9.803528e-01f,  8.787826e-01f,  7.6349956e-01f, 6.4293104e-01f,
     5.2474505e-01f, 4.151075e-01f,  3.1827396e-01f, 2.3652112e-01f, 1.7035978e-01f, 1.1893029e-01f, 8.047226e-02f,
     5.2774996e-02f, 3.354583e-02f,  2.0666985e-02f, 1.234082e-02f,  7.142319e-03f,  4.006478e-03f,  2.1782843e-03f,
     1.1478751e-03f, 5.862773e-04f,  2.902283e-04f,  1.3925305e-04f, 6.4758686e-05f, 2.9189026e-05f, 1.2751742e-05f,
     5.399427e-06f,  2.2159206e-06f, 8.8143236e-07f, 3.3982246e-07f},
    {0.0f,
     -1.3886046e-01f,
     -2.6500317e-01f,
     -3.6763188e-01f,
     -4.3939087e-01f,
     -4.7718686e-01f,
     -4.8219806e-01f,
     -4.5915183e-01f,
     -4.1510755e-01f,
     -3.5805833e-01f,
     -2.9565158e-01f,
     -2.3424488e-01f,
     -1.783956e-01f,
     -1.3076754e-01f,
     -9.235632e-02f,
     -6.2898465e-02f,
     -4.1333973e-02f,
     -2.6224228e-02f,
     -1.6070193e-02f,
     -9.515358e-03f,
     -5.4456866e-03f,
     -3.0131529e-03f,
     -1.6122482e-03f,
     -8.343965e-04f,
     -4.177528e-04f,
     -2.02367e-04f,
     -9.4862065e-05f,
     -4.3035867e-05f,
     -1.8897324e-05f,
     -8.032371e-06f,
     -3.3052047e-06f,
     -1.3167339e-06f},
    {-3.7612617e-01f, -3.5872474e-01f, -3.09172e-01f,  -2.3487726e-01f, -1.4646468e-01f, -5.567258e-02f,
     2.6788227e-02f,  9.29232e-02f,    1.3836892e-01f, 1.624522e-01f,   1.6753578e-01f,  1.5793777e-01f,
     1.3875212e-01f,  1.14840746e-01f, 9.01574e-02f,   6.744118e-02f,   4.8223026e-02f,  3.303744e-02f,
     2.1724565e-02f,  1.3730532e-02f,  8.35008e-03f,   4.890414e-03f,   2.760377e-03f,   1.5025265e-03f,
     7.8909355e-04f,  4.0001495e-04f,  1.9580663e-04f, 9.25811e-05f,    4.2294454e-05f,  1.8673172e-05f,
     7.96932e-06f,    3.2883436e-06f},
    {0.0f,
     6.857555e-02f,
     1.2674397e-01f,
     1.6629022e-01f,
     1.8278678e-01f,
     1.7621776e-01f,
     1.5052958e-01f,
     1.123358e-01f,
     6.921145e-02f,
     2.8064197e-02f,
     -6.0347104e-03f,
     -3.037084e-02f,
     -4.448566e-02f,
     -4.96344e-02f,
     -4.8049662e-02f,
     -4.2235788e-02f,
     -3.444226e-02f,
     -2.6371462e-02f,
     -1.9100377e-02f,
     -1.3151447e-02f,
     -8.638768e-03f,
     -5.42746e-03f,
     -3.2678288e-03f,
     -1.888445e-03f,
     -1.0487267e-03f,
     -5.602277e-04f,
     -2.8811593e-04f,
     -1.4274752e-04f,
     -6.817435e-05f,
     -3.140079e-05f,
     -1.3954484e-05f,
     -5.9855347e-06f},
    {1.1268059e-01f,  1.04364514e-01f, 8.023439e-02f,   4.5671437e-02f,  7.5309547e-03f,  -2.7205603e-02f,
     -5.30512e-02f,   -6.705711e-02f,  -6.9070816e-02f, -6.1259497e-02f, -4.7163337e-02f, -3.0624788e-02f,
     -1.4907957e-02f, -2.1855547e-03f, 6.5761073e-03f,  1.1423826e-02f,  1.30627975e-02f, 1.2480916e-02f,
     1.0652465e-02f,  8.358366e-03f,   6.121588e-03f,   4.2232e-03f,     2.7608576e-03f,  1.7173962e-03f,
     1.0196022e-03f,  5.790462e-04f,   3.1512722e-04f,  1.6457356e-04f,  8.257173e-05f,   3.983903e-05f,
     1.8498407e-05f,  8.271758e-06f}},
   0x1.8p20f,
   3.93f,
   0x80000000U};

// clang-format off
#define SOFIE_ERF_TABLE(k, low, high)                                               \
   "vmovaps " #k "*128+%c[numbers_parts](%[numbers]), %%zmm" #low "\n\t"            \
   "vmovaps " #k "*128+64+%c[numbers_parts](%[numbers]), %%zmm" #high "\n\t"
#define SOFIE_ERF_STEP(low, high)                                                   \
   "vmovaps %%zmm2, %%zmm5\n\t"                                                     \
   "vpermi2ps %%zmm" #high ", %%zmm" #low ", %%zmm5\n\t"                            \
   "vfmadd213ps %%zmm5, %%zmm1, %%zmm4\n\t"
// clang-format on

/// y = erf x for whole packs, y may be x.
SOFIE_KERNEL inline void erf_packs(float *y, const float *x, Size packs)
{
   if (packs <= 0)
      return;
   // clang-format off
   asm volatile(
      SOFIE_ERF_TABLE(0, 16, 17) SOFIE_ERF_TABLE(1, 18, 19) SOFIE_ERF_TABLE(2, 20, 21)
      SOFIE_ERF_TABLE(3, 22, 23) SOFIE_ERF_TABLE(4, 24, 25) SOFIE_ERF_TABLE(5, 26, 27)
      "vbroadcastss %c[numbers_shifter](%[numbers]), %%zmm28\n\t"
      "vbroadcastss %c[numbers_limit](%[numbers]), %%zmm29\n\t"
      "vbroadcastss %c[numbers_sign](%[numbers]), %%zmm30\n\t"
      ".p2align 5\n"
      "1:\n\t"
      "vmovups (%[x]), %%zmm0\n\t"
      "vpandnd %%zmm0, %%zmm30, %%zmm1\n\t"
      "vminps %%zmm1, %%zmm29, %%zmm1\n\t" // NaN stays.
      "vaddps %%zmm28, %%zmm1, %%zmm2\n\t"
      "vsubps %%zmm28, %%zmm2, %%zmm3\n\t"
      "vptestnmd %%zmm3, %%zmm3, %%k1\n\t"
      "vsubps %%zmm3, %%zmm1, %%zmm1\n\t"
      "vmovaps %%zmm2, %%zmm4\n\t"
      "vpermi2ps %%zmm27, %%zmm26, %%zmm4\n\t"
      SOFIE_ERF_STEP(24, 25) SOFIE_ERF_STEP(22, 23) SOFIE_ERF_STEP(20, 21)
      SOFIE_ERF_STEP(18, 19)
      "vmovaps %%zmm2, %%zmm5\n\t"
      "vpermi2ps %%zmm17, %%zmm16, %%zmm5\n\t"
      "vmovaps %%zmm1, %%zmm5%{%%k1%}\n\t"
      "vfmadd213ps %%zmm5, %%zmm1, %%zmm4\n\t"
      "vpternlogd $0xd8, %%zmm30, %%zmm0, %%zmm4\n\t"
      "vmovups %%zmm4, (%[y])\n\t"
      "add $64, %[x]\n\t"
      "add $64, %[y]\n\t"
      "dec %[packs]\n\t"
      "jnz 1b\n\t"
      : [x] "+&r"(x), [y] "+&r"(y), [packs] "+&r"(packs)
      : [numbers] "r"(&erf_numbers),
        SOFIE_MEMBERS(numbers, ErfNumbers, parts, shifter, limit, sign)
      : "memory", "cc", "k1", SOFIE_ALL_PACKS);
   // clang-format on
}

template <class V>
SOFIE_INLINE V erf_of_pack(V x)
{
   constexpr int n = lanes<float>;
   alignas(64) float numbers[(width<V> + n - 1) / n * n] = {};
   store(numbers, x);
   erf_packs(numbers, numbers, (width<V> + n - 1) / n);
   return load<width<V>>(numbers);
}

/// The same for `count` numbers.
SOFIE_INLINE void erf_array(float *y, const float *x, Size count)
{
   in_whole_packs(y, x, count, erf_packs);
}

} // namespace sofie

SOFIE_END

#endif

SOFIE_BEGIN

namespace sofie {

/// The numbers of packs without assembler, fitted as those of `MathOf`.
template <class T>
struct ErfOf;

template <>
struct ErfOf<float> {
   static constexpr float high = 4; // erf x is 1.
   // erf(x) / x - 1 in x^2, |x| <= 1: degree 6, erf within 1.2e-9 of itself.
   static constexpr float small[] = {0.128379166f,   -0.37612626f,     0.112835854f,  -0.0268538129f,
                                     0.00518832775f, -0.000801019429f, 7.85386437e-5f};
   // log(1 - erf x) in x - 1, 1 <= x <= 4: degree 6, erf within 1.1e-9 of itself.
   static constexpr float large[] = {-1.84960556f,   -2.6389668f,     -0.843117595f,  -0.0415034965f,
                                     0.00989545789f, -0.00182938133f, 0.000186378675f};
};

template <>
struct ErfOf<double> {
   static constexpr double high = 6;
   // Degree 11, 7.3e-18.
   static constexpr double small[] = {0.12837916709551256,     -0.3761263890318352,     0.11283791670944185,
                                      -0.026866170643111503,   0.005223977606118712,    -0.0008548325929323979,
                                      0.00012055293577135585,  -1.4924712305740118e-05, 1.644713160924535e-06,
                                      -1.6206313997772758e-07, 1.3710981246788567e-08,  -7.779469781253706e-10};
   // 1 <= x <= 6: degree 18, 1.2e-18.
   static constexpr double large[] = {
      -1.8496055099332482,     -2.6389675142347886,     -0.843107256358659,     -0.04156109804218322,
      0.010033825378469962,    -0.0019779025941230534,  0.00023732259113017784, 2.62775608939992e-05,
      -2.7158473023461163e-05, 9.607954030221962e-06,   -2.05873654808285e-06,  1.4203113923628028e-07,
      9.806068615707455e-08,   -5.226903899185102e-08,  1.4987290869199188e-08, -2.8816166936169582e-09,
      3.709691512412545e-10,   -2.9067586311938584e-11, 1.0496428575103155e-12};
};

/// `erf x`, for |x| >= 1 as `1 - e^log(1 - erf x)`: 1.5 ULP / 1.5 ULP.
template <class V>
SOFIE_INLINE V erf(V x)
{
#ifdef SOFIE_ERF_ASSEMBLER
   if constexpr (std::is_same_v<ElementOf<V>, float>)
      return erf_of_pack(x);
#endif
   using Of = ErfOf<ElementOf<V>>;
   const V size = at_most(abs(x), Of::high);
   const V small = multiply_add(size, polynomial<Of::small>(size * size), size);
   const Reduced<V> reduced = reduce_by_ln2(polynomial<Of::large>(size - splat<V>(1)));
   const V power = power_of_two<V>(reduced.power - MathFor<V>::bias);
   const V large = splat<V>(1) - multiply_add(power, expm1_of_rest(reduced.rest), power);
   return copysign(select<V>(size < splat<V>(1), small, large), x);
}

} // namespace sofie

SOFIE_END

#endif
