/// \file
/// Arrays through each function of math.hxx, for test_math.py: with g++ as a shared library, in Cling
/// as it stands. `name_type(in, out, count)` works on packs and, at the end, on single elements.
#include "sofie/math/erf.hxx"
#include "sofie/math/exponentials.hxx"
#include "sofie/math/gelu.hxx"
#include "sofie/math/powers.hxx"

SOFIE_BEGIN

template <int N, class T, class F>
SOFIE_INLINE void each_pack(const T *in, T *out, long &i, long count, F f)
{
   for (; i + N <= count; i += N)
      sofie::store(out + i,
                   f(sofie::load<N>(in + i), sofie::load<N>(in + count + i), sofie::load<N>(in + 2 * count + i)));
}

template <class T, class F>
SOFIE_INLINE void each_element(const T *in, T *out, long count, F f)
{
   long i = 0;
   each_pack<sofie::lanes<T>>(in, out, i, count, f);
   each_pack<1>(in, out, i, count, f);
}

// Three operands lie one after the other in `in`; most functions take the first only.
#define PROBE(name, call)                                                   \
   struct Probe_##name {                                                    \
      template <class V>                                                    \
      SOFIE_INLINE V operator()(V a, V b, V c)                              \
      {                                                                     \
         static_cast<void>(b);                                              \
         static_cast<void>(c);                                              \
         return sofie::call;                                                \
      }                                                                     \
   };                                                                       \
   extern "C" void name##_float(const float *in, float *out, long count)    \
   {                                                                        \
      each_element(in, out, count, Probe_##name{});                         \
   }                                                                        \
   extern "C" void name##_double(const double *in, double *out, long count) \
   {                                                                        \
      each_element(in, out, count, Probe_##name{});                         \
   }

PROBE(exp, exp(a))
PROBE(expm1, expm1(a))
PROBE(log, log(a))
PROBE(log1p, log1p(a))
PROBE(tanh, tanh(a))
PROBE(sigmoid, sigmoid(a))
PROBE(erf, erf(a))
PROBE(gelu, gelu(a))
PROBE(inner_gelu, inner_gelu(a))
PROBE(softplus, softplus(a))
PROBE(sqrt, sqrt(a))
PROBE(abs, abs(a))
PROBE(floor, floor(a))
PROBE(ceil, ceil(a))
PROBE(round_even, round_even(a))
PROBE(trunc, trunc(a))
PROBE(sin, sin(a))
PROBE(cos, cos(a))
PROBE(tan, tan(a))
PROBE(asin, asin(a))
PROBE(acos, acos(a))
PROBE(atan, atan(a))
PROBE(sinh, sinh(a))
PROBE(cosh, cosh(a))
PROBE(asinh, asinh(a))
PROBE(acosh, acosh(a))
PROBE(atanh, atanh(a))
PROBE(copysign, copysign(a, b))
PROBE(pow, pow(a, b))
PROBE(fmod, fmod(a, b))
PROBE(multiply_add, multiply_add(a, b, c))

#ifdef SOFIE_EXPONENTIALS_ASSEMBLER
#define ARRAY(name, factor)                                                       \
   extern "C" void name##_array_float(const float *in, float *out, long count)    \
   {                                                                              \
      sofie::exponential_array<sofie::Exponential::name>(out, in, count, factor); \
   }
#else
#define ARRAY(name, factor)                                                    \
   extern "C" void name##_array_float(const float *in, float *out, long count) \
   {                                                                           \
      name##_float(in, out, count);                                            \
   }
#endif
PROBE(swish, times_sigmoid(a, 1.75f * a))
#ifdef SOFIE_GELU_ARRAYS
extern "C" void gelu_array_float(const float *in, float *out, long count)
{
   sofie::gelu_array<false>(out, in, count);
}
extern "C" void inner_gelu_array_float(const float *in, float *out, long count)
{
   sofie::gelu_array<true>(out, in, count);
}
#else
extern "C" void gelu_array_float(const float *in, float *out, long count)
{
   gelu_float(in, out, count);
}
extern "C" void inner_gelu_array_float(const float *in, float *out, long count)
{
   inner_gelu_float(in, out, count);
}
#endif
ARRAY(exp, sofie::MathOf<float>::exp_high)
ARRAY(tanh, sofie::MathOf<float>::tanh_high)
ARRAY(sigmoid, 0)
ARRAY(swish, 1.75f)

SOFIE_END

// The C library's erf, which numpy lacks.
extern "C" void reference_erf(const long double *in, long double *out, long count)
{
   for (long i = 0; i < count; ++i)
      out[i] = __builtin_erfl(in[i]);
}

// x erfc(z) / 2 for z = -x / sqrt 2, which is a sum: the tail would feel the bits that its first part lacks.
extern "C" void reference_gelu(const long double *in, long double *out, long count)
{
   const long double root = 0xb504f333f9de6484p-64L, rest = 1.895032558893257079655062e-20L,
                     slope = 1.12837916709551257390L;
   for (long i = 0; i < count; ++i) {
      const long double z = -in[i] * root, beyond = -__builtin_fmal(in[i], root, z) - in[i] * rest;
      const long double correction = slope * __builtin_expl(-z * z) * beyond;
      out[i] = in[i] / 2 * (__builtin_erfcl(z) - (correction == correction ? correction : 0));
   }
}
