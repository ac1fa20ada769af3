/// \file
/// The function objects of ONNX's element-wise operators, of numbers, with the attributes of the operators.
///
/// The first argument has the mathematical functions of the device.
#ifndef SOFIE_DEVICE_FUNCTIONS_HXX
#define SOFIE_DEVICE_FUNCTIONS_HXX

#include "sofie/device/half.hxx"

namespace sofie {
namespace device {

#define SOFIE_DEVICE_FUNCTION(Name, expression)    \
   struct Name {                                   \
      template <class M, class T>                  \
      SOFIE_DEVICE auto operator()(M m, T x) const \
      {                                            \
         static_cast<void>(m);                     \
         return expression;                        \
      }                                            \
   };
#define SOFIE_DEVICE_OPERATOR(Name, expression)       \
   struct Name {                                      \
      template <class M, class T>                     \
      SOFIE_DEVICE auto operator()(M, T a, T b) const \
      {                                               \
         return expression;                           \
      }                                               \
   };

// One argument ----------------------------------------------------------------------------------------------------

SOFIE_DEVICE_FUNCTION(Identity, x)
SOFIE_DEVICE_FUNCTION(Exp, m.exp(x))
SOFIE_DEVICE_FUNCTION(Log, m.log(x))
SOFIE_DEVICE_FUNCTION(Sqrt, m.sqrt(x))
SOFIE_DEVICE_FUNCTION(Erf, m.erf(x))
SOFIE_DEVICE_FUNCTION(Sin, m.sin(x))
SOFIE_DEVICE_FUNCTION(Cos, m.cos(x))
SOFIE_DEVICE_FUNCTION(Tan, m.tan(x))
SOFIE_DEVICE_FUNCTION(Asin, m.asin(x))
SOFIE_DEVICE_FUNCTION(Acos, m.acos(x))
SOFIE_DEVICE_FUNCTION(Atan, m.atan(x))
SOFIE_DEVICE_FUNCTION(Sinh, m.sinh(x))
SOFIE_DEVICE_FUNCTION(Cosh, m.cosh(x))
SOFIE_DEVICE_FUNCTION(Tanh, m.tanh(x))
SOFIE_DEVICE_FUNCTION(Asinh, m.asinh(x))
SOFIE_DEVICE_FUNCTION(Acosh, m.acosh(x))
SOFIE_DEVICE_FUNCTION(Atanh, m.atanh(x))
SOFIE_DEVICE_FUNCTION(Floor, m.floor(x))
SOFIE_DEVICE_FUNCTION(Ceil, m.ceil(x))
SOFIE_DEVICE_FUNCTION(Round, m.rint(x))
SOFIE_DEVICE_FUNCTION(Reciprocal, T(1) / x)
SOFIE_DEVICE_FUNCTION(Relu, x < T(0) ? T(0) : x)
SOFIE_DEVICE_FUNCTION(Not, !x)
SOFIE_DEVICE_FUNCTION(BitwiseNot, static_cast<T>(~x))
SOFIE_DEVICE_FUNCTION(IsNaN, x != x)
SOFIE_DEVICE_FUNCTION(TrueLike, (static_cast<void>(x), true))
SOFIE_DEVICE_FUNCTION(Softsign, x / (T(1) + m.fabs(x)))

struct Abs {
   template <class M, class T>
   SOFIE_DEVICE T operator()(M m, T x) const
   {
      if constexpr (std::is_floating_point_v<T>)
         return m.fabs(x);
      else
         return x < T(0) ? minus(T(0), x) : x;
   }
};

struct Neg {
   template <class M, class T>
   SOFIE_DEVICE T operator()(M, T x) const
   {
      if constexpr (std::is_floating_point_v<T>)
         return -x;
      else
         return minus(T(0), x);
   }
};

/// NaN of NaN.
struct Sign {
   template <class M, class T>
   SOFIE_DEVICE T operator()(M, T x) const
   {
      return x > T(0) ? T(1) : x < T(0) ? minus(T(0), T(1)) : x != x ? x : T(0);
   }
};

struct IsInf {
   bool detect_negative = true;
   bool detect_positive = true;
   template <class M, class T>
   SOFIE_DEVICE bool operator()(M, T x) const
   {
      // x - x is NaN of infinities alone, where x itself is not.
      const bool infinite = x == x && x - x != T(0);
      return infinite && (x > T(0) ? detect_positive : detect_negative);
   }
};

/// 1 / (1 + e^-x), of which no part overflows.
struct Sigmoid {
   template <class M, class T>
   SOFIE_DEVICE T operator()(M m, T x) const
   {
      const T small = m.exp(-m.fabs(x));
      return (x < T(0) ? small : T(1)) / (T(1) + small);
   }
};

struct Softplus {
   template <class M, class T>
   SOFIE_DEVICE T operator()(M m, T x) const
   {
      const T rest = m.log1p(m.exp(-m.fabs(x)));
      return x != x ? x : (x > T(0) ? x : T(0)) + rest;
   }
};

struct Swish {
   double alpha = 1;
   template <class M, class T>
   SOFIE_DEVICE T operator()(M m, T x) const
   {
      return x * Sigmoid{}(m, static_cast<T>(alpha) * x);
   }
};

struct Mish {
   template <class M, class T>
   SOFIE_DEVICE T operator()(M m, T x) const
   {
      return x * m.tanh(Softplus{}(m, x));
   }
};

struct Elu {
   double alpha = 1;
   template <class M, class T>
   SOFIE_DEVICE T operator()(M m, T x) const
   {
      return x < T(0) ? static_cast<T>(alpha) * m.expm1(x) : x;
   }
};

struct Celu {
   double alpha = 1;
   template <class M, class T>
   SOFIE_DEVICE T operator()(M m, T x) const
   {
      const T a = static_cast<T>(alpha);
      return x < T(0) ? a * m.expm1(x / a) : x;
   }
};

struct Selu {
   double alpha = 0;
   double gamma = 0;
   template <class M, class T>
   SOFIE_DEVICE T operator()(M m, T x) const
   {
      return static_cast<T>(gamma) * (x < T(0) ? static_cast<T>(alpha) * m.expm1(x) : x);
   }
};

struct LeakyRelu {
   double alpha = 0.01;
   template <class M, class T>
   SOFIE_DEVICE T operator()(M, T x) const
   {
      return x < T(0) ? static_cast<T>(alpha) * x : x;
   }
};

struct ThresholdedRelu {
   double alpha = 1;
   template <class M, class T>
   SOFIE_DEVICE T operator()(M, T x) const
   {
      return x <= static_cast<T>(alpha) ? T(0) : x;
   }
};

struct HardSigmoid {
   double alpha = 0.2;
   double beta = 0.5;
   template <class M, class T>
   SOFIE_DEVICE T operator()(M, T x) const
   {
      return minimum(maximum(static_cast<T>(alpha) * x + static_cast<T>(beta), T(0)), T(1));
   }
};

struct HardSwish {
   template <class M, class T>
   SOFIE_DEVICE T operator()(M m, T x) const
   {
      return x * HardSigmoid{1.0 / 6.0, 0.5}(m, x);
   }
};

/// x * erfc(-x / sqrt 2) / 2, which keeps its digits where 1 + erf would lose them.
struct Gelu {
   template <class M, class T>
   SOFIE_DEVICE T operator()(M m, T x) const
   {
      const T half = T(0.5) * x;
      if (x >= T(0) || x < T(-30))
         return half * m.erfc(x * static_cast<T>(-0.70710678118654752440));
      // The error of the argument is the relative error of erfc times its square: it is computed in float64.
      return static_cast<T>(0.5 * static_cast<double>(x) * m.erfc(static_cast<double>(x) * -0.70710678118654752440));
   }
};

/// What comes back through a GELU.
struct GeluSlope {
   template <class M, class T>
   SOFIE_DEVICE T operator()(M m, T g, T x) const
   {
      const T density = m.exp(T(-0.5) * x * x) * static_cast<T>(0.39894228040143267794);
      return g * (T(0.5) * m.erfc(x * static_cast<T>(-0.70710678118654752440)) + x * density);
   }
};

struct GeluTanh {
   template <class M, class T>
   SOFIE_DEVICE T operator()(M m, T x) const
   {
      const T u = static_cast<T>(0.79788456080286535588) * (x + static_cast<T>(0.044715) * (x * x * x));
      return x * Sigmoid{}(m, u + u);
   }
};

struct Shrink {
   double lambd = 0.5;
   double bias = 0;
   template <class M, class T>
   SOFIE_DEVICE T operator()(M, T x) const
   {
      // Of integers in float64, as their reference is.
      using Wide = std::conditional_t<std::is_floating_point_v<T>, T, double>;
      const Wide wide = static_cast<Wide>(x), b = static_cast<Wide>(bias), l = static_cast<Wide>(lambd);
      return static_cast<T>(wide < -l ? wide + b : wide > l ? wide - b : wide != wide ? wide : Wide(0));
   }
};

/// What comes back through a ReLU whose result is y.
struct Gate {
   template <class M, class T>
   SOFIE_DEVICE T operator()(M, T g, T y) const
   {
      return y <= T(0) ? T(0) : g;
   }
};

/// Clip with bounds that are known.
struct Between {
   double low = -HUGE_VAL, high = HUGE_VAL;
   template <class M, class T>
   SOFIE_DEVICE T operator()(M, T x) const
   {
      return minimum(maximum(x, static_cast<T>(low)), static_cast<T>(high));
   }
};

/// Conversion to another element type; from float to integer towards zero.
template <class To>
struct Cast {
   template <class M, class T>
   SOFIE_DEVICE To operator()(M, T x) const
   {
      if constexpr (std::is_same_v<To, bool>)
         return x != T(0);
      else if constexpr (std::is_floating_point_v<T> && std::is_integral_v<To> && sizeof(To) < 8)
         return static_cast<To>(static_cast<std::int64_t>(x)); // what does not fit, modulo 2^bits
      else
         return static_cast<To>(x);
   }
};

/// The same from and to numbers of 16 bits.
template <class From, class To>
struct Recast {
   bool saturate;
   int mode;
   template <class M>
   SOFIE_DEVICE To operator()(M m, From x) const
   {
      if constexpr (is_half<From> && is_half<To>)
         return To(static_cast<float>(x));
      else if constexpr (is_half<From>)
         return Cast<To>{}(m, static_cast<float>(x));
      else if constexpr (std::is_same_v<From, float>)
         return To(x);
      else
         return To(to_odd(static_cast<double>(x)));
   }
};

// Two and more arguments --------------------------------------------------------------------------------------------

SOFIE_DEVICE_OPERATOR(Add, plus(a, b))
SOFIE_DEVICE_OPERATOR(Sub, minus(a, b))
SOFIE_DEVICE_OPERATOR(Mul, times(a, b))
SOFIE_DEVICE_OPERATOR(And, a &&b)
SOFIE_DEVICE_OPERATOR(Or, a || b)
SOFIE_DEVICE_OPERATOR(Xor, a != b)
SOFIE_DEVICE_OPERATOR(BitwiseAnd, static_cast<T>(a &b))
SOFIE_DEVICE_OPERATOR(BitwiseOr, static_cast<T>(a | b))
SOFIE_DEVICE_OPERATOR(BitwiseXor, static_cast<T>(a ^ b))
SOFIE_DEVICE_OPERATOR(Equal, a == b)
SOFIE_DEVICE_OPERATOR(Less, a < b)
SOFIE_DEVICE_OPERATOR(LessOrEqual, a <= b)
SOFIE_DEVICE_OPERATOR(Greater, a > b)
SOFIE_DEVICE_OPERATOR(GreaterOrEqual, a >= b)
SOFIE_DEVICE_OPERATOR(PRelu, a < T(0) ? times(b, a) : a)

/// Of integers towards zero; x / 0 is 0 and the overflowing -2^n / -1 wraps.
struct Div {
   template <class M, class T>
   SOFIE_DEVICE T operator()(M, T a, T b) const
   {
      if constexpr (std::is_floating_point_v<T>)
         return a / b;
      else if constexpr (std::is_signed_v<T>)
         return b == T(0) ? T(0) : b == T(-1) ? minus(T(0), a) : static_cast<T>(a / b);
      else
         return b == T(0) ? T(0) : static_cast<T>(a / b);
   }
};

/// Remainder with the sign of the divisor (as in Python), or of the dividend (as in C); of integers 0 for b = 0.
struct Mod {
   bool fmod = false;
   template <class M, class T>
   SOFIE_DEVICE T operator()(M m, T a, T b) const
   {
      if constexpr (std::is_floating_point_v<T>) {
         const T rest = m.fmod(a, b);
         if (fmod)
            return rest;
         return rest == T(0) ? m.copysign(T(0), b) : (rest < T(0)) != (b < T(0)) ? rest + b : rest;
      } else {
         const T rest = b == T(0) ? T(0) : minus(a, times(Div{}(m, a, b), b));
         return !fmod && rest != T(0) && (rest < T(0)) != (b < T(0)) ? plus(rest, b) : rest;
      }
   }
};

/// a to the power b, in the type of a.
struct Pow {
   template <class M, class T, class E>
   SOFIE_DEVICE T operator()(M m, T a, E b) const
   {
      if constexpr (std::is_integral_v<T> && std::is_integral_v<E>)
         return whole(a, b);
      else if constexpr (std::is_same_v<T, E>)
         return m.pow(a, b);
      else
         return Cast<T>{}(m, m.pow(static_cast<double>(a), static_cast<double>(b)));
   }

private:
   template <class T, class E>
   SOFIE_DEVICE static T whole(T base, E exponent)
   {
      if constexpr (std::is_signed_v<E>) {
         if (exponent < 0)
            return base == T(1) ? T(1) : std::is_signed_v<T> && base == T(-1) ? (exponent % 2 ? base : T(1)) : T(0);
      }
      // In 64 bits, so that nothing overflows that is signed: the bits kept are those of the result.
      std::uint64_t result = 1, factor = static_cast<std::uint64_t>(base);
      for (; exponent; exponent = static_cast<E>(exponent / 2)) {
         if (exponent % 2)
            result *= factor;
         factor *= factor;
      }
      return static_cast<T>(result);
   }
};

/// a << b or a >> b; of another b than 0 ... bits - 1 only the sign is left by the shift to the right.
struct BitShift {
   bool left = true;
   template <class M, class T>
   SOFIE_DEVICE T operator()(M, T a, T b) const
   {
      using U = std::make_unsigned_t<T>;
      constexpr int bits = 8 * static_cast<int>(sizeof(T));
      const bool beyond = b < T(0) || static_cast<U>(b) >= static_cast<U>(bits);
      if (left)
         return beyond ? T(0) : static_cast<T>(static_cast<std::uint64_t>(a) << b);
      return beyond ? (a < T(0) ? static_cast<T>(-1) : T(0)) : static_cast<T>(a >> b);
   }
};

struct SwiGLU {
   double alpha = 1;
   template <class M, class T>
   SOFIE_DEVICE T operator()(M m, T a, T b) const
   {
      return Swish{alpha}(m, a) * b;
   }
};

/// (x - mean) * scale / sqrt(var + epsilon) + bias
struct BatchNormalization {
   double epsilon = 1e-5;
   template <class M, class T>
   SOFIE_DEVICE T operator()(M m, T x, T scale, T bias, T mean, T var) const
   {
      return (x - mean) * (scale / m.sqrt(var + static_cast<T>(epsilon))) + bias;
   }
};

struct Where {
   template <class M, class T>
   SOFIE_DEVICE T operator()(M, bool condition, T yes, T no) const
   {
      return condition ? yes : no;
   }
};

struct Clip {
   template <class M, class T>
   SOFIE_DEVICE T operator()(M, T x, T low, T high) const
   {
      return minimum(maximum(x, low), high);
   }
};

#define SOFIE_DEVICE_VARIADIC(Name, expression)                    \
   struct Name {                                                   \
      template <class M, class T>                                  \
      SOFIE_DEVICE T operator()(M, T a) const                      \
      {                                                            \
         return a;                                                 \
      }                                                            \
      template <class M, class T, class... More>                   \
      SOFIE_DEVICE T operator()(M m, T a, T b, More... more) const \
      {                                                            \
         return (*this)(m, expression, more...);                   \
      }                                                            \
   };
SOFIE_DEVICE_VARIADIC(Max, maximum(a, b))
SOFIE_DEVICE_VARIADIC(Min, minimum(a, b))
SOFIE_DEVICE_VARIADIC(Sum, a + b)

struct Mean {
   template <class M, class T, class... More>
   SOFIE_DEVICE T operator()(M m, T a, More... more) const
   {
      return Sum{}(m, a, more...) / static_cast<T>(1 + sizeof...(More));
   }
};

/// second(first(a, ...), z); with `Behind`, second(z, first(a, ...)).
template <class First, class Second, int Count, bool Behind>
struct Then {
   First first;
   Second second;

