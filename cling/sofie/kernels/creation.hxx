/// \file
/// Kernels that make tensors from sizes, numbers and little else.
#ifndef SOFIE_KERNELS_CREATION_HXX
#define SOFIE_KERNELS_CREATION_HXX

#include "sofie/kernels/layout.hxx"

SOFIE_BEGIN

namespace sofie {

/// y[i] = sizes[i]
template <int N, class Y>
SOFIE_INLINE void write_sizes(const Sizes<N> &sizes, const Y &y)
{
   for (int i = 0; i < N; ++i)
      y.data()[i] = static_cast<typename Y::Element>(sizes[i]);
}

// Numbers in a row ------------------------------------------------------------------------------------

/// start + i * delta in floating point.
struct Progression {
   double start, delta;
};

template <class T>
SOFIE_KERNEL void fill_progression(T *to, Size count, const Progression &line)
{
   for (Size i = 0; i < count; ++i)
      to[i] = static_cast<T>(line.start + static_cast<double>(i) * line.delta);
}

template <class T>
SOFIE_KERNEL void fill_steps(T *to, Size count, std::int64_t start, std::int64_t delta)
{
   // Unsigned, as the step behind the last number may be beyond the largest.
   auto value = static_cast<std::uint64_t>(start);
   for (Size i = 0; i < count; ++i, value += static_cast<std::uint64_t>(delta))
      to[i] = static_cast<T>(value);
}

template <class Y>
SOFIE_INLINE void fill_range(Size count, const Progression &line, Y &&y)
{
   fill_progression(y.data(), count, line);
}
template <class Y>
SOFIE_INLINE void fill_range(Size count, Size start, Size delta, Y &&y)
{
   fill_steps(y.data(), count, start, delta);
}

/// How many steps of `delta` lie between start and limit, for integers without overflow.
template <class T>
SOFIE_INLINE Size steps_between(T start, T limit, T delta)
{
   if (delta == 0)
      throw std::invalid_argument("Range cannot go on in steps of 0");
   if constexpr (std::is_floating_point_v<T>) {
      const double count =
         __builtin_ceil((static_cast<double>(limit) - static_cast<double>(start)) / static_cast<double>(delta));
      if (!(count < 0x1p48))
         throw std::invalid_argument("Range has no end");
      return count > 0 ? static_cast<Size>(count) : 0;
   } else {
      if (delta > 0 ? limit <= start : limit >= start)
         return 0;
      const auto first = static_cast<std::uint64_t>(start), last = static_cast<std::uint64_t>(limit);
      const auto step = static_cast<std::uint64_t>(delta);
      const std::uint64_t distance = delta > 0 ? last - first : first - last;
      const std::uint64_t count = (distance - 1) / (delta > 0 ? step : 0 - step) + 1;
      if (count >= std::uint64_t(1) << 48)
         throw std::invalid_argument("Range has more numbers than there is memory");
      return static_cast<Size>(count);
   }
}

/// y[i] = start + i * delta, as long as it has not reached limit.
template <class Y, class X>
SOFIE_KERNEL void runtime_range(Y &y, X start, X limit, X delta)
{
   using T = typename Y::Element;
   const T first = start.data()[0], step = delta.data()[0];
   const Size count = steps_between<T>(first, limit.data()[0], step);
   y.resize({{count}});
   if constexpr (std::is_floating_point_v<T>)
      fill_progression(y.data(), count, Progression{static_cast<double>(first), static_cast<double>(step)});
   else
      fill_steps(y.data(), count, static_cast<std::int64_t>(first), static_cast<std::int64_t>(step));
}

// Matrices of zeros and ones --------------------------------------------------------------------------

/// The bits of an element, the lower 32 and the upper ones.
struct ElementBits {
   std::uint32_t low, high;
};

/// `sizes` are the rows, the columns, and on which diagonal the element `one` stands.
SOFIE_KERNEL inline void fill_eye(char *to, const ElementBits &one, const Sizes<3> &sizes, Size bytes)
{
   const Size rows = sizes[0], columns = sizes[1], k = sizes[2];
   if (rows * columns <= 0)
      return;
   __builtin_memset(to, 0, static_cast<std::size_t>(rows * columns * bytes));
   const std::uint64_t element = one.low | static_cast<std::uint64_t>(one.high) << 32;
   for (Size i = k < 0 ? -k : 0; i < rows && i + k < columns; ++i)
      __builtin_memcpy(to + (i * columns + i + k) * bytes, &element, static_cast<std::size_t>(bytes));
}

/// y[i, j] = 1 where j - i = k, else 0.
template <class Y>
SOFIE_INLINE void eye(const ElementBits &one, const Sizes<3> &sizes, const Y &y)
{
   fill_eye(written(y), one, sizes, bytes_of<Y>);
}

/// `sizes` are the matrices, their rows, and their columns.
SOFIE_KERNEL inline void copy_triangles(char *to, const char *from, Size upper, const Sizes<3> &sizes, Size k,
                                        Size bytes)
{
   const Size rows = sizes[1], columns = sizes[2];
   const Size diagonal = k < -rows ? -rows : k > columns ? columns : k;
   for (Size m = 0; m < sizes[0]; ++m)
      for (Size i = 0; i < rows; ++i, to += columns * bytes, from += columns * bytes) {
         // Columns [begin, end) are kept.
         Size begin = upper ? i + diagonal : 0, end = upper ? columns : i + diagonal + 1;
         begin = begin < 0 ? 0 : begin > columns ? columns : begin;
         end = end < begin ? begin : end > columns ? columns : end;
         if (begin > 0)
            __builtin_memset(to, 0, static_cast<std::size_t>(begin * bytes));
         copy_bytes(to + begin * bytes, from + begin * bytes, (end - begin) * bytes);
         if (end < columns)
            __builtin_memset(to + end * bytes, 0, static_cast<std::size_t>((columns - end) * bytes));
      }
}

/// x with zeros below (upper) or above diagonal k.
template <class Y, class X>
SOFIE_INLINE void triangle(Size upper, const Sizes<3> &sizes, const Y &y, const X &x, Size k)
{
   copy_triangles(written(y), read(x), upper, sizes, k, bytes_of<X>);
}
template <class Y, class X, class I>
SOFIE_INLINE void triangle(Size upper, const Sizes<3> &sizes, const Y &y, const X &x, const View<I> &k)
{
   copy_triangles(written(y), read(x), upper, sizes, static_cast<Size>(k.data()[0]), bytes_of<X>);
}

// One of many -----------------------------------------------------------------------------------------

/// The place that an index stands for; -1 where that does not exist.
template <class I>
SOFIE_INLINE Size hot_place(I index, Size depth)
{
   if constexpr (std::is_floating_point_v<I>) {
      const double number = static_cast<double>(index), most = static_cast<double>(depth);
      if (!(number >= -most && number <= most))
         return -1;
      const Size whole = static_cast<Size>(number);
      return whole < 0 ? whole + depth : whole < depth ? whole : -1;
   } else {
      if constexpr (std::is_signed_v<I>)
         if (index < 0)
            return static_cast<Size>(index) < -depth ? -1 : static_cast<Size>(index) + depth;
      return static_cast<std::uint64_t>(index) < static_cast<std::uint64_t>(depth) ? static_cast<Size>(index) : -1;
   }
}

/// `values` are the elements for off and on; `sizes` those before the new axis, of it, and behind it.
template <int Bytes, class I>
SOFIE_KERNEL void fill_hot(char *to, const I *indices, const char *values, const Sizes<3> &sizes)
{
   const Size depth = sizes[1], inner = sizes[2];
   fill_elements(to, values, Bytes, sizes[0] * depth * inner);
   for (Size i = 0; i < sizes[0]; ++i, indices += inner, to += depth * inner * Bytes)
      for (Size j = 0; j < inner; ++j) {
         const Size place = hot_place(indices[j], depth);
         if (place >= 0)
            __builtin_memcpy(to + (place * inner + j) * Bytes, values + Bytes, Bytes);
      }
}

/// y[i, k, j] = values[1] where k = indices[i, j], else values[0].
template <class Y, class I, class V>
SOFIE_INLINE void one_hot(const Sizes<3> &sizes, Y &&y, const I &indices, const V &values)
{
   fill_hot<static_cast<int>(bytes_of<V>)>(written(y), indices.data(), read(values), sizes);
}

template <int N, class Y, class I, class D, class V>
SOFIE_KERNEL void runtime_one_hot(Size axis, const Sizes<N> &shape, Y &y, I indices, D depth, V values)
{
   const double wanted = static_cast<double>(depth.data()[0]);
   if (!(wanted >= 0 && wanted < 0x1p48))
      throw std::invalid_argument("OneHot has a computed depth that cannot be");
   Sizes<N + 1> extents{};
   Sizes<3> sizes{{1, static_cast<Size>(wanted), 1}};
   for (int i = 0; i <= N; ++i) {
      extents[i] = i < axis ? shape[i] : i == axis ? sizes[1] : shape[i - 1];
      if (i != axis)
         sizes[i < axis ? 0 : 2] *= extents[i];
   }
   checked_size(extents.values, N + 1);
   y.resize(extents);
   one_hot(sizes, y, indices, values);
}

} // namespace sofie

SOFIE_END

#endif
