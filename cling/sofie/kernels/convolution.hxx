/// \file
/// Convolutions, as matrix products whose second factor is read where it is.
///
/// A convolution is y[m, j] = sum_k w[m, k] * x[k, j], where j runs over positions and k over
/// channels and taps of the kernel. If the channels are copied with their padding, and with as many
/// parts for each axis as the stride is long, then what a tap reads for neighbouring positions are
/// neighbours, and x[k, j] = planes[offset[k] + j]. Where a row of the output ends, j runs on through
/// the padding; what is computed there is not used. So there is no matrix of patches.
///
/// The product is made of tiles of accumulators that stay in registers. An element is summed in an
/// order that depends on the weights' shape alone. All sizes are known at run time only, so that one
/// function serves all layers of a network.
#ifndef SOFIE_KERNELS_CONVOLUTION_HXX
#define SOFIE_KERNELS_CONVOLUTION_HXX

#include "sofie/kernels/convolution/few_features.hxx"
#include "sofie/kernels/convolution/pad_rows.hxx"
#include "sofie/kernels/elementwise/map.hxx"

SOFIE_BEGIN

namespace sofie {

// Shapes -------------------------------------------------------------------------------------------

/// What an operator says of a convolution: events, channels, features and groups; and what its windows are along depth,
/// height and width. `together` is how much a kernel does at a time, and `memory` the parts of its scratch memory: each
/// kernel that asks for them says of what.
struct ConvSizes {
   Sizes<4> counts;
   Sizes<3> in, kernel, out, strides, dilations, pads;
   Sizes<2> together{};
   Sizes<4> memory{};
};

/// A convolution over three axes of space; those that a network does not have are of size 1.
struct ConvShape {
   Size batch, channels, features, groups;
   Sizes<3> in, kernel, out, strides, dilations, pads;
   // How far apart neighbours are: in the input, and in the output.
   Size in_event, in_channel, in_row, out_event, out_channel, out_row;

   static SOFIE_INLINE Size product(const Sizes<3> &s) { return s[0] * s[1] * s[2]; }
   SOFIE_INLINE Size taps() const { return product(kernel); }
   SOFIE_INLINE Size group_channels() const { return channels / groups; }
   SOFIE_INLINE Size group_features() const { return features / groups; }
   SOFIE_INLINE Size depth() const { return group_channels() * taps(); }

