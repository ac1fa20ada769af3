/// \file
/// Tensors with borders: constants, or copies of what they are around.
#ifndef SOFIE_KERNELS_LAYOUT_PAD_HXX
#define SOFIE_KERNELS_LAYOUT_PAD_HXX

#include "sofie/assembler.hxx"
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

/// Elements that are all the one at `value`; zeros without one.
inline void fill_border(char *to, const char *value, Size bytes, Size count)
{
   constexpr Size line = 64, few = 4;
   if (value && count * bytes >= few * line && line % bytes == 0) {
      fill_elements(to, value, bytes, line / bytes);
      const Size rest = count * bytes % line;
      copy_rows(to + line, line, to, 0, line, count * bytes / line - 1);
      copy_run(to + count * bytes - rest, to, rest);
   } else if (value) {
      fill_elements(to, value, bytes, count);
   } else if (count > 0)
      __builtin_memset(to, 0, static_cast<std::size_t>(bytes * count));
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

/// One row of y from one of x (null: there is none), in units of so many bytes, with a constant around it.
inline void pad_row(char *to, const char *row, const BorderedAxis &axis, const Padding &padding, Size unit)
{
   const Size elements = unit / padding.bytes;
   if (!row)
      return fill_border(to, padding.value, padding.bytes, axis.extent() * elements);
   fill_border(to, padding.value, padding.bytes, axis.before * elements);
   fill_border(to + (axis.before + axis.kept) * unit, padding.value, padding.bytes, axis.behind * elements);
   copy_bytes(to + axis.before * unit, row + axis.cut * unit, axis.kept * unit);
}

/// The axes `at` and further in of y, from those of x that begin at `from` (null: there are none), with a constant
/// around them.
inline void pad_axes(char *to, const char *from, const Size *sizes, const Size *begins, const Size *ends, int rank,
                     const Padding &padding)
{
   const BorderedAxis axis(sizes[0], begins[0], ends[0]);
   if (rank == 1)
      return pad_row(to, from, axis, padding, padding.bytes);
   Size inner = padding.bytes, whole = padding.bytes;
   bool plain = true;
   for (int i = 1; i < rank; ++i) {
      inner *= sizes[i];
      whole *= BorderedAxis(sizes[i], begins[i], ends[i]).extent();
      plain = plain && begins[i] == 0 && ends[i] == 0;
   }
   if (whole == 0)
      return;
   if (plain)
      return pad_row(to, from, axis, padding, inner);
   for (Size i = 0; i < axis.extent(); ++i) {
      const Size place = i - axis.before;
      const char *const row = from && place >= 0 && place < axis.kept ? from + (axis.cut + place) * inner : nullptr;
      pad_axes(to + i * whole, row, sizes + 1, begins + 1, ends + 1, rank - 1, padding);
   }
}

/// Rows of up to so many bytes are moved behind all of y has been filled; longer ones one by one.
inline constexpr Size short_padded_row = 512;

/// The same for all axes, where a constant stands in the borders.
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
   fill_border(to, padding.value, padding.bytes, whole);
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

SOFIE_INLINE const char *value_of()
{
   return nullptr;
}
template <class V>
SOFIE_INLINE const char *value_of(const V &value)
{
   return read(value);
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

#ifdef SOFIE_TRANSPOSE_ASSEMBLER
/// Rows of numbers of 4 bytes whose borders are made of the first and the last 16 numbers that are kept, in registers:
/// a pack at the begin, what is copied as it is, and a pack at the end. Distances are in bytes.
struct PaddedRows {
   char *to;
   const char *from;
   Size rows, to_step, from_step;
   /// The last 16 numbers that are kept; what the middle begins with; its last whole pack (below 0 where there is
   /// none); where the last pack goes.
   Size right, middle, last, end;
   /// Which numbers of a pack there are: of the first ones that are kept, of the last ones, of the middle where it has
   /// no whole pack, of the pack at the begin, of the pack at the end; and what is the constant in these two.
   Size masks[7];
   /// The constant, once or twice.
   char value[8];
   /// Which of the 32 numbers stand in the first and the last pack.
   std::int32_t index[2][16];
};

/// All rows.
SOFIE_KERNEL inline void pad_in_registers(const PaddedRows &rows)
{
   char *to = rows.to;
   const char *from = rows.from;
   Size left = rows.rows, at, middle;
   // Of what is copied as it is, all but the first and the last pack are written to whole lines of the cache.
   asm volatile("kmovw %c[of_masks](%[of]), %%k1\n\t"
                "kmovw 8+%c[of_masks](%[of]), %%k2\n\t"
                "kmovw 16+%c[of_masks](%[of]), %%k3\n\t"
                "kmovw 24+%c[of_masks](%[of]), %%k4\n\t"
                "kmovw 32+%c[of_masks](%[of]), %%k5\n\t"
                "kmovw 40+%c[of_masks](%[of]), %%k6\n\t"
                "kmovw 48+%c[of_masks](%[of]), %%k7\n\t"
                "vbroadcastsd %c[of_value](%[of]), %%zmm5\n\t"
                "vmovups %c[of_index](%[of]), %%zmm6\n\t"
                "vmovups 64+%c[of_index](%[of]), %%zmm7\n"
                "1:\n\t"
                "vmovups (%[from]), %%zmm0%{%%k1%}%{z%}\n\t"
                "vmovups (%[from],%[right]), %%zmm1%{%%k2%}%{z%}\n\t"
                "vmovaps %%zmm6, %%zmm2\n\t"
                "vmovaps %%zmm7, %%zmm3\n\t"
                "vpermi2ps %%zmm1, %%zmm0, %%zmm2\n\t"
                "vpermi2ps %%zmm1, %%zmm0, %%zmm3\n\t"
                "vmovaps %%zmm5, %%zmm2%{%%k6%}\n\t"
                "vmovaps %%zmm5, %%zmm3%{%%k7%}\n\t"
                "mov %[from], %[middle]\n\t"
                "add %c[of_middle](%[of]), %[middle]\n\t"
                "test %[last], %[last]\n\t"
                "js 4f\n\t"
                "vmovups (%[middle]), %%zmm4\n\t"
                "vmovups %%zmm4, 64(%[to])\n\t"
                "lea 128(%[to]), %[at]\n\t"
                "and $-64, %[at]\n\t"
                "sub %[to], %[at]\n\t"
                "sub $64, %[at]\n\t"
                "jmp 3f\n"
                "2:\n\t"
                "vmovups (%[middle],%[at]), %%zmm4\n\t"
                "vmovups %%zmm4, 64(%[to],%[at])\n\t"
                "add $64, %[at]\n"
                "3:\n\t"
                "cmp %[last], %[at]\n\t"
                "jl 2b\n\t"
                "vmovups (%[middle],%[last]), %%zmm4\n\t"
                "vmovups %%zmm4, 64(%[to],%[last])\n\t"
                "jmp 5f\n"
                "4:\n\t"
                "vmovups (%[middle]), %%zmm4%{%%k3%}%{z%}\n\t"
                "vmovups %%zmm4, 64(%[to])%{%%k3%}\n"
                "5:\n\t"
                "vmovups %%zmm2, (%[to])%{%%k4%}\n\t"
                "vmovups %%zmm3, (%[to],%[end])%{%%k5%}\n\t"
                "add %c[of_to_step](%[of]), %[to]\n\t"
                "add %c[of_from_step](%[of]), %[from]\n\t"
                "dec %[left]\n\t"
                "jnz 1b\n\t"
                : [to] "+&r"(to), [from] "+&r"(from), [left] "+&r"(left), [at] "=&r"(at), [middle] "=&r"(middle)
                : [of] "r"(&rows), SOFIE_MEMBERS(of, PaddedRows, to_step, from_step, middle, masks, value, index),
                  [right] "r"(rows.right), [last] "r"(rows.last), [end] "r"(rows.end)
                : "memory", "cc", "k1", "k2", "k3", "k4", "k5", "k6", "k7", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4",
                  "xmm5", "xmm6", "xmm7");
}
#endif

/// How the rows of a tensor get borders that are copies of what they have: `bytes` are those of a unit, `from_bytes`
/// those of a row of x.
struct RowBorders {
   BorderedAxis axis;
   Padding padding;
   Size bytes, from_bytes;
#ifdef SOFIE_TRANSPOSE_ASSEMBLER
   bool in_registers;
   PaddedRows packs{};
#endif

   RowBorders(Size size, Size begin, Size end, const Padding &how, Size unit)
      : axis(size, begin, end), padding(how), bytes(unit), from_bytes(size * unit)
   {
#ifdef SOFIE_TRANSPOSE_ASSEMBLER
      in_registers = unit % 4 == 0 && axis.kept > 0 && fill_packs();
#endif
   }

   /// Whether there is a way for constants, too.
   bool takes_constants() const
   {
#ifdef SOFIE_TRANSPOSE_ASSEMBLER
      return in_registers && padding.bytes <= 8;
#else
      return false;
#endif
   }

   /// The same borders around an axis further out, of elements of `whole` bytes, which are there at `kept`.
   void surround(char *to, const char *kept, const BorderedAxis &outer, Size whole) const
   {
      const Size end = outer.before + outer.kept, elements = whole / padding.bytes;
      if (padding.mode == constant_border) {
         fill_border(to, padding.value, padding.bytes, outer.before * elements);
         fill_border(to + end * whole, padding.value, padding.bytes, outer.behind * elements);
      } else {
         copy_border(to, kept, outer, padding.mode, whole, 0, outer.before);
         copy_border(to, kept, outer, padding.mode, whole, end, outer.extent());
      }
   }

   /// So many rows, of which there are some; distances are in bytes.
   SOFIE_KERNEL void pad_rows(char *to, Size to_step, const char *from, Size from_step, Size rows)
   {
      from += axis.cut * bytes;
#ifdef SOFIE_TRANSPOSE_ASSEMBLER
      if (in_registers) {
         packs.to = to;
         packs.from = from;
         packs.rows = rows;
         packs.to_step = to_step;
         packs.from_step = from_step;
         return pad_in_registers(packs);
      }
#endif
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

private:
#ifdef SOFIE_TRANSPOSE_ASSEMBLER
   /// Whether that can be done by `pad_in_registers`.
   bool fill_packs()
   {
      constexpr Size side = 16;
      const Size numbers = bytes / 4, kept = axis.kept * numbers, extent = axis.extent() * numbers;
      const Size right = kept < side ? 0 : kept - side, last = extent < side ? 0 : extent - side;
      const Size middle = extent > 2 * side ? extent - 2 * side : 0;
      if (middle > 0 && (axis.before * numbers > side || axis.behind * numbers > side))
         return false;
      for (Size i = 0; i < side; ++i)
         for (int end = 0; end < 2; ++end) {
            const Size place = (end ? last : 0) + i, unit = place / numbers, inside = unit - axis.before;
            if (place >= extent)
               continue;
            if (padding.mode == constant_border && (inside < 0 || inside >= axis.kept)) {
               packs.masks[5 + end] |= Size{1} << i;
               continue;
            }
            const Size source = axis.source(unit, padding.mode) * numbers + place % numbers;
            if (source >= side && source < right)
               return false;
            packs.index[end][i] = static_cast<std::int32_t>(source < side ? source : source - right + side);
         }
      packs.right = right * 4;
      packs.middle = (side - axis.before * numbers) * 4;
      packs.last = (middle - side) * 4;
      packs.end = last * 4;
      for (Size i = 0; padding.value && i < 8; ++i)
         packs.value[i] = padding.value[i % padding.bytes];
      packs.masks[0] = mask_of_pack(kept);
      packs.masks[1] = kept < side ? 0 : mask_of_pack(side);
      packs.masks[2] = mask_of_pack(middle);
      packs.masks[3] = mask_of_pack(extent);
      packs.masks[4] = extent < side ? 0 : mask_of_pack(side);
      return true;
   }
#endif
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

/// The same for all axes, those behind the last one that has borders with it; whether there is a way to do that.
inline bool pad_by_rows(char *to, const char *from, const Size *sizes, const Size *begins, const Size *ends, int rank,
                        const Padding &padding)
{
   Size unit = padding.bytes, whole = 1;
   for (int i = 0; i < rank; ++i)
      whole *= BorderedAxis(sizes[i], begins[i], ends[i]).extent();
   if (whole == 0)
      return true;
   while (rank > 1 && begins[rank - 1] == 0 && ends[rank - 1] == 0)
      unit *= sizes[--rank];
   RowBorders rows(sizes[rank - 1], begins[rank - 1], ends[rank - 1], padding, unit);
   if (padding.mode == constant_border && !rows.takes_constants())
      return false;
   pad_rows_and_axes(to, from, sizes, begins, ends, rank - 1, rows);
   return true;
}

/// Not inlined, and a name of its own: the axes call themselves.
SOFIE_KERNEL inline void pad_all(char *to, const char *from, const Size *sizes, const Size *begins, const Size *ends,
                                 int rank, const Padding &padding)
{
   if (pad_by_rows(to, from, sizes, begins, ends, rank, padding))
      return;
   if (rank > 1 && rank <= MoveAxes::most && sizes[rank - 1] * padding.bytes <= short_padded_row)
      return pad_filled(to, from, sizes, begins, ends, rank, padding);
   pad_axes(to, from, sizes, begins, ends, rank, padding);
}

/// y is x with borders; `value` is absent where zeros are filled in.
template <int N, class Y, class X, class... V>
SOFIE_INLINE void pad(Size mode, const Sizes<N> &sizes, const Sizes<N> &begins, const Sizes<N> &ends, Y &&y, const X &x,
                      const V &...value)
{
   const Padding padding{mode, value_of(value...), bytes_of<X>};
   pad_all(written(y), read(x), sizes.values, begins.values, ends.values, N, padding);
}

} // namespace sofie

SOFIE_END

#endif