   template <class M, class... T>
   SOFIE_DEVICE auto operator()(M m, T... x) const
   {
      static_assert(Count >= 1 && Count <= 4 && sizeof...(T) >= Count);
      return from<Count>(m, x...);
   }

private:
   template <int N, class M, class A, class... Rest>
   SOFIE_DEVICE auto from(M m, A a, Rest... rest) const
   {
      if constexpr (N == 1)
         return joined(m, first(m, a), rest...);
      else
         return from2<N>(m, a, rest...);
   }
   template <int N, class M, class A, class B, class... Rest>
   SOFIE_DEVICE auto from2(M m, A a, B b, Rest... rest) const
   {
      if constexpr (N == 2)
         return joined(m, first(m, a, b), rest...);
      else
         return from3<N>(m, a, b, rest...);
   }
   template <int N, class M, class A, class B, class C, class... Rest>
   SOFIE_DEVICE auto from3(M m, A a, B b, C c, Rest... rest) const
   {
      if constexpr (N == 3)
         return joined(m, first(m, a, b, c), rest...);
      else
         return from4(m, a, b, c, rest...);
   }
   template <class M, class A, class B, class C, class D, class... Rest>
   SOFIE_DEVICE auto from4(M m, A a, B b, C c, D d, Rest... rest) const
   {
      return joined(m, first(m, a, b, c, d), rest...);
   }
   template <class M, class Inner, class... Rest>
   SOFIE_DEVICE auto joined(M m, Inner inner, Rest... rest) const
   {
      if constexpr (Behind)
         return second(m, rest..., inner);
      else
         return second(m, inner, rest...);
   }
};

#undef SOFIE_DEVICE_FUNCTION
#undef SOFIE_DEVICE_OPERATOR
#undef SOFIE_DEVICE_VARIADIC

} // namespace device
} // namespace sofie

#endif
