/// \file
/// Sequences of tensors: the elements of all one after the other, and a row of sizes for each.
#ifndef SOFIE_KERNELS_SEQUENCES_HXX
#define SOFIE_KERNELS_SEQUENCES_HXX

#include "sofie/session/owned.hxx"

SOFIE_BEGIN

namespace sofie {

/// The shapes of the tensors of a sequence. Entries before the sizes of a tensor are -1.
struct Rows {
   const std::int64_t *first;
   Size count;
   Size axes;
   Size elements;

   SOFIE_INLINE const std::int64_t *row(Size i) const { return first + i * axes; }

   /// The number of elements of a tensor.
   Size size(Size i) const
   {
      Size size = 1;
      bool begun = false;
      for (Size a = 0; a < axes; ++a) {
         const std::int64_t extent = row(i)[a];
         if (extent == -1 && !begun)
            continue;
         begun = true;
         if (extent < 0 || __builtin_mul_overflow(size, static_cast<Size>(extent), &size))
            throw std::invalid_argument("the shapes of a sequence are no shapes");
      }
      return size;
   }

   /// Where the elements of a tensor begin.
   Size start(Size i) const
   {
      Size begin = 0;
      for (Size k = 0; k < i; ++k)
         begin += size(k);
      return begin;
   }

   /// Throws unless the tensors have as many elements as there are.
   void check() const
   {
      Size end = 0;
      for (Size i = 0; i < count; ++i)
         if (__builtin_add_overflow(end, size(i), &end))
            end = -1;
      if (end != elements)
         throw std::invalid_argument("a sequence has not as many elements as its shapes say");
   }

   /// A place in the sequence; negative ones count from its end.
   Size place(std::int64_t position) const
   {
      const Size place = static_cast<Size>(position) + (position < 0 ? count : 0);
      if (place < 0 || place >= count)
         throw std::out_of_range("a sequence has no tensor at the place that is asked for");
      return place;
   }

   /// The sizes of a tensor, which must have this number of axes.
   const std::int64_t *sizes(Size i, Size rank) const
   {
      const Size before = axes - rank;
      if (before < 0 || (before > 0 && row(i)[before - 1] != -1) || (rank > 0 && row(i)[before] < 0))
         throw std::invalid_argument("a tensor of a sequence has not the number of axes that is expected");
      return row(i) + before;
   }
};

template <class E, class S>
SOFIE_INLINE Rows rows_of(E elements, S shapes)
{
   const Rows rows{shapes.data(), shapes.template extent<0>(), shapes.template extent<1>(), elements.size()};
   rows.check();
   return rows;
}

template <class T>
SOFIE_INLINE T *copied(T *to, const T *from, Size count)
{
   __builtin_memcpy(static_cast<void *>(to), from, static_cast<std::size_t>(count) * sizeof(T));
   return to + count;
}

/// y = the tensor at a place
template <class T, int Rank, class E, class S, class P>
SOFIE_INLINE void sequence_at(Owned<T, Rank> &y, E elements, S shapes, P position)
{
   const Rows rows = rows_of(elements, shapes);
   const Size i = rows.place(*position.data());
   const std::int64_t *sizes = rows.sizes(i, Rank);
   const Size start = rows.start(i);
   Sizes<Rank> shape{};
   for (int a = 0; a < Rank; ++a)
      shape[a] = static_cast<Size>(sizes[a]);
   y.resize(shape);
   copied(y.data(), elements.data() + start, y.size());
}

/// Copies a row of sizes behind as many -1 as are needed to have `axes` entries.
inline std::int64_t *write_row(std::int64_t *to, Size axes, const std::int64_t *sizes, Size count)
{
   for (Size a = 0; a < axes; ++a)
      *to++ = a < axes - count ? -1 : sizes[a - (axes - count)];
   return to;
}

/// The sequence with x before what is at a place.
template <class Y, class Ys, class E, class S, int Rank, class X, class P>
SOFIE_INLINE void sequence_insert(Y y, Ys y_shapes, E elements, S shapes, const Sizes<Rank> &shape, X x, P position)
{
   const Rows rows = rows_of(elements, shapes);
   const Size axes = y_shapes.template extent<1>();
   const Size place = *position.data() == rows.count ? rows.count : rows.place(*position.data());
   const Size before = rows.start(place);
   auto *out = copied(y.data(), elements.data(), before);
   out = copied(out, x.data(), x.size());
   copied(out, elements.data() + before, elements.size() - before);
   std::int64_t own[static_cast<std::size_t>(Rank > 0 ? Rank : 1)] = {};
   for (int a = 0; a < Rank; ++a)
      own[a] = shape[a];
   std::int64_t *row = y_shapes.data();
   for (Size i = 0; i <= rows.count; ++i) {
      if (i == place)
         row = write_row(row, axes, own, Rank);
      if (i < rows.count)
         row = write_row(row, axes, rows.row(i), rows.axes);
   }
}

/// The sequence without the tensor at a place.
template <class T, class E, class S, class P>
SOFIE_INLINE void sequence_erase(Owned<T, 1> &y, Owned<std::int64_t, 2> &y_shapes, E elements, S shapes, P position)
{
   const Rows rows = rows_of(elements, shapes);
   const Size place = rows.place(*position.data());
   const Size start = rows.start(place), end = start + rows.size(place);
   y.resize({{elements.size() - (end - start)}});
   T *out = copied(y.data(), elements.data(), start);
   copied(out, elements.data() + end, elements.size() - end);
   y_shapes.resize({{rows.count - 1, rows.axes}});
   std::int64_t *row = copied(y_shapes.data(), rows.first, place * rows.axes);
   copied(row, rows.row(place + 1), (rows.count - 1 - place) * rows.axes);
}

/// The tensors joined along an axis, which is a new one or theirs.
template <bool NewAxis, class T, int Rank, class E, class S>
SOFIE_INLINE void concat_sequence(Owned<T, Rank> &y, E elements, S shapes, Size axis)
{
   constexpr Size own = Rank - (NewAxis ? 1 : 0);
   const Rows rows = rows_of(elements, shapes);
   if (rows.count == 0)
      throw std::invalid_argument("an empty sequence has nothing to join");
   const std::int64_t *first = rows.sizes(0, own);
   Sizes<Rank> shape{};
   Size outer = 1, inner = 1;
   for (Size a = 0; a < Rank; ++a) {
      shape[a] = a == axis ? 0 : static_cast<Size>(first[NewAxis && a > axis ? a - 1 : a]);
      if (a != axis)
         (a < axis ? outer : inner) *= shape[a];
   }
   for (Size i = 0; i < rows.count; ++i) {
      const std::int64_t *sizes = rows.sizes(i, own);
      for (Size a = 0; a < own; ++a)
         if ((NewAxis || a != axis) && sizes[a] != first[a])
            throw std::invalid_argument("the tensors of a sequence do not fit together");
      shape[axis] += NewAxis ? 1 : static_cast<Size>(sizes[NewAxis ? 0 : axis]);
   }
   y.resize(shape);
   const T *from = elements.data();
   Size done = 0;
   for (Size i = 0; i < rows.count; ++i) {
      const Size part = NewAxis ? inner : static_cast<Size>(rows.sizes(i, own)[NewAxis ? 0 : axis]) * inner;
      for (Size o = 0; o < outer; ++o, from += part)
         copied(y.data() + o * shape[axis] * inner + done, from, part);
      done += part;
   }
}

/// Into what a tensor is cut: its slices, parts of one size, parts of given sizes.
enum class Parts { each, size, sizes };

/// The number of parts, and the size of each.
template <Parts Mode>
class Cuts {
   Size length_;
   Size count_;
   const std::int64_t *sizes_;

public:
   Cuts(Size length, const std::int64_t *sizes, Size listed) : length_(length), count_(length), sizes_(sizes)
   {
      if constexpr (Mode == Parts::size) {
         if (*sizes <= 0)
            throw std::invalid_argument("SplitToSequence cannot cut into parts of no size");
         const Size part = static_cast<Size>(*sizes);
         count_ = length / part + (length % part != 0 ? 1 : 0);
      }
      if constexpr (Mode == Parts::sizes) {
         count_ = listed;
         Size left = length;
         for (Size i = 0; i < listed; ++i) {
            if (sizes[i] < 0 || sizes[i] > left)
               throw std::invalid_argument("SplitToSequence needs sizes of parts that make up the axis");
            left -= static_cast<Size>(sizes[i]);
         }
         if (left != 0)
            throw std::invalid_argument("SplitToSequence needs sizes of parts that make up the axis");
      }
   }

