/// \file
/// The function objects of erf and of GELU.
#ifndef SOFIE_KERNELS_ELEMENTWISE_NORMAL_DISTRIBUTION_HXX
#define SOFIE_KERNELS_ELEMENTWISE_NORMAL_DISTRIBUTION_HXX

#include "sofie/math/erf.hxx"
#include "sofie/math/gelu.hxx"
#include "sofie/kernels/elementwise.hxx"

SOFIE_BEGIN

namespace sofie {

// What is faster in arrays has the same bits there.
struct Erf {
   template <class V>
   SOFIE_INLINE V operator()(V x) const
   {
      return erf(x);
   }
#ifdef SOFIE_ERF_ASSEMBLER
   SOFIE_INLINE static void array(float *y, const float *x, Size count) { erf_array(y, x, count); }
#endif
};
#ifdef SOFIE_ERF_ASSEMBLER
template <>
inline constexpr bool has_array_form<Erf, float> = true;
#endif

struct Gelu {
   template <class V>
   SOFIE_INLINE V operator()(V x) const
   {
      return gelu(x);
   }
#ifdef SOFIE_GELU_ARRAYS
   SOFIE_INLINE static void array(float *y, const float *x, Size count) { gelu_array<false>(y, x, count); }
#endif
};

/// Of what a layer of a run gives to the next one.
struct InnerGelu {
   template <class V>
   SOFIE_INLINE V operator()(V x) const
   {
      return inner_gelu(x);
   }
#ifdef SOFIE_GELU_ARRAYS
   SOFIE_INLINE static void array(float *y, const float *x, Size count) { gelu_array<true>(y, x, count); }
#endif
};
#ifdef SOFIE_GELU_ARRAYS
template <>
inline constexpr bool has_array_form<Gelu, float> = true;
template <>
inline constexpr bool has_array_form<InnerGelu, float> = true;
#endif

struct GeluTanh {
   template <class V>
   SOFIE_INLINE V operator()(V x) const
   {
      // 0.5 (1 + tanh u) = sigmoid(2u), which does not cancel.
      const V cubic = x * x * x;
      const V u = constant<V>(0.79788456080286535588) * multiply_add(constant<V>(0.044715), cubic, x);
      return x * sigmoid(u + u);
   }
};

/// What comes back through a GELU.
struct GeluSlope {
   template <class V>
   SOFIE_INLINE V operator()(V g, V x) const
   {
      return gelu_slope(g, x);
   }
#ifdef SOFIE_GELU_ASSEMBLER
   SOFIE_INLINE static void array(float *y, const float *g, const float *x, Size count)
   {
      gelu_slope_array(y, g, x, count);
   }
#endif
};
#ifdef SOFIE_GELU_ASSEMBLER
template <>
inline constexpr bool has_array_form<GeluSlope, float> = true;
#endif

} // namespace sofie

SOFIE_END

#endif
