/// \file
/// resize: tensors brought to other sizes, by the nearest element or by interpolation.
///
/// Interpolation is done along one axis after the other, the last one first. For each axis a table
/// says which elements a result is made of and what each of them counts. What counts for nothing
/// does not contribute, even if it is infinite.
#ifndef SOFIE_KERNELS_RESAMPLING_HXX
#define SOFIE_KERNELS_RESAMPLING_HXX

#include "sofie/kernels/layout.hxx"
#include "sofie/kernels/resampling/lanes.hxx"
#include "sofie/session/owned.hxx"

SOFIE_BEGIN

namespace sofie {

/// What is interpolated, from what coordinates. The numbers of the enumerators are the compiler's.
struct ResizeRule {
   enum Mode { nearest, linear, cubic };
   enum Coordinate {
      half_pixel,
      half_pixel_symmetric,
      pytorch_half_pixel,
      align_corners,
      asymmetric,
      tf_crop_and_resize,
      tf_half_pixel_for_nn
   };
   enum Rounding { round_prefer_floor, round_prefer_ceil, floor, ceil, simple };
   enum Policy { stretch, not_larger, not_smaller };

   int mode, coordinate, rounding, policy;
   bool antialias, exclude_outside;
   double cubic_a, extrapolation;
};

/// A list of numbers.
template <int N>
struct Numbers {
   double values[N > 0 ? N : 1];
};

/// One axis, `from` elements of which become `to`. With `taps` elements each result is computed.
struct ResizeAxis {
   Size from, to, taps;
   /// `width` is the new size before it was rounded.
   double scale, width, begin, end;

