/// \file
/// Tensors with borders: constants, or copies of what they are around.
#ifndef SOFIE_KERNELS_LAYOUT_PAD_HXX
#define SOFIE_KERNELS_LAYOUT_PAD_HXX

#include "sofie/kernels/layout.hxx"

SOFIE_BEGIN

namespace sofie {

/// What stands in a border.
enum Border : Size { constant_border, edge_border, reflect_border, wrap_border };

/// Which of `size` elements stands at place `i`, which may be outside of them.
inline Size bordered(Size i, Size size, Size mode)
{
   if (i >= 0 && i < size)
      return i;
   if (size <= 0)
      throw std::invalid_argument("Pad has nothing to fill the border of an empty axis with");
   if (mode == edge_border)
      return i < 0 ? 0 : size - 1;
   const Size period = mode == wrap_border ? size : 2 * (size - 1);
   if (period == 0)
      return 0;
   const Size at = (i % period + period) % period;
   return at < size ? at : period - at;
}

/// One axis with borders: `kept` elements from `cut` on, `before` others before and `behind` behind them.
struct BorderedAxis {
   Size kept, cut, before, behind;

   BorderedAxis(Size size, Size begin, Size end)
      : kept(size - (begin < 0 ? -begin : 0) - (end < 0 ? -end : 0)), cut(begin < 0 ? -begin : 0),
        before(begin > 0 ? begin : 0), behind(end > 0 ? end : 0)
   {
      if (kept < 0)
         throw std::invalid_argument("Pad cuts off more than there is");
   }
   SOFIE_INLINE Size extent() const { return before + kept + behind; }
   /// Which one of the elements that are kept stands at place `i` of y.
   SOFIE_INLINE Size source(Size i, Size mode) const { return bordered(i - before, kept, mode); }
};

/// What pads a tensor: the mode, the value to fill in (null: 0), and the bytes of one of them.
struct Padding {
   Size mode;
   const char *value;
   Size bytes;
};

/// A constant in all of y, and then what is kept of x.
inline void pad_filled(char *to, const char *from, const Size *sizes, const Size *begins, const Size *ends, int rank,
                       const Padding &padding)
{
   Size whole = 1, inner = padding.bytes, outer = padding.bytes;
   for (int i = 0; i < rank; ++i) {
      whole *= BorderedAxis(sizes[i], begins[i], ends[i]).extent();
      inner *= sizes[i];
   }
   if (whole == 0)
      return;
   if (padding.value)
      fill_elements(to, padding.value, padding.bytes, whole);
   else
      __builtin_memset(to, 0, static_cast<std::size_t>(padding.bytes * whole));
   outer *= whole;
   MoveAxes axes;
   for (int i = 0; i < rank; ++i) {
      const BorderedAxis axis(sizes[i], begins[i], ends[i]);
      if (axis.kept == 0)
         return;
      inner /= sizes[i];
      outer /= axis.extent();
      to += axis.before * outer;
      from += axis.cut * inner;
      axes.add({axis.kept, outer, inner});
   }
   move_elements(to, from, axes, padding.bytes);
}

/// Elements of so many bytes at the places `first`, ..., `last - 1` of an axis, copied from those that are kept, in
/// runs of neighbours in x.
inline void copy_border(char *to, const char *kept, const BorderedAxis &axis, Size mode, Size bytes, Size first,
                        Size last)
{
   while (first < last) {
      const Size source = axis.source(first, mode), step = axis.source(first + 1, mode) - source;
      const Size inside = step == 0 ? last - first : step == 1 ? axis.kept - source : step == -1 ? source + 1 : 1;
      const Size run = inside < last - first ? inside : last - first;
      copy_rows(to + first * bytes, bytes, kept + source * bytes, step * bytes, bytes, run);
      first += run;
   }
}

/// How the rows of a tensor get borders that are copies of what they have: `bytes` are those of a unit, `from_bytes`
/// those of a row of x.
struct RowBorders {
   BorderedAxis axis;
   Padding padding;
   Size bytes, from_bytes;

   RowBorders(Size size, Size begin, Size end, const Padding &how, Size unit)
      : axis(size, begin, end), padding(how), bytes(unit), from_bytes(size * unit)
   {
   }

