/// \file
/// Convolutions with many features, which lie side by side in the lanes.
///
/// As in `convolution.hxx` what a tap reads is at an offset for each channel and tap, but in one copy
/// of a channel with its padding, whatever the strides, because inputs are broadcast one by one. A row of
/// the output is some halves of tiles, so that hardly any column is computed that does not exist. Of outputs of few
/// places many events are done together: at each place columns are events, and taps that read padding are left out.
/// Without AVX2 this is `convolution`.
#ifndef SOFIE_KERNELS_CONVOLUTION_LANES_HXX
#define SOFIE_KERNELS_CONVOLUTION_LANES_HXX

#include "sofie/kernels/convolution.hxx"
#include "sofie/kernels/convolution/lanes_product.hxx"
#include "sofie/kernels/convolution/last_columns.hxx"

SOFIE_BEGIN

namespace sofie {

#ifdef SOFIE_TILE_ASSEMBLER

/// W[M, C, kernel...] and b[M]: panels of two packs of features, the last of one where no more are left, each step
/// after step.
class ConvLanesWeights : public ConvPanels<float> {
public:
   SOFIE_KERNEL explicit ConvLanesWeights(const ConvFilters<float> &of) : ConvPanels<float>(of.bias, of.features)
   {
      const Size depth = of.channels * of.taps;
      const Size wide = (of.features + lanes<float> - 1) / lanes_features * lanes_features;
      panels_ = Buffer<float>(ceil_div(of.features, lanes<float>) * lanes<float> * depth);
      const Size first = wide < of.features ? wide : of.features;
      conv_pack_weights<lanes_features>(panels_.data(), of.w, {0, depth, of.taps}, 1, first, of.channels, of.taps);
      conv_pack_weights<lanes<float>>(panels_.data() + wide * depth, of.w + first * depth, {0, depth, of.taps}, 1,
                                      of.features - first, of.channels, of.taps);
   }
   template <class... V>
   SOFIE_INLINE explicit ConvLanesWeights(const V &...views) : ConvLanesWeights(conv_filters<float>(views...))
   {
   }
};

/// The copy of each channel for some rows of the output: for each tap along depth `lines` rows.
struct LanesPlanes {
   Size rows; // of the output, at most
   Size row, lines, channel;
   Size across; // halves of tiles in a row of the output
   bool copied;
};

SOFIE_INLINE LanesPlanes lanes_planes(const ConvShape &s, Size half)
{
   const Size reach = (s.kernel[1] - 1) * s.dilations[1] + 1, across = ceil_div(s.out[2], half);
   const bool inside = s.taps() == 1 && s.pads[0] == 0 && s.pads[1] == 0 && s.pads[2] == 0 && s.in[0] == 1;
   constexpr Size far = Size{1} << 31;
   if (inside && across * half == s.out[2] && s.batch * s.in_event < far)
      return {s.out[1], s.in_row, s.in[1], s.in_channel, across, false};
   const Size row = (across * half - 1) * s.strides[2] + (s.kernel[2] - 1) * s.dilations[2] + 1;
   const Size channels = s.channels > 0 ? s.channels : 1;
   const Size fit = ((conv_budget / channels - conv_gap - 32) / (s.kernel[0] * row) - reach) / s.strides[1] + 1;
   const Size rows = fit < 1 ? 1 : fit < s.out[1] ? fit : s.out[1], lines = (rows - 1) * s.strides[1] + reach;
   return {rows, row, lines, (ceil_div(s.kernel[0] * lines * row, 16) | 1) * 16, across, true};
}

/// Where step k reads from, for each k.
SOFIE_KERNEL inline void lanes_offsets(const ConvShape &s, const LanesPlanes &planes, std::int32_t *offsets)
{
   constexpr Size n = lanes<std::int32_t>;
   std::int32_t *to = offsets;
   for (Size d = 0; d < s.kernel[0]; ++d)
      for (Size h = 0; h < s.kernel[1]; ++h)
         for (Size w = 0; w < s.kernel[2]; ++w)
            *to++ =
               static_cast<std::int32_t>((d * planes.lines + h * s.dilations[1]) * planes.row + w * s.dilations[2]);
   // As many channels as are there already follow, again and again.
   for (Size done = 1; done < s.channels; done *= 2) {
      const Size more = (s.channels - done < done ? s.channels - done : done) * s.taps();
      const auto apart = splat<Pack<std::int32_t>>(static_cast<std::int32_t>(done * planes.channel));
      to = offsets + done * s.taps();
      for (Size i = 0; i < more; i += n) {
         const Size some = more - i < n ? more - i : n;
         store_some(to + i, load_some<n>(offsets + i, some) + apart, some);
      }
   }
}

/// The channels with their padding, for a slab; the masks of a row's packs are kept where sums will be.
SOFIE_KERNEL inline void lanes_fill(const ConvShape &s, const LanesPlanes &planes, const ConvSlab &slab, float *copied,
                                    Size *masks, const float *x)
{
   constexpr Size n = lanes<float>, bytes = static_cast<Size>(sizeof(float));
   const Size lines = planes.lines - (planes.rows - slab.rows) * s.strides[1], row = planes.row;
   const Size top = slab.line * s.strides[1] - s.pads[1], packs = ceil_div(row, n);
   const Size above = conv_below(top, 1, lines, 0), below = conv_below(top, 1, lines, s.in[1]);
   for (Size i = 0; i < packs; ++i) {
      const Size left = i * n - s.pads[2], end = s.in[2] - left < n ? s.in[2] - left : n;
      masks[i] = conv_fill_bits(-left, end);
   }
   // Rows are copied up to a pack too far: what comes there is copied later.
   const Size together = s.kernel[0] == 1 ? s.channels : 1;
   for (Size c = 0; c < s.channels; c += together)
      for (Size d = 0; d < s.kernel[0]; ++d) {
         const Size depth = slab.depth * s.strides[0] + d * s.dilations[0] - s.pads[0];
         const bool exists = below > above && depth >= 0 && depth < s.in[0];
         const float *const from = x + c * s.in_channel + (depth * s.in[1] + top + above) * s.in_row - s.pads[2];
         conv_fill_rows<1>({copied + c * planes.channel + d * planes.lines * row, exists ? from : x, masks, 1,
                            exists ? above : lines, exists ? below - above : 0, exists ? lines - below : 0, packs, 0, 0,
                            row * bytes, s.in_row * bytes, together, planes.channel * bytes, s.in_channel * bytes, 0});
      }
}

/// The functions that tiles compute are one, max(least, x), so that all that depends on a function is compiled once for
/// them.
struct LanesFloor {
   float least;
};
template <>
inline constexpr bool is_in_tile<LanesFloor> = true;
template <class F>
SOFIE_INLINE auto lanes_function(const F &f)
{
   if constexpr (is_in_tile<F>)
      return LanesFloor{conv_floor<F>};
   else
      return f;
}
/// What results are at least before the function is computed.
template <class F>
SOFIE_INLINE float lanes_least(const F &f)
{
   if constexpr (is_in_tile<F>)
      return f.least;
   else
      return -__builtin_inff();
}

/// Where results of a panel of features, from `first` on, go: y[at + r * channel + j].
template <class F>
struct LanesResult {
   const F &f;
   float *y;
   const float *bias, *added;
   Size channel, features;

