/// \file
/// SwiGLU: one half of a layer's numbers gates the other.
#ifndef SOFIE_KERNELS_ELEMENTWISE_SWIGLU_HXX
#define SOFIE_KERNELS_ELEMENTWISE_SWIGLU_HXX

#include "sofie/kernels/elementwise/activations.hxx"

SOFIE_BEGIN

namespace sofie {

struct SwiGLU {
   double alpha = 1;
   template <class V>
   SOFIE_INLINE V operator()(V gate, V value) const
   {
      return Swish{alpha}(gate)*value;
   }
};

} // namespace sofie

SOFIE_END

#endif