   /// Whether nothing changes along this axis.
   SOFIE_INLINE bool is_trivial(const ResizeRule &rule) const
   {
      const bool whole = rule.coordinate != ResizeRule::tf_crop_and_resize || (begin == 0 && end == 1);
      return from == to && scale == 1 && whole && rule.coordinate != ResizeRule::tf_half_pixel_for_nn;
   }
};

/// Where in the old axis element number `j` of the new one is.
SOFIE_INLINE double resize_coordinate(const ResizeRule &rule, const ResizeAxis &axis, Size j)
{
   const double x = static_cast<double>(j), last = static_cast<double>(axis.from - 1), width = axis.width;
   const double centred = (x + 0.5) / axis.scale - 0.5;
   switch (rule.coordinate) {
   case ResizeRule::half_pixel_symmetric: {
      const double adjustment = static_cast<double>(axis.to) / width;
      return static_cast<double>(axis.from) / 2 * (1 - adjustment) + centred;
   }
   case ResizeRule::pytorch_half_pixel:
      return axis.to > 1 ? centred : 0;
   case ResizeRule::align_corners:
      return width == 1 ? 0 : x * last / (width - 1);
   case ResizeRule::asymmetric:
      return x / axis.scale;
   case ResizeRule::tf_half_pixel_for_nn:
      return (x + 0.5) / axis.scale;
   case ResizeRule::tf_crop_and_resize: {
      const double extent = axis.end - axis.begin;
      const double inside = width == 1 ? extent * last / 2 : x * extent * last / (width - 1);
      return inside + axis.begin * last;
   }
   default:
      return centred;
   }
}

/// Whether that is outside of what is cropped.
inline bool is_extrapolated(const ResizeRule &rule, const ResizeAxis &axis, Size j)
{
   const double x = resize_coordinate(rule, axis, j);
   return rule.coordinate == ResizeRule::tf_crop_and_resize && !(x >= 0 && x <= static_cast<double>(axis.from - 1));
}

/// A coordinate that is a number of moderate size, so that it can be made an integer.
SOFIE_INLINE double moderate(double x)
{
   constexpr double far = 0x1p40;
   return x > -far ? (x < far ? x : far) : (x == x ? -far : 0);
}

SOFIE_INLINE Size within(Size i, Size size)
{
   return i < 0 ? 0 : i < size ? i : size - 1;
}

/// The nearest element; the other one at halves, as `rounding` says.
SOFIE_INLINE Size nearest_element(const ResizeRule &rule, const ResizeAxis &axis, Size j)
{
   const double x = moderate(resize_coordinate(rule, axis, j));
   double nearest = 0;
   switch (rule.rounding) {
   case ResizeRule::round_prefer_ceil:
      nearest = __builtin_floor(x + 0.5);
      break;
   case ResizeRule::floor:
      nearest = __builtin_floor(x);
      break;
   case ResizeRule::ceil:
      nearest = __builtin_ceil(x);
      break;
   case ResizeRule::simple:
      nearest = axis.scale < 1 ? __builtin_ceil(x) : __builtin_floor(x);
      break;
   default:
      nearest = __builtin_ceil(x - 0.5);
   }
   return within(static_cast<Size>(nearest), axis.from);
}

/// What an element counts at this distance.
inline double interpolation_weight(const ResizeRule &rule, double distance)
{
   const double d = __builtin_fabs(distance), a = rule.cubic_a;
   if (rule.mode == ResizeRule::linear)
      return d < 1 ? 1 - d : 0;
   // Keys' cubic convolution; as products, so that what is nearly 0 is exact.
   if (d <= 1)
      return (1 - d) * (1 + d - (a + 2) * d * d);
   return d < 2 ? a * (d - 1) * (d - 2) * (d - 2) : 0;
}

/// The table of one axis: element t of result j is at t * tap_stride + j * stride, those that
/// count first if they are neighbours in the table.
template <class C>
SOFIE_KERNEL void resize_table(const ResizeRule &rule, const ResizeAxis &axis, std::int64_t *index, C *weight,
                               Size tap_stride, Size stride)
{
   const double shrink = rule.antialias && axis.scale < 1 ? axis.scale : 1;
   for (Size j = 0; j < axis.to; ++j, index += stride, weight += stride) {
      const double x = moderate(resize_coordinate(rule, axis, j));
      const double below = __builtin_ceil(x) - 1;
      const Size first = static_cast<Size>(below) + 1 - axis.taps / 2;
      double total = 0;
      for (Size t = 0; t < axis.taps; ++t) {
         const bool outside = first + t < 0 || first + t >= axis.from;
         if (!(outside && rule.exclude_outside))
            total += interpolation_weight(rule, (static_cast<double>(first + t) - x) * shrink);
      }
      const bool scaled = (rule.antialias || rule.exclude_outside) && total != 0;
      Size used = 0;
      for (Size t = 0; t < axis.taps; ++t) {
         const bool outside = first + t < 0 || first + t >= axis.from;
         double part = interpolation_weight(rule, (static_cast<double>(first + t) - x) * shrink);
         part = (outside && rule.exclude_outside) ? 0 : scaled ? part / total : part;
         const C rounded = static_cast<C>(part);
         if (rounded == 0 && tap_stride == 1)
            continue;
         index[used * tap_stride] = within(first + t, axis.from);
         weight[used * tap_stride] = rounded;
         ++used;
      }
      for (; used < axis.taps; ++used) {
         index[used * tap_stride] = 0;
         weight[used * tap_stride] = 0;
      }
   }
}

/// A computed number in the element type of the result: integers are rounded, and stay in range.
template <class To, class C>
SOFIE_INLINE To resized(C value)
{
   if constexpr (std::is_same_v<To, C>) {
      return value;
   } else {
      constexpr To low = std::is_signed_v<To> ? static_cast<To>(std::uint64_t(1) << (8 * sizeof(To) - 1)) : To(0);
      constexpr To high = static_cast<To>(~std::uint64_t(0) - static_cast<std::uint64_t>(low));
      const C rounded = __builtin_rint(value);
      if (!(rounded > static_cast<C>(low)))
         return low;
      return rounded < static_cast<C>(high) ? static_cast<To>(rounded) : high;
   }
}

template <class To, class V>
SOFIE_INLINE void store_resized(To *to, V v, Size count)
{
   if constexpr (std::is_same_v<To, ElementOf<V>>) {
      count == width<V> ? store(to, v) : store_some(to, v, count);
   } else {
      for (Size i = 0; i < count; ++i)
         to[i] = resized<To>(v[static_cast<int>(i)]);
   }
}

/// The sum of `Taps` rows of x (0: of `used` rows), which begin at `rows` times `inner`, at up to a pack of places.
template <int Taps, class C, class From>
SOFIE_INLINE Pack<C> sum_of_rows(const From *x, const std::int64_t *rows, const C *parts, Size used, Size inner,
                                 Size some)
{
   constexpr int n = lanes<C>;
   Pack<C> sum{};
   SOFIE_UNROLL(2)
   for (Size t = 0; t < (Taps ? Taps : used); ++t) {
      const From *const from = x + rows[t] * inner;
      const auto v = some == n ? load<n>(from) : load_some<n>(from, some);
      sum = multiply_add(splat<Pack<C>>(parts[t]), convert<C>(v), sum);
   }
   return sum;
}

/// All of such a row.
template <int Taps, class C, class To, class From>
SOFIE_KERNEL void sum_rows(To *y, const From *x, const std::int64_t *rows, const C *parts, Size used, Size inner)
{
   constexpr Size n = lanes<C>;
   SOFIE_UNROLL(4)
   for (Size i = 0; inner >= n && i < inner; i += n) {
      // The last pack once more with results that are there already.
      const Size at = i + n > inner ? inner - n : i;
      store_resized(y + at, sum_of_rows<Taps>(x + at, rows, parts, used, inner, n), n);
   }
   if (inner < n)
      store_resized(y, sum_of_rows<Taps>(x, rows, parts, used, inner, inner), inner);
}

/// Rows of `inner` neighbours, of which each is a sum of rows of x.
template <class C, class To, class From>
SOFIE_KERNEL void resize_rows(To *y, const From *x, Size outer, const ResizeAxis &axis, Size inner,
                              const std::int64_t *index, const C *weight)
{
   for (Size o = 0; o < outer; ++o, x += axis.from * inner) {
      for (Size j = 0; j < axis.to; ++j, y += inner) {
         const C *const parts = weight + j * axis.taps;
         Size used = 0;
         while (used < axis.taps && parts[used] != 0)
            ++used;
         const auto sum = used == 1   ? sum_rows<1, C, To, From>
                          : used == 2 ? sum_rows<2, C, To, From>
                                      : sum_rows<0, C, To, From>;
         sum(y, x, index + j * axis.taps, parts, used, inner);
      }
   }
}

/// Neighbours along the last axis, each a sum of elements of x.
template <class C, class To, class From>
SOFIE_KERNEL void
resize_last(To *y, const From *x, Size outer, const ResizeAxis &axis, const std::int64_t *index, const C *weight)
{
   constexpr int n = lanes<C>;
   using V = Pack<C>;
   for (Size o = 0; o < outer; ++o, x += axis.from, y += axis.to) {
      for (Size j = 0; j < axis.to; j += n) {
         const Size count = axis.to - j < n ? axis.to - j : n;
         V sum{};
         for (Size t = 0; t < axis.taps; ++t) {
            const std::int64_t *const at = index + t * axis.to + j;
            const V part = load_some<n>(weight + t * axis.to + j, count);
            V v{};
            if (count == n) {
               SOFIE_UNROLL_ALL
               for (int l = 0; l < n; ++l)
                  v[l] = static_cast<C>(x[at[l]]);
            } else {
               for (Size l = 0; l < count; ++l)
                  v[static_cast<int>(l)] = static_cast<C>(x[at[l]]);
            }
            sum += select(part == V{}, V{}, part * v);
         }
         store_resized(y + j, sum, count);
      }
   }
}

/// A tensor that is resized along some of its axes.
struct ResizeShape {
   static constexpr int most_axes = 16;
   ResizeAxis axis[most_axes];
   int rank;
   /// The axes along which something changes.
   int active[most_axes];
   int actives;
   Size from, to;
};

/// What `rule` does to the shape `from` to make it the shape `to`. `wanted` are the sizes that were
/// asked for, -1 where there are none; `numbers` the scales (0: by sizes), and where a crop
/// begins and ends, for each axis.
inline ResizeShape resize_shape(const ResizeRule &rule, int rank, const Size *from, const Size *to, const Size *wanted,
                                const double *numbers)
{
   ResizeShape shape{};
   shape.rank = rank;
   shape.from = shape.to = 1;
   const Size reach = rule.mode == ResizeRule::linear ? 1 : 2;
   double common = 0;
   Size common_taps = 0;
   for (int a = 0; a < rank; ++a) {
      if (wanted[a] < 0 || from[a] == 0)
         continue;
      const double scale = static_cast<double>(wanted[a]) / static_cast<double>(from[a]);
      const Size least = wanted[a] > 0 ? wanted[a] : 1;
      const Size taps = (reach * from[a] + least - 1) / least;
      const bool better = rule.policy == ResizeRule::not_larger ? scale < common : scale > common;
      if (common_taps == 0 || better)
         common = scale;
      if (common_taps == 0 || (rule.policy == ResizeRule::not_larger ? taps > common_taps : taps < common_taps))
         common_taps = taps;
   }
   for (int a = 0; a < rank; ++a) {
      ResizeAxis &axis = shape.axis[a];
      axis = ResizeAxis{from[a], to[a], 1, numbers[a], 0, numbers[rank + a], numbers[2 * rank + a]};
      Size taps = 0;
      if (axis.scale > 0) {
         taps = rule.antialias ? static_cast<Size>(__builtin_ceil(moderate(static_cast<double>(reach) / axis.scale))) : 0;
      } else if (wanted[a] < 0) {
         axis.scale = 1;
      } else if (rule.policy == ResizeRule::stretch) {
         const Size least = to[a] > 0 ? to[a] : 1;
         taps = (reach * from[a] + least - 1) / least;
         axis.scale = static_cast<double>(to[a]) / static_cast<double>(from[a]);
      } else {
         taps = common_taps;
         axis.scale = common;
      }
      const bool exact = numbers[a] <= 0 && (wanted[a] < 0 || rule.policy == ResizeRule::stretch);
      axis.width = exact ? static_cast<double>(to[a]) : axis.scale * static_cast<double>(from[a]);
      if (rule.mode != ResizeRule::nearest)
         axis.taps = 2 * (rule.antialias && taps > reach ? taps : reach);
      shape.from *= axis.from;
      shape.to *= axis.to;
      if (!axis.is_trivial(rule))
         shape.active[shape.actives++] = a;
   }
   if (shape.from == 0 && shape.to > 0)
      throw std::invalid_argument("Resize: there are no elements to make others from");
   return shape;
}

/// The product of the sizes of the axes first, first + 1, ..., last - 1, of which those from `changed` on
/// are new.
inline Size resize_extent(const ResizeShape &shape, int first, int last, int changed)
{
   Size size = 1;
   for (int a = first; a < last; ++a)
      size *= a < changed ? shape.axis[a].from : shape.axis[a].to;
   return size;
}

/// One pass of interpolation, along the axis `a`; the axes behind it are resized already.
template <class C, class To, class From>
SOFIE_INLINE void resize_pass(const ResizeShape &shape, int a, int first, To *y, const From *x, const std::int64_t *index,
                              const C *weight)
{
   const Size outer = resize_extent(shape, first, a, a), inner = resize_extent(shape, a + 1, shape.rank, a);
   if (inner == 1)
      resize_last<C>(y, x, outer, shape.axis[a], index, weight);
   else
      resize_rows<C>(y, x, outer, shape.axis[a], inner, index, weight);
}

/// All passes. A tensor between two of them is in `left` or in `right`, in turn.
template <class C, class T>
SOFIE_KERNEL void resize_smoothly(const ResizeRule &rule, const ResizeShape &shape, T *y, const T *x, std::int64_t *index,
                                  C *weight, C *left, C *right)
{
   const std::int64_t *indices[ResizeShape::most_axes];
   const C *weights[ResizeShape::most_axes];
   for (int k = shape.actives - 1; k >= 0; --k) {
      const int a = shape.active[k];
      const ResizeAxis &axis = shape.axis[a];
      const bool last = resize_extent(shape, a + 1, shape.rank, a) == 1;
      resize_table(rule, axis, index, weight, last ? axis.to : 1, last ? 1 : axis.taps);
      indices[k] = index;
      weights[k] = weight;
      index += axis.taps * axis.to;
      weight += axis.taps * axis.to;
   }
   const int end = shape.actives - 1, last = shape.active[end];
#ifdef SOFIE_TRANSPOSE_ASSEMBLER
   const ResizeAxis &line = shape.axis[last];
   constexpr bool is_float = std::is_same_v<T, float>;
   ResizedLine lanes;
   const bool in_lanes = is_float && line.taps == 2 && line.from < Size(1) << 31 &&
                         resize_extent(shape, last + 1, shape.rank, last) == 1;
   if constexpr (is_float)
      if (in_lanes)
         lanes.plan(2, line.from, line.to, 1, indices[end], weights[end], reinterpret_cast<ResizedPack *>(index));
#endif
   // With several passes, one plane after the other: what is between them stays small.
   const int first = shape.actives == 1 ? 0 : shape.active[0];
   const Size planes = resize_extent(shape, 0, first, first);
   const Size old_plane = resize_extent(shape, first, shape.rank, shape.rank);
   const Size new_plane = resize_extent(shape, first, shape.rank, 0);
   for (Size p = 0; p < planes; ++p, x += old_plane, y += new_plane) {
#ifdef SOFIE_TRANSPOSE_ASSEMBLER
      if constexpr (is_float)
         if (in_lanes)
            lanes.resize(end == 0 ? y : left, x, resize_extent(shape, first, last, last), nullptr);
#else
      constexpr bool in_lanes = false;
#endif
      if (end == 0 && !in_lanes)
         resize_pass(shape, last, first, y, x, indices[0], weights[0]);
      else if (!in_lanes)
         resize_pass(shape, last, first, left, x, indices[end], weights[end]);
      if (end == 0)
         continue;
      C *now = left, *next = right;
      for (int k = end - 1; k > 0; --k) {
         resize_pass(shape, shape.active[k], first, next, now, indices[k], weights[k]);
         C *const other = now;
         now = next;
         next = other;
      }
      resize_pass(shape, shape.active[0], first, y, now, indices[0], weights[0]);
   }
}

/// Up to so many elements side by side are resized together in lanes, and up to so many numbers of 4 bytes.
inline constexpr Size most_resized_unit = 4, most_resized_numbers = 8;

/// Each element twice, in whole packs, in y and in a second row, which may be y; how many are written in a row.
template <class T>
SOFIE_INLINE Size twice_each(T *y, T *second, const T *x, Size count)
{
   constexpr Size n = 16 / static_cast<Size>(sizeof(T));
   Size i = 0;
   const Size whole = count / 2;
   for (; i < whole && whole >= n; i += n) {
      // The last ones once more where they do not fill a pack.
      i = i + n > whole ? whole - n : i;
      const auto v = load<n>(x + i);
      const auto low = in_turn<0>(v, v), high = in_turn<n / 2>(v, v);
      store(y + 2 * i, low);
      store(y + 2 * i + n, high);
      store(second + 2 * i, low);
      store(second + 2 * i + n, high);
   }
   return 2 * i;
}

/// Rows whose elements, of `inner` neighbours each, are picked from those of rows of x. `sizes`: the rows, the length of
/// one in x and in y, `inner`, and how many elements are picked.
template <class T>
SOFIE_KERNEL void pick_rows(T *y, const T *x, const std::int64_t *along, const std::int64_t *order, const Sizes<5> &sizes)
{
   const Size row = sizes[2], inner = sizes[3], count = sizes[4], bytes = inner * static_cast<Size>(sizeof(T));
   bool doubled = inner == 1;
   for (Size j = 0; doubled && j < count; ++j)
      doubled = along[j] == j / 2;
   Size before = -1;
   for (Size r = 0; r < sizes[0]; ++r, y += row) {
      const Size source = order ? static_cast<Size>(order[r]) : r;
      const T *const from = x + source * sizes[1];
      if (source == before) {
         copy_run(reinterpret_cast<char *>(y), reinterpret_cast<const char *>(y - row), row * static_cast<Size>(sizeof(T)));
      } else if (inner == 1) {
         const bool again = doubled && order && r + 1 < sizes[0] && order[r + 1] == order[r];
         const Size twice = doubled ? twice_each(y, again ? y + row : y, from, count) : 0;
         SOFIE_UNROLL(8)
         for (Size j = twice; j < count; ++j)
            y[j] = from[along[j]];
         if (again && twice == count) {
            ++r;
            y += row;
         }
      } else {
         for (Size j = 0; j < count; ++j)
            copy_run(reinterpret_cast<char *>(y + j * inner), reinterpret_cast<const char *>(from + along[j] * inner),
                     bytes);
      }
      before = source;
   }
}

/// Results of small planes that are one row, at most.
inline constexpr Size most_resized_row = 64;

/// Planes of few elements, of which several are one row; false where they are large. `indices` are those of each axis
/// that changes.
template <class T>
SOFIE_KERNEL bool resize_small_planes(const ResizeShape &shape, const std::int64_t *const *indices, T *y, const T *x)
{
   const int first = shape.active[0];
   const Size inputs = resize_extent(shape, first, shape.rank, shape.rank);
   const Size outputs = resize_extent(shape, first, shape.rank, 0), planes = resize_extent(shape, 0, first, 0);
   if (planes < 2 || 2 * outputs > most_resized_row)
      return false;
   std::int64_t along[most_resized_row];
   for (Size i = 0; i < most_resized_row / outputs * outputs; ++i) {
      Size rest = i % outputs, step = 1, source = i / outputs * inputs;
      for (int a = shape.rank - 1; a >= first; --a) {
         const Size at = rest % shape.axis[a].to;
         source += (indices[a] ? static_cast<Size>(indices[a][at]) : at) * step;
         rest /= shape.axis[a].to;
         step *= shape.axis[a].from;
      }
      along[i] = source;
   }
   for (Size left = planes, some = most_resized_row / outputs, rows; left > 0; left -= rows * some) {
      some = left < some ? left : some;
      rows = left / some;
      const Size line = some * inputs, row = some * outputs;
#ifdef SOFIE_TRANSPOSE_ASSEMBLER
      if constexpr (sizeof(T) % 4 == 0) {
         constexpr Size numbers = sizeof(T) / 4;
         ResizedPack packs[most_resized_row * numbers / 16];
         ResizedLine lanes;
         lanes.plan(1, line, row, numbers, along, nullptr, packs);
         lanes.resize(reinterpret_cast<float *>(y), reinterpret_cast<const float *>(x), rows, nullptr);
      } else
#endif
         pick_rows(y, x, along, nullptr, Sizes<5>{{rows, line, row, 1, row}});
      x += rows * line;
      y += rows * row;
   }
   return true;
}

/// Each element is that of x which is nearest.
template <class T>
SOFIE_KERNEL void resize_nearest(const ResizeRule &rule, const ResizeShape &shape, T *y, const T *x, std::int64_t *index)
{
   const std::int64_t *indices[ResizeShape::most_axes] = {};
   for (int k = 0; k < shape.actives; ++k) {
      const ResizeAxis &axis = shape.axis[shape.active[k]];
      indices[shape.active[k]] = index;
      for (Size j = 0; j < axis.to; ++j)
         *index++ = nearest_element(rule, axis, j);
   }
   if (resize_small_planes(shape, indices, y, x))
      return;
   const int last = shape.active[shape.actives - 1];
   const Size inner = resize_extent(shape, last + 1, shape.rank, 0);
   const Size line = shape.axis[last].from * inner, row = shape.axis[last].to * inner;
   const std::int64_t *const along = indices[last];
   // The axis before the last one that changes is that of the rows.
   const int row_axis = last - 1;
   const Size rows = last > 0 ? shape.axis[row_axis].to : 1, old_rows = last > 0 ? shape.axis[row_axis].from : 1;
   const std::int64_t *const order = last > 0 ? indices[row_axis] : nullptr;
   const Size planes = last > 0 ? resize_extent(shape, 0, row_axis, 0) : 1;
#ifdef SOFIE_TRANSPOSE_ASSEMBLER
   constexpr Size numbers = static_cast<Size>(sizeof(T)) / 4;
   const bool in_lanes = sizeof(T) % 4 == 0 && inner <= most_resized_unit && line * numbers < Size(1) << 31;
   ResizedLine lanes;
   if (in_lanes)
      lanes.plan(1, shape.axis[last].from, shape.axis[last].to, inner * numbers, along, nullptr,
                 reinterpret_cast<ResizedPack *>(index));
#endif
   Size at[ResizeShape::most_axes] = {};
   for (Size p = 0; p < planes; ++p, y += rows * row) {
      Size source = 0;
      for (int a = 0; a < row_axis; ++a)
         source = source * shape.axis[a].from + (indices[a] ? static_cast<Size>(indices[a][at[a]]) : at[a]);
      const T *const from = x + source * old_rows * line;
#ifdef SOFIE_TRANSPOSE_ASSEMBLER
      if (in_lanes)
         lanes.resize(reinterpret_cast<float *>(y), reinterpret_cast<const float *>(from), rows, order);
      else
#endif
         pick_rows(y, from, along, order, Sizes<5>{{rows, line, row, inner, shape.axis[last].to}});
      for (int a = row_axis - 1; a >= 0; --a) {
         if (++at[a] < shape.axis[a].to)
            break;
         at[a] = 0;
      }
   }
}

/// y[..., j, ...] = the extrapolation value where j is outside of what is cropped
template <class T>
SOFIE_KERNEL void extrapolate(const ResizeRule &rule, const ResizeShape &shape, T *y)
{
   const T value = resized<T>(static_cast<std::conditional_t<std::is_same_v<T, float>, float, double>>(rule.extrapolation));
   for (int a = 0; a < shape.rank; ++a) {
      const Size outer = resize_extent(shape, 0, a, 0), inner = resize_extent(shape, a + 1, shape.rank, 0);
      const Size to = shape.axis[a].to;
      for (Size j = 0; j < to; ++j) {
         if (!is_extrapolated(rule, shape.axis[a], j))
            continue;
         for (Size o = 0; o < outer; ++o)
            for (Size i = 0; i < inner; ++i)
               y[(o * to + j) * inner + i] = value;
      }
   }
}

/// In what numbers of type `T` are interpolated.
template <class T>
using Interpolated = std::conditional_t<std::is_same_v<T, float>, float, double>;

template <class T>
SOFIE_KERNEL void resize(const ResizeRule &rule, const ResizeShape &shape, T *y, const T *x, std::int64_t *index,
                         Interpolated<T> *weight, Interpolated<T> *left, Interpolated<T> *right)
{
   if (shape.to <= 0)
      return;
   if (shape.actives == 0)
      __builtin_memcpy(y, x, static_cast<std::size_t>(shape.to) * sizeof(T));
   else if (rule.mode == ResizeRule::nearest)
      resize_nearest(rule, shape, y, x, index);
   else if constexpr (!std::is_same_v<T, bool>)
      resize_smoothly<Interpolated<T>>(rule, shape, y, x, index, weight, left, right);
   if (rule.coordinate == ResizeRule::tf_crop_and_resize)
      extrapolate(rule, shape, y);
}

/// Memory for which elements count and how much, and for what is between two passes.
template <class Index, class Weight, class Left, class Right>
struct ResizeMemory {
   Index index;
   Weight weight;
   Left left;
   Right right;
};
template <class Index, class Weight, class Left, class Right>
ResizeMemory(Index, Weight, Left, Right) -> ResizeMemory<Index, Weight, Left, Right>;

/// y is x in another size.
template <class Y, class Memory, class X, int N, int M>
SOFIE_INLINE void resize(const ResizeRule &rule, Y y, const Memory &memory, X x, const Sizes<N> &from,
                         const Sizes<N> &to, const Sizes<N> &wanted, const Numbers<M> &numbers)
{
   static_assert(M == 3 * N && N <= ResizeShape::most_axes, "three numbers for each axis");
   using T = typename Y::Element;
   const ResizeShape shape = resize_shape(rule, N, from.values, to.values, wanted.values, numbers.values);
   resize<T>(rule, shape, y.data(), x.data(), memory.index.data(), memory.weight.data(), memory.left.data(),
             memory.right.data());
}

/// floor(size * scale), where a scale that only has the nearest float to a simple fraction, as 0.7f, means that
/// fraction.
inline Size scaled_size(Size size, double scale)
{
   double rest = scale;
   double above = 1, below = 0, above_before = 0, below_before = 1;
   for (int step = 0; step < 20; ++step) {
      const double whole = __builtin_floor(rest);
      const double next_above = whole * above + above_before, next_below = whole * below + below_before;
      above_before = above;
      below_before = below;
      above = next_above;
      below = next_below;
      if (above > 0x1p24 || below > 0x1p24)
         break;
      if (static_cast<float>(above / below) == static_cast<float>(scale))
         return size * static_cast<Size>(above) / static_cast<Size>(below);
      if (rest == whole)
         break;
      rest = 1 / (rest - whole);
   }
   return static_cast<Size>(__builtin_floor(moderate(static_cast<double>(size) * scale)));
}

/// What the inputs behind x say about the axes that are resized.
template <int Rank>
struct ResizeInputs {
   enum Kind { roi, scales, sizes };
   Numbers<3 * Rank> numbers;
   Sizes<Rank> wanted;
   bool has_sizes = false, has_scales = false;

