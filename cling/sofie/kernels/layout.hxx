/// \file
/// Kernels that move elements and compute nothing.
///
/// They are told sizes at run time and know of an element only how many bytes it has, so that one
/// compiled function serves all shapes and types. A view without extents stands for the memory.
#ifndef SOFIE_KERNELS_LAYOUT_HXX
#define SOFIE_KERNELS_LAYOUT_HXX

#include "sofie/kernels/transpose/interleave.hxx"
#include "sofie/kernels/transpose/small_planes.hxx"
#include "sofie/session/owned.hxx"

SOFIE_BEGIN

namespace sofie {

template <class T>
SOFIE_INLINE void copy_elements(T *to, const T *from, Size count)
{
   __builtin_memcpy(to, from, static_cast<std::size_t>(count) * sizeof(T));
}

/// y[i] = x[i]
template <class Y, class X>
SOFIE_KERNEL void copy(Y y, X x)
{
   copy_elements(y.data(), x.data(), y.size());
}

// Runs of bytes ---------------------------------------------------------------------------------------

/// The memory of a view or of an `Owned`, in bytes.
template <class V>
SOFIE_INLINE char *written(V &&v)
{
   return reinterpret_cast<char *>(v.data());
}
template <class V>
SOFIE_INLINE const char *read(const V &v)
{
   return reinterpret_cast<const char *>(v.data());
}

template <class V>
inline constexpr Size bytes_of = static_cast<Size>(sizeof(typename V::Element));

SOFIE_INLINE void copy_bytes(char *to, const char *from, Size bytes)
{
   if (bytes > 0)
      __builtin_memcpy(to, from, static_cast<std::size_t>(bytes));
}

/// A run of `Bytes` to `2 * Bytes` bytes: its begin and its end, which may overlap.
template <int Bytes>
SOFIE_INLINE void copy_ends(char *to, const char *from, Size bytes)
{
   char begin[Bytes], end[Bytes];
   __builtin_memcpy(begin, from, Bytes);
   __builtin_memcpy(end, from + bytes - Bytes, Bytes);
   __builtin_memcpy(to, begin, Bytes);
   __builtin_memcpy(to + bytes - Bytes, end, Bytes);
}

/// The same as `copy_bytes`, without a call for runs that are short.
SOFIE_INLINE void copy_run(char *to, const char *from, Size bytes)
{
   if (bytes > 64)
      __builtin_memcpy(to, from, static_cast<std::size_t>(bytes));
   else if (bytes >= 32)
      copy_ends<32>(to, from, bytes);
   else if (bytes >= 16)
      copy_ends<16>(to, from, bytes);
   else if (bytes >= 8)
      copy_ends<8>(to, from, bytes);
   else if (bytes >= 4)
      copy_ends<4>(to, from, bytes);
   else if (bytes >= 2)
      copy_ends<2>(to, from, bytes);
   else if (bytes == 1)
      *to = *from;
}

/// Elements of `Bytes` bytes, each `*_step` bytes after the one before.
template <int Bytes>
SOFIE_INLINE void copy_units(char *to, Size to_step, const char *from, Size from_step, Size count)
{
   SOFIE_UNROLL(8)
   for (Size i = 0; i < count; ++i)
      __builtin_memcpy(to + i * to_step, from + i * from_step, Bytes);
}

/// Runs of `bytes` bytes, each `*_step` bytes after the one before.
SOFIE_KERNEL inline void
copy_rows(char *to, Size to_step, const char *from, Size from_step, Size bytes, Size rows)
{
   if (to_step == bytes && from_step == bytes)
      return copy_bytes(to, from, bytes * rows);
   switch (bytes) {
   case 1: return copy_units<1>(to, to_step, from, from_step, rows);
   case 2: return copy_units<2>(to, to_step, from, from_step, rows);
   case 4: return copy_units<4>(to, to_step, from, from_step, rows);
   case 8: return copy_units<8>(to, to_step, from, from_step, rows);
   case 16: return copy_units<16>(to, to_step, from, from_step, rows);
   case 64: return copy_units<64>(to, to_step, from, from_step, rows);
   default:
      for (Size i = 0; i < rows; ++i)
         copy_run(to + i * to_step, from + i * from_step, bytes);
   }
}

/// `count` elements that are all the one of `bytes` (1, 2, 4 or 8) bytes at `value`, by runs of 64 bytes.
SOFIE_INLINE void fill_elements(char *to, const char *value, Size bytes, Size count)
{
   constexpr Size run = 64;
   char same[run];
   const Size whole = bytes * count;
   copy_rows(same, bytes, value, 0, bytes, whole < run ? count : run / bytes);
   Size done = 0;
   for (; done + run <= whole; done += run)
      __builtin_memcpy(to + done, same, run);
   copy_run(to + done, same, whole % run);
}

// Axes with any steps ------------------------------------------------------------------------------------

/// One axis of a loop over elements: how many there are, and the bytes from one to the next.
struct MoveAxis {
   Size extent, to, from;
};

/// Whether what is inside goes on where one step of the outer axis ends.
SOFIE_INLINE bool is_joined(const MoveAxis &outer, const MoveAxis &inner)
{
   return outer.to == inner.extent * inner.to && outer.from == inner.extent * inner.from;
}

/// All axes, the outermost first.
struct MoveAxes {
   static constexpr int most = 24;
   MoveAxis axis[most];
   int count = 0;