   /// Whether each output is computed from the inputs at its own place.
   bool is_pointwise() const
   {
      bool same = taps() == 1;
      for (int i = 0; i < 3; ++i)
         same = same && strides[i] == 1 && pads[i] == 0 && in[i] == out[i];
      return same;
   }
};

/// Up to so many points a pointwise convolution treats as one row.
inline constexpr Size conv_short = 512;

/// Events that are one row each become the rows of one event: more columns fill the tiles better.
SOFIE_INLINE void conv_merge_events(ConvShape &s)
{
   if (s.in[0] != 1 || s.in[1] != 1 || s.kernel[0] != 1 || s.kernel[1] != 1 || s.out[0] != 1 || s.out[1] != 1 ||
       s.pads[0] != 0 || s.pads[1] != 0)
      return;
   s.in[1] = s.out[1] = s.batch;
   s.in_row = s.in_event;
   s.out_row = s.out_event;
   s.strides[0] = s.strides[1] = 1;
   s.in_event *= s.batch;
   s.out_event *= s.batch;
   s.batch = 1;
}

/// A convolution whose images lie in memory as they are.
SOFIE_KERNEL inline ConvShape conv_plain_shape(const ConvSizes &sizes)
{
   const Sizes<4> &counts = sizes.counts;
   const Size points = ConvShape::product(sizes.in), positions = ConvShape::product(sizes.out);
   return {
      counts[0],     counts[1],       counts[2],  counts[3],          sizes.in, sizes.kernel, sizes.out,
      sizes.strides, sizes.dilations, sizes.pads, counts[1] * points, points,   sizes.in[2],  counts[2] * positions,
      positions,     sizes.out[2]};
}

/// ConvShape from what an operator hands over.
SOFIE_KERNEL inline ConvShape conv_shape(const ConvSizes &sizes)
{
   ConvShape s = conv_plain_shape(sizes);
   if (s.is_pointwise()) {
      const Size points = s.in_channel, row = points <= conv_short ? points : s.in[2];
      s.in = s.out = Sizes<3>{{1, row ? points / row : 0, row}};
      s.in_row = s.out_row = row;
   }
   conv_merge_events(s);
   return s;
}

/// The tile of accumulators: as wanted where there are 32 registers, else what 16 are enough for.
template <class T, int Rows>
struct ConvTile {
   static constexpr bool many = SOFIE_SIMD_BYTES == 64;
   static constexpr int rows = many || Rows < 4 ? Rows : 4;
#ifdef SOFIE_AVX2_ASSEMBLER
   static constexpr int two = std::is_same_v<T, float> ? 6 : 4;
#else
   static constexpr int two = many ? 8 : 4;
#endif
   static constexpr int packs = rows == 8 ? 3 : rows == 4 ? (many ? 6 : 3) : rows == 2 ? two : 8;
   static constexpr int width = packs * lanes<T>;
};

/// How many steps of k are done for several tiles before the next ones, and for how many tiles.
inline constexpr Size conv_depth = 128;
inline constexpr Size conv_tiles = 4;
/// How many elements are copied at a time, if that is enough for one row of the output.
inline constexpr Size conv_budget = Size{1} << 17;
/// Elements between channels, at least: a pack that is copied whole may end in there.
inline constexpr Size conv_gap = 64;

// Operands -----------------------------------------------------------------------------------------

/// The memory of an input that may be absent.
template <class T>
SOFIE_INLINE const T *conv_optional()
{
   return nullptr;
}
template <class T, class V, class... Others>
SOFIE_INLINE const T *conv_optional(const V &view, const Others &...)
{
   return view.data();
}
/// The memory of input number `N`, which may be absent.
template <int N, class T, class... V>
SOFIE_INLINE const T *conv_input(const V &...inputs)
{
   if constexpr (N < sizeof...(V))
      return std::get<N>(std::tie(inputs...)).data();
   else
      return nullptr;
}

/// The memory of the first (0) or second (1) of two inputs: `Given` is 1 if the first one is there, plus 2 for the
/// other.
template <int Given, int Which, class T, class... V>
SOFIE_INLINE const T *conv_given(const V &...inputs)
{
   constexpr bool is_there = (Given >> Which & 1) != 0;
   return conv_input<is_there ? Which * (Given & 1) : int{sizeof...(V)}, T>(inputs...);
}

/// Where a convolution reads and writes. There may be no bias, and nothing added.
template <class T>
struct ConvOperands {
   T *y, *scratch;
   std::int32_t *offsets;
   const T *x, *w, *bias, *added;
};

/// The same from what an operator hands over: `added` may be absent.
template <class Y, class Scratch, class Offsets, class X, class W, class... Added>
SOFIE_INLINE ConvOperands<typename Y::Element> conv_operands(Y y, Scratch scratch, Offsets offsets, X x, const W &w,
                                                             Added... added)
{
   return {y.data(),
           scratch.data(),
           offsets.data(),
           x.data(),
           w.panels(),
           w.bias(),
           conv_optional<typename Y::Element>(added...)};
}

/// What results are at least, of functions that tiles compute (`is_in_tile`).
template <class F, class T = float>
inline constexpr T conv_floor = std::is_same_v<F, Relu> ? T{} : static_cast<T>(-__builtin_inf());

// Weights ------------------------------------------------------------------------------------------

/// Where an element of a weight tensor is: w[group * groups + row * rows + channel * channels + tap].
struct ConvWeightStrides {
   Size group, row, channel;
};

/// Zero points of weights, one for each row, or for all of them: then `step` is 0. There may be none.
template <class S>
struct ConvZeros {
   const S *first = nullptr;
   Size step = 0;
};

/// Panels of `Rows` rows, each stored step after step: step channel * taps + tap.
template <int Rows, class T, class S>
SOFIE_KERNEL void conv_pack_weights(T *to, const S *w, const ConvWeightStrides &strides, Size groups, Size rows,
                                    Size channels, Size taps, const ConvZeros<S> &zeros = {})
{
   for (Size g = 0; g < groups; ++g)
      for (Size m = 0; m < rows; m += Rows)
         for (Size c = 0; c < channels; ++c) {
            const S *from = w + g * strides.group + m * strides.row + c * strides.channel;
            for (Size k = 0; k < taps; ++k, to += Rows)
               for (Size r = 0; r < Rows; ++r) {
                  const bool exists = m + r < rows;
                  const T zero =
                     zeros.first && exists ? static_cast<T>(zeros.first[(g * rows + m + r) * zeros.step]) : T{};
                  to[r] = exists ? static_cast<T>(static_cast<T>(from[r * strides.row + k]) - zero) : T{};
               }
         }
}

/// How many elements packed weights have.
template <int Rows>
SOFIE_INLINE Size conv_weights_size(Size groups, Size rows, Size depth)
{
   return groups * ceil_div(rows, Rows) * Rows * depth;
}

/// W[M, C, kernel...] as a file has it, with so many taps, of which the last two axes are these; and b[M], or none.
template <class T>
struct ConvFilters {
   const T *w, *bias;
   Size features, channels, taps, height, width;
};

template <class T, class W, class... B>
SOFIE_INLINE ConvFilters<T> conv_filters(const W &w, const B &...bias)
{
   constexpr int rank = W::rank;
   Size height = 1;
   if constexpr (rank > 3)
      height = w.template extent<rank - 2>();
   return {
      w.data(), conv_optional<T>(bias...),    w.template extent<0>(), w.template extent<1>(), w.template size_from<2>(),
      height,   w.template extent<rank - 1>()};
}

/// Panels of packed weights, and a bias of so many features, if there is one.
template <class T>
class ConvPanels {
   Buffer<T> bias_;

protected:
   Buffer<T> panels_;