   ResizeInputs()
   {
      for (int a = 0; a < Rank; ++a) {
         numbers.values[a] = 0;
         numbers.values[Rank + a] = 0;
         numbers.values[2 * Rank + a] = 1;
         wanted[a] = -1;
      }
   }

   template <int K, class Input>
   void read(Kind kind, const Sizes<K> &axes, const Input &input)
   {
      const Size count = input.size(), needed = kind == roi ? 2 * K : K;
      if (count == 0)
         return;
      if (count != needed)
         throw std::invalid_argument("Resize: roi, scales and sizes must have numbers for each axis");
      for (int k = 0; k < K; ++k) {
         const int a = static_cast<int>(axes[k]);
         if (kind == roi) {
            numbers.values[Rank + a] = static_cast<double>(input.data()[k]);
            numbers.values[2 * Rank + a] = static_cast<double>(input.data()[K + k]);
         } else if (kind == scales) {
            numbers.values[a] = static_cast<double>(input.data()[k]);
            if (!(numbers.values[a] > 0))
               throw std::invalid_argument("Resize: a scale must be above 0");
            has_scales = true;
         } else {
            wanted[a] = static_cast<Size>(input.data()[k]);
            if (wanted[a] < 0)
               throw std::invalid_argument("Resize: a size is negative");
            has_sizes = true;
         }
      }
   }

