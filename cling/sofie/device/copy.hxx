/// \file
/// Elements that are put elsewhere: strided copies, gathers, and numbers in a row.
#ifndef SOFIE_DEVICE_COPY_HXX
#define SOFIE_DEVICE_COPY_HXX

#include "sofie/device/half.hxx"

namespace sofie {
namespace device {

/// The elements of a shape from one place to another, each with strides and a first element of its own.
template <int Rank>
struct Copy {
   Sizes<Rank> shape, from, to;
   Index from_begin, to_begin;

   template <class At, class T>
   SOFIE_DEVICE void operator()(At at, T *y, const T *x) const
   {
      y[to_begin + offset_of(at.index, shape, to)] = x[from_begin + offset_of(at.index, shape, from)];
   }
};

/// What an index that is out of range gives: there is nobody to tell.
template <class T>
SOFIE_DEVICE T nothing()
{
   if constexpr (std::is_floating_point_v<T> || is_half<T>)
      return T(NAN);
   else
      return T(0);
}

/// An element along an axis of `size` elements, `stride` apart; NaN, or 0 of integers, out of range.
template <class T, class I>
SOFIE_DEVICE T picked(const T *x, I index, Index size, Index stride)
{
   const Index place = static_cast<Index>(index) + (index < I(0) ? size : 0);
   return place >= 0 && place < size ? x[place * stride] : nothing<T>();
}

/// y[o, m, i] = x[o, indices[m], i]; x is [outer, size, inner].
struct Gather {
   Index size, inner, count;

   template <class At, class T, class I>
   SOFIE_DEVICE void operator()(At at, T *y, const T *x, const I *indices) const
   {
      const Index i = at.index % inner, m = at.index / inner % count, o = at.index / inner / count;
      y[at.index] = picked(x + o * size * inner + i, indices[m], size, inner);
   }
};

/// y[i, j, ...] = x[i, ..., indices[i, j, ...], ...]; the axis has no stride in `strides`.
template <int Rank>
struct GatherElements {
   Sizes<Rank> shape, strides;
   Index size, stride;

   template <class At, class T, class I>
   SOFIE_DEVICE void operator()(At at, T *y, const T *x, const I *indices) const
   {
      y[at.index] = picked(x + offset_of(at.index, shape, strides), indices[at.index], size, stride);
   }
};

/// y[i] = start + i * delta
template <class N>
struct Range {
   N start, delta;

   template <class At, class T>
   SOFIE_DEVICE void operator()(At at, T *y) const
   {
      y[at.index] = static_cast<T>(start + static_cast<N>(at.index) * delta);
   }
};

/// These numbers.
template <int Count>
struct Write {
   Sizes<Count> numbers;

   template <class At, class T>
   SOFIE_DEVICE void operator()(At at, T *y) const
   {
      y[at.index] = static_cast<T>(numbers.at[at.index]);
   }
};

/// y[i, j] = 1 where j - i = k, else 0
struct Diagonal {
   Index columns, k;

   template <class At, class T>
   SOFIE_DEVICE void operator()(At at, T *y) const
   {
      y[at.index] = static_cast<T>(at.index % columns - at.index / columns == k);
   }
};

/// x with zeros on one side of the diagonal where j - i = k, in each matrix.
struct Triangle {
   bool upper;
   Index rows, columns, k;

   template <class At, class T>
   SOFIE_DEVICE void operator()(At at, T *y, const T *x) const
   {
      const Index distance = at.index % columns - at.index / columns % rows;
      y[at.index] = (upper ? distance >= k : distance <= k) ? x[at.index] : T(0);
   }
};

/// y[o, j, i] = values[1] where j = indices[o, i], else values[0]; an index that does not exist is off everywhere.
struct OneHot {
   Index depth, inner;

   template <class At, class T, class I>
   SOFIE_DEVICE void operator()(At at, T *y, const I *indices, const T *values) const
   {
      const Index i = at.index % inner, j = at.index / inner % depth, o = at.index / inner / depth;
      const I index = indices[o * inner + i];
      // Compared as it is: an index of another type may be too large for an integer.
      const bool near = index < I(0) ? minus(I(0), index) <= static_cast<I>(depth) : index < static_cast<I>(depth);
      const Index whole = near ? static_cast<Index>(index) : depth;
      y[at.index] = values[(whole < 0 ? whole + depth : whole) == j ? 1 : 0];
   }
};

/// y with borders: what is outside of x is a number, or another element as the mode says.
template <int Rank, int Mode>
struct Pad {
   static_assert(Mode >= 0 && Mode <= 3, "constant, edge, reflect or wrap");
   Sizes<Rank> shape, before, sizes, strides;
   Index first; ///< of the elements of x that are not cut off

   template <class At, class T, class... Value>
   SOFIE_DEVICE void operator()(At at, T *y, const T *x, const Value *...value) const
   {
      Index rest = at.index, offset = first;
      bool inside = true;
      for (int axis = Rank - 1; axis >= 0; --axis) {
         const Index place = (axis ? rest % shape[axis] : rest) - before[axis];
         rest = axis ? rest / shape[axis] : 0;
         inside = inside && sizes[axis] > 0 && (Mode != 0 || (place >= 0 && place < sizes[axis]));
         offset += (Mode == 0 || !inside ? place : moved(place, sizes[axis])) * strides[axis];
      }
      if constexpr (sizeof...(Value) != 0)
         y[at.index] = inside ? x[offset] : (*value, ...);
      else
         y[at.index] = inside ? x[offset] : T(0);
   }

private:
   SOFIE_DEVICE static Index moved(Index place, Index size)
   {
      if (Mode == 1)
         return place < 0 ? 0 : place < size ? place : size - 1;
      const Index period = Mode == 3 ? size : size > 1 ? 2 * size - 2 : 1;
      place %= period;
      place += place < 0 ? period : 0;
      return place < size ? place : period - place;
   }
};

/// y[o, i, r] = the sum (or product) of x[o, j, r] for j up to i; one item for each row.
template <bool Product>
struct Scan {
   Index size, inner;
   bool exclusive, reverse;

   template <class At, class T>
   SOFIE_DEVICE void operator()(At at, T *y, const T *x) const
   {
      const Index begin = at.index / inner * size * inner + at.index % inner;
      T found = Product ? T(1) : T(0);
      for (Index i = 0; i < size; ++i) {
         const Index place = begin + (reverse ? size - 1 - i : i) * inner;
         const T one = x[place];
         const T next = Product ? times(found, one) : plus(found, one);
         y[place] = exclusive ? found : next;
         found = next;
      }
   }
};

} // namespace device
} // namespace sofie

#endif