   SOFIE_KERNEL ConvPanels(const T *bias, Size features)
   {
      if (!bias)
         return;
      bias_ = Buffer<T>(features);
      __builtin_memcpy(bias_.data(), bias, static_cast<std::size_t>(features) * sizeof(T));
   }

public:
   SOFIE_INLINE const T *panels() const { return panels_.data(); }
   SOFIE_INLINE const T *bias() const { return bias_.size() ? bias_.data() : nullptr; }
};

/// W[M, C / groups, kernel...] and b[M], packed for `convolution`. Constructors take all sizes as they come: there is
/// one of each class, not one for each size.
template <class T, int Rows, int Groups>
class ConvWeights : public ConvPanels<T> {
public:
   SOFIE_KERNEL explicit ConvWeights(const ConvFilters<T> &of) : ConvPanels<T>(of.bias, of.features)
   {
      constexpr int rows = ConvTile<T, Rows>::rows;
      const Size each = of.features / Groups, depth = of.channels * of.taps;
      this->panels_ = Buffer<T>(conv_weights_size<rows>(Groups, each, depth));
      conv_pack_weights<rows>(this->panels_.data(), of.w, {each * depth, depth, of.taps}, Groups, each, of.channels,
                              of.taps);
   }
   template <class... V>
   SOFIE_INLINE explicit ConvWeights(const V &...views) : ConvWeights(conv_filters<T>(views...))
   {
   }
};

// Planes -------------------------------------------------------------------------------------------

/// What is copied of each channel for some rows of the output. A channel is a part for each tap along
/// depth, each offset in height below the stride, and each in width; a part is `lines` rows.
struct ConvPlanes {
   Size rows;  // of the output, at most
   Size row;   // the length of a row, which is the distance of rows of the output as well
   Size lines; // that a part has
   Size channel;

