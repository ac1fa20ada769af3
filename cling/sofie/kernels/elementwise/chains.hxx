/// \file
/// Functions of packs one after the other.
#ifndef SOFIE_KERNELS_ELEMENTWISE_CHAINS_HXX
#define SOFIE_KERNELS_ELEMENTWISE_CHAINS_HXX

#include "sofie/kernels/elementwise.hxx"

SOFIE_BEGIN

namespace sofie {

/// second(first(a, ...), z) where `first` takes `Count` arguments; or second(z, first(a, ...)).
template <class F, class G, int Count, bool Behind>
struct Then {
   F first;
   G second;

   template <class V>
   SOFIE_INLINE V with(V inner, V z) const
   {
      if constexpr (Behind)
         return second(z, inner);
      else
         return second(inner, z);
   }

   template <class V>
   SOFIE_INLINE V operator()(V a) const
   {
      return second(first(a));
   }
   template <class V>
   SOFIE_INLINE V operator()(V a, V b) const
   {
      if constexpr (Count == 2)
         return second(first(a, b));
      else
         return with<V>(first(a), b);
   }
   template <class V>
   SOFIE_INLINE V operator()(V a, V b, V c) const
   {
      if constexpr (Count == 3)
         return second(first(a, b, c));
      else
         return with<V>(first(a, b), c);
   }
   template <class V>
   SOFIE_INLINE V operator()(V a, V b, V c, V d) const
   {
      if constexpr (Count == 4)
         return second(first(a, b, c, d));
      else
         return with<V>(first(a, b, c), d);
   }
};

template <class F, class G, int Count, bool Behind>
inline constexpr bool is_short<Then<F, G, Count, Behind>> = is_short<F> && is_short<G>;

} // namespace sofie

SOFIE_END

#endif