   /// `count` numbers of each feature, from their sums.
   SOFIE_KERNEL void operator()(const float *sums, Size first, Size at, Size count) const
   {
      constexpr Size n = lanes<float>, bytes = static_cast<Size>(sizeof(float)), pitch = lanes_features * bytes;
      const Size rows = features - first < lanes_features ? features - first : lanes_features;
      at += first * channel;
      for (Size j = 0; j < count; j += n, sums += n * lanes_features) {
         const Size some = count - j < n ? count - j : n, mask = (Size{1} << some) - 1;
         lanes_transpose({sums, y + at + j, bias ? bias + first : nullptr, added ? added + at + j : nullptr, pitch,
                          channel * bytes, rows / 4, mask, lanes_least(f)});
      }
      if constexpr (!is_in_tile<F>)
         conv_apply_rows(f, y + at, rows, channel, count);
   }
};

/// Halves of tiles, `count` from `first` on: the columns of each, and how many there are in a row of the output.
struct LanesHalves {
   Size half, across, first, count;
};

/// Hands the sums of halves, row by row, to a result, where the first row is at `at`.
template <class R>
SOFIE_KERNEL void lanes_finish(const ConvShape &s, const R &result, const float *sums, Size feature,
                               const LanesHalves &halves, Size at)
{
   const auto [half, across, first, count] = halves;
   const Size width = s.out[2], begin = first * half, end = begin + count * half;
   if (across * half == width && s.out_row == width)
      return result(sums, feature, at + begin, end - begin);
   for (Size row = first / across; row * across * half < end; ++row) {
      const Size origin = row * across * half;
      const Size from = begin > origin ? begin - origin : 0, to = end - origin < width ? end - origin : width;
      if (to > from)
         result(sums + (origin + from - begin) * lanes_features, feature, at + row * s.out_row + from, to - from);
   }
}

/// About how many products are summed in registers at a time: those of how many channels.
inline constexpr Size lanes_depth = 256;
SOFIE_INLINE Size lanes_part(const ConvShape &s)
{
   return s.depth() > 0 ? ceil_div(s.channels, ceil_div(s.depth(), lanes_depth)) : 1;
}

/// The sums of a slab, some halves of tiles at a time.
template <class R>
SOFIE_KERNEL void lanes_slab(const ConvShape &s, const LanesTile &tile, const LanesPlanes &planes, const ConvSlab &slab,
                             const R &result, const ConvOperands<float> &of, const float *from)
{
   constexpr Size bytes = static_cast<Size>(sizeof(float));
   const Size halves = slab.rows * planes.across, depth = s.depth(), step = s.strides[2];
   const Size part = lanes_part(s) * s.taps(), together = ceil_div(halves, ceil_div(halves, lanes_most));
   const Size y = slab.event * s.out_event + (slab.depth * s.out[1] + slab.line) * s.out_row;
   // About how many outputs a tile has in a row.
   const Size along = lanes_halves * s.out[2] / planes.across;
   std::int32_t at[lanes_most];
   for (Size first = 0; first < halves; first += together) {
      const Size count = halves - first < together ? halves - first : together;
      for (Size i = 0, line = first / planes.across, column = first % planes.across; i < count; ++i) {
         at[i] = static_cast<std::int32_t>(line * s.strides[1] * planes.row + column * tile.half * step);
         const bool ends = ++column == planes.across;
         line += ends;
         column = ends ? 0 : column;
      }
      for (Size m = 0; m < s.features; m += lanes_features) {
         const Size panel = lanes_panel(s.features - m);
         // Rows that are not in one piece are asked for by nobody.
         const Size exist = s.features - m < panel ? s.features - m : panel, rows = s.out_row == s.out[2] ? exist : 0;
         LanesWanted wanted{
            reinterpret_cast<const char *>(result.y + y + first / lanes_halves * along + m * s.out_channel),
            along * bytes, rows, s.out_channel * bytes};
         for (Size k = 0; k < depth; k += part, wanted.rows = 0)
            tile.products(panel)(
               of.scratch,
               {of.w + m * depth + k * panel, of.offsets + k, depth - k < part ? depth - k : part, panel * bytes}, from,
               at, count, step * bytes, k > 0, wanted);
         lanes_finish(s, result, of.scratch, m, {tile.half, planes.across, first, count}, y);
      }
   }
}

// Events of few places ------------------------------------------------------------------------------

/// The places of an output that are few, the events of which it pays to do some together where there is more than one
/// place, and the taps of a kernel, at most.
inline constexpr Size lanes_few_places = 8, lanes_few_events = 8, lanes_few_taps = 64;

/// How many rows of sums there is memory for: AVX2 has that of halves of two columns of AVX-512. See kernels/lanes.py.
SOFIE_INLINE Size lanes_event_rows(Size half)
{
   return half > 1 ? lanes_most * half : 288;
}

/// Whether columns are events. With more than one place numbers do not depend on it.
SOFIE_INLINE bool lanes_take_events(const ConvShape &s)
{
   const Size places = ConvShape::product(s.out);
   return places <= lanes_few_places && s.depth() > 0 && s.taps() <= lanes_few_taps &&
          (places == 1 || s.batch >= lanes_few_events);
}

/// The taps that read no padding at a place of the output: the first one along each axis, and how many there are; and
/// where the first one reads.
struct LanesTaps {
   Sizes<3> first, count;
   Size at;
};

SOFIE_KERNEL inline LanesTaps lanes_taps(const ConvShape &s, Size place)
{
   const Size line = place / s.out[2], out[] = {line / s.out[1], line % s.out[1], place % s.out[2]};
   LanesTaps found{};
   for (int i = 0; i < 3; ++i) {
      const Size start = out[i] * s.strides[i] - s.pads[i], first = conv_below(start, s.dilations[i], s.kernel[i], 0);
      found.first[i] = first;
      found.count[i] = conv_below(start, s.dilations[i], s.kernel[i], s.in[i]) - first;
      found.at = found.at * s.in[i] + start + first * s.dilations[i];
   }
   return found;
}

/// Weights of such taps, of `channels` channels, one after the other, and where each reads.
SOFIE_KERNEL inline FeaturesSteps lanes_steps(const ConvShape &s, const LanesTaps &of, Size channels, Size panel,
                                              float *to, const float *w, std::int32_t *offsets)
{
   constexpr Size n = lanes<float>, bytes = static_cast<Size>(sizeof(float));
   const auto [depth, height, width] = of.count.values;
   const Size row = panel * bytes, line = width * row, count = depth * height * width;
   Size masks[lanes_few_taps * 2];
   for (Size i = 0; i < depth * width * 2; ++i)
      masks[i] = (Size{1} << n) - 1;
   const Size first = (of.first[0] * s.kernel[1] + of.first[1]) * s.kernel[2] + of.first[2];
   if (count > 0)
      conv_fill_rows<1>({to, w + first * panel, masks, depth, 0, height, 0, width * panel / n, height * line,
                         s.kernel[1] * s.kernel[2] * row, line, s.kernel[2] * row, channels, 0,
                         (s.taps() - depth * s.kernel[1] * s.kernel[2]) * row, 0});
   std::int32_t *at = offsets;
   for (Size c = 0; c < channels; ++c)
      for (Size d = 0; d < depth; ++d)
         for (Size h = 0; h < height; ++h)
            for (Size tap = 0; tap < width; ++tap)
               *at++ = static_cast<std::int32_t>(c * s.in_channel + of.at +
                                                 (d * s.dilations[0] * s.in[1] + h * s.dilations[1]) * s.in[2] +
                                                 tap * s.dilations[2]);
   return {to, offsets, channels * count, row};
}

/// The results of a panel of features of `count` events, the first of which are at `at`: of place p and of the event in
/// slot i there are sums[p * slots + i].
template <class F>
SOFIE_KERNEL void lanes_finish_events(const LanesResult<F> &result, const float *sums, Size feature, Size slots,
                                      Size half, Size count, Size at)
{
   constexpr Size n = lanes<float>;
   const Size places = result.channel, left = result.features - feature;
   float rows[n * lanes_features] = {};
   for (Size event = 0; event < count; ++event, at += result.features * places) {
      // The last half ends with the last event.
      const float *from = sums + (event < slots - half ? event : slots - count + event) * lanes_features;
      if (places == 1) {
         const ConvLastTarget to{result.y, result.added, result.bias ? result.bias + feature : nullptr, 1,
                                 lanes_least(result.f)};
         conv_last_columns_row(to.behind(at + feature), from, n, 0, left < lanes_features ? left : lanes_features);
         continue;
      }
      for (Size place = 0; place < places; ++place, from += slots * lanes_features)
         for (Size lane = 0; lane < lanes_features; lane += n)
            store(rows + place * lanes_features + lane, load<n>(from + lane));
      result(rows, feature, at, places);
   }
}

/// Some events: the sums of each place, as columns of halves of tiles.
struct LanesEvents {
   const LanesTile &tile;
   const float *x;
   const std::int32_t *at; // where halves begin
   Size halves, step;      // from an event to the next