   SOFIE_INLINE Size part() const { return lines * row; }
};

/// How much further than its first tap a kernel reaches along an axis, in steps of the stride.
SOFIE_INLINE Size conv_reach(const ConvShape &s, int axis)
{
   return (s.kernel[axis] - 1) * s.dilations[axis] / s.strides[axis];
}

/// For as many rows of the output as there is memory for, one at least.
SOFIE_INLINE ConvPlanes conv_planes(const ConvShape &s)
{
   const Size parts = s.kernel[0] * s.strides[1] * s.strides[2], reach = conv_reach(s, 1);
   const Size row = s.out[2] + conv_reach(s, 2), channels = s.group_channels() > 0 ? s.group_channels() : 1;
   const Size fit = (conv_budget / channels - conv_gap - 32) / (parts * row) - reach;
   const Size rows = fit < 1 ? 1 : fit < s.out[1] ? fit : s.out[1];
   // Channels an odd number of cache lines apart do not compete for the same part of the cache.
   const Size size = parts * (rows + reach) * row;
   return {rows, row, rows + reach, (ceil_div(size + conv_gap, 16) | 1) * 16};
}

/// Where step k reads from, for each k.
SOFIE_KERNEL inline void conv_offsets(const ConvShape &s, const ConvPlanes &planes, Size channel, std::int32_t *offsets)
{
   for (Size c = 0; c < s.group_channels(); ++c)
      for (Size d = 0; d < s.kernel[0]; ++d)
         for (Size h = 0; h < s.kernel[1]; ++h)
            for (Size w = 0; w < s.kernel[2]; ++w) {
               const Size height = h * s.dilations[1], width = w * s.dilations[2];
               const Size part = (d * s.strides[1] + height % s.strides[1]) * s.strides[2] + width % s.strides[2];
               const Size place = height / s.strides[1] * planes.row + width / s.strides[2];
               *offsets++ = static_cast<std::int32_t>(c * channel + part * planes.part() + place);
            }
}

/// Whether a tap has this offset modulo the stride.
SOFIE_INLINE bool conv_is_used(const ConvShape &s, int axis, Size offset)
{
   for (Size k = 0; k < s.kernel[axis] && k < s.strides[axis]; ++k)
      if (k * s.dilations[axis] % s.strides[axis] == offset)
         return true;
   return false;
}

/// How many of the elements 0, ..., count - 1, which are at start + i * stride, are below `bound`.
SOFIE_INLINE Size conv_below(Size start, Size stride, Size count, Size bound)
{
   if (start >= bound)
      return 0;
   const Size below = stride == 1 ? bound - start : ceil_div(bound - start, stride);
   return below < count ? below : count;
}

/// Zeros in whole packs: up to a pack more than `count`.
template <class T>
SOFIE_INLINE void conv_zeros(T *to, Size count)
{
   for (Size i = 0; i < count; i += lanes<T>)
      store(to + i, Pack<T>{});
}

/// The next pack from memory of another type, with an offset.
template <class T, class S>
SOFIE_INLINE Pack<T> conv_load(const S *from, T zero)
{
   if constexpr (std::is_same_v<T, S>)
      return load<lanes<T>>(from);
   else
      return minus(convert<T>(load<lanes<T>>(from)), splat<Pack<T>>(zero));
}

/// to[i] = from[i * stride] - zero, in whole packs: up to a pack more than `count`. Nothing is read
/// at `end` or behind it.
template <class T, class S>
SOFIE_INLINE void conv_copy(T *__restrict to, const S *__restrict from, Size count, Size stride, const S *end, T zero)
{
   constexpr int n = lanes<T>;
   Size i = 0;
   if (stride == 1)
      for (const Size last = end - from - n; i < count && i <= last; i += n)
         store(to + i, conv_load(from + i, zero));
   else if (stride == 2)
      for (const Size last = end - from - 2 * n; i < count && 2 * i <= last; i += n)
         store(to + i, every_second<0>(conv_load(from + 2 * i, zero), conv_load(from + 2 * i + n, zero)));
   for (; i < count; ++i)
      to[i] = static_cast<T>(static_cast<T>(from[i * stride]) - zero);
}

/// The input of a group: its first channel, the end of all input, and what is subtracted from it.
template <class T, class S>
struct ConvInput {
   const S *x;
   const S *end;
   T zero;
};

#ifdef SOFIE_TILE_ASSEMBLER
/// The same as `conv_fill_part` in assembler: no stride along rows, which are of so many packs at most.
inline constexpr Size conv_fill_packs = 64;
SOFIE_KERNEL inline void conv_fill_lines(const ConvShape &s, const ConvPlanes &planes, Size lines, float *part,
                                         const float *x, Size height, Size width)
{
   constexpr Size n = lanes<float>, bytes = static_cast<Size>(sizeof(float));
   const Size packs = ceil_div(planes.row, n), above = conv_below(height, s.strides[1], lines, 0);
   const Size below = conv_below(height, s.strides[1], lines, s.in[1]);
   Size masks[conv_fill_packs];
   for (Size i = 0; i < packs; ++i) {
      const Size left = i * n + width, end = s.in[2] - left < n ? s.in[2] - left : n;
      masks[i] = conv_fill_bits(-left, end);
   }
   const bool exists = below > above;
   const float *const from = exists ? x + (height + above * s.strides[1]) * s.in_row + width : x;
   if (s.group_channels() > 0)
      conv_fill_rows<1>({part, from, masks, 1, exists ? above : lines, exists ? below - above : 0,
                         exists ? lines - below : 0, packs, 0, 0, planes.row * bytes, s.strides[1] * s.in_row * bytes,
                         s.group_channels(), planes.channel * bytes, s.in_channel * bytes, 0});
}
#endif

/// One part of all channels: the rows from `height` on, and from `width` on in each row.
template <class T, class S>
SOFIE_KERNEL void conv_fill_part(const ConvShape &s, const ConvPlanes &planes, Size lines, T *part,
                                 const ConvInput<T, S> &input, Size height, Size width)
{
   const Size stride = s.strides[2], row = planes.row;
#ifdef SOFIE_TILE_ASSEMBLER
   if constexpr (std::is_same_v<T, float> && std::is_same_v<S, float>)
      if (stride == 1 && row <= conv_fill_packs * lanes<T>)
         return conv_fill_lines(s, planes, lines, part, input.x, height, width);
#endif
   const Size before = conv_below(width, stride, row, 0), end = conv_below(width, stride, row, s.in[2]);
   const S *x = input.x + width + before * stride;
   for (Size c = 0; c < s.group_channels(); ++c, part += planes.channel, x += s.in_channel) {
      T *to = part;
      for (Size line = 0, h = height; line < lines; ++line, to += row, h += s.strides[1]) {
         if (h < 0 || h >= s.in[1] || end <= before) {
            conv_zeros(to, row);
            continue;
         }
         if (before > 0)
            conv_zeros(to, before);
         conv_copy(to + before, x + h * s.in_row, end - before, stride, input.end, input.zero);
         if (row > end)
            conv_zeros(to + end, row - end);
      }
   }
}

/// Where in the output a slab is: some rows, beginning with `line`, of one event.
struct ConvSlab {
   Size event, depth, line, rows;
};

/// The channels of a group, for a slab.
template <class T, class S>
SOFIE_KERNEL void conv_fill(const ConvShape &s, const ConvPlanes &planes, const ConvSlab &slab, T *to,
                            const ConvInput<T, S> &input)
{
   const Size lines = slab.rows + planes.lines - planes.rows;
   if (s.is_pointwise() && s.in_row == s.in[2]) {
      const S *x = input.x + slab.line * s.in_row;
      for (Size c = 0; c < s.group_channels(); ++c)
         conv_copy(to + c * planes.channel, x + c * s.in_channel, lines * planes.row, 1, input.end, input.zero);
      return;
   }
   for (Size d = 0; d < s.kernel[0]; ++d) {
      const Size depth = slab.depth * s.strides[0] + d * s.dilations[0] - s.pads[0];
      const bool inside = depth >= 0 && depth < s.in[0];
      for (Size h = 0; h < s.strides[1]; ++h)
         for (Size w = 0; w < s.strides[2]; ++w, to += planes.part()) {
            // A part before the first or behind the last row is all zeros.
            const Size height = inside ? slab.line * s.strides[1] + h - s.pads[1] : s.in[1];
            const Size skipped = inside ? depth * s.in[1] * s.in[2] : 0;
            if (conv_is_used(s, 1, h) && conv_is_used(s, 2, w))
               conv_fill_part(s, planes, lines, to, ConvInput<T, S>{input.x + skipped, input.end, input.zero}, height,
                              w - s.pads[2]);
         }
   }
}

// The product --------------------------------------------------------------------------------------

/// One tile, with no more packs than `count` columns need.
template <int Rows, class T>
SOFIE_INLINE void conv_any_tile(const T *w, const T *x, const std::int32_t *offsets, Size depth, Size count,
                                const ConvTileEnd<T> &end)
{
   using Tile = ConvTile<T, Rows>;
   constexpr int rows = Tile::rows, packs = Tile::packs, fewer = (packs + 1) / 2, n = lanes<T>;
#ifdef SOFIE_TILE_ASSEMBLER
   if constexpr (conv_tile_is_few<T, rows>) {
      ConvFewTiles run{end, 0, 0, 1, 0, {}};
      conv_few_columns(run, count);
      return conv_few_tiles<rows>(w, x, offsets, depth, run);
   } else
#endif
      if (count > fewer * n)
      conv_tile<rows, packs, Tile::width>(w, x, offsets, depth, end);
   else if (count > n)
      conv_tile<rows, fewer, Tile::width>(w, x, offsets, depth, end);
   else
      conv_tile<rows, 1, Tile::width>(w, x, offsets, depth, end);
}

/// Where sums go when they are complete: some rows of w for some columns, which are counted from the
/// first position of a slab, `row` of them from one row of the output to the next.
struct ConvPlace {
   Size group, first, rows, column, count, row;
   ConvSlab slab;
};
template <class T>
using ConvSink = void (*)(const void *context, T *sums, const ConvPlace &place);

/// Where a tile itself may put max(sums + bias + added, floor); bias and added may be absent.
template <class T>
struct ConvTarget {
   T *y;
   const T *bias, *added;
   T floor;
};

/// The memory that a product works in, and where complete sums go: to the target, if there is one
/// and the tile is in one piece there, else to the sink.
template <class T>
struct ConvWork {
   T *scratch;
   std::int32_t *offsets;
   ConvSink<T> sink;
   const void *context;
   const ConvTarget<T> *target;
};

/// Where the first sum of a place is in the output, and how many follow it there without a gap.
struct ConvOutput {
   Size at, line, column, length;
   bool whole;
};
SOFIE_INLINE ConvOutput conv_output(const ConvShape &s, const ConvPlace &place)
{
   // Where rows of the output follow each other without a gap they are as one.
   const bool whole = place.row == s.out[2] && s.out_row == s.out[2];
   const Size line = whole ? 0 : place.column / place.row, column = place.column - line * place.row;
   const Size feature = place.group * s.group_features() + place.first;
   return {place.slab.event * s.out_event + feature * s.out_channel + place.slab.depth * s.out[1] * s.out[2] +
              (place.slab.line + line) * s.out_row,
           line, column, whole ? column + place.count : s.out[2], whole};
}

/// The end of a tile that writes to the target itself, where that is possible.
template <class T>
SOFIE_INLINE void conv_aim(const ConvShape &s, const ConvTarget<T> &target, const ConvPlace &place, const T *zeros,
                           ConvTileEnd<T> &end)
{
   const ConvOutput out = conv_output(s, place);
   if (out.column + place.count > out.length)
      return;
   end.y = target.y + out.at + out.column;
   end.bias = target.bias ? target.bias + place.group * s.group_features() + place.first : zeros;
   end.added = target.added ? target.added + out.at + out.column : nullptr;
   end.stride = s.out_channel * static_cast<Size>(sizeof(T));
   end.rows = place.rows;
   end.mask = (Size{1} << ((place.count - 1) % lanes<T> + 1)) - 1;
   end.floor = target.floor;
}

/// Columns of a slab, whose rows are `row` apart.
struct ConvColumns {
   Size from, to, row;
};

#ifdef SOFIE_TILE_ASSEMBLER
/// Up to so many steps are worth a tile that has few sums.
inline constexpr Size conv_few_steps = 32;

/// Such columns in one pass, where tiles follow each other in one row of the output, or where each row of it is the
/// same tiles, so that loops over tiles are in assembler; false where that does not pay.
template <int Rows>
SOFIE_KERNEL bool conv_few_slab(const ConvShape &s, const ConvWork<float> &work, const ConvSlab &slab,
                                const ConvColumns &columns, Size group, const float *panels, const float *planes)
{
   constexpr Size width = ConvTile<float, Rows>::width, n = lanes<float>, bytes = static_cast<Size>(sizeof(float));
   const Size count = columns.to - columns.from, row = s.out[2], depth = s.depth();
   const bool one = slab.rows == 1 || (columns.row == row && s.out_row == row);
   // Behind a row is padding: tiles read more than the row.
   const bool lines = columns.row > row && columns.from == 0 && columns.to == (slab.rows - 1) * columns.row + row;
   if (depth > conv_depth || !work.target || count <= 0)
      return false;
   // One row alone has few sums side by side: as long as they are short, the next ones are computed with them.
   if (!one && !(lines && ceil_div(row, n) * n <= columns.row + columns.row / 4 &&
                 (depth <= conv_few_steps || Rows * row > 4 * n)))
      return false;
   const float zeros[Rows] = {};
   const Size length = one ? count : row;
   for (Size at = 0, next = 0; at < length; at = next) {
      // Tiles side by side that are full, else one tile in each row.
      const Size full = one ? (length - at) / width : 0, some = length - at < width ? length - at : width;
      next = at + (full > 0 ? full * width : some);
      ConvFewTiles run{};
      conv_aim(s, *work.target, {group, 0, s.group_features(), columns.from + at, some, columns.row, slab}, zeros,
               run.end);
      conv_few_columns(run, some);
      run.x_step = (one ? width : columns.row) * bytes;
      run.y_step = (one ? width : s.out_row) * bytes;
      run.tiles = full > 0 ? full : one ? 1 : slab.rows;
      conv_few_tiles<Rows>(panels, planes + at, work.offsets, depth, run);
   }
   return true;
}
#endif

/// Some columns of a slab, for one group: the sums of a few tiles at a time. The first of them is at `planes`.
template <int Rows, class T>
SOFIE_KERNEL void conv_slab(const ConvShape &s, const ConvWork<T> &work, const ConvSlab &slab,
                            const ConvColumns &columns, Size group, const T *panels, const T *planes)
{
   using Tile = ConvTile<T, Rows>;
   constexpr Size width = Tile::width, rows = Tile::rows;
   const Size features = s.group_features(), depth = s.depth();
   const Size together = depth > conv_depth ? conv_tiles : 1;
#ifdef SOFIE_TILE_ASSEMBLER
   if constexpr (conv_tile_is_few<T, rows>)
      if (conv_few_slab<rows>(s, work, slab, columns, group, panels, planes))
         return;
#endif
   const T zeros[rows] = {};
   for (Size first = columns.from; first < columns.to; first += together * width)
      for (Size k = 0; k == 0 || k < depth; k += conv_depth) {
         const Size steps = depth - k < conv_depth ? depth - k : conv_depth;
         T *sums = work.scratch;
         for (Size column = first; column < columns.to && column < first + together * width; column += width) {
            const Size count = columns.to - column < width ? columns.to - column : width;
            for (Size m = 0; m<features; m += rows, sums += depth> conv_depth ? rows * width : 0) {
               const ConvPlace place{group,       m,   features - m < rows ? features - m : rows, column, count,
                                     columns.row, slab};
               const bool complete = k + steps == depth;
               ConvTileEnd<T> end{};
               end.sums = sums;
               end.add = k > 0;
               if constexpr (conv_tile_finishes<T>)
                  if (complete && work.target)
                     conv_aim(s, *work.target, place, zeros, end);
               conv_any_tile<Rows>(panels + m * depth + k * rows, planes + column - columns.from, work.offsets + k,
                                   steps, count, end);
               if (complete && !end.y)
                  work.sink(work.context, sums, place);
            }
         }
      }
}

/// Whether a pointwise convolution reads its input so rarely that it need not be copied.
SOFIE_INLINE bool conv_reads_in_place(const ConvShape &s, Size tile_rows)
{
   constexpr Size far = Size{1} << 31;
   return s.is_pointwise() && s.in_row == s.in[2] && s.group_features() <= 2 * tile_rows &&
          s.group_channels() * s.in_channel < far;
}

/// Products whose input is read where it is, but for the last columns: tiles read beyond them.
template <int Rows, class T>
SOFIE_KERNEL void conv_product_in_place(const ConvShape &s, const ConvWork<T> &work, const T *panels, const T *x,
                                        T *copied)
{
   constexpr Size width = ConvTile<T, Rows>::width, rows = ConvTile<T, Rows>::rows;
   const Size padded = ceil_div(s.group_features(), rows) * rows, channels = s.group_channels();
   const Size columns = s.out[1] * s.out[2], whole = columns / width * width;
   for (Size event = 0; event < s.batch; ++event)
      for (Size g = 0; g < s.groups; ++g) {
         const T *const from = x + event * s.in_event + g * channels * s.in_channel;
         const T *const own = panels + g * padded * channels;
         const ConvSlab slab{event, 0, 0, s.out[1]};
         for (Size c = 0; c < channels; ++c)
            work.offsets[c] = static_cast<std::int32_t>(c * s.in_channel);
         conv_slab<Rows>(s, work, slab, ConvColumns{0, whole, s.out[2]}, g, own, from);
         if (whole == columns)
            continue;
         for (Size c = 0; c < channels; ++c) {
            work.offsets[c] = static_cast<std::int32_t>(c * width);
            const auto bytes = static_cast<std::size_t>(columns - whole) * sizeof(T);
            __builtin_memcpy(copied + c * width, from + c * s.in_channel + whole, bytes);
            __builtin_memset(copied + c * width + (columns - whole), 0,
                             static_cast<std::size_t>(width) * sizeof(T) - bytes);
         }
         conv_slab<Rows>(s, work, slab, ConvColumns{whole, columns, s.out[2]}, g, own, static_cast<const T *>(copied));
      }
}

/// The products of all rows of all groups, for all columns, handed to the sink tile by tile.
template <int Rows, class T, class S>
SOFIE_KERNEL void conv_product(const ConvShape &s, const ConvWork<T> &work, const T *panels, const S *x, T zero)
{
   using Tile = ConvTile<T, Rows>;
   const Size padded = ceil_div(s.group_features(), Tile::rows) * Tile::rows, depth = s.depth();
   // Where there is no event, there is no memory for copies.
   if (s.batch <= 0 || ConvShape::product(s.out) <= 0)
      return;
   const ConvPlanes planes = conv_planes(s);
   T *const copied = work.scratch + (depth > conv_depth ? conv_tiles * padded : Tile::rows) * Tile::width;
   if constexpr (std::is_same_v<T, S>)
      if (zero == T{} && conv_reads_in_place(s, Tile::rows))
         return conv_product_in_place<Rows>(s, work, panels, x, copied);
   const S *const end = x + s.batch * s.in_event;
   conv_offsets(s, planes, planes.channel, work.offsets);
   // Tiles read beyond the last column, what they compute there is not used; but no denormal rubbish.
   for (Size c = 1; c <= s.group_channels(); ++c)
      conv_zeros(copied + c * planes.channel - conv_gap, conv_gap);
   conv_zeros(copied + s.group_channels() * planes.channel, Tile::width);
   for (Size event = 0; event < s.batch; ++event)
      for (Size d = 0; d < s.out[0]; ++d)
         for (Size line = 0; line < s.out[1]; line += planes.rows) {
            const ConvSlab slab{event, d, line, s.out[1] - line < planes.rows ? s.out[1] - line : planes.rows};
            for (Size g = 0; g < s.groups; ++g) {
               const S *const channels = x + event * s.in_event + g * s.group_channels() * s.in_channel;
               conv_fill(s, planes, slab, copied, ConvInput<T, S>{channels, end, zero});
               const ConvColumns columns{0, (slab.rows - 1) * planes.row + s.out[2], planes.row};
               conv_slab<Rows>(s, work, slab, columns, g, panels + g * padded * depth, static_cast<const T *>(copied));
            }
         }
}

// Results ------------------------------------------------------------------------------------------

/// y[at + j] = f(sums[j] + bias[feature] + added[at + j]); there may be no bias and nothing added.
template <class F, class T>
struct ConvResult {
   const F &f;
   T *y;
   const T *bias;
   const T *added;