   SOFIE_INLINE Size count() const { return count_; }

   Size operator[](Size i) const
   {
      if constexpr (Mode == Parts::each)
         return 1;
      if constexpr (Mode == Parts::size)
         return i + 1 < count_ ? static_cast<Size>(*sizes_) : length_ - (count_ - 1) * static_cast<Size>(*sizes_);
      return static_cast<Size>(sizes_[i]);
   }
};

/// Parts of x along an axis as a sequence; `Bare` ones lack the axis.
template <Parts Mode, bool Bare, class T, class X, int Rank>
SOFIE_INLINE void split_into(Owned<T, 1> &y, Owned<std::int64_t, 2> &y_shapes, X x, const Sizes<Rank> &shape, Size axis,
                             const Cuts<Mode> &cuts)
{
   const Size outer = x.template extent<0>(), length = x.template extent<1>(), inner = x.template extent<2>();
   y.resize({{x.size()}});
   y_shapes.resize({{cuts.count(), Rank - (Bare ? 1 : 0)}});
   T *to = y.data();
   std::int64_t *row = y_shapes.data();
   Size begin = 0;
   for (Size i = 0; i < cuts.count(); ++i) {
      const Size part = cuts[i];
      for (Size o = 0; o < outer; ++o)
         to = copied(to, x.data() + (o * length + begin) * inner, part * inner);
      begin += part;
      for (Size a = 0; a < Rank; ++a)
         if (!(Bare && a == axis))
            *row++ = a == axis ? part : shape[a];
   }
}

template <Parts Mode, bool Bare, class T, class X, int Rank>
SOFIE_INLINE void split_sequence(Owned<T, 1> &y, Owned<std::int64_t, 2> &y_shapes, X x, const Sizes<Rank> &shape,
                                 Size axis)
{
   split_into<Mode, Bare>(y, y_shapes, x, shape, axis, Cuts<Mode>(x.template extent<1>(), nullptr, 0));
}

template <Parts Mode, bool Bare, class T, class X, int Rank, class S>
SOFIE_INLINE void split_sequence(Owned<T, 1> &y, Owned<std::int64_t, 2> &y_shapes, X x, const Sizes<Rank> &shape,
                                 Size axis, S split)
{
   split_into<Mode, Bare>(y, y_shapes, x, shape, axis, Cuts<Mode>(x.template extent<1>(), split.data(), split.size()));
}

} // namespace sofie

SOFIE_END

#endif