   /// The new shape.
   Sizes<Rank> result(const ResizeRule &rule, const Sizes<Rank> &from) const
   {
      if (has_sizes == has_scales)
         throw std::invalid_argument("Resize: needs either scales or sizes");
      Sizes<Rank> to = from;
      for (int a = 0; a < Rank; ++a) {
         if (has_scales)
            to[a] = numbers.values[a] > 0 ? scaled_size(from[a], numbers.values[a]) : from[a];
         else if (wanted[a] >= 0)
            to[a] = rule.policy == ResizeRule::stretch ? wanted[a] : proportional(rule, from, from[a]);
      }
      return to;
   }

private:
   /// `size` times the one scale of all axes, rounded to the nearest integer.
   Size proportional(const ResizeRule &rule, const Sizes<Rank> &from, Size size) const
   {
      Size found = -1;
      for (int a = 0; a < Rank; ++a) {
         if (wanted[a] < 0)
            continue;
         if (from[a] == 0)
            throw std::invalid_argument("Resize: there are no elements to make others from");
         const Size one = (2 * wanted[a] * size + from[a]) / (2 * from[a]);
         if (found < 0 || (rule.policy == ResizeRule::not_larger ? one < found : one > found))
            found = one;
      }
      return found;
   }
};

/// A resize whose sizes only the run tells, which has no plan of its scratch memory.
template <class T>
SOFIE_KERNEL void resize_unplanned(const ResizeRule &rule, const ResizeShape &shape, T *y, const T *x)
{
   using C = Interpolated<T>;
   Size table = 0, between = 0, widest = 0;
   for (int k = 0; k < shape.actives; ++k) {
      const int a = shape.active[k];
      table += shape.axis[a].taps * shape.axis[a].to;
      widest = shape.axis[a].to > widest ? shape.axis[a].to : widest;
      const Size size = resize_extent(shape, shape.active[0], shape.rank, a);
      if (k > 0 && size > between)
         between = size;
   }
   const bool smooth = rule.mode != ResizeRule::nearest;
   Buffer<std::int64_t> index(table + resized_packs_size(most_resized_numbers * widest));
   Buffer<C> weight(smooth ? table : 0), left(smooth ? between : 0), right(smooth && shape.actives > 2 ? between : 0);
   resize<T>(rule, shape, y, x, index.data(), weight.data(), left.data(), right.data());
}

/// The next one of roi, scales and sizes that is given.
template <int Kinds, class Given>
SOFIE_INLINE typename Given::Kind next_kind(int &kind)
{
   do {
      ++kind;
   } while (!(Kinds >> kind & 1));
   return static_cast<typename Given::Kind>(kind);
}

/// resize along `axes` by the inputs behind x: the bits of `Kinds` say which of roi, scales and sizes
/// these are.
template <int Kinds, class T, int Rank, int K, class X, class... Inputs>
SOFIE_INLINE void resize_as_told(const ResizeRule &rule, const Sizes<Rank> &from, const Sizes<K> &axes, Owned<T, Rank> &y,
                                 X x, Inputs... inputs)
{
   using Given = ResizeInputs<Rank>;
   Given given;
   int kind = -1;
   (given.read(next_kind<Kinds, Given>(kind), axes, inputs), ...);
   const Sizes<Rank> to = given.result(rule, from);
   y.resize(to);
   resize_unplanned<T>(rule, resize_shape(rule, Rank, from.values, to.values, given.wanted.values, given.numbers.values),
                       y.data(), x.data());
}

} // namespace sofie

SOFIE_END

#endif