   SOFIE_INLINE void operator()(float *sums, const FeaturesSteps &steps, Size panel, Size from, bool add) const
   {
      tile.products(panel)(sums, steps, x + from, at, halves, step, add, LanesWanted{nullptr, 0, 0, 0});
   }
};

/// The only place of the output: tap by tap, with weights where they are.
SOFIE_KERNEL inline void lanes_one_place(const ConvShape &s, const LanesEvents &events, Size panel, float *sums,
                                         const float *w, std::int32_t *offsets)
{
   const LanesTaps of = lanes_taps(s, 0);
   const Size row = s.taps() * panel, part = ceil_div(s.channels, ceil_div(s.channels, lanes_depth));
   bool add = false;
   for (Size c = 0; c < s.channels; ++c)
      offsets[c] = static_cast<std::int32_t>(c * s.in_channel);
   for (Size k = 0; k < of.count[0] * of.count[1] * of.count[2]; ++k) {
      const Size w2 = k % of.count[2], line = k / of.count[2], h = line % of.count[1], d = line / of.count[1];
      const Size tap = ((of.first[0] + d) * s.kernel[1] + of.first[1] + h) * s.kernel[2] + of.first[2] + w2;
      const Size from = of.at + (d * s.dilations[0] * s.in[1] + h * s.dilations[1]) * s.in[2] + w2 * s.dilations[2];
      for (Size c = 0; c < s.channels; c += part, add = true)
         events(sums,
                {w + c * row + tap * panel, offsets + c, s.channels - c < part ? s.channels - c : part,
                 row * static_cast<Size>(sizeof(float))},
                panel, from, add);
   }
   if (!add)
      events(sums, {w, offsets, 0, row}, panel, 0, false);
}

/// Events from `first` on, some halves of tiles of them.
template <class F>
SOFIE_KERNEL void lanes_events(const F &f, const ConvShape &s, const LanesTile &tile, const ConvOperands<float> &of,
                               Size first, Size count)
{
   const Size places = s.out_channel, depth = s.depth(), part = lanes_part(s);
   const Size halves = ceil_div(count, tile.half), slots = halves * tile.half;
   const LanesResult<F> result{f, of.y, of.bias, of.added, s.out_channel, s.features};
   float w[(lanes_depth + lanes_few_taps) * lanes_features];
   std::int32_t at[lanes_most];
   for (Size i = 0; i < halves; ++i) {
      const Size event = i + 1 < halves ? i * tile.half : count - tile.half;
      at[i] = static_cast<std::int32_t>((event > 0 ? event : 0) * s.in_event);
   }
   // One event alone is both columns of a half.
   const LanesEvents events{tile, of.x + first * s.in_event, at, halves,
                            count > 1 ? s.in_event * static_cast<Size>(sizeof(float)) : 0};
   for (Size m = 0; m < s.features; m += lanes_features) {
      const Size panel = lanes_panel(s.features - m);
      const float *const weights = of.w + m * depth;
      if (places == 1)
         lanes_one_place(s, events, panel, of.scratch, weights, of.offsets);
      else
         for (Size place = 0; place < places; ++place) {
            const LanesTaps taps = lanes_taps(s, place);
            for (Size c = 0; c < s.channels; c += part) {
               const Size some = s.channels - c < part ? s.channels - c : part;
               const FeaturesSteps steps =
                  lanes_steps(s, taps, some, panel, w, weights + c * s.taps() * panel, of.offsets);
               events(of.scratch + place * slots * lanes_features, steps, panel, c * s.in_channel, c > 0);
            }
         }
      lanes_finish_events(result, of.scratch, m, slots, tile.half, count, first * s.out_event);
   }
   if constexpr (!is_in_tile<F>)
      if (places == 1)
         apply_function(f, of.y + first * s.out_event, of.y + first * s.out_event, count * s.features);
}

template <class F>
SOFIE_KERNEL void convolve_lanes(const F &f, const ConvShape &s, const LanesTile &tile, const ConvOperands<float> &of)
{
   if (s.out_channel > 0 && lanes_take_events(s) && (tile.half <= 2 || s.batch >= tile.half)) {
      const Size fit = lanes_event_rows(tile.half) / (s.out_channel * tile.half),
                 most = fit < lanes_most ? fit : lanes_most;
      Size first = 0, count = 0;
      for (Size parts = ceil_div(s.batch, most * tile.half); parts > 0; --parts, first += count) {
         count = ceil_div(s.batch - first, parts);
         lanes_events(f, s, tile, of, first, count);
      }
      return;
   }
   const float *x = of.x;
   float *const scratch = of.scratch;
   if (ConvShape::product(s.out) <= 0)
      return;
   const LanesResult<F> result{f, of.y, of.bias, of.added, s.out_channel, s.features};
   const LanesPlanes planes = lanes_planes(s, tile.half);
   // The masks of a long row need more memory than sums do.
   const Size sums = (lanes_most * tile.half + 16) * lanes_features;
   float *const copied = scratch + (sums > planes.row ? sums : planes.row);
   lanes_offsets(s, planes, of.offsets);
   if (s.depth() == 0)
      conv_zeros(scratch, lanes_most * tile.half * lanes_features);
   for (Size event = 0; event < s.batch; ++event, x += s.in_event)
      for (Size d = 0; d < s.out[0]; ++d)
         for (Size line = 0; line < s.out[1]; line += planes.rows) {
            const ConvSlab slab{event, d, line, s.out[1] - line < planes.rows ? s.out[1] - line : planes.rows};
            if (planes.copied)
               lanes_fill(s, planes, slab, copied, reinterpret_cast<Size *>(scratch), x);
            lanes_slab(s, tile, planes, slab, result, of, planes.copied ? copied : x);
         }
}

/// The best tile for what its columns are.
template <bool Short>
SOFIE_KERNEL LanesTile lanes_tile_of(const ConvShape &s)
{
   const bool events = lanes_take_events(s);
   return lanes_best_tile<Short>(events ? s.batch : s.out[2], s.depth(), 0, events ? s.batch : lanes_most_half);
}

/// y = f(convolution(x, w) + b + added) with constant weights and one group; `added` may be absent.
/// A tile has two halves of `Half` columns, or, where that is 0, of as many as the length of a row decides; `Short` if
/// the last panel has 16 features.
template <int Half, bool Short, class F, class... Operands>
SOFIE_INLINE void convolution_lanes(const F &f, const ConvSizes &sizes, const Operands &...operands)
{
   const ConvShape s = conv_shape(sizes);
   if constexpr (Half > 0)
      convolve_lanes(lanes_function(f), s, lanes_tile<Half, Short>(), conv_operands(operands...));
   else
      convolve_lanes(lanes_function(f), s, lanes_tile_of<Short>(s), conv_operands(operands...));
}

#else

using ConvLanesWeights = ConvWeights<float, 8, 1>;

template <int Half, bool Short, class F, class... Operands>
SOFIE_INLINE void convolution_lanes(const F &f, const ConvSizes &sizes, const Operands &...operands)
{
   convolution<8>(f, sizes, operands...);
}

#endif

} // namespace sofie

SOFIE_END

#endif