   /// One more axis inside; one that is nothing but the inside of the last one is joined to it.
   void add(const MoveAxis &inner)
   {
      if (inner.extent == 1)
         return;
      if (count > 0) {
         MoveAxis &outer = axis[count - 1];
         if (is_joined(outer, inner)) {
            outer = MoveAxis{outer.extent * inner.extent, inner.to, inner.from};
            return;
         }
      }
      if (count == most)
         throw std::invalid_argument("tensors with more than 24 axes are not supported");
      axis[count++] = inner;
   }

   /// Takes one axis out.
   MoveAxis take(int which)
   {
      const MoveAxis taken = axis[which];
      for (int i = which + 1; i < count; ++i)
         axis[i - 1] = axis[i];
      --count;
      return taken;
   }
};

/// Where a loop over axes stands: the counter of each, and how many bytes from the start that is.
struct MovePosition {
   Size at[MoveAxes::most] = {};
   Size to = 0, from = 0;

   /// Whether there is a next position.
   bool step(const MoveAxes &axes)
   {
      for (int i = axes.count - 1; i >= 0; --i) {
         const MoveAxis &axis = axes.axis[i];
         to += axis.to;
         from += axis.from;
         if (++at[i] < axis.extent)
            return true;
         to -= axis.extent * axis.to;
         from -= axis.extent * axis.from;
         at[i] = 0;
      }
      return false;
   }
};

/// What moves elements that are dense in one axis of what is read and in another one of what is written.
using PlanesMover = void (*)(const TransposedPlanes &);

/// Planes of elements of `Bytes` bytes whose rows become columns, one by one.
template <int Bytes>
SOFIE_KERNEL void move_single_elements(const TransposedPlanes &all)
{
   for (Size p = 0; p < all.planes; ++p)
      for (Size j = 0; j < all.columns; ++j)
         copy_rows(all.to + p * all.to_plane + j * all.to_step, Bytes, all.from + p * all.from_plane + j * Bytes,
                   all.from_step, Bytes, all.rows);
}

#ifdef SOFIE_TRANSPOSE_ASSEMBLER
/// Planes of elements of 4 bytes, 16 by 16 at a time.
SOFIE_KERNEL inline void transpose_by_squares(const TransposedPlanes &all)
{
   constexpr Size side = 16, bytes = 4;
   for (Size p = 0; p < all.planes; ++p)
      for (Size j = 0; j < all.columns; j += side)
         for (Size i = 0; i < all.rows; i += side) {
            const Size down = all.rows - i < side ? all.rows - i : side;
            const Size across = all.columns - j < side ? all.columns - j : side;
            char *const to = all.to + p * all.to_plane + j * all.to_step + i * bytes;
            const char *const from = all.from + p * all.from_plane + i * all.from_step + j * bytes;
            transpose_block({reinterpret_cast<float *>(to), all.to_step, across, (Size{1} << down) - 1},
                            {reinterpret_cast<const float *>(from), all.from_step, down, (Size{1} << across) - 1});
         }
}
#endif

// The same by the kernels that `kernels/transpose.py` chooses; `Other` where an instruction set has no text for that, or
// where there are too few planes, as the run may find.
template <int Bytes, PlanesMover Other>
SOFIE_KERNEL void move_interleaved(const TransposedPlanes &all)
{
   if (!transpose_in_turn<Bytes, 2>(all) && !transpose_in_turn<Bytes, 3>(all))
      Other(all);
}
template <int Bytes, PlanesMover Other>
SOFIE_KERNEL void move_small_planes(const TransposedPlanes &all)
{
#ifdef SOFIE_TRANSPOSE_ASSEMBLER
   if (transpose_small_planes<Bytes>(all))
      return;
#endif
   Other(all);
}
template <PlanesMover Other>
SOFIE_KERNEL void move_squares(const TransposedPlanes &all)
{
#ifdef SOFIE_TRANSPOSE_ASSEMBLER
   transpose_by_squares(all);
#else
   Other(all);
#endif
}

/// The fewest rows and columns of planes that are moved by squares.
inline constexpr Size least_square = 8;

/// The same by the kernel that the same rule finds for sizes that are known at run time only.
template <int Bytes>
SOFIE_KERNEL void move_blocks(const TransposedPlanes &all)
{
   // More than 8 rows of bytes side by side would be more code for no more speed.
   constexpr int side = Bytes == 1 ? 8 : 16 / Bytes;
#ifdef SOFIE_TRANSPOSE_ASSEMBLER
   if (Bytes == 4 && all.rows >= least_square && all.columns >= least_square)
      return transpose_by_squares(all);
#endif
   if (!transpose_by_pieces<Bytes, side>(all))
      move_single_elements<Bytes>(all);
}
template <int Bytes>
SOFIE_KERNEL void move_planes(const TransposedPlanes &all)
{
   move_small_planes<Bytes, move_interleaved<Bytes, move_blocks<Bytes>>>(all);
}

/// The axis along which what is read is dense, if it is not the last one and worth the tiles; or -1.
inline int dense_axis(const MoveAxes &axes, Size bytes)
{
   if (axes.count < 2 || axes.axis[axes.count - 1].to != bytes)
      return -1;
   for (int i = axes.count - 2; i >= 0; --i)
      if (axes.axis[i].from == bytes)
         return i;
   return -1;
}

/// The last axis, or the one before it where that has more steps and the last one is not worth a loop.
inline int longer_axis(const MoveAxes &axes)
{
   constexpr Size few = 8;
   const int last = axes.count - 1;
   const bool is_little = last > 0 && axes.axis[last].extent < few;
   return is_little && axes.axis[last - 1].extent > axes.axis[last].extent ? last - 1 : last;
}

/// Copies elements of `bytes` (1, 2, 4 or 8) bytes from place to place as the axes say, which are used up. Without
/// `turn`, row by row.
SOFIE_KERNEL inline void
move_elements(char *to, const char *from, MoveAxes &axes, Size bytes, PlanesMover turn = nullptr)
{
   for (int i = 0; i < axes.count; ++i)
      if (axes.axis[i].extent <= 0)
         return;
   Size run = bytes;
   if (axes.count > 0) {
      const MoveAxis &last = axes.axis[axes.count - 1];
      if (last.to == bytes && last.from == bytes)
         run = axes.take(axes.count - 1).extent * bytes;
   }
   if (axes.count == 0)
      return copy_bytes(to, from, run);
   const int dense = turn && run == bytes ? dense_axis(axes, bytes) : -1;
   const MoveAxis across = dense < 0 ? MoveAxis{} : axes.take(dense);
   const MoveAxis along = axes.take(dense < 0 ? longer_axis(axes) : axes.count - 1);
   if (dense < 0 && axes.count == 0)
      return copy_rows(to, along.to, from, along.from, run, along.extent);
   const bool several = dense >= 0 && axes.count > 0;
   const MoveAxis planes = several ? axes.take(axes.count - 1) : MoveAxis{1, 0, 0};
   MovePosition here;
   do {
      if (dense < 0)
         copy_rows(to + here.to, along.to, from + here.from, along.from, run, along.extent);
      else
         turn({to + here.to, from + here.from, along.extent, across.extent, across.to, along.from, planes.extent, planes.to,
               planes.from});
   } while (here.step(axes));
}

/// The elements of a dense tensor of `n` axes, each read from where steps say.
SOFIE_KERNEL inline void move_strided(char *to, const char *from, const Size *extents, const Size *steps, int n,
                                      Size bytes, PlanesMover turn)
{
   MoveAxes axes;
   Size dense = bytes;
   // The innermost axis first, from the end of the list on.
   int first = MoveAxes::most;
   for (int i = n; i-- > 0; dense *= extents[i]) {
      if (extents[i] == 1)
         continue;
      const MoveAxis outer{extents[i], dense, steps[i] * bytes};
      if (first < MoveAxes::most && is_joined(outer, axes.axis[first])) {
         axes.axis[first].extent *= outer.extent;
         continue;
      }
      if (first == 0)
         throw std::invalid_argument("tensors with more than 24 axes are not supported");
      axes.axis[--first] = outer;
   }
   // One axis, all in its place: most often a transposition of one event.
   if (first == MoveAxes::most - 1 && axes.axis[first].to == bytes && axes.axis[first].from == bytes)
      return copy_bytes(to, from, dense);
   for (int i = first; i < MoveAxes::most; ++i)
      axes.axis[axes.count++] = axes.axis[i];
   if (dense != 0)
      move_elements(to, from, axes, bytes, turn);
}

/// y[i, j, ...] = x[start + i * steps[0] + j * steps[1] + ...] for the extents of y; planes by `Mover`, rows without one.
template <PlanesMover Mover, int N, class Y, class X>
SOFIE_INLINE void read_planes(const Sizes<N> &extents, const Sizes<N> &steps, Size start, Y &&y, const X &x)
{
   constexpr Size bytes = bytes_of<X>;
   move_strided(written(y), read(x) + start * bytes, extents.values, steps.values, N, bytes, Mover);
}

/// The same for planes of any size.
template <int N, class Y, class X>
SOFIE_INLINE void read_strided(const Sizes<N> &extents, const Sizes<N> &steps, Size start, Y &&y, const X &x)
{
   read_planes<move_planes<bytes_of<X>>>(extents, steps, start, y, x);
}

// Joined and taken apart ------------------------------------------------------------------------------

/// How many rows are moved before the next part gets its turn, so that they stay in the cache.
inline constexpr Size rows_at_once = 256;

/// Row i of `whole` is row i of each part, one after the other; `bytes` are those of the parts' rows. `Joined`: the parts
/// are moved there, else from there.
template <bool Joined>
SOFIE_KERNEL void move_parts(char *whole, char *const *parts, const Size *bytes, int count, Size rows)
{
   Size row = 0;
   for (int i = 0; i < count; ++i)
      row += bytes[i];
   for (Size first = 0; first < rows; first += rows_at_once) {
      const Size some = rows - first < rows_at_once ? rows - first : rows_at_once;
      char *place = whole + first * row;
      for (int i = 0; i < count; place += bytes[i++]) {
         char *const part = parts[i] + first * bytes[i];
         if (bytes[i] > 0 && Joined)
            copy_rows(place, row, part, bytes[i], bytes[i], some);
         else if (bytes[i] > 0)
            copy_rows(part, bytes[i], place, row, bytes[i], some);
      }
   }
}

/// Row i of y is row i of each x, one after the other; `counts` are the elements of their rows.
template <int N, class Y, class... X>
SOFIE_INLINE void concat(Size rows, Sizes<N> counts, const Y &y, const X &...x)
{
   static_assert(N == sizeof...(X), "one number of elements for each input");
   // They are read.
   char *const parts[] = {const_cast<char *>(read(x))...};
   for (int i = 0; i < N; ++i)
      counts[i] *= bytes_of<Y>;
   move_parts<true>(written(y), parts, counts.values, N, rows);
}

/// y_0, y_1, ..., x: row i of x, cut into the rows i of the outputs, which have `counts` elements.
template <int N, class... Views>
SOFIE_INLINE void split(Size rows, Sizes<N> counts, const Views &...views)
{
   static_assert(N + 1 == sizeof...(Views), "one number of elements for each output");
   // Of these only the last one is a view of constants; it is read.
   char *const memory[] = {const_cast<char *>(read(views))...};
   constexpr Size bytes = bytes_of<std::tuple_element_t<N, std::tuple<Views...>>>;
   for (int i = 0; i < N; ++i)
      counts[i] *= bytes;
   move_parts<false>(memory[N], memory, counts.values, N, rows);
}

// Sizes that are computed -----------------------------------------------------------------------------

/// The product of two sizes that come from data.
inline Size checked_product(Size a, Size b)
{
   Size result;
   if (__builtin_mul_overflow(a, b, &result))
      throw std::invalid_argument("a computed shape has more elements than there can be");
   return result;
}

/// A list of sizes as another type of integers.
template <int N, class I>
SOFIE_INLINE Sizes<N> sizes_from(const I *list)
{
   Sizes<N> sizes{};
   for (int i = 0; i < N; ++i)
      sizes[i] = static_cast<Size>(list[i]);
   return sizes;
}

/// The number of elements of a shape that is computed, none of whose sizes may be negative.
inline Size checked_size(const Size *sizes, int count)
{
   Size size = 1;
   bool empty = false;
   for (int i = 0; i < count; ++i) {
      if (sizes[i] < 0)
         throw std::invalid_argument("a computed shape has a negative size");
      empty = empty || sizes[i] == 0;
   }
   for (int i = 0; i < count && !empty; ++i)
      size = checked_product(size, sizes[i]);
   return empty ? 0 : size;
}

/// An axis counted from the front, whichever way it is counted.
inline Size checked_axis(Size axis, Size rank)
{
   if (axis < -rank || axis >= rank)
      throw std::invalid_argument("a computed axis does not exist");
   return axis < 0 ? axis + rank : axis;
}

/// What 0 and -1 stand for in the shape that the elements of the old shape are to have.
SOFIE_KERNEL inline void resolve_shape(Size *wanted, int length, const Size *old, int rank, bool allow_zero)
{
   int rest = -1;
   // Axes that are kept are on both sides, and may be of size 0.
   Size known = 1, before = 1;
   for (int i = 0; i < (length > rank ? length : rank); ++i) {
      const bool kept = i < length && wanted[i] == 0 && !allow_zero;
      if (i < rank && !kept)
         before *= old[i];
      if (i >= length)
         continue;
      if ((kept && i >= rank) || wanted[i] < -1 || (wanted[i] == -1 && rest >= 0))
         throw std::invalid_argument("Reshape has no meaning for the computed shape");
      if (kept)
         wanted[i] = old[i];
      else if (wanted[i] == -1)
         rest = i;
      else
         known = checked_product(known, wanted[i]);
   }
   if (rest >= 0 && known != 0)
      wanted[rest] = before / known;
   else if (rest >= 0)
      throw std::invalid_argument("Reshape cannot tell what -1 means beside an axis of size 0");
   if (checked_size(wanted, length) != checked_size(old, rank))
      throw std::invalid_argument("Reshape cannot give the elements the computed shape");
}

/// The elements of x as those of y, which has been given its shape.
template <class Y, class X>
SOFIE_INLINE void copy_all(Y &y, const X &x)
{
   copy_bytes(written(y), read(x), y.size() * bytes_of<X>);
}

template <int N, class Y, class X, class S>
SOFIE_KERNEL void runtime_reshape(Size allow_zero, Size, const Sizes<N> &old, Y &y, X x, S shape)
{
   Sizes<Y::rank> wanted = sizes_from<Y::rank>(shape.data());
   resolve_shape(wanted.values, Y::rank, old.values, N, allow_zero != 0);
   y.resize(wanted);
   copy_all(y, x);
}

/// Marks `count` axes of `rank` in `marked`.
template <class I>
SOFIE_KERNEL void mark_axes(bool *marked, Size rank, const I *axes, Size count)
{
   for (Size i = 0; i < count; ++i) {
      bool &mark = marked[checked_axis(static_cast<Size>(axes[i]), rank)];
      if (mark)
         throw std::invalid_argument("a computed axis is named twice");
      mark = true;
   }
}

template <int N, class Y, class X, class A>
SOFIE_KERNEL void runtime_squeeze(Size count, const Sizes<N> &old, Y &y, X x, A axes)
{
   bool gone[N + 1] = {};
   mark_axes(gone, N, axes.data(), count);
   Sizes<Y::rank> shape{};
   for (int i = 0, at = 0; i < N; ++i) {
      if (gone[i] && old[i] != 1)
         throw std::invalid_argument("Squeeze can only remove axes of size 1");
      if (!gone[i])
         shape[at++] = old[i];
   }
   y.resize(shape);
   copy_all(y, x);
}

template <int N, class Y, class X, class A>
SOFIE_KERNEL void runtime_unsqueeze(Size count, const Sizes<N> &old, Y &y, X x, A axes)
{
   bool added[Y::rank + 1] = {};
   mark_axes(added, Y::rank, axes.data(), count);
   Sizes<Y::rank> shape{};
   for (int i = 0, at = 0; i < Y::rank; ++i)
      shape[i] = added[i] ? 1 : old[at++];
   y.resize(shape);
   copy_all(y, x);
}

template <int N, class Y, class X, class S>
SOFIE_KERNEL void runtime_expand(Size length, const Sizes<N> &old, Y &y, X x, S shape)
{
   Sizes<Y::rank> extents{}, steps{};
   Size step = 1;
   for (int i = Y::rank - 1; i >= 0; --i) {
      const int own = i - (Y::rank - N);
      const Size at = i - (Y::rank - length);
      const Size mine = own < 0 ? 1 : old[own];
      const Size other = at < 0 ? 1 : static_cast<Size>(shape.data()[at]);
      if (mine != other && mine != 1 && other != 1)
         throw std::invalid_argument("Expand cannot broadcast to the computed shape");
      extents[i] = mine == 1 ? other : mine;
      steps[i] = mine == 1 ? 0 : step;
      step *= mine;
   }
   checked_size(extents.values, Y::rank);
   y.resize(extents);
   read_strided(extents, steps, 0, y, x);
}

template <int N, class Y, class X, class R>
SOFIE_KERNEL void runtime_tile(Size, const Sizes<N> &old, Y &y, X x, R repeats)
{
   Sizes<2 * N> extents{}, steps{};
   Sizes<N> shape{};
   Size step = 1;
   for (int i = N - 1; i >= 0; --i) {
      extents[2 * i] = static_cast<Size>(repeats.data()[i]);
      extents[2 * i + 1] = old[i];
      steps[2 * i + 1] = step;
      shape[i] = checked_product(extents[2 * i], old[i]);
      step *= old[i];
   }
   checked_size(extents.values, 2 * N);
   y.resize(shape);
   read_strided(extents, steps, 0, y, x);
}

template <class Y, int N>
SOFIE_INLINE void resize_part(Y &y, Sizes<N> shape, Size axis, Size size)
{
   shape[axis] = size;
   y.resize(shape);
}

template <int N, class Views, std::size_t... I>
SOFIE_INLINE void runtime_split_into(Size axis, const Sizes<N> &old, const Views &views, std::index_sequence<I...>)
{
   constexpr int count = sizeof...(I);
   const auto &x = std::get<count>(views);
   Sizes<count> parts = sizes_from<count>(std::get<count + 1>(views).data());
   Size total = 0;
   for (int i = 0; i < count; ++i) {
      if (parts[i] < 0 || parts[i] > old[axis])
         throw std::invalid_argument("Split has a computed part that does not fit");
      total += parts[i];
   }
   if (total != old[axis])
      throw std::invalid_argument("Split has computed parts that are not the whole");
   (resize_part(std::get<I>(views), old, axis, parts[static_cast<Size>(I)]), ...);
   char *const memory[] = {written(std::get<I>(views))...};
   Size rows = 1, inner = bytes_of<std::decay_t<decltype(x)>>;
   for (int i = 0; i < N; ++i)
      (i < axis ? rows : inner) *= i == axis ? 1 : old[i];
   for (int i = 0; i < count; ++i)
      parts[i] *= inner;
   move_parts<false>(const_cast<char *>(read(x)), memory, parts.values, count, rows);
}

/// y_0, y_1, ..., x, and the sizes of the parts.
template <int N, class... Views>
SOFIE_KERNEL void runtime_split(Size axis, const Sizes<N> &old, Views &&...views)
{
   runtime_split_into(axis, old, std::forward_as_tuple(views...), std::make_index_sequence<sizeof...(Views) - 2>());
}

} // namespace sofie

SOFIE_END

#endif
