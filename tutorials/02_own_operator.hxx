/// The kernel of 02_own_operator.py. Between SOFIE_BEGIN and SOFIE_END, Cling compiles for the CPU
/// that it runs on; kernels are templates of the Views that they get, in `lower`'s order.
#ifndef TUTORIALS_02_OWN_OPERATOR_HXX
#define TUTORIALS_02_OWN_OPERATOR_HXX

#include "sofie/view.hxx"

SOFIE_BEGIN

namespace tutorial {

/// mass[n] = sqrt(E^2 - |p|^2) of the sum of all four-vectors (px, py, pz, E) of event n
template <class Y, class X>
SOFIE_KERNEL void invariant_mass(Y mass, X p4)
{
   using T = typename Y::Element;
   const sofie::Size particles = p4.template extent<1>();
   const T *from = p4.data();
   for (sofie::Size n = 0; n < mass.size(); ++n) {
      double sum[4] = {0, 0, 0, 0}; // In double: E^2 and |p|^2 nearly cancel.
      for (sofie::Size i = 0; i < 4 * particles; ++i)
         sum[i % 4] += static_cast<double>(*from++);
      const double squared = sum[3] * sum[3] - sum[0] * sum[0] - sum[1] * sum[1] - sum[2] * sum[2];
      mass.data()[n] = static_cast<T>(squared > 0 ? __builtin_sqrt(squared) : squared * 0);
   }
}

} // namespace tutorial

SOFIE_END

#endif
