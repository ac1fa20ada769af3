/// \file
/// View<T, extents...>: a shaped pointer. Extents are part of the type; `dyn` is known at run time.
#ifndef SOFIE_VIEW_HXX
#define SOFIE_VIEW_HXX

#include "sofie/target.hxx"

SOFIE_BEGIN

namespace sofie {

/// Sizes and positions. Signed, so that arithmetic on sizes means what it says.
using Size = std::ptrdiff_t;

/// An extent that is known only when the network runs.
inline constexpr Size dyn = -1;

/// A list of sizes or positions, one for each axis or so.
template <int N>
struct Sizes {
   Size values[N > 0 ? static_cast<std::size_t>(N) : 1];

   SOFIE_INLINE Size operator[](Size i) const { return values[i]; }
   SOFIE_INLINE Size &operator[](Size i) { return values[i]; }
   static constexpr int count = N;
};

/// A dense row-major tensor in memory that somebody else owns.
template <class T, Size... Extents>
class View {
   static constexpr Size static_[sizeof...(Extents) + 1] = {Extents..., 1};
   T *data_;
   static constexpr int dynamics = ((Extents == dyn ? 1 : 0) + ... + 0);
   // No longer than needed: up to 16 bytes are passed in registers.
   Size dynamic_[static_cast<std::size_t>(dynamics > 0 ? dynamics : 1)];

   static constexpr int dynamics_before(int axis)
   {
      int count = 0;
      for (int i = 0; i < axis; ++i)
         count += static_[i] == dyn ? 1 : 0;
      return count;
   }

public:
   using Element = T;
   static constexpr int rank = sizeof...(Extents);
   static constexpr bool is_static = ((Extents != dyn) && ... && true);

   /// The extent of one axis as the type says it: a number or `dyn`.
   template <int Axis>
   static constexpr Size static_extent = static_[Axis];

   /// The memory, and the extents that are `dyn`, in order.
   template <class... Sizes>
   SOFIE_INLINE explicit View(T *data, Sizes... sizes) : data_(data), dynamic_{static_cast<Size>(sizes)...}
   {
      static_assert(sizeof...(Sizes) == dynamics, "one size for each dynamic extent");
   }

   SOFIE_INLINE T *data() const { return data_; }

   /// The extent of one axis; a constant where it is static.
   template <int Axis>
   SOFIE_INLINE Size extent() const
   {
      static_assert(Axis >= 0 && Axis < rank, "no such axis");
      if constexpr (static_[Axis] != dyn) {
         return static_[Axis];
      } else {
         // Named, because Cling would call the function each time.
         constexpr int place = dynamics_before(Axis);
         return dynamic_[place];
      }
   }

   /// How far apart two neighbours along one axis are; 0 where the extent is a static 1, so that
   /// walking along such an axis stays where it is: that is broadcasting.
   template <int Axis>
   SOFIE_INLINE Size stride() const
   {
      if constexpr (static_[Axis] == 1)
         return 0;
      else
         return size_from<Axis + 1>();
   }

   /// The number of elements of one slice through the axes `Axis`, `Axis + 1`, ...
   template <int Axis>
   SOFIE_INLINE Size size_from() const
   {
      if constexpr (Axis >= rank)
         return 1;
      else
         return extent<Axis>() * size_from<Axis + 1>();
   }

   /// The same shape, `offset` elements further on.
   SOFIE_INLINE View shifted(Size offset) const
   {
      View moved = *this;
      moved.data_ += offset;
      return moved;
   }

   /// The number of elements.
   SOFIE_INLINE Size size() const { return size_from<0>(); }
};

/// Stands for a tensor that an operator may have and that is not there.
struct NoTensor {};

template <class V>
inline constexpr bool is_there = !std::is_same_v<std::decay_t<V>, NoTensor>;

/// The memory of a tensor, or nothing.
template <class V>
SOFIE_INLINE auto data_of(V &&tensor)
{
   if constexpr (is_there<V>)
      return tensor.data();
   else
      return nullptr;
}
SOFIE_INLINE std::nullptr_t data_of()
{
   return nullptr;
}

/// Rows of numbers: from a row to the next, and from a number of it to the next.
template <class T>
struct StridedRows {
   T *data;
   Size stride;
   Size step = 1;
};

} // namespace sofie

SOFIE_END

#endif