   /// The same borders around an axis further out, of elements of `whole` bytes, which are there at `kept`.
   void surround(char *to, const char *kept, const BorderedAxis &outer, Size whole) const
   {
      copy_border(to, kept, outer, padding.mode, whole, 0, outer.before);
      copy_border(to, kept, outer, padding.mode, whole, outer.before + outer.kept, outer.extent());
   }

   /// So many rows, of which there are some; distances are in bytes.
   SOFIE_KERNEL void pad_rows(char *to, Size to_step, const char *from, Size from_step, Size rows)
   {
      from += axis.cut * bytes;
      const Size begin = axis.before, end = axis.before + axis.kept, extent = axis.extent();
      if (axis.kept > 0)
         copy_rows(to + begin * bytes, to_step, from, from_step, axis.kept * bytes, rows);
      // Along the borders or across them, whichever is longer.
      if (axis.before + axis.behind < rows) {
         for (Size i = 0; i < axis.before + axis.behind; ++i) {
            const Size place = i < begin ? i : i + axis.kept;
            copy_rows(to + place * bytes, to_step, from + axis.source(place, padding.mode) * bytes, from_step, bytes,
                      rows);
         }
      } else {
         for (Size r = 0; r < rows; ++r, to += to_step, from += from_step) {
            copy_border(to, from, axis, padding.mode, bytes, 0, begin);
            copy_border(to, from, axis, padding.mode, bytes, end, extent);
         }
      }
   }
};

/// The `rank` axes before the rows, from x: first what is kept, then what is around it.
inline void pad_rows_and_axes(char *to, const char *from, const Size *sizes, const Size *begins, const Size *ends,
                              int rank, RowBorders &rows)
{
   Size inner = rows.from_bytes, whole = rows.axis.extent() * rows.bytes;
   if (rank == 0)
      return rows.pad_rows(to, whole, from, inner, 1);
   const BorderedAxis axis(sizes[0], begins[0], ends[0]);
   for (int i = 1; i < rank; ++i) {
      inner *= sizes[i];
      whole *= BorderedAxis(sizes[i], begins[i], ends[i]).extent();
   }
   char *const kept = to + axis.before * whole;
   from += axis.cut * inner;
   if (rank == 1 && axis.kept > 0)
      rows.pad_rows(kept, whole, from, inner, axis.kept);
   for (Size i = 0; rank > 1 && i < axis.kept; ++i)
      pad_rows_and_axes(kept + i * whole, from + i * inner, sizes + 1, begins + 1, ends + 1, rank - 1, rows);
   rows.surround(to, kept, axis, whole);
}

/// The same for all axes, those behind the last one that has borders with it.
inline void pad_by_rows(char *to, const char *from, const Size *sizes, const Size *begins, const Size *ends, int rank,
                        const Padding &padding)
{
   Size unit = padding.bytes, whole = 1;
   for (int i = 0; i < rank; ++i)
      whole *= BorderedAxis(sizes[i], begins[i], ends[i]).extent();
   if (whole == 0)
      return;
   while (rank > 1 && begins[rank - 1] == 0 && ends[rank - 1] == 0)
      unit *= sizes[--rank];
   RowBorders rows(sizes[rank - 1], begins[rank - 1], ends[rank - 1], padding, unit);
   pad_rows_and_axes(to, from, sizes, begins, ends, rank - 1, rows);
}

/// Not inlined, and a name of its own: the axes call themselves.
SOFIE_KERNEL inline void pad_all(char *to, const char *from, const Size *sizes, const Size *begins, const Size *ends,
                                 int rank, const Padding &padding)
{
   if (padding.mode != constant_border)
      return pad_by_rows(to, from, sizes, begins, ends, rank, padding);
   pad_filled(to, from, sizes, begins, ends, rank, padding);
}

/// y is x with borders; `value` is absent where zeros are filled in.
template <int N, class Y, class X, class... V>
SOFIE_INLINE void pad(Size mode, const Sizes<N> &sizes, const Sizes<N> &begins, const Sizes<N> &ends, Y &&y, const X &x,
                      const V &...value)
{
   const void *const filled = data_of(value...);
   const Padding padding{mode, static_cast<const char *>(filled), bytes_of<X>};
   pad_all(written(y), read(x), sizes.values, begins.values, ends.values, N, padding);
}

} // namespace sofie

SOFIE_END

#endif
