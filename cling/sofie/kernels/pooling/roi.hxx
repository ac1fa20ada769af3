/// \file
/// Pooling of regions of interest: rectangles that the data decide.
#ifndef SOFIE_KERNELS_POOLING_ROI_HXX
#define SOFIE_KERNELS_POOLING_ROI_HXX

#include "sofie/simd.hxx"

SOFIE_BEGIN

namespace sofie {

/// The sizes that pooling of regions is about: of x[images, channels, height, width], and of the
/// result for one channel of one region.
struct RegionSizes {
   Size images, channels, height, width, regions, rows, columns;
};

/// The number of an image; std::out_of_range if there is no such image.
SOFIE_INLINE Size image_number(double number, Size images)
{
   if (!(number >= 0 && number < static_cast<double>(images)))
      throw std::out_of_range("a region of interest is in an image that does not exist");
   return static_cast<Size>(number);
}

/// The nearest integer, away from zero at halves; coordinates beyond any image stay there.
SOFIE_INLINE Size nearest_pixel(double x)
{
   constexpr double far = 0x1p40;
   if (!(x > -far))
      return x == x ? static_cast<Size>(-far) : 0;
   return static_cast<Size>(__builtin_round(x < far ? x : far));
}

/// Which elements along one axis belong to part number `part` of `parts` of a region.
struct RegionPart {
   Size first, last;

   SOFIE_INLINE RegionPart(Size begin, Size extent, Size part, Size parts, Size size)
      : first(within(begin + part * extent / parts, size)),
        last(within(begin + ((part + 1) * extent + parts - 1) / parts, size))
   {
   }

private:
   SOFIE_INLINE static Size within(Size at, Size size) { return at < 0 ? 0 : at < size ? at : size; }
};

/// The largest element of a rectangle; 0 if that is empty, NaN if there is one.
template <class T>
SOFIE_INLINE T largest_of(const T *x, Size width, const RegionPart &down, const RegionPart &across)
{
   T most = 0;
   bool first = true;
   for (Size h = down.first; h < down.last; ++h)
      for (Size w = across.first; w < across.last; ++w) {
         const T value = x[h * width + w];
         if (first || value > most || (value != value && most == most))
            most = value;
         first = false;
      }
   return most;
}

template <class T>
SOFIE_KERNEL void max_roi_pool(T *y, const T *x, const T *rois, const RegionSizes &sizes, double scale)
{
   const Size plane = sizes.height * sizes.width;
   for (Size r = 0; r < sizes.regions; ++r, rois += 5) {
      const T *const image = x + image_number(static_cast<double>(rois[0]), sizes.images) * sizes.channels * plane;
      Size corner[4];
      for (int i = 0; i < 4; ++i)
         corner[i] = nearest_pixel(static_cast<double>(rois[i + 1]) * scale);
      const Size width = corner[2] < corner[0] ? 1 : corner[2] - corner[0] + 1;
      const Size height = corner[3] < corner[1] ? 1 : corner[3] - corner[1] + 1;
      for (Size c = 0; c < sizes.channels; ++c)
         for (Size i = 0; i < sizes.rows; ++i) {
            const RegionPart down(corner[1], height, i, sizes.rows, sizes.height);
            for (Size j = 0; j < sizes.columns; ++j) {
               const RegionPart across(corner[0], width, j, sizes.columns, sizes.width);
               *y++ = largest_of(image + c * plane, sizes.width, down, across);
            }
         }
   }
}

/// y[r, c, i, j] = the largest element of part (i, j) of region r
template <class Y, class X, class Rois>
SOFIE_INLINE void max_roi_pool(Y y, X x, Rois rois, double scale)
{
   const RegionSizes sizes{x.template extent<0>(), x.template extent<1>(), x.template extent<2>(),
                           x.template extent<3>(), y.template extent<0>(), y.template extent<2>(),
                           y.template extent<3>()};
   max_roi_pool<typename Y::Element>(y.data(), x.data(), rois.data(), sizes, scale);
}

/// How regions are sampled; `sampling` points along each axis of a part, or as many as it has pixels if that is 0.
struct RegionSampling {
   double scale;
   Size sampling;
   bool half_pixel;
};

/// A region along one axis, and the points at which each part of it is sampled.
struct RegionAxis {
   double begin, part;
   Size points;

   SOFIE_INLINE RegionAxis(double from, double to, Size parts, const RegionSampling &rule)
   {
      const double shift = rule.half_pixel ? 0.5 : 0.0;
      begin = from * rule.scale - shift;
      double extent = (to * rule.scale - shift) - begin;
      if (!rule.half_pixel && !(extent >= 1))
         extent = 1;
      part = extent / static_cast<double>(parts);
      const double pixels = __builtin_ceil(part);
      if (rule.sampling <= 0 && pixels > 0x1p20)
         throw std::invalid_argument("RoiAlign: a region is too large to be sampled");
      points = rule.sampling > 0 ? rule.sampling : pixels > 0 ? static_cast<Size>(pixels) : 0;
   }

