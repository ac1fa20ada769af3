/// \file
/// Transposed convolutions and Col2Im: what spreads each input over many outputs.
///
/// A transposed convolution is a product first: z[m, tap, i] = sum_c w[c, m, tap] * x[c, i] for all
/// places i of the input, of several events where they are small. Then each output is the sum of the
/// few z that belong to it: y[m, i * stride + tap * dilation - pad] += z[m, tap, i]. A row of outputs
/// that are a stride apart is a sum of rows of z; lanes for which there is no input are masked.
#ifndef SOFIE_KERNELS_CONVOLUTION_TRANSPOSED_HXX
#define SOFIE_KERNELS_CONVOLUTION_TRANSPOSED_HXX

#include "sofie/kernels/convolution/transposed_rows.hxx"
#include "sofie/kernels/elementwise.hxx"
#include "sofie/session/owned.hxx"

SOFIE_BEGIN

namespace sofie {

// Rows of outputs ----------------------------------------------------------------------------------

/// y[i * stride] = from[i] for i < count, which is a pack at most
template <class T>
SOFIE_INLINE void conv_spread_scatter(T *y, const T *from, Size count, Size stride)
{
#ifdef SOFIE_MASKS
   if constexpr (std::is_same_v<T, float>) {
      using Places = PackN<std::int32_t, 16>;
      const Places lane{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
      const Places places = lane * splat<Places>(static_cast<std::int32_t>(stride));
      return __builtin_ia32_scattersiv16sf(y, static_cast<unsigned short>((1U << count) - 1), places, load<16>(from),
                                           4);
   }
#endif
   for (Size i = 0; i < count; ++i)
      y[i * stride] = from[i];
}

/// y[q + stride * j] = row[q + stride * (j / n)][j % n] for `count` outputs and packs of n
template <class T>
SOFIE_KERNEL void conv_spread_store(T *y, const T *row, Size count, Size stride)
{
   constexpr Size n = lanes<T>;
   for (Size first = 0; first < count; first += n * stride)
      for (Size q = first; q < first + stride && q < count; ++q) {
         const Size some = ceil_div(count - q, stride);
         conv_spread_scatter(y + q, row + first + (q - first) * n, some < n ? some : n, stride);
      }
}

// Slabs --------------------------------------------------------------------------------------------

/// The memory that it works in: copied inputs, products, a row of outputs, and where things are.
template <class T>
struct ConvSpreadWork {
   T *inputs, *products, *row;
   std::int32_t *steps, *groups, *lines;
};

/// Where results go, and what they begin with and are at least.
template <class T>
struct ConvSpreadEnd {
   T *y;
   const T *bias;
   T floor;
};

/// Some outputs: some features of a group, and some of them along the first axis where there is more
/// than one, or whole events. The shape is theirs, so its `out` is.
struct ConvSpreadSlab {
   ConvShape shape;
   Sizes<2> kept;                  // depths and lines whose products are kept, in turn
   Size events, points;            // how many, and the points of each, that are columns of a product
   Size step;                      // between rows of products
   Size feature, features, column; // the first of them, how many, and where the columns begin

   SOFIE_INLINE Size columns() const { return events * points; }
};

/// to[c * width + i] = from[c * distance + i] for i < count, where rows of a tile are `width` long
template <class T>
SOFIE_KERNEL void conv_spread_copy(T *to, const T *from, Size channels, Size distance, Size count)
{
   constexpr Size n = lanes<T>, width = ConvTile<T, 8>::width;
   const Size rest = count % n, whole = count - rest;
   for (Size c = 0; c < channels; ++c, to += width, from += distance) {
      for (Size i = 0; i < whole; i += n)
         store(to + i, load<n>(from + i));
      if (rest)
         store_some(to + whole, load_some<n>(from + whole, rest), rest);
   }
}

/// The columns of all channels, in the order in which tiles read them: to[tile][channel][column].
template <class T>
SOFIE_KERNEL void conv_spread_inputs(const ConvSpreadSlab &slab, T *to, const T *x)
{
   constexpr Size width = ConvTile<T, 8>::width;
   const ConvShape &s = slab.shape;
   const Size channels = s.group_channels(), columns = slab.columns();
   // The last columns of the last tile are not used; but no denormal rubbish.
   if (columns % width)
      conv_zeros(to + columns / width * width * channels, width * channels);
   for (Size first = 0, event = 0, point = 0; first < columns; first += width, to += width * channels)
      for (Size i = 0; i < width && event < slab.events;) {
         const Size left = slab.points - point, some = left < width - i ? left : width - i;
         conv_spread_copy(to + i, x + event * s.in_event + point, channels, s.in_channel, some);
         i += some;
         point += some;
         if (point == slab.points) {
            point = 0;
            ++event;
         }
      }
}

/// z[row][column] = sum_c w[row][c] * x[c][column] for the features of a slab
template <class T>
SOFIE_KERNEL void conv_spread_products(const ConvSpreadSlab &slab, const ConvSpreadWork<T> &work, const T *panels)
{
   using Tile = ConvTile<T, 8>;
   constexpr Size width = Tile::width, rows = Tile::rows;
   const Size channels = slab.shape.group_channels(), taps = slab.shape.taps(), columns = slab.columns();
   const Size height = slab.features * taps;
   const T *const own = panels + slab.feature * taps * channels;
   constexpr Size n = lanes<T>;
   const T zeros[rows] = {};
   alignas(64) T sums[rows * width];
   for (Size column = 0; column < columns; column += width) {
      const Size count = columns - column < width ? columns - column : width;
      const T *const x = work.inputs + column * channels;
      for (Size m = 0; m < height; m += rows) {
         T *const z = work.products + m * slab.step + slab.column + column;
         ConvTileEnd<T> end{};
         end.sums = sums;
         if constexpr (conv_tile_finishes<T>) {
            end.y = z;
            end.bias = zeros;
            end.stride = slab.step * static_cast<Size>(sizeof(T));
            end.rows = rows;
            end.mask = conv_spread_bits(0, (count - 1) % n + 1);
            end.floor = static_cast<T>(-__builtin_inf());
         }
         conv_any_tile<8>(own + m * channels, x, work.steps, channels, count, end);
         if constexpr (!conv_tile_finishes<T>)
            for (Size r = 0; r < rows; ++r)
               for (Size i = 0; i < count; i += n)
                  store_some(z + r * slab.step + i, load<n>(sums + r * width + i), count - i < n ? count - i : n);
      }
   }
}

/// The outputs of some features, from m on, at one depth of an event.
template <class T>
SOFIE_KERNEL void conv_spread_planes(const ConvSpreadSlab &slab, const ConvSpreadWork<T> &work, Size groups, Size event,
                                     Size depth, Size m, const ConvSpreadEnd<T> &end)
{
   constexpr Size most = conv_spread_features, bytes = static_cast<Size>(sizeof(T));
   const ConvShape &s = slab.shape;
   const Size distance = s.taps() * slab.step, left = slab.features - m, some = left < most ? left : most;
   const Size stride = s.strides[2], length = groups * lanes<T>;
   T *const y = end.y + event * s.out_event + m * s.out_channel + depth * s.out[1] * s.out_row;
   const T *const z = work.products + m * distance + event * s.in_channel;
   // Fewer features are done one by one, as if there were several that are the same.
   const Size step = some == most ? most : 1, next = some == most ? 1 : 0;
   ConvSpreadRow<T> row{nullptr,
                        nullptr,
                        work.groups,
                        stride == 2 ? groups / 2 : groups,
                        next * distance * bytes,
                        work.row,
                        next * (stride > 2 ? length : s.out_channel) * bytes,
                        {},
                        end.floor};
   for (Size i = 0; i < some; i += step) {
      for (Size j = 0; j < most && end.bias; ++j)
         row.start[j] = end.bias[m + i + j * next];
      for (Size h = 0; h < s.out[1]; ++h) {
         T *const to = y + i * s.out_channel + h * s.out_row;
         row.lines = work.lines + work.lines[h];
         row.lines_end = work.lines + work.lines[h + 1];
         if (stride <= 2)
            row.to = to;
         if (stride == 2)
            conv_spread_row<2>(z + i * distance, row);
         else
            conv_spread_row<1>(z + i * distance, row);
         for (Size j = 0; j < step && stride > 2; ++j)
            conv_spread_store(to + j * s.out_channel, static_cast<const T *>(work.row) + j * length, s.out[2], stride);
      }
   }
}

/// The outputs of the features of a slab; y is the first of them.
template <class T>
SOFIE_KERNEL void conv_spread_outputs(const ConvSpreadSlab &slab, const ConvSpreadWork<T> &work, Size groups,
                                      const ConvSpreadEnd<T> &end)
{
   const ConvShape &s = slab.shape;
   for (Size depth = 0; depth < s.out[0]; ++depth) {
      conv_spread_lines<T>(s, slab.kept, depth, slab.step, work.lines);
      for (Size event = 0; event < slab.events; ++event)
         for (Size m = 0; m < slab.features; m += conv_spread_features)
            conv_spread_planes(slab, work, groups, event, depth, m, end);
   }
}

/// Which places of the input some outputs along an axis need.
struct ConvSpreadRange {
   Size begin, end;
};
SOFIE_INLINE ConvSpreadRange conv_spread_range(const ConvShape &s, int axis, Size first, Size count)
{
   const Size last = first + count - 1 + s.pads[axis];
   const Size before = first + s.pads[axis] - (s.kernel[axis] - 1) * s.dilations[axis];
   const Size begin = before > 0 ? ceil_div(before, s.strides[axis]) : 0;
   const Size end = last < 0 ? 0 : last / s.strides[axis] + 1;
   return {begin, end < s.in[axis] ? end : s.in[axis]};
}

/// How the outputs are gone through: `events` at a time as a whole, or `count` outputs of one along
/// `axis`, for which products of `kept` places there are kept. A place is `inside` inputs, and for the
/// output `outside`.
struct ConvSpreadPlan {
   int axis;
   bool whole;
   Size events, count, kept, inside, outside, features;
};

SOFIE_INLINE ConvSpreadPlan conv_spread_plan(const ConvShape &s, const Sizes<2> &together)
{
   ConvSpreadPlan plan{0, s.in_channel <= together[0], 1, 0, 0, 1, 1, together[1]};
   int &axis = plan.axis;
   while (axis < 2 && s.in[axis] == 1 && s.out[axis] == 1 && s.kernel[axis] == 1)
      ++axis;
   for (int i = axis + 1; i < 3; ++i) {
      plan.inside *= s.in[i];
      plan.outside *= s.out[i];
   }
   plan.count = s.out[axis];
   plan.kept = s.in[axis];
   if (plan.whole) {
      plan.events = s.in_channel > 0 ? together[0] / s.in_channel : 1;
   } else {
      plan.kept = together[0] / plan.inside;
      const Size fit = (plan.kept - 1) * s.strides[axis] - (s.kernel[axis] - 1) * s.dilations[axis] + 1;
      plan.count = fit < 1 ? 1 : fit;
   }
   return plan;
}

/// The products of the places from `begin` to `end` of the plan's axis, where they are kept.
template <class T>
SOFIE_KERNEL void conv_spread_fill(ConvSpreadSlab &slab, const ConvSpreadPlan &plan, const ConvSpreadWork<T> &work,
                                   const T *panels, const T *x, Size begin, Size end)
{
   while (begin < end) {
      const Size at = begin % plan.kept, some = end - begin < plan.kept - at ? end - begin : plan.kept - at;
      slab.points = some * plan.inside;
      slab.column = at * plan.inside;
      // Whole events are copied once for all features.
      if (!plan.whole || slab.feature == 0)
         conv_spread_inputs(slab, work.inputs, x + begin * plan.inside);
      conv_spread_products(slab, work, panels);
      begin += some;
   }
}

/// Some features of some events; x and the output are theirs.
template <class T>
SOFIE_KERNEL void conv_spread_features_of(const ConvShape &s, ConvSpreadSlab &slab, const ConvSpreadPlan &plan,
                                          const ConvSpreadWork<T> &work, const T *panels, const T *x,
                                          const ConvSpreadEnd<T> &end)
{
   const int axis = plan.axis;
   Size known = 0, groups = 0;
   for (Size first = 0; first < s.out[axis]; first += plan.count) {
      const Size some = s.out[axis] - first < plan.count ? s.out[axis] - first : plan.count;
      const ConvSpreadRange range =
         plan.whole ? ConvSpreadRange{0, s.in[axis]} : conv_spread_range(s, axis, first, some);
      ConvSpreadEnd<T> here = end;
      here.y += first * plan.outside;
      slab.shape.out[axis] = some;
      slab.shape.pads[axis] = s.pads[axis] + first;
      if (axis == 2 && !plan.whole) {
         // Along a row places cannot be kept in turn.
         slab.shape.in[2] = range.end > range.begin ? range.end - range.begin : 0;
         slab.shape.pads[2] -= range.begin * s.strides[2];
         conv_spread_fill(slab, plan, work, panels, x + range.begin, 0, slab.shape.in[2]);
      } else {
         const Size begin = range.begin < known ? known : range.begin;
         conv_spread_fill(slab, plan, work, panels, x, begin, range.end);
         known = begin < range.end ? range.end : known;
      }
      if (first == 0 || axis == 2)
         groups = conv_spread_groups<T>(slab.shape, slab.step, work.groups);
      conv_spread_outputs(slab, work, groups, here);
   }
}

/// With at most so many columns at a time, which are enough for one output along the first axis, and
/// so many features.
template <class T>
SOFIE_KERNEL void conv_spread(const ConvShape &s, const ConvSpreadWork<T> &work, const Sizes<2> &together,
                              const T *panels, const T *x, const ConvSpreadEnd<T> &end)
{
   constexpr Size rows = ConvTile<T, 8>::rows;
   const ConvSpreadPlan plan = conv_spread_plan(s, together);
   const Size channels = s.group_channels(), each = s.group_features();
   ConvSpreadSlab slab{s, Sizes<2>{{s.in[0], s.in[1]}}, 0, 0, 0, 0, 0, 0};
   if (plan.axis < 2)
      slab.kept[plan.axis] = plan.kept;
   for (Size c = 0; c < channels; ++c)
      work.steps[c] = static_cast<std::int32_t>(c * ConvTile<T, 8>::width);
   for (Size event = 0; event < s.batch; event += plan.events) {
      slab.events = s.batch - event < plan.events ? s.batch - event : plan.events;
      // Rows an odd number of cache lines apart do not compete for the same part of the cache.
      slab.step = (ceil_div(plan.whole ? slab.events * s.in_channel : together[0], 16) | 1) * 16;
      for (Size g = 0; g < s.groups; ++g)
         for (slab.feature = 0; slab.feature < each; slab.feature += plan.features) {
            slab.features = each - slab.feature < plan.features ? each - slab.feature : plan.features;
            ConvSpreadEnd<T> here = end;
            here.y += event * s.out_event + (g * each + slab.feature) * s.out_channel;
            here.bias = end.bias ? end.bias + g * each + slab.feature : nullptr;
            conv_spread_features_of(s, slab, plan, work, panels + g * ceil_div(each * s.taps(), rows) * rows * channels,
                                    x + event * s.in_event + g * channels * s.in_channel, here);
         }
   }
}

// What operators call ------------------------------------------------------------------------------

/// The scratch memory in parts, of which `sizes.memory` are the first few: inputs, products, steps, groups.
template <class F, class T>
SOFIE_KERNEL void convolve_transposed(const F &f, const ConvShape &s, const ConvSizes &sizes, const ConvOperands<T> &of)
{
   auto [y, scratch, offsets, x, panels, bias, added] = of;

   if (ConvShape::product(s.out) <= 0)
      return;
   T *const products = scratch + sizes.memory[0], *const row = products + sizes.memory[1];
   std::int32_t *const groups = offsets + sizes.memory[2];
   const ConvSpreadWork<T> work{scratch, products, row, offsets, groups, groups + sizes.memory[3]};
   conv_spread(s, work, sizes.together, panels, x, ConvSpreadEnd<T>{y, bias, conv_floor<F, T>});
   if constexpr (!is_in_tile<F>)
      apply_function(f, y, y, s.batch * s.out_event);
}

/// W[C, M / groups, kernel...] and b[M], if there is one, packed for `transposed_convolution`.
template <class T, int Groups>
class ConvTransposedWeights : public ConvPanels<T> {
   static constexpr int rows = ConvTile<T, 8>::rows;

public:
   SOFIE_KERNEL explicit ConvTransposedWeights(const ConvFilters<T> &of) : ConvPanels<T>(of.bias, of.channels * Groups)
   {
      // Here W has the channels first, and then the features of a group.
      const Size channels = of.features / Groups, each = of.channels * of.taps;
      this->panels_ = Buffer<T>(conv_weights_size<rows>(Groups, each, channels));
      conv_pack_weights<rows>(this->panels_.data(), of.w, {channels * each, 1, each}, Groups, each, channels, 1);
   }
   template <class... V>
   SOFIE_INLINE explicit ConvTransposedWeights(const V &...views) : ConvTransposedWeights(conv_filters<T>(views...))
   {
   }
};

/// y[m, i * stride + k * dilation - pad] = f(b[m] + sum_c x[c, i] * w[c, m, k]) with constant weights.
/// `together` are columns and features, `memory` numbers of inputs and products, steps, and groups.
template <class F, class... Operands>
SOFIE_INLINE void transposed_convolution(const F &f, const ConvSizes &sizes, const Operands &...operands)
{
   convolve_transposed(f, conv_plain_shape(sizes), sizes, conv_operands(operands...));
}

/// The same with weights that are computed and packed in `panels` at each call. `weights` are w and
/// b, which may be absent.
template <class F, class Y, class Scratch, class Offsets, class Panels, class X, class... W>
SOFIE_INLINE void transposed_convolution_computed(const F &f, const ConvSizes &sizes, Y y, Scratch scratch,
                                                  Offsets offsets, Panels panels, X x, W... weights)
{
   using T = typename Y::Element;
   const ConvShape s = conv_plain_shape(sizes);
   const Size channels = s.group_channels(), each = s.group_features() * s.taps();
   conv_pack_weights<ConvTile<T, 8>::rows>(panels.data(), conv_input<0, T>(weights...), {channels * each, 1, each},
                                           s.groups, each, channels, 1);
   convolve_transposed(f, s, sizes,
                       ConvOperands<T>{y.data(), scratch.data(), offsets.data(), x.data(), panels.data(),
                                       conv_input<1, T>(weights...), nullptr});
}

// Col2Im -------------------------------------------------------------------------------------------

/// a + b; integers wrap.
template <class T>
SOFIE_INLINE T col2im_sum(T a, T b)
{
   if constexpr (std::is_floating_point_v<T>)
      return a + b;
   else
      return static_cast<T>(static_cast<std::make_unsigned_t<T>>(a) + static_cast<std::make_unsigned_t<T>>(b));
}

/// Blocks that are laid over an image of `N` axes.
template <int N>
struct Col2ImShape {
   Sizes<N> image, block, strides, dilations, pads, count;

   SOFIE_INLINE Size points() const { return product(image); }
   SOFIE_INLINE Size taps() const { return product(block); }
   SOFIE_INLINE Size blocks() const { return product(count); }

   static SOFIE_INLINE Size product(const Sizes<N> &s)
   {
      Size total = 1;
      for (int i = 0; i < N; ++i)
         total *= s[i];
      return total;
   }

   /// Where element `tap` of block `number` is in the image, or -1 for one in the padding.
   SOFIE_INLINE Size place(Size tap, Size number) const
   {
      Size place = 0, step = 1;
      for (int i = N - 1; i >= 0; --i) {
         const Size at = number % count[i] * strides[i] + tap % block[i] * dilations[i] - pads[i];
         if (at < 0 || at >= image[i])
            return -1;
         place += at * step;
         step *= image[i];
         number /= count[i];
         tap /= block[i];
      }
      return place;
   }
};

template <int N, class T>
SOFIE_KERNEL void col2im_images(const Col2ImShape<N> &s, T *y, const T *x, Size images)
{
   const Size points = s.points(), taps = s.taps(), blocks = s.blocks();
   for (Size i = 0; i < images; ++i, y += points) {
      for (Size j = 0; j < points; ++j)
         y[j] = T{};
      for (Size tap = 0; tap < taps; ++tap, x += blocks)
         for (Size number = 0; number < blocks; ++number) {
            const Size place = s.place(tap, number);
            if (place >= 0)
               y[place] = col2im_sum(y[place], x[number]);
         }
   }
}

/// y[n, c, ...] = the sum of all elements of blocks x[n, c * taps + tap, number] that lie there.
template <int N, class Y, class X>
SOFIE_INLINE void col2im(Size images, const Col2ImShape<N> &s, Y y, X x)
{
   col2im_images(s, y.data(), x.data(), images);
}

/// How many blocks fit; throws for what cannot be an image, a block, or their number.
template <int N>
SOFIE_KERNEL void col2im_check(Col2ImShape<N> &s, const Sizes<N> &ends, Size channels, Size blocks)
{
   for (int i = 0; i < N; ++i) {
      const Size reach = s.image[i] + s.pads[i] + ends[i] - (s.block[i] - 1) * s.dilations[i] - 1;
      if (s.image[i] < 0 || s.block[i] < 1 || reach < 0)
         throw std::invalid_argument("Col2Im: a block does not fit into the image");
      s.count[i] = reach / s.strides[i] + 1;
   }
   if (channels % s.taps() != 0 || s.blocks() != blocks)
      throw std::invalid_argument("Col2Im: the input has not the size that image_shape and block_shape say");
}

/// The same where the sizes are data.
template <int N, class T, class X, class I, class B>
SOFIE_KERNEL void runtime_col2im(const Sizes<N> &strides, const Sizes<N> &dilations, const Sizes<N> &pads,
                                 const Sizes<N> &ends, Owned<T, N + 2> &y, X x, I image, B block)
{
   Col2ImShape<N> s{{}, {}, strides, dilations, pads, {}};
   // Far above all that fits into memory, and far below what overflows.
   constexpr std::int64_t most = std::int64_t{1} << 40;
   for (int i = 0; i < N; ++i) {
      if (image.data()[i] > most || block.data()[i] > most)
         throw std::invalid_argument("Col2Im: an image or a block is too large");
      s.image[i] = static_cast<Size>(image.data()[i]);
      s.block[i] = static_cast<Size>(block.data()[i]);
   }
   const Size batch = x.template extent<0>(), channels = x.template extent<1>();
   col2im_check(s, ends, channels, x.template extent<2>());
   Sizes<N + 2> shape;
   shape[0] = batch;
   shape[1] = channels / s.taps();
   for (int i = 0; i < N; ++i)
      shape[i + 2] = s.image[i];
   y.resize(shape);
   col2im_images(s, y.data(), x.data(), batch * shape[1]);
}

} // namespace sofie

SOFIE_END

#endif
