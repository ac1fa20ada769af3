/// \file
/// Normalisations by the mean and the variance of the data themselves.
///
/// Both are computed in two passes, and the second one also finds by how much the first has missed
/// the mean: an offset that is large against the deviations costs no digits.
#ifndef SOFIE_KERNELS_NORMALIZATION_HXX
#define SOFIE_KERNELS_NORMALIZATION_HXX

#include "sofie/kernels/elementwise/map.hxx"
#include "sofie/kernels/normalization/rows.hxx"
#include "sofie/math/rounding.hxx"

SOFIE_BEGIN

namespace sofie {

/// The mean is `mean + rest`, where `rest` is what rounding has taken from `mean`.
template <class T>
struct Moments {
   T mean, rest, variance;
};

/// The first `count` lanes of `v`; the others are zero.
template <class V>
SOFIE_INLINE V first_lanes(V v, Size count)
{
   ElementOf<V> buffer[static_cast<std::size_t>(width<V>)];
   store(buffer, v);
   return load_some<width<V>>(buffer, count);
}

/// Sums of deviations and of their squares. Four of each run side by side; which of them an element
/// belongs to depends on its place in its run alone.
template <class T>
struct MomentSums {
   Pack<T> first[4], second[4];

   SOFIE_INLINE void clear()
   {
      for (int c = 0; c < 4; ++c)
         first[c] = second[c] = Pack<T>{};
   }
   SOFIE_INLINE T sum() const { return sum_of_lanes((first[0] + first[1]) + (first[2] + first[3])); }
   SOFIE_INLINE T squares() const { return sum_of_lanes((second[0] + second[1]) + (second[2] + second[3])); }
};

/// Adds a run of numbers, or of their deviations from `mean` and the squares of these.
template <bool Squares, class T>
SOFIE_INLINE void add_run(MomentSums<T> &sums, const T *__restrict x, Size length, Pack<T> mean)
{
   constexpr int n = lanes<T>;
   Size i = 0;
   for (; i + 4 * n <= length; i += 4 * n)
   SOFIE_UNROLL_ALL
      for (int c = 0; c < 4; ++c) {
         const Pack<T> d = load<n>(x + i + c * n) - mean;
         sums.first[c] += d;
         if constexpr (Squares)
            sums.second[c] = multiply_add(d, d, sums.second[c]);
      }
   for (int c = 0; i < length; i += n, ++c) {
      const Size count = length - i < n ? length - i : n;
      Pack<T> d = load_some<n>(x + i, count) - mean;
      if (count < n)
         d = first_lanes(d, count);
      sums.first[c] += d;
      if constexpr (Squares)
         sums.second[c] = multiply_add(d, d, sums.second[c]);
   }
}

/// The mean and the variance of all numbers. If they are not `centred`, the mean counts as zero and
/// the variance is the mean of the squares.
template <class T>
SOFIE_KERNEL Moments<T> moments(const T *x, Size length, bool centred)
{
   const T count = static_cast<T>(length);
   MomentSums<T> sums;
   T mean = 0;
   if (centred) {
      sums.clear();
      add_run<false>(sums, x, length, Pack<T>{});
      mean = sums.sum() / count;
   }
   sums.clear();
   add_run<true>(sums, x, length, splat<Pack<T>>(mean));
   if (!centred)
      return {0, 0, sums.squares() / count};
   const T missed = sums.sum() / count;
   const T rest = missed == missed ? missed : T(0); // An infinite mean is none of these.
   const T variance = sums.squares() / count - rest * rest;
   return {mean, rest, variance < 0 ? T(0) : variance};
}

template <class T>
SOFIE_INLINE T inverse_deviation(const Moments<T> &of, double epsilon)
{
   return 1 / sqrt(splat<Pack<T>>(of.variance + static_cast<T>(epsilon)))[0];
}

/// y = (x - mean) * factor + offset for one run.
template <class T>
SOFIE_INLINE void scale_run(T *__restrict y, const T *__restrict x, Size length, const Moments<T> &of, T factor, T offset)
{
   constexpr int n = lanes<T>;
   using V = Pack<T>;
   const V mean = splat<V>(of.mean), rest = splat<V>(of.rest), slope = splat<V>(factor), start = splat<V>(offset);
   Size i = 0;
   for (; i + n <= length; i += n)
      store(y + i, multiply_add(load<n>(x + i) - mean - rest, slope, start));
   if (i < length)
      store_some(y + i, multiply_add(load_some<n>(x + i, length - i) - mean - rest, slope, start), length - i);
}

/// y = (x - mean) * inverse * scale + offset, where each element has its own scale and offset.
template <bool Offset, class T>
SOFIE_INLINE void scale_each(T *__restrict y, const T *__restrict x, const T *__restrict scale,
                             const T *__restrict offset, Size length, const Moments<T> &of, T inverse)
{
   constexpr int n = lanes<T>;
   using V = Pack<T>;
   const V mean = splat<V>(of.mean), rest = splat<V>(of.rest), factor = splat<V>(inverse);
   Size i = 0;
   for (; i + n <= length; i += n) {
      const V v = (load<n>(x + i) - mean - rest) * factor;
      if constexpr (Offset)
         store(y + i, multiply_add(v, load<n>(scale + i), load<n>(offset + i)));
      else
         store(y + i, v * load<n>(scale + i));
   }
   if (i < length) {
      const Size count = length - i;
      V v = (load_some<n>(x + i, count) - mean - rest) * factor;
      if constexpr (Offset)
         v = multiply_add(v, load_some<n>(scale + i, count), load_some<n>(offset + i, count));
      else
         v *= load_some<n>(scale + i, count);
      store_some(y + i, v, count);
   }
}

/// What `moments` gives for up to `lanes` rows, bit for bit, and 1 / sqrt(variance + epsilon).
template <class T>
struct RowMoments {
   T mean[lanes<T>], rest[lanes<T>], inverse[lanes<T>];
};

template <class T>
SOFIE_KERNEL void moments_of_rows(RowMoments<T> &of, const T *x, Size rows, const RowsRule &rule, double epsilon,
                                  bool centred)
{
#ifdef SOFIE_ROWS_ASSEMBLER
   if constexpr (std::is_same_v<T, float>) {
      using V = Pack<float>;
      constexpr int n = lanes<float>;
      const V count = splat<V>(static_cast<float>(rule.length));
      float sums[n] = {}, squares[n] = {};
      V mean{}, rest{};
      if (centred) {
         sums_of_rows(sums, x, rows, rule);
         mean = load<n>(sums) / count;
      }
      store(of.mean, mean);
      squares_of_rows(sums, squares, x, rows, of.mean, rule);
      V variance = load<n>(squares) / count;
      if (centred) {
         const V missed = load<n>(sums) / count;
         rest = select(missed == missed, missed, V{}); // An infinite mean is none of these.
         variance = at_least(variance - rest * rest, 0);
      }
      store(of.rest, rest);
      store(of.inverse, splat<V>(1) / sqrt(variance + splat<V>(static_cast<float>(epsilon))));
      return;
   }
#endif
   for (Size r = 0; r < rows; ++r) {
      const Moments<T> found = moments(x + r * rule.length, rule.length, centred);
      of.mean[r] = found.mean;
      of.rest[r] = found.rest;
      of.inverse[r] = inverse_deviation(found, epsilon);
   }
}

#ifdef SOFIE_ROWS_ASSEMBLER
/// Rows of floats with a scale and, perhaps, an offset for each number of a row; with `Each` for each row.
template <bool Each>
SOFIE_KERNEL void normalize_float_rows(float *y, const float *x, const float *scale, const float *offset, Size rows,
                                       const RowsRule &rule, double epsilon, bool centred)
{
   constexpr Size n = lanes<float>;
   const Size length = rule.length;
   RowMoments<float> found;
   RowFactors of{};
   for (Size r = 0; r < rows; r += n) {
      const Size some = rows - r < n ? rows - r : n;
      moments_of_rows(found, x + r * length, some, rule, epsilon, centred);
      store(of.mean, load<n>(found.mean));
      store(of.rest, load<n>(found.rest));
      if constexpr (Each) {
         store(of.factor, load<n>(found.inverse) * load_some<n>(scale + r, some));
         store(of.offset, load_some<n>(offset + r, some));
         scale_rows(y + r * length, x + r * length, some, &of, rule);
      } else {
         store(of.factor, load<n>(found.inverse));
         scale_rows(y + r * length, x + r * length, some, &of, scale, offset, rule);
      }
   }
}
#endif

/// Rows that are normalised, and where their statistics go. Null pointers stand for what there is not.
template <class T, class Statistic>
struct NormalizedRows {
   T *y;
   Statistic *means, *inverses;
   const T *x, *scale, *offset;
   Size rows, length;
};

template <class T, class Statistic>
SOFIE_KERNEL void normalize_rows(const NormalizedRows<T, Statistic> &all, double epsilon, bool centred)
{
   T *y = all.y;
   const T *x = all.x;
   const T *const scale = all.scale, *const offset = all.offset;
   Statistic *const means = all.means, *const inverses = all.inverses;
   const Size rows = all.rows, length = all.length;
#ifdef SOFIE_ROWS_ASSEMBLER
   if constexpr (std::is_same_v<T, float>)
      if (scale && !means && !inverses)
         return normalize_float_rows<false>(y, x, scale, offset, rows, rows_rule(length), epsilon, centred);
#endif
   const RowsRule rule = rows_rule(length);
   RowMoments<T> of;
   for (Size r = 0; r < rows; ++r, x += length, y += length) {
      const Size lane = r % lanes<T>;
      if (lane == 0)
         moments_of_rows(of, x, rows - r < lanes<T> ? rows - r : lanes<T>, rule, epsilon, centred);
      const Moments<T> found{of.mean[lane], of.rest[lane], 0};
      const T inverse = of.inverse[lane];
      if (means)
         means[r] = static_cast<Statistic>(found.mean + found.rest);
      if (inverses)
         inverses[r] = static_cast<Statistic>(inverse);
      if (!scale)
         scale_run(y, x, length, found, inverse, -T(0)); // So that -0 stays -0.
      else if (offset)
         scale_each<true>(y, x, scale, offset, length, found, inverse);
      else
         scale_each<false>(y, x, scale, offset, length, found, inverse);
   }
}

/// What divides: sqrt(variance + epsilon), or sqrt(mean of squares + epsilon).
struct RowStatistics {
   double epsilon;
   bool centred;
};

template <class T, class Statistic, class Y, class X>
SOFIE_INLINE void normalize_views(const RowStatistics &rule, Y y, Statistic *means, Statistic *inverses, X x,
                                  const T *scale, const T *offset)
{
   const NormalizedRows<T, Statistic> rows{y.data(), means,  inverses, x.data(),
                                           scale,    offset, y.template extent<0>(), y.template extent<1>()};
   normalize_rows(rows, rule.epsilon, rule.centred);
}

/// The element type of the statistics, where there are any.
template <class M, class T>
struct StatisticOf {
   using type = typename M::Element;
};
template <class T>
struct StatisticOf<NoTensor, T> {
   using type = T;
};

/// y[r, i] = (x[r, i] - mean[r]) * inverse[r] * scale[i] + offset[i]
template <class Y, class M, class I, class X, class S, class B>
SOFIE_INLINE void normalize(const RowStatistics &rule, Y y, M means, I inverses, X x, S scale, B offset)
{
   using T = typename Y::Element;
   using Statistic = typename StatisticOf<M, T>::type;
   normalize_views<T, Statistic>(rule, y, data_of(means), data_of(inverses), x, data_of(scale), data_of(offset));
}

/// a * scale + offset
struct ScaleAndShift {
   template <class V>
   SOFIE_INLINE V operator()(V a, V scale, V offset) const
   {
      return multiply_add(a, scale, offset);
   }
   template <class V>
   SOFIE_INLINE V operator()(V a, V scale) const
   {
      return a * scale;
   }
};

/// The same where scale and offset are broadcast in another way: `again` is y in the shape that
/// they are broadcast to.
template <class Y, class M, class I, class Again, class X, class... C>
SOFIE_INLINE void normalize_broadcast(const RowStatistics &rule, Y y, M means, I inverses, Again again, X x, C... c)
{
   normalize(rule, y, means, inverses, x, NoTensor{}, NoTensor{});
   map(ScaleAndShift{}, again, again, c...);
}

/// Rows of so many runs of `length` numbers; the scale and the offset of run k of row r stand at
/// place r * runs + k, counted round and round `places` of them.
struct NormalizedGroups {
   Size places, rows, runs, length;
};

template <class T>
SOFIE_KERNEL void normalize_groups(T *y, const T *x, const T *scale, const T *offset, const NormalizedGroups &all,
                                   double epsilon)
{
   const Size places = all.places, rows = all.rows, runs = all.runs, length = all.length;
#ifdef SOFIE_ROWS_ASSEMBLER
   if constexpr (std::is_same_v<T, float>)
      if (runs == 1 && length > 1) {
         const RowsRule rule = rows_rule(length);
         for (Size r = 0; r < rows; r += places)
            normalize_float_rows<true>(y + r * length, x + r * length, scale, offset, places, rule, epsilon, true);
         return;
      }
#endif
   Size place = 0;
   for (Size r = 0; r < rows; ++r) {
      const Moments<T> found = moments(x, runs * length, true);
      const T inverse = inverse_deviation(found, epsilon);
      if (length == 1) {
         scale_each<true>(y, x, scale + place, offset + place, runs, found, inverse);
         x += runs;
         y += runs;
      } else {
         for (Size k = 0; k < runs; ++k, x += length, y += length)
            scale_run(y, x, length, found, inverse * scale[place + k], offset[place + k]);
      }
      place = place + runs == places ? 0 : place + runs;
   }
}

struct Epsilon {
   double epsilon;
};

/// y[r, k, i] = (x[r, k, i] - mean[r]) / sqrt(variance[r] + epsilon) * scale[r, k] + offset[r, k],
/// where r wraps around in scale and offset.
template <class Y, class X, class S, class B>
SOFIE_INLINE void group_normalization(const Epsilon &rule, Y y, X x, S scale, B offset)
{
   using T = typename Y::Element;
   const NormalizedGroups groups{scale.template extent<0>(), y.template extent<0>(), y.template extent<1>(),
                                 y.template extent<2>()};
   normalize_groups<T>(y.data(), x.data(), scale.data(), offset.data(), groups, rule.epsilon);
}

} // namespace sofie

SOFIE_END

#endif
