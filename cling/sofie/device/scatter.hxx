/// \file
/// Elements that are read or written where tensors of indices say. An index that is out of range reads and writes
/// nothing. Updates of one place are done in their order, so that the last one stays.
#ifndef SOFIE_DEVICE_SCATTER_HXX
#define SOFIE_DEVICE_SCATTER_HXX

#include "sofie/device/copy.hxx"

namespace sofie {
namespace device {

struct UpdateReplace {
   template <class T>
   SOFIE_DEVICE T operator()(T, T update) const
   {
      return update;
   }
};
struct UpdateAdd {
   template <class T>
   SOFIE_DEVICE T operator()(T old, T update) const
   {
      return plus(old, update);
   }
};
struct UpdateMul {
   template <class T>
   SOFIE_DEVICE T operator()(T old, T update) const
   {
      return times(old, update);
   }
};
struct UpdateMax {
   template <class T>
   SOFIE_DEVICE T operator()(T old, T update) const
   {
      return maximum(old, update);
   }
};
struct UpdateMin {
   template <class T>
   SOFIE_DEVICE T operator()(T old, T update) const
   {
      return minimum(old, update);
   }
};

/// Where one of `depth` numbers each says; -1 where one is out of range.
template <int Depth, class I>
SOFIE_DEVICE Index place_of(const I *index, const Sizes<Depth> &extents)
{
   Index place = 0;
   bool inside = true;
   for (int k = 0; k < Depth; ++k) {
      const Index at = static_cast<Index>(index[k]) + (index[k] < I(0) ? extents[k] : 0);
      inside = inside && at >= 0 && at < extents[k];
      place = place * extents[k] + at;
   }
   return inside ? place : -1;
}

/// y[b, i] = x[b][indices[b, i, 0], indices[b, i, 1], ...], slices of `inner` elements.
template <int Depth>
struct GatherND {
   Index slices, inner;
   Sizes<Depth> extents;

   template <class At, class T, class I>
   SOFIE_DEVICE void operator()(At at, T *y, const T *x, const I *indices) const
   {
      const Index slice = at.index / inner, place = place_of(indices + slice * Depth, extents);
      Index whole = inner;
      for (int k = 0; k < Depth; ++k)
         whole *= extents[k];
      y[at.index] = place < 0 ? nothing<T>() : x[slice / slices * whole + place * inner + at.index % inner];
   }
};

/// y[i, ..., indices[i, j, ...], ...] = f(it, updates[i, j, ...]); an item has a line along the axis.
template <class F, int Rank>
struct ScatterElements {
   F function;
   Sizes<Rank> lines, from, to; ///< the updates without the axis, and the steps of updates and y
   Index count, from_step, size, to_step;

   template <class At, class T, class I>
   SOFIE_DEVICE void operator()(At at, T *y, const I *indices, const T *updates) const
   {
      const Index begin = offset_of(at.index, lines, from);
      y += offset_of(at.index, lines, to);
      for (Index i = 0; i < count; ++i) {
         const Index place = begin + i * from_step;
         const Index found = static_cast<Index>(indices[place]) + (indices[place] < I(0) ? size : 0);
         if (found >= 0 && found < size)
            y[found * to_step] = function(y[found * to_step], updates[place]);
      }
   }
};

/// y[indices[i, 0], indices[i, 1], ...] = f(it, updates[i]), slices of `inner` elements; an item has an element of the
/// slices whose place has a certain rest when it is divided by `parts`.
template <class F, int Depth>
struct ScatterND {
   F function;
   Index updates, inner, parts;
   Sizes<Depth> extents;

   template <class At, class T, class I>
   SOFIE_DEVICE void operator()(At at, T *y, const I *indices, const T *given) const
   {
      const Index element = at.index % inner, part = at.index / inner;
      for (Index i = 0; i < updates; ++i) {
         const Index place = place_of(indices + i * Depth, extents);
         if (place >= 0 && place % parts == part)
            y[place * inner + element] = function(y[place * inner + element], given[i * inner + element]);
      }
   }
};

} // namespace device
} // namespace sofie

#endif