   SOFIE_INLINE double at(Size index, Size point) const
   {
      return begin + static_cast<double>(index) * part +
             (static_cast<double>(point) + 0.5) * part / static_cast<double>(points);
   }
};

/// The two neighbours of a coordinate, and what each of them counts.
struct Neighbours {
   Size low, high;
   double low_weight, high_weight;
   bool inside;

   SOFIE_INLINE Neighbours(double at, Size size)
   {
      inside = at >= -1 && at <= static_cast<double>(size) && size > 0;
      const double x = !inside || at < 0 ? 0 : at;
      low = static_cast<Size>(x);
      const bool last = low >= size - 1;
      if (last)
         low = size - 1;
      high = last ? low : low + 1;
      high_weight = last ? 0 : x - static_cast<double>(low);
      low_weight = 1 - high_weight;
   }
};

/// One point of a plane between four elements.
template <class T>
struct SampledPoint {
   Size offset[4];
   T weight[4];

   SOFIE_INLINE SampledPoint(const Neighbours &down, const Neighbours &across, Size width)
      : offset{down.low * width + across.low, down.low * width + across.high, down.high * width + across.low,
               down.high * width + across.high},
        weight{
           static_cast<T>(down.low_weight * across.low_weight), static_cast<T>(down.low_weight * across.high_weight),
           static_cast<T>(down.high_weight * across.low_weight), static_cast<T>(down.high_weight * across.high_weight)}
   {
   }

   /// What element number `i` contributes; nothing, be it infinite, where its weight is 0.
   SOFIE_INLINE T part(const T *x, int i) const { return weight[i] == 0 ? T(0) : weight[i] * x[offset[i]]; }

   SOFIE_INLINE T sum(const T *x) const { return (part(x, 0) + part(x, 1)) + (part(x, 2) + part(x, 3)); }

   SOFIE_INLINE T largest(const T *x) const
   {
      T most = part(x, 0);
      for (int i = 1; i < 4; ++i) {
         const T value = part(x, i);
         most = most > value || most != most ? most : value;
      }
      return most;
   }
};

/// y[c * apart] of one part of one region, for all channels.
template <bool Max, class T>
SOFIE_INLINE void align_part(T *y, const T *image, const RegionSizes &sizes, const RegionAxis &down,
                             const RegionAxis &across, Size i, Size j)
{
   const Size apart = sizes.rows * sizes.columns, plane = sizes.height * sizes.width;
   for (Size c = 0; c < sizes.channels; ++c)
      y[c * apart] = 0;
   for (Size v = 0; v < down.points; ++v) {
      const Neighbours rows(down.at(i, v), sizes.height);
      for (Size h = 0; h < across.points; ++h) {
         const Neighbours columns(across.at(j, h), sizes.width);
         const bool inside = rows.inside && columns.inside, first = v == 0 && h == 0;
         if (!inside && (!Max || first))
            continue;
         const SampledPoint<T> point(rows, columns, sizes.width);
         for (Size c = 0; c < sizes.channels; ++c) {
            T &result = y[c * apart];
            if constexpr (Max) {
               const T value = inside ? point.largest(image + c * plane) : T(0);
               result = first || value > result || value != value ? value : result;
            } else {
               result += point.sum(image + c * plane);
            }
         }
      }
   }
   const Size points = down.points * across.points;
   if constexpr (!Max)
      for (Size c = 0; c < sizes.channels; ++c)
         y[c * apart] /= static_cast<T>(points > 0 ? points : 1);
}

template <bool Max, class T>
SOFIE_KERNEL void roi_align(const RegionSampling &rule, T *y, const T *x, const T *rois, const std::int64_t *images,
                            const RegionSizes &sizes)
{
   const Size plane = sizes.height * sizes.width, result = sizes.rows * sizes.columns;
   for (Size r = 0; r < sizes.regions; ++r, rois += 4, y += sizes.channels * result) {
      const T *const image = x + image_number(static_cast<double>(images[r]), sizes.images) * sizes.channels * plane;
      const RegionAxis across(static_cast<double>(rois[0]), static_cast<double>(rois[2]), sizes.columns, rule);
      const RegionAxis down(static_cast<double>(rois[1]), static_cast<double>(rois[3]), sizes.rows, rule);
      for (Size i = 0; i < sizes.rows; ++i)
         for (Size j = 0; j < sizes.columns; ++j)
            align_part<Max>(y + i * sizes.columns + j, image, sizes, down, across, i, j);
   }
}

/// y[r, c, i, j] = the mean, or the largest part, of x at points in part (i, j) of region r
template <bool Max, class Y, class X, class Rois, class Images>
SOFIE_INLINE void roi_align(const RegionSampling &rule, Y y, X x, Rois rois, Images images)
{
   const RegionSizes sizes{x.template extent<0>(), x.template extent<1>(), x.template extent<2>(),
                           x.template extent<3>(), y.template extent<0>(), y.template extent<2>(),
                           y.template extent<3>()};
   roi_align<Max, typename Y::Element>(rule, y.data(), x.data(), rois.data(), images.data(), sizes);
}

} // namespace sofie

SOFIE_END

#endif
