/// \file
/// Indices that are data: whether they exist, several at a time.
#ifndef SOFIE_KERNELS_INDEXING_CHECKS_HXX
#define SOFIE_KERNELS_INDEXING_CHECKS_HXX

#include "sofie/kernels/layout.hxx"

SOFIE_BEGIN

namespace sofie {

[[noreturn]] inline void no_such_index(Size index, Size size)
{
   throw std::out_of_range("index " + std::to_string(index) + " does not exist among " + std::to_string(size) +
                           " elements");
}

/// An index counted from the front; negative ones count from the end.
SOFIE_INLINE Size checked_index(Size index, Size size)
{
   if (index < -size || index >= size)
      no_such_index(index, size);
   return index < 0 ? index + size : index;
}

/// Throws for the first index that does not exist; packs of them are asked together.
template <class I>
SOFIE_KERNEL void check_indices(const I *indices, Size count, Size size)
{
   using U = std::make_unsigned_t<I>;
   using V = Pack<U>;
   constexpr Size w = lanes<U>, together = 4 * w;
   Size i = 0;
   // So that twice the size is a number of this type.
   if (size <= static_cast<Size>(static_cast<U>(~U(0)) / 4)) {
      const V shift = splat<V>(static_cast<U>(size)), end = shift + shift;
      for (; i + together <= count; i += together) {
         MaskOf<V> wrong{};
   SOFIE_UNROLL_ALL
         for (Size k = 0; k < together; k += w)
            wrong |= bits<V>(load<w>(indices + i + k)) + shift >= end;
         if (fold_lanes<AnyOfLanes>(wrong))
            break;
      }
   }
   for (; i < count; ++i)
      checked_index(static_cast<Size>(indices[i]), size);
}

/// An index that exists, counted from the front.
SOFIE_INLINE Size counted_index(Size index, Size size)
{
   return index + (size & -static_cast<Size>(index < 0));
}

} // namespace sofie

SOFIE_END

#endif
