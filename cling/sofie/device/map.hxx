/// \file
/// Element-wise functions with broadcasting.
#ifndef SOFIE_DEVICE_MAP_HXX
#define SOFIE_DEVICE_MAP_HXX

#include "sofie/device/base.hxx"

namespace sofie {
namespace device {

/// y[i] = f(a[i], b[i], ...), one item for each element. Of an input that is repeated along an axis, the stride there
/// is 0.
template <class F, int Rank, int Inputs>
struct Map {
   F function;
   Sizes<Rank> shape;
   Sizes<Rank> strides[static_cast<std::size_t>(Inputs)];

   template <class At, class Y, class... X>
   SOFIE_DEVICE void operator()(At at, Y *y, const X *...x) const
   {
      static_assert(sizeof...(X) == Inputs, "one list of strides for each input");
      mapped(at, std::make_index_sequence<sizeof...(X)>(), y, x...);
   }

private:
   template <class At, std::size_t... I, class Y, class... X>
   SOFIE_DEVICE void mapped(At at, std::index_sequence<I...>, Y *y, const X *...x) const
   {
      Index offsets[static_cast<std::size_t>(Inputs)] = {};
      Index rest = at.index;
      for (int axis = Rank - 1; axis >= 0; --axis) {
         const Index position = axis ? rest % shape[axis] : rest;
         rest = axis ? rest / shape[axis] : 0;
         for (int input = 0; input < Inputs; ++input)
            offsets[input] += position * strides[input][axis];
      }
      y[at.index] = function(at.math, x[offsets[I]]...);
   }
};

} // namespace device
} // namespace sofie

#endif