   SOFIE_INLINE void operator()(Size feature, Size at, const T *__restrict sums, Size count) const
   {
      constexpr int n = lanes<T>;
      const Pack<T> offset = splat<Pack<T>>(bias ? bias[feature] : T{});
      if (added)
         return add(at, sums, offset, count);
      T *__restrict const to = y + at;
      Size j = 0;
      for (; j + n <= count; j += n)
         store(to + j, f(plus(load<n>(sums + j), offset)));
      if (j < count)
         store_some(to + j, f(plus(load<n>(sums + j), offset)), count - j);
   }
   SOFIE_INLINE void add(Size at, const T *sums, Pack<T> offset, Size count) const
   {
      constexpr int n = lanes<T>;
      Size j = 0;
      for (; j + n <= count; j += n)
         store(y + at + j, f(plus(plus(load<n>(sums + j), offset), load<n>(added + at + j))));
      if (j < count)
         store_some(y + at + j, f(plus(plus(load<n>(sums + j), offset), load_some<n>(added + at + j, count - j))),
                    count - j);
   }
};

/// y = f(y) for `count` columns of so many features, which are `channel` elements apart.
template <class F>
SOFIE_INLINE void conv_apply_rows(const F &f, float *y, Size features, Size channel, Size count)
{
   // Features that follow each other without a gap are one row.
   if (count == channel)
      return apply_function(f, y, y, features * count);
   for (Size m = 0; m < features; ++m, y += channel)
      apply_function(f, y, y, count);
}

/// A result, and the convolution whose result it is.
template <class R>
struct ConvContext {
   const ConvShape &shape;
   const R &result;
};

/// Hands the sums of a tile to a result, row by row of the output.
template <int Rows, class R, class T>
SOFIE_KERNEL void conv_finish(const void *context, T *sums, const ConvPlace &place)
{
   const auto &[s, result] = *static_cast<const ConvContext<R> *>(context);
   const ConvOutput out = conv_output(s, place);
   const Size feature = place.group * s.group_features() + place.first;
   Size y = out.at;
   for (Size r = 0; r < place.rows; ++r, sums += ConvTile<T, Rows>::width, y += s.out_channel) {
      Size row = y, from = out.column, i = 0;
      do {
         const Size left = out.length - from, rest = place.count - i;
         if (left > 0)
            result(feature + r, row + from, sums + i, left < rest ? left : rest);
         i += place.row - from;
         from = 0;
         row += s.out_row;
      } while (!out.whole && i < place.count);
   }
}

// What operators call ------------------------------------------------------------------------------

template <int Rows, class F, class T>
SOFIE_KERNEL void convolve(const F &f, const ConvShape &s, const ConvOperands<T> &of)
{
   using Result = ConvResult<F, T>;
   const Result result{f, of.y, of.bias, of.added};
   const ConvContext<Result> context{s, result};
   const ConvTarget<T> target{of.y, of.bias, of.added, conv_floor<F, T>};
   const ConvWork<T> work{of.scratch, of.offsets, &conv_finish<Rows, Result, T>, &context,
                          is_in_tile<F> ? &target : nullptr};
   conv_product<Rows>(s, work, of.w, of.x, T{});
}

/// y = f(convolution(x, w) + b + added) with constant weights; `added` may be absent.
template <int Rows, class F, class... Operands>
SOFIE_INLINE void convolution(const F &f, const ConvSizes &sizes, const Operands &...operands)
{
   convolve<Rows>(f, conv_shape(sizes), conv_operands(operands...));
}

/// The same with weights that are computed and packed in `panels` at each call. `weights`
/// are w, b and `added`, of which the last ones may be absent.
template <int Rows, class F, class Y, class Scratch, class Offsets, class Panels, class X, class... W>
SOFIE_INLINE void convolution_computed(const F &f, const ConvSizes &sizes, Y y, Scratch scratch, Offsets offsets,
                                       Panels panels, X x, W... weights)
{
   using T = typename Y::Element;
   const ConvShape s = conv_shape(sizes);
   const Size channels = s.group_channels(), taps = s.taps(), features = s.group_features();
   conv_pack_weights<ConvTile<T, Rows>::rows>(panels.data(), conv_input<0, T>(weights...),
                                              {features * channels * taps, channels * taps, taps}, s.groups, features,
                                              channels, taps);
   convolve<Rows>(f, s,
                  ConvOperands<T>{y.data(), scratch.data(), offsets.data(), x.data(), panels.data(),
                                  conv_input<1, T>(weights...), conv_input<2, T>(weights...)});
}

} // namespace sofie

SOFIE_END

#endif
