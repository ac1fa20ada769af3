/// \file
/// The function objects of ONNX's element-wise operators, on packs of any element type they take.
#ifndef SOFIE_KERNELS_ELEMENTWISE_HXX
#define SOFIE_KERNELS_ELEMENTWISE_HXX

#include "sofie/kernels/elementwise/map.hxx"
#include "sofie/math/rounding.hxx"

SOFIE_BEGIN

namespace sofie {

/// The larger one; NaN if either is.
template <class V>
SOFIE_INLINE V maximum(V a, V b)
{
   return select((a > b) | (a != a), a, b);
}

/// The smaller one; NaN if either is.
template <class V>
SOFIE_INLINE V minimum(V a, V b)
{
   return select((a < b) | (a != a), a, b);
}

/// a / b towards zero, of b that are not 0, as floating-point numbers: below an integer a quotient is by at least 1 /
/// b, which is more than it is rounded by.
template <class F, class V>
SOFIE_INLINE V divide_as(V a, V b)
{
   using T = ElementOf<V>;
   constexpr int n = width<V> < lanes<F> ? width<V> : lanes<F>;
   using Some = PackN<T, n>;
   Some of_a[std::size_t{sizeof(V) / sizeof(Some)}], of_b[std::size_t{sizeof(V) / sizeof(Some)}];
   __builtin_memcpy(of_a, &a, sizeof(V));
   __builtin_memcpy(of_b, &b, sizeof(V));
   for (std::size_t i = 0; i < sizeof(V) / sizeof(Some); ++i)
      of_a[i] = convert<T>(convert<F>(of_a[i]) / convert<F>(of_b[i]));
   __builtin_memcpy(&a, of_a, sizeof(V));
   return a;
}

/// a / b towards zero. x / 0 is 0 and the overflowing -2^n / -1 wraps: neither traps.
template <class V>
SOFIE_INLINE V divide_integers(V a, V b)
{
   using T = ElementOf<V>;
   constexpr bool is_signed = std::is_signed_v<T>;
   if constexpr (sizeof(T) < 8) {
      using F = std::conditional_t<sizeof(T) == 4, double, float>;
      const V one = splat<V>(1);
      const V safe = select(b == V{}, one, b);
      if constexpr (!is_signed)
         return select(b == V{}, V{}, divide_as<F>(a, safe));
      const auto turns = b == minus(V{}, one);
      const V quotient = divide_as<F>(a, select(turns, one, safe));
      return select(b == V{}, V{}, select(turns, minus(V{}, a), quotient));
   } else {
      V quotient{};
      for (int i = 0; i < width<V>; ++i) {
         const T p = a[i], q = b[i];
         if constexpr (is_signed)
            quotient[i] = q == 0       ? T(0)
                          : q == T(-1) ? static_cast<T>(0 - static_cast<std::make_unsigned_t<T>>(p))
                                       : static_cast<T>(p / q);
         else
            quotient[i] = q == 0 ? T(0) : static_cast<T>(p / q);
      }
      return quotient;
   }
}

template <class V>
inline constexpr bool is_floating = std::is_floating_point_v<ElementOf<V>>;

/// A constant of the operator as a pack.
template <class V>
SOFIE_INLINE V constant(double value)
{
   return splat<V>(static_cast<ElementOf<V>>(value));
}

// One argument ------------------------------------------------------------------------------------

struct Abs {
   template <class V>
   SOFIE_INLINE V operator()(V x) const
   {
      if constexpr (is_floating<V>)
         return abs(x);
      else
         return select(x < V{}, minus(V{}, x), x);
   }
};

struct Neg {
   template <class V>
   SOFIE_INLINE V operator()(V x) const
   {
      if constexpr (is_floating<V>)
         return -x;
      else
         return minus(V{}, x);
   }
};

struct Sign {
   template <class V>
   SOFIE_INLINE V operator()(V x) const
   {
      const V zero{};
      const V rest = select(x != x, x, zero); // NaN stays, -0 does not
      return select(x > zero, constant<V>(1), select(x < zero, zero - constant<V>(1), rest));
   }
};

struct Not {
   template <class V>
   SOFIE_INLINE V operator()(V x) const
   {
      return x ^ 1;
   }
};

struct BitwiseNot {
   template <class V>
   SOFIE_INLINE V operator()(V x) const
   {
      return ~x;
   }
};

struct IsNaN {
   template <class V>
   SOFIE_INLINE MaskOf<V> operator()(V x) const
   {
      return x != x;
   }
};

/// true, whatever x is.
struct TrueLike {
   template <class V>
   SOFIE_INLINE MaskOf<V> operator()(V) const
   {
      return ~MaskOf<V>{};
   }
};

struct IsInf {
   bool detect_negative = true;
   bool detect_positive = true;
   template <class V>
   SOFIE_INLINE MaskOf<V> operator()(V x) const
   {
      const V inf = splat<V>(static_cast<ElementOf<V>>(__builtin_inf()));
      MaskOf<V> found{};
      if (detect_positive)
         found |= x == inf;
      if (detect_negative)
         found |= x == -inf;
      return found;
   }
};

// clang-format off
#define SOFIE_MATH_FUNCTOR(Name, function)                              \
   struct Name {                                                        \
      template <class V>                                                \
      SOFIE_INLINE V operator()(V x) const { return function(x); }      \
   };
SOFIE_MATH_FUNCTOR(Sqrt, sqrt)
SOFIE_MATH_FUNCTOR(Floor, floor)
SOFIE_MATH_FUNCTOR(Ceil, ceil)
SOFIE_MATH_FUNCTOR(Round, round_even)
// clang-format on

struct Reciprocal {
   template <class V>
   SOFIE_INLINE V operator()(V x) const
   {
      return constant<V>(1) / x;
   }
};

struct Relu {
   template <class V>
   SOFIE_INLINE V operator()(V x) const
   {
      return select(x < V{}, V{}, x);
   }
};

struct LeakyRelu {
   double alpha = 0.01;
   template <class V>
   SOFIE_INLINE V operator()(V x) const
   {
      return select(x < V{}, constant<V>(alpha) * x, x);
   }
};

struct ThresholdedRelu {
   double alpha = 1;
   template <class V>
   SOFIE_INLINE V operator()(V x) const
   {
      return select(x <= constant<V>(alpha), V{}, x);
   }
};

struct HardSigmoid {
   double alpha = 0.2;
   double beta = 0.5;
   template <class V>
   SOFIE_INLINE V operator()(V x) const
   {
      const V line = multiply_add(constant<V>(alpha), x, constant<V>(beta));
      return minimum(maximum(line, V{}), constant<V>(1));
   }
};

struct HardSwish {
   template <class V>
   SOFIE_INLINE V operator()(V x) const
   {
      return x * HardSigmoid{1.0 / 6.0, 0.5}(x);
   }
};

struct Softsign {
   template <class V>
   SOFIE_INLINE V operator()(V x) const
   {
      return x / (constant<V>(1) + abs(x));
   }
};

struct Shrink {
   double lambd = 0.5;
   double bias = 0;
   template <class V>
   SOFIE_INLINE V operator()(V x) const
   {
      using T = ElementOf<V>;
      const V b = constant<V>(bias);
      if constexpr (std::is_floating_point_v<T>) {
         const V l = constant<V>(lambd);
         return select(x < -l, x + b, select(x > l, x - b, select(x != x, x, V{})));
      } else {
         for (int i = 0; i < width<V>; ++i)
            x[i] = convert<T>((*this)(PackN<double, 1>{static_cast<double>(x[i])}))[0];
         return x;
      }
   }
};

/// Conversion to another element type; from float to integer towards zero.
template <class To>
struct Cast {
   template <class V>
   SOFIE_INLINE PackN<To, width<V>> operator()(V x) const
   {
      return convert<To>(x);
   }
};

// Two and more arguments --------------------------------------------------------------------------

// clang-format off
#define SOFIE_OPERATOR_FUNCTOR(Name, Result, expression)                          \
   struct Name {                                                                  \
      template <class V>                                                          \
      SOFIE_INLINE Result operator()(V a, V b) const { return expression; }       \
   };
SOFIE_OPERATOR_FUNCTOR(Add, V, plus(a, b))
SOFIE_OPERATOR_FUNCTOR(Sub, V, minus(a, b))
SOFIE_OPERATOR_FUNCTOR(Mul, V, times(a, b))
SOFIE_OPERATOR_FUNCTOR(And, V, a & b)
SOFIE_OPERATOR_FUNCTOR(Or, V, a | b)
SOFIE_OPERATOR_FUNCTOR(Xor, V, a ^ b)
SOFIE_OPERATOR_FUNCTOR(BitwiseAnd, V, a & b)
SOFIE_OPERATOR_FUNCTOR(BitwiseOr, V, a | b)
SOFIE_OPERATOR_FUNCTOR(BitwiseXor, V, a ^ b)
SOFIE_OPERATOR_FUNCTOR(Equal, MaskOf<V>, a == b)
SOFIE_OPERATOR_FUNCTOR(Less, MaskOf<V>, a < b)
SOFIE_OPERATOR_FUNCTOR(LessOrEqual, MaskOf<V>, a <= b)
SOFIE_OPERATOR_FUNCTOR(Greater, MaskOf<V>, a > b)
SOFIE_OPERATOR_FUNCTOR(GreaterOrEqual, MaskOf<V>, a >= b)
#undef SOFIE_OPERATOR_FUNCTOR
// clang-format on

struct Div {
   template <class V>
   SOFIE_INLINE V operator()(V a, V b) const
   {
      if constexpr (is_floating<V>)
         return a / b;
      else
         return divide_integers(a, b);
   }
};

/// a << b or a >> b; of another b than 0 ... bits - 1 only the sign is left by the shift to the right.
struct BitShift {
   bool left = true;
   template <class V>
   SOFIE_INLINE V operator()(V a, V b) const
   {
      using U = PackN<std::make_unsigned_t<ElementOf<V>>, width<V>>;
      const V most = splat<V>(8 * sizeof(ElementOf<V>) - 1);
      const MaskOf<V> beyond = (b < V{}) | (b > most);
      if (left)
         return select(beyond, V{}, bits<V>(bits<U>(a) << bits<U>(select(beyond, V{}, b))));
      const V shifted = a >> select(beyond, most, b);
      return std::is_signed_v<ElementOf<V>> ? shifted : select(beyond, V{}, shifted);
   }
};

struct PRelu {
   template <class V>
   SOFIE_INLINE V operator()(V x, V slope) const
   {
      return select(x < V{}, times(slope, x), x);
   }
};

/// What comes back through a ReLU whose result is y.
struct Gate {
   template <class V>
   SOFIE_INLINE V operator()(V g, V y) const
   {
      return select(y <= V{}, V{}, g);
   }
};

struct Where {
   template <class M, class V>
   SOFIE_INLINE V operator()(M condition, V yes, V no) const
   {
      return select(convert<ElementOf<MaskOf<V>>>(condition) != MaskOf<V>{}, yes, no);
   }
};

struct Clip {
   template <class V>
   SOFIE_INLINE V operator()(V x, V low, V high) const
   {
      return minimum(maximum(x, low), high);
   }
};

/// Clip with bounds that are known.
struct Between {
   double low = -__builtin_inf(), high = __builtin_inf();
   template <class V>
   SOFIE_INLINE V operator()(V x) const
   {
      return minimum(maximum(x, constant<V>(low)), constant<V>(high));
   }
};

// clang-format off
#define SOFIE_FOLD_FUNCTOR(Name, expression)                                                              \
   struct Name {                                                                                          \
      template <class V>                                                                                  \
      SOFIE_INLINE V operator()(V a) const { return a; }                                                  \
      template <class V, class... More>                                                                   \
      SOFIE_INLINE V operator()(V a, V b, More... more) const { return (*this)(expression, more...); }    \
   };
SOFIE_FOLD_FUNCTOR(Max, maximum(a, b))
SOFIE_FOLD_FUNCTOR(Min, minimum(a, b))
SOFIE_FOLD_FUNCTOR(Sum, a + b)
#undef SOFIE_FOLD_FUNCTOR
// clang-format on

struct Mean {
   template <class V, class... More>
   SOFIE_INLINE V operator()(V a, More... more) const
   {
      return Sum{}(a, more...) / constant<V>(1.0 + static_cast<double>(sizeof...(More)));
   }
};

/// (x - mean) * scale / sqrt(var + epsilon) + bias
struct BatchNormalization {
   double epsilon = 1e-5;
   template <class V>
   SOFIE_INLINE V operator()(V x, V scale, V bias, V mean, V var) const
   {
      return multiply_add(x - mean, scale / sqrt(var + constant<V>(epsilon)), bias);
   }
};

#define SOFIE_SHORT(Name) \
   template <>            \
   inline constexpr bool is_short<Name> = true;
SOFIE_SHORT(Relu)
SOFIE_SHORT(LeakyRelu)
SOFIE_SHORT(Neg)
SOFIE_SHORT(Add)
SOFIE_SHORT(Sub)
SOFIE_SHORT(Mul)
SOFIE_SHORT(Between)
SOFIE_SHORT(Abs)
SOFIE_SHORT(HardSigmoid)
SOFIE_SHORT(HardSwish)
SOFIE_SHORT(ThresholdedRelu)
SOFIE_SHORT(Reciprocal)
SOFIE_SHORT(Sqrt)
SOFIE_SHORT(Floor)
SOFIE_SHORT(Ceil)
SOFIE_SHORT(Round)
SOFIE_SHORT(Sign)
SOFIE_SHORT(PRelu)
SOFIE_SHORT(Max)
SOFIE_SHORT(Min)
SOFIE_SHORT(Where)
SOFIE_SHORT(Clip)
SOFIE_SHORT(Equal)
SOFIE_SHORT(Less)
SOFIE_SHORT(LessOrEqual)
SOFIE_SHORT(Greater)
SOFIE_SHORT(GreaterOrEqual)
SOFIE_SHORT(BatchNormalization)
#undef SOFIE_SHORT
template <class T>
inline constexpr bool is_short_of<Div, T> = std::is_floating_point_v<T>;

} // namespace sofie

SOFIE_END

#endif
