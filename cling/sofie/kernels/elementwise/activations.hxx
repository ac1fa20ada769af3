/// \file
/// The function objects of operators that take exponentials or logarithms.
#ifndef SOFIE_KERNELS_ELEMENTWISE_ACTIVATIONS_HXX
#define SOFIE_KERNELS_ELEMENTWISE_ACTIVATIONS_HXX

#include "sofie/math/exponentials.hxx"
#include "sofie/kernels/elementwise.hxx"

SOFIE_BEGIN

namespace sofie {

// clang-format off
SOFIE_MATH_FUNCTOR(Log, log)
SOFIE_MATH_FUNCTOR(Softplus, softplus)
// clang-format on

struct Elu {
   double alpha = 1;
   template <class V>
   SOFIE_INLINE V operator()(V x) const
   {
      return select(x < V{}, constant<V>(alpha) * expm1(x), x);
   }
};

struct Celu {
   double alpha = 1;
   template <class V>
   SOFIE_INLINE V operator()(V x) const
   {
      const V a = constant<V>(alpha);
      return select(x < V{}, a * expm1(x / a), x);
   }
};

struct Selu {
   double alpha = 0;
   double gamma = 0;
   template <class V>
   SOFIE_INLINE V operator()(V x) const
   {
      return constant<V>(gamma) * select(x < V{}, constant<V>(alpha) * expm1(x), x);
   }
};

// What is faster in arrays has the same bits there.
#ifdef SOFIE_EXPONENTIALS_ASSEMBLER
#define SOFIE_EXPONENTIAL_ARRAY(Name, name, factor)                    \
   SOFIE_INLINE void array(float *y, const float *x, Size count) const \
   {                                                                   \
      exponential_array<Exponential::name>(y, x, count, factor);       \
   }
#define SOFIE_HAS_ARRAY(Name) \
   template <>                \
   inline constexpr bool has_array_form<Name, float> = true;
#else
#define SOFIE_EXPONENTIAL_ARRAY(Name, name, factor)
#define SOFIE_HAS_ARRAY(Name)
#endif
#define SOFIE_EXPONENTIAL_FUNCTOR(Name, name, factor) \
   struct Name {                                      \
      template <class V>                              \
      SOFIE_INLINE V operator()(V x) const            \
      {                                               \
         return sofie::name(x);                       \
      }                                               \
      SOFIE_EXPONENTIAL_ARRAY(Name, name, factor)     \
   };                                                 \
   SOFIE_HAS_ARRAY(Name)
SOFIE_EXPONENTIAL_FUNCTOR(Exp, exp, MathOf<float>::exp_high)
SOFIE_EXPONENTIAL_FUNCTOR(Tanh, tanh, MathOf<float>::tanh_high)
SOFIE_EXPONENTIAL_FUNCTOR(Sigmoid, sigmoid, 0)

struct Swish {
   double alpha = 1;
   template <class V>
   SOFIE_INLINE V operator()(V x) const
   {
      return times_sigmoid(x, constant<V>(alpha) * x);
   }
   SOFIE_EXPONENTIAL_ARRAY(Swish, swish, static_cast<float>(alpha))
};
SOFIE_HAS_ARRAY(Swish)

/// One half of a layer's numbers gates the other.
struct SwiGLU {
   double alpha = 1;
   template <class V>
   SOFIE_INLINE V operator()(V gate, V value) const
   {
      return Swish{alpha}(gate)*value;
   }
};

struct Mish {
   template <class V>
   SOFIE_INLINE V operator()(V x) const
   {
      return x * tanh(softplus(x));
   }
};

} // namespace sofie

SOFIE_END

#endif
