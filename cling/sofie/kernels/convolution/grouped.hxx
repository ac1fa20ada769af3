/// \file
/// Convolutions in groups of few channels and features: those of several groups lie side by side in the lanes.
///
/// Some rows of the channels become images of which each place has sixteen numbers, with their padding; sums of them
/// are turned into rows of features. Without AVX-512 this is `convolution`.
#ifndef SOFIE_KERNELS_CONVOLUTION_GROUPED_HXX
#define SOFIE_KERNELS_CONVOLUTION_GROUPED_HXX

#include "sofie/kernels/convolution/depthwise.hxx"
#include "sofie/kernels/convolution/grouped_rows.hxx"

SOFIE_BEGIN

namespace sofie {

#ifdef SOFIE_TRANSPOSE_ASSEMBLER

/// Which group and which feature, or channel, of it a lane has: f of group g has lane f * together + g. Where there are
/// fewer, the first lanes have none, and say what the first one that exists has.
struct GroupedLane {
   Size group, feature;
   bool exists;
};

SOFIE_INLINE GroupedLane grouped_lane(Size lane, Size together, Size groups, Size features)
{
   const Size group = lane % together - (together - groups), feature = lane / together - (16 / together - features);
   return {group < 0 ? 0 : group, feature < 0 ? 0 : feature, group >= 0 && feature >= 0};
}

/// W[M, C / groups, kernel...] and b[M], if there is one: for each block of `Together` groups and each part of its
/// features sixteen biases, and then sixteen weights for each channel and tap.
template <int Groups, int Together, int Rows>
class GroupedWeights : public ConvPanels<float> {
public:
   SOFIE_KERNEL explicit GroupedWeights(const ConvFilters<float> &of) : ConvPanels<float>(nullptr, 0)
   {
      constexpr Size most = 16 / Together;
      const Size own = of.features / Groups, parts = ceil_div(own, most), depth = of.channels * of.taps;
      panels_ = Buffer<float>(ceil_div(Size{Groups}, Size{Together}) * parts * (depth + 1) * 16);
      float *to = panels_.data();
      for (Size g = 0; g < Groups; g += Together)
         for (Size f = 0; f < own; f += most, to += (depth + 1) * 16)
            for (Size lane = 0; lane < 16; ++lane) {
               const GroupedLane at = grouped_lane(lane, Together, Groups - g < Together ? Groups - g : Size{Together},
                                                   own - f < most ? own - f : most);
               const Size feature = (g + at.group) * own + f + at.feature;
               to[lane] = at.exists && of.bias ? of.bias[feature] : 0;
               for (Size k = 0; k < depth; ++k)
                  to[(k + 1) * 16 + lane] = at.exists ? of.w[feature * depth + k] : 0;
            }
   }
   template <class... V>
   SOFIE_INLINE explicit GroupedWeights(const V &...views) : GroupedWeights(conv_filters<float>(views...))
   {
   }
};

/// Where rows are, in bytes from the first one: sixteen channels for each image, sixteen features for each part.
struct GroupedPlaces {
   Size *in, *out;
   Size images, parts;
};

SOFIE_KERNEL inline void grouped_places(const GroupedPlaces &places, const ConvShape &s, Size together, Size groups)
{
   constexpr Size bytes = Size{sizeof(float)};
   const Size most = 16 / together, channels = s.group_channels(), features = s.group_features();
   for (Size i = 0; i < places.images; ++i)
      for (Size lane = 0; lane < 16; ++lane) {
         const GroupedLane of = grouped_lane(lane, together, groups, most);
         const Size c = i * most + of.feature;
         places.in[i * 16 + lane] = (of.group * channels + (c < channels ? c : channels - 1)) * s.in_channel * bytes;
      }
   for (Size i = 0; i < places.parts; ++i) {
      const Size rest = features - i * most;
      Size *const out = places.out + i * 16;
      // What lanes without a feature have is written where the next one's numbers come.
      for (Size lane = 15; lane >= 0; --lane) {
         const GroupedLane of = grouped_lane(lane, together, groups, rest < most ? rest : most);
         out[lane] = of.exists ? (of.group * features + i * most + of.feature) * s.out_channel * bytes : out[lane + 1];
      }
   }
}

/// Behind the rows of an image, places that blocks at the ends of rows read, or that are written with the last pack.
inline constexpr Size grouped_gap = 32;

/// How images are: places from one row to the next, numbers from one image to the next, rows that an output needs.
struct GroupedImage {
   Size pitch, size, high;
};

SOFIE_KERNEL inline GroupedImage grouped_image(const ConvShape &s, Size lines)
{
   const Size high = (s.kernel[1] - 1) * s.dilations[1] + 1;
   const Size pitch = lanes_pitch(s.out[2], s.strides[2], s.kernel[2], s.dilations[2], s.pads[2], s.in[2]);
   return {pitch, (((lines - 1) * s.strides[1] + high) * pitch + grouped_gap) * 16, high};
}

/// Rows `row`, ..., `end - 1` of sixteen channels, with their padding at both ends, and zeros in the gap.
SOFIE_KERNEL inline void grouped_fill(const ConvShape &s, float *to, const float *x, const Size *at, Size row, Size end,
                                      Size pitch)
{
   if (end > row) {
      float *const behind = to + (end - row) * pitch * 16;
      const Size turned = ceil_div((end - row) * s.in[2], 16) * 16;
      fill_lanes(to, behind + (grouped_gap - turned) * 16, x, at, {s.in[1], s.in[2], s.pads[2], pitch}, row, end, 0);
      to = behind;
   }
   // Not what somebody left there: denormal numbers take long.
   fill_line_of_lanes(to, to, grouped_gap, 0, 0, 0);
}

/// Rows of outputs from `line` on, of images that begin with row `begin` of the input: `of` has all but the taps. Those
/// that read above the input or below it are done one by one, with the rows of the kernel that do not.
template <int Columns, int Stride, int Together>
SOFIE_KERNEL void grouped_lines(GroupedRows &of, const ConvShape &s, const GroupedTaps &taps, Size line, Size rows,
                                Size begin, Size pitch)
{
   const float *const x = of.x;
   const std::int32_t *const list = of.taps;
   const Size kernel = s.kernel[1], apart = s.dilations[1], step = s.strides[1], reach = (kernel - 1) * apart;
   for (Size top = line * step - s.pads[1]; rows > 0;) {
      Size first = 0, last = kernel, some = 1;
      if (top < 0)
         first = ceil_div(-top, apart);
      if (top + reach >= s.in[1])
         last = top < s.in[1] ? ceil_div(s.in[1] - top, apart) : 0;
      if (first == 0 && last == kernel)
         some = step == 1 ? s.in[1] - reach - top : (s.in[1] - 1 - reach - top) / step + 1;
      some = some < rows ? some : rows;
      last = last < kernel ? last : kernel;
      grouped_some_taps(of, list, taps, kernel, first < last ? first : last, last);
      float *const y = of.y;
      of.rows = some;
      of.x = x + (top - begin) * pitch * 16;
      grouped_rows<Columns, Stride, Together>(of);
      of.y = y + some * s.out[2] * 16;
      rows -= some;
      top += some * step;
   }
}

/// Some groups of one event; `lines` rows of outputs at a time, from images in `scratch`. `start` has their weights.
template <int Columns, int Stride, int Together>
SOFIE_KERNEL void grouped_block(const ConvShape &s, const GroupedRows &start, const GroupedTaps &taps,
                                const GroupedPlaces &places, float *y, float *scratch, const float *x, Size lines)
{
   constexpr Size n = 16, place = n * Size{sizeof(float)};
   const GroupedImage image = grouped_image(s, lines);
   const Size step = s.strides[1], panel = (s.depth() + 1) * n;
   float *const sums = scratch + places.images * image.size;
   Size begin = 0, end = 0; // The rows that the images have.
   for (Size line = 0; line < s.out[1]; line += lines) {
      const Size rows = s.out[1] - line < lines ? s.out[1] - line : lines, top = line * step - s.pads[1];
      const Size first = top < 0 ? 0 : top, bottom = top + (rows - 1) * step + image.high;
      const Size last = bottom < s.in[1] ? bottom : s.in[1], known = end > first ? end - first : 0;
      for (Size i = 0; i < places.images; ++i) {
         float *const to = scratch + i * image.size;
         if (known > 0)
            fill_line_of_lanes(to, to + (first - begin) * image.pitch * n, 0, known * image.pitch, 0, 0);
         grouped_fill(s, to + known * image.pitch * n, x, places.in + i * n, first + known, last, image.pitch);
      }
      begin = first;
      end = first + known < last ? last : first + known;
      for (Size i = 0; i < places.parts; ++i) {
         GroupedRows of = start;
         of.x = scratch;
         of.bias = start.w + i * panel;
         of.w = of.bias + n;
         of.y = sums;
         of.blocks = ceil_div(s.out[2], Columns);
         of.x_row = step * image.pitch * place;
         of.y_row = s.out[2] * place;
         of.x_block = Columns * Stride * place;
         grouped_lines<Columns, Stride, Together>(of, s, taps, line, rows, begin, image.pitch);
         places_to_rows(y + line * s.out[2], sums, places.out + i * n, rows * s.out[2]);
      }
   }
}

/// y = f(y + added)
template <class F>
SOFIE_KERNEL void grouped_apply(const F &f, float *y, const float *added, Size count)
{
   constexpr int n = lanes<float>;
   for (Size i = 0; i < count; i += n) {
      const Size some = count - i < n ? count - i : n;
      store_some(y + i, f(plus(load_some<n>(y + i, some), load_some<n>(added + i, some))), some);
   }
}

template <int Columns, int Stride, int Together, class F>
SOFIE_KERNEL void convolve_grouped(const F &f, const ConvShape &s, Size lines, const ConvOperands<float> &of)
{
   auto [y, scratch, table, x, panels, bias, added] = of;

   constexpr Size n = 16, most = n / Together;
   if (s.batch <= 0 || s.out_channel <= 0)
      return;
   const Size images = ceil_div(s.group_channels(), most), parts = ceil_div(s.group_features(), most);
   Size *const at = reinterpret_cast<Size *>(scratch);
   const GroupedPlaces places{at, at + images * n, images, parts};
   float *const image = scratch + (images + parts) * 2 * n;
   GroupedRows start{};
   const GroupedTaps taps = grouped_taps(start, table, s, Together, grouped_image(s, lines).size * Size{sizeof(float)});
   start.floor = added ? -__builtin_inff() : conv_floor<F>;
   for (Size g = 0; g < s.groups; g += Together, panels += parts * (s.depth() + 1) * n) {
      const Size groups = s.groups - g < Together ? s.groups - g : Size{Together};
      start.w = panels;
      if (g == 0 || groups < Together)
         grouped_places(places, s, Together, groups);
      for (Size event = 0; event < s.batch; ++event) {
         const Size to = event * s.out_event + g * s.group_features() * s.out_channel;
         const Size count = groups * s.group_features() * s.out_channel;
         grouped_block<Columns, Stride, Together>(s, start, taps, places, y + to, image,
                                                  x + event * s.in_event + g * s.group_channels() * s.in_channel,
                                                  lines);
         if (added)
            grouped_apply(f, y + to, added + to, count);
         else if constexpr (!is_in_tile<F>)
            apply_function(f, y + to, y + to, count);
      }
   }
}

/// y = f(convolution(x, w) + b + added) with constant weights, two axes of space at most, and strides of 1 or 2 along
/// the last one; `added` may be absent. So many rows of outputs are computed together, in blocks of so many columns.
template <int Columns, int Stride, int Together, int Rows, class F, class... Operands>
SOFIE_INLINE void grouped_convolution(const F &f, const ConvSizes &sizes, const Operands &...operands)
{
   convolve_grouped<Columns, Stride, Together>(f, conv_plain_shape(sizes), sizes.together[0],
                                               conv_operands(operands...));
}

#else

template <int Groups, int Together, int Rows>
using GroupedWeights = ConvWeights<float, Rows, Groups>;

template <int Columns, int Stride, int Together, int Rows, class F, class... Arguments>
SOFIE_INLINE void grouped_convolution(const F &f, const Arguments &...arguments)
{
   convolution<Rows>(f, arguments...);
}

#endif

} // namespace sofie

SOFIE_END

#endif
