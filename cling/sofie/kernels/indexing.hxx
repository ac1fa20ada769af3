/// \file
/// Kernels that read or write at positions: slices, borders, and indices that are data.
///
/// As those of layout.hxx they are told sizes at run time. An index that does not exist throws.
#ifndef SOFIE_KERNELS_INDEXING_HXX
#define SOFIE_KERNELS_INDEXING_HXX

#include "sofie/kernels/layout/pad.hxx"
#include "sofie/kernels/indexing/checks.hxx"
#include "sofie/kernels/reduction/rules.hxx"

SOFIE_BEGIN

namespace sofie {

// Slices ----------------------------------------------------------------------------------------------

/// Element `i` of a list that is known (`Sizes`; none at all: the default) or computed (a view).
template <int N>
SOFIE_INLINE Size list_item(const Sizes<N> &list, Size i, Size otherwise)
{
   return N == 0 ? otherwise : list[i];
}
template <class I>
SOFIE_INLINE Size list_item(const View<I> &list, Size i, Size)
{
   return static_cast<Size>(list.data()[i]);
}

SOFIE_INLINE Size clamped_to(Size value, Size least, Size most)
{
   return value < least ? least : value > most ? most : value;
}

/// Where a slice of `size` elements begins (`first`), and how many elements it has (the result).
inline Size slice_range(Size start, Size end, Size step, Size size, Size &first)
{
   if (step == 0)
      throw std::invalid_argument("Slice cannot go on in steps of 0");
   const Size least = step > 0 ? 0 : -1, most = step > 0 ? size : size - 1;
   first = clamped_to(start < 0 ? start + size : start, least, most);
   const Size last = clamped_to(end < 0 ? end + size : end, least, most);
   const Size distance = step > 0 ? last - first : first - last;
   if (distance <= 0)
      return 0;
   // The smallest number has no absolute value.
   const auto apart = step > 0 ? static_cast<std::size_t>(step) : std::size_t(0) - static_cast<std::size_t>(step);
   return static_cast<Size>((static_cast<std::size_t>(distance) - 1) / apart) + 1;
}

/// y = x[starts[0]:ends[0]:steps[0], ...] along these axes.
template <int N, class Y, class X, class S, class A, class P>
SOFIE_KERNEL void runtime_slice(Size number, const Sizes<N> &old, Y &y, X x, S starts, S ends, const A &axes,
                                const P &steps)
{
   Sizes<N> extents = old, strides{};
   Size stride = 1, begin = 0;
   for (int i = N - 1; i >= 0; --i) {
      strides[i] = stride;
      stride *= old[i];
   }
   bool cut[N + 1] = {};
   for (Size i = 0; i < number; ++i) {
      const Size axis = checked_axis(list_item(axes, i, i), N);
      if (cut[axis])
         throw std::invalid_argument("Slice names an axis twice");
      cut[axis] = true;
      Size first;
      const Size step = list_item(steps, i, 1);
      extents[axis] = slice_range(list_item(starts, i, 0), list_item(ends, i, 0), step, old[axis], first);
      begin += extents[axis] > 0 ? first * strides[axis] : 0;
      strides[axis] *= extents[axis] > 1 ? step : 0;
   }
   y.resize(extents);
   read_strided(extents, strides, begin, y, x);
}

// Borders ---------------------------------------------------------------------------------------------

/// y is x with borders of widths that are computed, and perhaps for axes that are.
template <int N, class Y, class X, class P, class A, class... V>
SOFIE_KERNEL void runtime_pad(Size mode, Size number, const Sizes<N> &sizes, Y &y, X x, P pads, const A &axes,
                              V... value)
{
   Sizes<N> begins{}, ends{}, extents = sizes;
   bool padded[N + 1] = {};
   for (Size i = 0; i < number; ++i) {
      const Size axis = checked_axis(list_item(axes, i, i), N);
      if (padded[axis])
         throw std::invalid_argument("Pad names an axis twice");
      padded[axis] = true;
      begins[axis] = static_cast<Size>(pads.data()[i]);
      ends[axis] = static_cast<Size>(pads.data()[number + i]);
      constexpr Size most = Size(1) << 48;
      if (begins[axis] < -most || begins[axis] > most || ends[axis] < -most || ends[axis] > most)
         throw std::invalid_argument("Pad has a computed width that cannot be");
      extents[axis] = BorderedAxis(sizes[axis], begins[axis], ends[axis]).extent();
   }
   checked_size(extents.values, N);
   y.resize(extents);
   if constexpr (N == 0)
      copy_all(y, x);
   else
      pad(mode, sizes, begins, ends, y, x, value...);
}

/// The middle of x, or x in the middle of zeros, so that these axes are so long.
template <int K, int N, class Y, class X, class S>
SOFIE_KERNEL void runtime_center(const Sizes<K> &axes, const Sizes<N> &sizes, Y &y, X x, S wanted)
{
   Sizes<N> begins{}, ends{}, extents = sizes;
   for (int i = 0; i < K; ++i) {
      const Size axis = axes[i];
      extents[axis] = static_cast<Size>(wanted.data()[i]);
      if (extents[axis] < 0)
         throw std::invalid_argument("CenterCropPad has a computed size below 0");
      begins[axis] = (extents[axis] - sizes[axis]) / 2;
      ends[axis] = extents[axis] - sizes[axis] - begins[axis];
   }
   checked_size(extents.values, N);
   y.resize(extents);
   pad(constant_border, sizes, begins, ends, y, x);
}

// Indices that are data -------------------------------------------------------------------------------

/// Rows of a known number of bytes (0: of `bytes`) at these indices, which have been checked.
template <int Bytes, class I>
SOFIE_INLINE void gather_rows(char *to, const char *from, const I *indices, Size size, Size bytes, Size count)
{
   for (Size i = 0; i < count; ++i) {
      const Size row = counted_index(static_cast<Size>(indices[i]), size);
      if constexpr (Bytes > 0)
         __builtin_memcpy(to + i * Bytes, from + row * Bytes, Bytes);
      else
         copy_run(to + i * bytes, from + row * bytes, bytes);
   }
}

/// `sizes` are those before the axis, of the axis, behind it (in bytes), and the number of indices.
template <class I>
SOFIE_KERNEL void gather_slices(char *to, const char *from, const I *indices, const Sizes<4> &sizes)
{
   const Size outer = sizes[0], size = sizes[1], bytes = sizes[2], count = sizes[3];
   check_indices(indices, count, size);
   for (Size i = 0; i < outer; ++i, to += count * bytes, from += size * bytes) {
      switch (bytes) {
      case 1:
         gather_rows<1>(to, from, indices, size, bytes, count);
         break;
      case 2:
         gather_rows<2>(to, from, indices, size, bytes, count);
         break;
      case 4:
         gather_rows<4>(to, from, indices, size, bytes, count);
         break;
      case 8:
         gather_rows<8>(to, from, indices, size, bytes, count);
         break;
      case 16:
         gather_rows<16>(to, from, indices, size, bytes, count);
         break;
      default:
         gather_rows<0>(to, from, indices, size, bytes, count);
      }
   }
}

template <class Y, class X, class I>
SOFIE_INLINE void gather(Sizes<4> sizes, const Y &y, const X &x, const I &indices)
{
   sizes[2] *= bytes_of<X>;
   gather_slices(written(y), read(x), indices.data(), sizes);
}

/// The elements of `indices` one by one (`to` counts them), and where x is without its index (`from`).
/// Axes that the indices do not have in common with x must not be longer than those of x.
template <int N>
SOFIE_INLINE MoveAxes element_axes(Size axis, const Sizes<N> &x, const Sizes<N> &indices, Size &stride)
{
   MoveAxes axes;
   Size extents[N], to[N], from[N];
   Size dense = 1, step = 1;
   for (int i = N - 1; i >= 0; --i) {
      if (i != axis && indices[i] > x[i])
         throw std::invalid_argument("there are more indices than places along an axis");
      extents[i] = indices[i];
      to[i] = dense;
      from[i] = i == axis ? 0 : step;
      stride = i == axis ? step : stride;
      dense *= indices[i];
      step *= x[i];
   }
   for (int i = 0; i < N; ++i)
      axes.add(MoveAxis{extents[i], to[i], from[i]});
   if (axes.count == 0)
      axes.axis[axes.count++] = MoveAxis{1, 1, 0};
   return axes;
}

inline bool has_none(const MoveAxes &axes)
{
   for (int i = 0; i < axes.count; ++i)
      if (axes.axis[i].extent <= 0)
         return true;
   return false;
}

/// So many elements along the last axis; their indices have been checked.
template <int Count, int Bytes, class I>
SOFIE_INLINE void gather_some(char *to, const char *from, const I *indices, Size apart, Size size, Size stride)
{
   SOFIE_UNROLL_ALL
   for (int i = 0; i < Count; ++i) {
      const Size source = i * apart + counted_index(static_cast<Size>(indices[i]), size) * stride;
      __builtin_memcpy(to + i * Bytes, from + source * Bytes, Bytes);
   }
}

template <int Bytes, class I>
SOFIE_KERNEL void gather_units(char *to, const char *from, const I *indices, MoveAxes axes, Size size, Size stride)
{
   constexpr Size together = 8;
   Size count = 1;
   for (int i = 0; i < axes.count; ++i)
      count *= axes.axis[i].extent;
   check_indices(indices, count, size);
   const MoveAxis last = axes.take(axes.count - 1);
   MovePosition here;
   do {
      char *y = to + here.to * Bytes;
      const char *x = from + here.from * Bytes;
      const I *at = indices + here.to;
      Size left = last.extent;
      for (; left >= together; left -= together) {
         gather_some<together, Bytes>(y, x, at, last.from, size, stride);
         y += together * Bytes;
         x += together * last.from * Bytes;
         at += together;
      }
      for (; left > 0; --left, y += Bytes, x += last.from * Bytes, ++at)
         gather_some<1, Bytes>(y, x, at, last.from, size, stride);
   } while (here.step(axes));
}

/// y[i, j, ...] = x[i, ..., indices[i, j, ...], ...]
template <int N, class Y, class X, class I>
SOFIE_INLINE void gather_elements(Size axis, const Sizes<N> &from, const Sizes<N> &count, const Y &y, const X &x,
                                  const I &indices)
{
   constexpr int bytes = static_cast<int>(bytes_of<X>);
   Size stride = 1;
   const MoveAxes axes = element_axes(axis, from, count, stride);
   if (has_none(axes))
      return;
   gather_units<bytes>(written(y), read(x), indices.data(), axes, from[axis], stride);
}

/// The place of an index of several numbers, in slices.
template <class I>
SOFIE_INLINE Size place_of(const I *index, const Size *extents, int depth)
{
   Size place = 0;
   for (int k = 0; k < depth; ++k)
      place = place * extents[k] + checked_index(static_cast<Size>(index[k]), extents[k]);
   return place;
}

template <class I>
SOFIE_KERNEL void gather_nd_slices(char *to, const char *from, const I *indices, const Sizes<3> &sizes,
                                   const Size *extents, int depth)
{
   const Size batches = sizes[0], slices = sizes[1], bytes = sizes[2];
   Size whole = bytes;
   for (int k = 0; k < depth; ++k)
      whole *= extents[k];
   for (Size b = 0; b < batches; ++b, from += whole)
      for (Size i = 0; i < slices; ++i, to += bytes, indices += depth)
         copy_run(to, from + place_of(indices, extents, depth) * bytes, bytes);
}

/// y[b, i] = x[b][indices[b, i, 0], ...]; `sizes` are batches, indices of each, elements of a slice.
template <int K, class Y, class X, class I>
SOFIE_INLINE void gather_nd(Sizes<3> sizes, const Sizes<K> &extents, const Y &y, const X &x, const I &indices)
{
   sizes[2] *= bytes_of<X>;
   gather_nd_slices(written(y), read(x), indices.data(), sizes, extents.values, K);
}

// Scattered -------------------------------------------------------------------------------------------

/// What an update does to the element that is there; integers wrap around.
struct UpdateReplace {};
using UpdateAdd = Total;
using UpdateMul = Product;
using UpdateMax = Largest;
using UpdateMin = Least;

template <class R, class T>
SOFIE_INLINE void update_element(T &element, T update)
{
   if constexpr (std::is_same_v<R, UpdateReplace>)
      element = update;
   else
      element = R::combined(PackN<T, 1>{element}, PackN<T, 1>{update})[0];
}

template <class R, class T, class I>
SOFIE_KERNEL void scatter_units(T *to, const I *indices, const T *updates, MoveAxes axes, Size size, Size stride)
{
   const MoveAxis last = axes.take(axes.count - 1);
   MovePosition here;
   do {
      for (Size i = 0; i < last.extent; ++i) {
         const Size place = here.to + i * last.to;
         T &element = to[here.from + i * last.from + checked_index(static_cast<Size>(indices[place]), size) * stride];
         update_element<R>(element, updates[place]);
      }
   } while (here.step(axes));
}

/// y is x with updates[i, j, ...] at [i, ..., indices[i, j, ...], ...]
template <class R, int N, class Y, class X, class I, class U>
SOFIE_INLINE void scatter_elements(const R &, Size axis, const Sizes<N> &into, const Sizes<N> &count, const Y &y,
                                   const X &x, const I &indices, const U &updates)
{
   Size stride = 1, size = 1;
   for (int i = 0; i < N; ++i)
      size *= into[i];
   copy_bytes(written(y), read(x), size * bytes_of<X>);
   const MoveAxes axes = element_axes(axis, into, count, stride);
   if (!has_none(axes))
      scatter_units<R>(y.data(), indices.data(), updates.data(), axes, into[axis], stride);
}

template <class R, class T, class I>
SOFIE_KERNEL void scatter_slices(T *to, const I *indices, const T *updates, const Sizes<2> &sizes, const Size *extents,
                                 int depth)
{
   const Size inner = sizes[1];
   for (Size i = 0; i < sizes[0]; ++i, indices += depth, updates += inner) {
      T *const slice = to + place_of(indices, extents, depth) * inner;
      if constexpr (std::is_same_v<R, UpdateReplace>)
         copy_run(reinterpret_cast<char *>(slice), reinterpret_cast<const char *>(updates),
                  inner * static_cast<Size>(sizeof(T)));
      else
         for (Size j = 0; j < inner; ++j)
            update_element<R>(slice[j], updates[j]);
   }
}

/// y is x with updates[i] at [indices[i, 0], ...]; `sizes` are the indices and the elements of a slice.
template <class R, int K, class Y, class X, class I, class U>
SOFIE_INLINE void scatter_nd(const R &, const Sizes<2> &sizes, const Sizes<K> &extents, const Y &y, const X &x,
                             const I &indices, const U &updates)
{
   Size size = sizes[1];
   for (int k = 0; k < K; ++k)
      size *= extents[k];
   copy_bytes(written(y), read(x), size * bytes_of<X>);
   scatter_slices<R>(y.data(), indices.data(), updates.data(), sizes, extents.values, K);
}

/// `sizes` are batches, what is between them and the axis, the axis in the cache and in the update,
/// and the bytes behind it. Without indices all writing begins at 0.
SOFIE_KERNEL inline void scatter_into_cache(char *to, const char *update, const std::int64_t *indices,
                                            const Sizes<5> &sizes, bool circular)
{
   const Size size = sizes[2], length = sizes[3], bytes = sizes[4];
   if (length > size)
      throw std::invalid_argument("TensorScatter writes more than the cache holds");
   for (Size b = 0; b < sizes[0]; ++b) {
      Size start = indices ? static_cast<Size>(indices[b]) : 0;
      if (circular && size > 0)
         start = (start % size + size) % size;
      else if (length > 0 && (start < 0 || start > size - length))
         no_such_index(start, size - length + 1);
      const Size before = start + length > size ? size - start : length;
      for (Size m = 0; m < sizes[1]; ++m, to += size * bytes, update += length * bytes) {
         copy_bytes(to + start * bytes, update, before * bytes);
         copy_bytes(to, update + before * bytes, (length - before) * bytes);
      }
   }
}

template <class Y, class X, class U, class... I>
SOFIE_INLINE void tensor_scatter(Size circular, Sizes<5> sizes, const Y &y, const X &cache, const U &update,
                                 const I &...indices)
{
   sizes[4] *= bytes_of<X>;
   copy_bytes(written(y), read(cache), sizes[0] * sizes[1] * sizes[2] * sizes[4]);
   scatter_into_cache(written(y), read(update), data_of(indices...), sizes, circular != 0);
}

/// The first lengths[b] elements of each batch in reverse order; `bytes` are those of one.
SOFIE_KERNEL inline void reverse_rows(char *to, const char *from, const std::int64_t *lengths, Size time_axis,
                                      const Sizes<3> &sizes)
{
   const Size batches = sizes[1 - time_axis], times = sizes[time_axis], bytes = sizes[2];
   const Size time_step = time_axis == 0 ? batches * bytes : bytes;
   const Size batch_step = time_axis == 0 ? bytes : times * bytes;
   for (Size b = 0; b < batches; ++b, to += batch_step, from += batch_step) {
      const Size length = static_cast<Size>(lengths[b]);
      if (length < 0 || length > times)
         throw std::invalid_argument("ReverseSequence has a sequence that is longer than its axis");
      if (length > 0)
         copy_rows(to, time_step, from + (length - 1) * time_step, -time_step, bytes, length);
      copy_rows(to + length * time_step, time_step, from + length * time_step, time_step, bytes, times - length);
   }
}

template <class Y, class X, class L>
SOFIE_INLINE void reverse_sequence(Size time_axis, Sizes<3> sizes, const Y &y, const X &x, const L &lengths)
{
   sizes[2] *= bytes_of<X>;
   reverse_rows(written(y), read(x), lengths.data(), time_axis, sizes);
}

} // namespace sofie

SOFIE_END

#endif
