/// \file
/// Convolutions of kernels up to 5 x 5 with fewer multiplications (S. Winograd).
///
/// The 4 x 4 outputs of a tile are a polynomial product, which is known from its values at as many
/// points as the tile of inputs has elements along an axis: A^T [(G w G^T) * (B^T d B)] A. So 4 x 4
/// outputs of one channel take 6 x 6 multiplications for a 3 x 3 kernel instead of 144, and 8 x 8 for a
/// 5 x 5 kernel instead of 400. G w G^T is made when the weights are loaded. The sums over channels are
/// matrix products, one for each point, made of the same tiles as in `convolution`.
///
/// What this costs is exactness where magnitudes differ: an output's error is relative to the inputs of
/// its whole tile. And infinity minus infinity is no number. So an event whose inputs are not finite
/// or very large or small is left to `convolution`, as are weights of that kind. The choice depends on
/// the event alone.
#ifndef SOFIE_KERNELS_CONVOLUTION_WINOGRAD_HXX
#define SOFIE_KERNELS_CONVOLUTION_WINOGRAD_HXX

#include "sofie/kernels/convolution.hxx"

SOFIE_BEGIN

namespace sofie {

// Transforms ---------------------------------------------------------------------------------------

/// Outputs of a tile along an axis.
inline constexpr int winograd_outputs = 4;

/// The points for tiles of `Inputs` along an axis: 0, infinity, and these with either sign. They are
/// exact in binary, and those of which rounding is amplified least.
template <int Inputs>
struct WinogradPoints;
template <>
struct WinogradPoints<4> {
   static constexpr int pairs = 1;
   static constexpr double of(int) { return 1; }
};
template <>
struct WinogradPoints<6> {
   static constexpr int pairs = 2;
   static constexpr double of(int pair) { return pair == 0 ? 0.75 : 1.5; }
};
template <>
struct WinogradPoints<8> {
   static constexpr int pairs = 3;
   static constexpr double of(int pair) { return pair == 0 ? 0.5 : pair == 1 ? 1 : 2; }
};

/// The coefficient of z^power in the product of z - p^2 over all pairs, or all but one.
template <int Inputs>
constexpr double winograd_coefficient(int power, int without = -1)
{
   using Points = WinogradPoints<Inputs>;
   double product[Points::pairs + 2] = {1};
   for (int pair = 0; pair < Points::pairs; ++pair) {
      if (pair == without)
         continue;
      const double square = Points::of(pair) * Points::of(pair);
      for (int i = Points::pairs; i > 0; --i)
         product[i] = product[i - 1] - square * product[i];
      product[0] *= -square;
   }
   return product[power];
}

/// sum + sum_i coefficient(i) * d[First + 2 * i] for i = I, I - 1, ..., 0. The coefficients must be
/// constants: Cling would compute them at run time.
template <int Inputs, int First, int Without, int I, class V>
SOFIE_INLINE V winograd_terms(V sum, const V (&d)[Inputs])
{
   constexpr float coefficient = static_cast<float>(winograd_coefficient<Inputs>(I, Without));
   sum = multiply_add(splat<V>(coefficient), d[First + 2 * I], sum);
   if constexpr (I > 0)
      return winograd_terms<Inputs, First, Without, I - 1>(sum, d);
   else
      return sum;
}

/// The polynomial in the square of the variable with `Count` coefficients, the last of which is 1.
template <int Inputs, int First, int Count, int Without, class V>
SOFIE_INLINE V winograd_polynomial(const V (&d)[Inputs])
{
   return winograd_terms<Inputs, First, Without, Count - 2>(d[First + 2 * (Count - 1)], d);
}

template <int Inputs, int Pair, class V>
SOFIE_INLINE void winograd_pair(const V (&d)[Inputs], V (&v)[Inputs])
{
   constexpr int pairs = WinogradPoints<Inputs>::pairs;
   const V even = winograd_polynomial<Inputs, 2, pairs, Pair>(d), odd = winograd_polynomial<Inputs, 1, pairs, Pair>(d);
   constexpr float point = static_cast<float>(WinogradPoints<Inputs>::of(Pair));
   v[1 + 2 * Pair] = multiply_add(splat<V>(point), odd, even);
   v[2 + 2 * Pair] = multiply_add(splat<V>(-point), odd, even);
   if constexpr (Pair + 1 < pairs)
      winograd_pair<Inputs, Pair + 1>(d, v);
}

/// v = B^T d
template <int Inputs, class V>
SOFIE_INLINE void winograd_input(const V (&d)[Inputs], V (&v)[Inputs])
{
   constexpr int pairs = WinogradPoints<Inputs>::pairs;
   v[0] = winograd_polynomial<Inputs, 0, pairs + 1, -1>(d);
   winograd_pair<Inputs, 0>(d, v);
   v[Inputs - 1] = winograd_polynomial<Inputs, 1, pairs + 1, -1>(d);
}

template <int Inputs, int Pair, class V>
SOFIE_INLINE void winograd_result_pair(const V (&m)[Inputs], V (&y)[winograd_outputs])
{
   constexpr float p = static_cast<float>(WinogradPoints<Inputs>::of(Pair)), square = p * p, cube = p * p * p;
   const V sum = m[1 + 2 * Pair] + m[2 + 2 * Pair], difference = m[1 + 2 * Pair] - m[2 + 2 * Pair];
   y[0] = y[0] + sum;
   y[1] = multiply_add(splat<V>(p), difference, y[1]);
   y[2] = multiply_add(splat<V>(square), sum, y[2]);
   y[3] = multiply_add(splat<V>(cube), difference, y[3]);
   if constexpr (Pair + 1 < WinogradPoints<Inputs>::pairs)
      winograd_result_pair<Inputs, Pair + 1>(m, y);
}

/// y = A^T m
template <int Inputs, class V>
SOFIE_INLINE void winograd_result(const V (&m)[Inputs], V (&y)[winograd_outputs])
{
   y[0] = m[0];
   y[1] = y[2] = V{};
   y[3] = m[Inputs - 1];
   winograd_result_pair<Inputs, 0>(m, y);
}

/// G: what each tap contributes to each point.
template <int Inputs, int Outputs = winograd_outputs>
struct WinogradMatrix {
   static constexpr int taps = Inputs - Outputs + 1;
   double values[Inputs][taps];

   WinogradMatrix()
   {
      using Points = WinogradPoints<Inputs>;
      for (int point = 0; point < Inputs; ++point) {
         const int own = (point - 1) / 2;
         const double p = point == 0 ? 0 : point % 2 ? Points::of(own) : -Points::of(own);
         double value = point == 0 ? 1 : 1 / (2 * p * p);
         for (int pair = 0; pair < Points::pairs; ++pair)
            if (point == 0 || pair != own)
               value /= p * p - Points::of(pair) * Points::of(pair);
         for (int tap = 0; tap < taps; ++tap, value *= p)
            values[point][tap] = point < Inputs - 1 ? value : tap == taps - 1;
      }
   }
};

// Orders of elements -------------------------------------------------------------------------------

/// to[i][t] = from[4 * t + i]
template <int Count, class V, class T, int N>
SOFIE_INLINE void winograd_gather(const T *from, V (&to)[N], int first)
{
   constexpr int n = width<V>;
   const V a = load<n>(from), b = load<n>(from + n), c = load<n>(from + 2 * n), d = load<n>(from + 3 * n);
   const V even_a = every_second<0>(a, b), even_c = every_second<0>(c, d);
   const V odd_a = every_second<1>(a, b), odd_c = every_second<1>(c, d);
   to[first] = every_second<0>(even_a, even_c);
   to[first + 1] = every_second<0>(odd_a, odd_c);
   if constexpr (Count > 2) {
      to[first + 2] = every_second<1>(even_a, even_c);
      to[first + 3] = every_second<1>(odd_a, odd_c);
   }
}

/// to[4 * t + i] = from[i][t]
template <class V, class T>
SOFIE_INLINE void winograd_scatter(T *to, const V (&from)[winograd_outputs])
{
   constexpr int n = width<V>;
   const V even = in_turn<0>(from[0], from[2]), odd = in_turn<0>(from[1], from[3]);
   store(to, in_turn<0>(even, odd));
   store(to + n, in_turn<n / 2>(even, odd));
   const V more_even = in_turn<n / 2>(from[0], from[2]), more_odd = in_turn<n / 2>(from[1], from[3]);
   store(to + 2 * n, in_turn<0>(more_even, more_odd));
   store(to + 3 * n, in_turn<n / 2>(more_even, more_odd));
}

// A pack of tiles, side by side --------------------------------------------------------------------

/// Of the inputs of a pack of tiles, with as much as is read behind them.
template <class T>
inline constexpr int winograd_row = 5 * lanes<T>;

/// to[(i * Inputs + j) * step + t] = (B^T d B)[i][j] of tile t, whose inputs are from[i * row + 4 * t + j].
template <int Inputs, class T>
SOFIE_KERNEL void winograd_transform(T *__restrict to, Size step, const T *__restrict from, Size row)
{
   constexpr int n = lanes<T>, length = winograd_row<T>, rest = Inputs - winograd_outputs;
   using V = Pack<T>;
   alignas(64) T half[Inputs * length];
   for (int part = 0; part < 5; ++part) {
      // The last pack ends with the last element that is needed.
      const int column = part < 4 ? part * n : 3 * n + rest;
      V d[Inputs], v[Inputs];
   SOFIE_UNROLL_ALL
      for (int i = 0; i < Inputs; ++i)
         d[i] = load<n>(from + i * row + column);
      winograd_input<Inputs>(d, v);
      SOFIE_UNROLL_ALL
      for (int i = 0; i < Inputs; ++i)
         store(half + i * length + column, v[i]);
   }
   for (int i = 0; i < Inputs; ++i, to += Inputs * step) {
      V d[Inputs], v[Inputs];
      winograd_gather<4>(half + i * length, d, 0);
      winograd_gather<rest>(half + i * length + 4, d, 4);
      winograd_input<Inputs>(d, v);
      SOFIE_UNROLL_ALL
      for (int j = 0; j < Inputs; ++j)
         store(to + j * step, v[j]);
   }
}

/// to[i * 4 * lanes + 4 * t + j] = (A^T m A)[i][j] of tile t, whose sums are m[(i * Inputs + j) * step + t].
template <int Inputs, class T>
SOFIE_KERNEL void winograd_outputs_of(T *__restrict to, const T *__restrict sums, Size step)
{
   constexpr int n = lanes<T>, outputs = winograd_outputs;
   using V = Pack<T>;
   alignas(64) T half[outputs * Inputs * n];
   for (int j = 0; j < Inputs; ++j) {
      V m[Inputs], y[outputs];
      SOFIE_UNROLL_ALL
      for (int i = 0; i < Inputs; ++i)
         m[i] = load<n>(sums + (i * Inputs + j) * step);
      winograd_result<Inputs>(m, y);
      SOFIE_UNROLL_ALL
      for (int i = 0; i < outputs; ++i)
         store(half + (i * Inputs + j) * n, y[i]);
   }
   for (int i = 0; i < outputs; ++i) {
      V m[Inputs], y[outputs];
      SOFIE_UNROLL_ALL
      for (int j = 0; j < Inputs; ++j)
         m[j] = load<n>(half + (i * Inputs + j) * n);
      winograd_result<Inputs>(m, y);
      winograd_scatter(to + i * outputs * n, y);
   }
}

// Weights ------------------------------------------------------------------------------------------

/// Features of which the sums are there at the same time.
inline constexpr Size winograd_features = 16;

/// How many features there are in the group that begins with `first`, in whole panels.
template <class T>
SOFIE_INLINE Size winograd_group_features(Size features, Size first)
{
   constexpr Size rows = ConvTile<T, 8>::rows;
   const Size left = ceil_div(features - first, rows) * rows;
   return left < winograd_features ? left : winograd_features;
}

/// Numbers of which no sum or product overflows, and no error is that of a denormal number; 0 as well.
inline constexpr double winograd_small = 0x1p-40, winograd_large = 0x1p40;
/// Weights that training has given up may be as small as this.
inline constexpr double winograd_small_weights = 0x1p-80;

/// The largest magnitude, as the bits of a float: infinity and NaN are larger than all numbers.
SOFIE_KERNEL inline std::uint32_t winograd_largest(const float *x, Size count)
{
   constexpr int n = lanes<float>;
   using U = PackN<std::uint32_t, n>;
   const U sign = splat<U>(0x80000000u);
   U most[4] = {};
   Size i = 0;
   for (; i + 4 * n <= count; i += 4 * n)
      SOFIE_UNROLL_ALL
      for (int j = 0; j < 4; ++j) {
         const U size = bits<U>(load<n>(x + i + j * n)) & ~sign;
         most[j] = select(size > most[j], size, most[j]);
      }
   for (; i < count; i += n) {
      const U size = bits<U>(load_some<n>(x + i, count - i < n ? count - i : n)) & ~sign;
      most[0] = select(size > most[0], size, most[0]);
   }
   std::uint32_t largest = 0;
   for (int j = 0; j < 4; ++j)
      for (int lane = 0; lane < n; ++lane)
         largest = most[j][lane] > largest ? most[j][lane] : largest;
   return largest;
}

/// Whether the largest magnitude is 0 or neither very small nor very large.
SOFIE_INLINE bool winograd_fits(const float *x, Size count, double small)
{
   const std::uint32_t largest = winograd_largest(x, count);
   return largest == 0 || (largest >= bits<std::uint32_t>(static_cast<float>(small)) &&
                           largest <= bits<std::uint32_t>(static_cast<float>(winograd_large)));
}

/// G w G^T of `lanes<double>` features of one channel: to[(i * Inputs + j) * step], of taps that are `panel` apart.
template <int Inputs, int Outputs>
SOFIE_KERNEL void winograd_weights_of(float *to, Size step, const float *w, Size panel, Size height, Size width,
                                      const WinogradMatrix<Inputs, Outputs> &matrix)
{
   using V = Pack<double>;
   V half[Inputs][WinogradMatrix<Inputs, Outputs>::taps];
   for (int i = 0; i < Inputs; ++i)
      for (Size l = 0; l < width; ++l) {
         half[i][l] = V{};
         for (Size k = 0; k < height; ++k)
            half[i][l] = multiply_add(splat<V>(matrix.values[i][k]),
                                      convert<double>(load<lanes<double>>(w + (k * width + l) * panel)), half[i][l]);
      }
   for (int i = 0; i < Inputs; ++i)
      for (int j = 0; j < Inputs; ++j, to += step) {
         V sum{};
         for (Size l = 0; l < width; ++l)
            sum = multiply_add(half[i][l], splat<V>(matrix.values[j][l]), sum);
         store(to, convert<float>(sum));
      }
}

/// Whether the weights of all features are such numbers.
SOFIE_ONCE inline bool winograd_weights_fit(const ConvFilters<float> &of)
{
   const Size each = of.channels * of.taps;
   for (Size m = 0; m < of.features; ++m)
      if (!winograd_fits(of.w + m * each, each, winograd_small_weights))
         return false;
   return true;
}

/// W[M, C, [depth,] height, width] and b[M], if there is one, packed for `convolution_winograd`: for each
/// group of features and each point, panels of rows; in these the steps of the sum, which are those of
/// the depth, and in each the channels. And W as `convolution` wants it, for what is left to that.
template <int Inputs>
class WinogradWeights : public ConvWeights<float, 8, 1> {
   static constexpr Size rows = ConvTile<float, 8>::rows, points = Inputs * Inputs;
   Buffer<float> transformed_;

public:
   SOFIE_KERNEL explicit WinogradWeights(const ConvFilters<float> &of) : ConvWeights<float, 8, 1>(of)
   {
      const Size area = of.height * of.width, depth = of.taps / area, steps = of.channels * depth;
      if (!winograd_weights_fit(of))
         return;
      transformed_ = Buffer<float>(ceil_div(of.features, rows) * rows * points * steps);
      const WinogradMatrix<Inputs> matrix;
      for (Size m = 0; m < of.features; m += lanes<double>) {
         const Size first = m / winograd_features * winograd_features, at = (m - first) / rows * rows;
         const Size step = winograd_group_features<float>(of.features, first) * steps;
         float *const to = transformed_.data() + first * points * steps + at * steps + m % rows;
         const float *from = this->panels() + (first + at) * steps * area + m % rows;
         for (Size c = 0; c < of.channels; ++c)
            for (Size d = 0; d < depth; ++d, from += area * rows)
               winograd_weights_of(to + (d * of.channels + c) * rows, step, from, rows, of.height, of.width, matrix);
      }
   }
   template <class... V>
   SOFIE_INLINE explicit WinogradWeights(const V &...views) : WinogradWeights(conv_filters<float>(views...))
   {
   }
   /// None where a weight is not finite or very large or small.
   SOFIE_INLINE const float *transformed() const { return transformed_.size() ? transformed_.data() : nullptr; }
};

// One event ----------------------------------------------------------------------------------------

/// How many products are summed from 0: sums of these sums are more exact than one long sum, of which
/// the transforms would amplify the rounding.
inline constexpr Size winograd_depth = 64;

/// How the tiles of an event are gone through: in order, row after row, some at a time.
struct WinogradPlan {
   Size across, tiles; // in a row of tiles, and in all of one depth
   Size columns;       // tiles at a time
   Size step, slice;   // elements between points, and of all points of one depth of the input
   Size sums_step;
};

template <int Inputs, class T>
SOFIE_INLINE WinogradPlan winograd_plan(const ConvShape &s, Size columns)
{
   constexpr Size n = lanes<T>, most = ConvTile<T, 8>::width;
   const Size across = ceil_div(s.out[2], winograd_outputs), tiles = across * ceil_div(s.out[1], winograd_outputs);
   const Size together = columns < most ? columns / n * n : most;
   // Points an odd number of cache lines apart do not compete for the same part of the cache.
   const Size step = (ceil_div(s.channels * together + n, 16) | 1) * 16;
   return {across, tiles, together, step, Inputs * Inputs * step, winograd_features * most + 16};
}

/// Tiles of one row of tiles, at most a pack, and which columns of a plan they are.
struct WinogradGroup {
   Size line, first, column, count;
};

/// The group at column `column` of those that begin with tile `tile`.
template <class T>
SOFIE_INLINE WinogradGroup winograd_group(const WinogradPlan &plan, Size tile, Size column, Size columns)
{
   const Size at = tile + column, first = at % plan.across;
   Size count = plan.across - first < columns - column ? plan.across - first : columns - column;
   return {at / plan.across, first, column, count < lanes<T> ? count : lanes<T>};
}

/// The memory of all inputs.
template <class T>
struct WinogradInput {
   const T *begin, *end;
};

/// A line of inputs: from[before], ..., from[after - 1], and zeros around them.
template <class T>
SOFIE_KERNEL void winograd_copy(T *to, const T *from, Size before, Size after, const T *end)
{
   conv_zeros(to, before);
   conv_copy(to + before, from + before, after - before, 1, end, T{});
   conv_zeros(to + after, winograd_row<T> - after);
}

/// The inputs of a group with zeros around them, where the group does not have them all.
template <int Inputs, class T>
SOFIE_KERNEL void winograd_pad(const ConvShape &s, const WinogradGroup &group, T *to, const T *x,
                               const WinogradInput<T> &input)
{
   constexpr Size n = lanes<T>, row = winograd_row<T>;
   using Mask = MaskOf<Pack<T>>;
   using Lane = ElementOf<Mask>;
   const Size left = group.first * winograd_outputs - s.pads[2];
   const Size needed = (group.count - 1) * winograd_outputs + Inputs;
   const Size before = left < 0 ? -left : 0, after = s.in[2] - left < needed ? s.in[2] - left : needed;
   Mask lane{}, exists[5];
   for (int i = 0; i < n; ++i)
      lane[i] = i;
   for (int part = 0; part < 5; ++part, lane = lane + splat<Mask>(static_cast<Lane>(n)))
      exists[part] = (lane >= splat<Mask>(static_cast<Lane>(before < row ? before : row))) &
                     (lane < splat<Mask>(static_cast<Lane>(after > 0 ? after : 0)));
   for (Size i = 0; i < Inputs; ++i, to += row) {
      const Size line = group.line * winograd_outputs - s.pads[1] + i;
      const T *const from = x + line * s.in_row + left;
      if (line < 0 || line >= s.in[1] || after <= before)
         conv_zeros(to, row);
      else if (from < input.begin || from + row > input.end)
         winograd_copy(to, from, before, after, input.end);
      else {
         // What stands before and behind the line is read as well.
         SOFIE_UNROLL_ALL
         for (int part = 0; part < 5; ++part)
            store(to + part * n, bits<Pack<T>>(bits<Mask>(load<n>(from + part * n)) & exists[part]));
      }
   }
}

/// Whether a group is a whole pack, and all of its inputs exist.
template <int Inputs, class T>
SOFIE_INLINE bool winograd_is_inside(const ConvShape &s, const WinogradGroup &group)
{
   const Size left = group.first * winograd_outputs - s.pads[2], top = group.line * winograd_outputs - s.pads[1];
   return group.count == lanes<T> && left >= 0 && top >= 0 && top + Inputs <= s.in[1] &&
          left + (lanes<T> - 1) * winograd_outputs + Inputs <= s.in[2];
}

/// One depth of the input, for `columns` tiles from `tile` on: to[point * step + channel * columns + tile].
template <int Inputs, class T>
SOFIE_KERNEL void
winograd_slice(const ConvShape &s, const WinogradPlan &plan, Size tile, Size columns, T *to, const T *x, const WinogradInput<T> &input)
{
   constexpr Size n = lanes<T>, row = winograd_row<T>;
   // Copying ends with a whole pack.
   alignas(64) T padded[Inputs * row + n];
   for (Size c = 0; c < s.channels; ++c, to += plan.columns, x += s.in_channel) {
      // The last pack may have tiles that do not exist: no denormal rubbish.
      if (columns % n)
         for (Size point = 0; point < Inputs * Inputs; ++point)
            store(to + point * plan.step + columns / n * n, Pack<T>{});
      for (Size column = 0; column < columns;) {
         const WinogradGroup group = winograd_group<T>(plan, tile, column, columns);
         const T *from = x + (group.line * winograd_outputs - s.pads[1]) * s.in_row + group.first * winograd_outputs -
                         s.pads[2];
         const bool inside = winograd_is_inside<Inputs, T>(s, group);
         if (!inside)
            winograd_pad<Inputs>(s, group, padded, x, input);
         winograd_transform<Inputs>(to + column, plan.step, inside ? from : padded, inside ? s.in_row : row);
         column += group.count;
      }
   }
}

/// Where outputs go: y[at + i * out_row + j] for `lines` rows of `count` outputs each.
template <class T>
using WinogradSink = void (*)(const void *context, const T *outputs, Size feature, Size at, Size lines, Size count);

/// The memory that a product works in, and where outputs go.
template <class T>
struct WinogradWork {
   T *slices, *sums;
   std::int32_t *offsets;
   const T *panels;
   WinogradSink<T> sink;
   const void *context;
};

/// The sums of some features, from `first` on, for all points and the tiles of a plan.
template <int Inputs, class T>
SOFIE_KERNEL void winograd_product(const ConvShape &s, const WinogradPlan &plan, const WinogradWork<T> &work, Size first,
                                   Size begin, Size depth, Size columns)
{
   using Tile = ConvTile<T, 8>;
   const Size steps = s.channels * s.kernel[0], points = Inputs * Inputs;
   const Size features = winograd_group_features<T>(s.features, first);
   const T *panel = work.panels + first * points * steps + begin * Tile::rows;
   // Parts of equal size, each with all of its sum in registers.
   const Size part = depth > winograd_depth ? ceil_div(depth, ceil_div(depth, winograd_depth)) : winograd_depth;
   for (Size point = 0; point < points; ++point)
      for (Size m = 0; m < features; m += Tile::rows, panel += Tile::rows * steps) {
         ConvTileEnd<T> end{};
         end.sums = work.sums + point * plan.sums_step + m * Tile::width;
         for (Size k = 0; k == 0 || k < depth; k += part, end.add = 1)
            conv_any_tile<8>(panel + k * Tile::rows, static_cast<const T *>(work.slices) + point * plan.step,
                             work.offsets + begin + k, depth - k < part ? depth - k : part, columns, end);
      }
}

/// The outputs of the same features and tiles.
template <int Inputs, class T>
SOFIE_KERNEL void winograd_finish(const ConvShape &s, const WinogradPlan &plan, const WinogradWork<T> &work, Size first,
                                  Size tile, Size columns, Size at)
{
   constexpr Size width = ConvTile<T, 8>::width, outputs = winograd_outputs;
   alignas(64) T results[outputs * outputs * lanes<T>];
   for (Size m = 0; m < winograd_features && first + m < s.features; ++m)
      for (Size column = 0; column < columns;) {
         const WinogradGroup group = winograd_group<T>(plan, tile, column, columns);
         winograd_outputs_of<Inputs>(results, work.sums + m * width + column, plan.sums_step);
         const Size line = group.line * outputs, place = group.first * outputs;
         const Size lines = s.out[1] - line, count = s.out[2] - place;
         work.sink(work.context, results, first + m,
                   at + (first + m) * s.out_channel + line * s.out_row + place, lines < outputs ? lines : outputs,
                   count < group.count * outputs ? count : group.count * outputs);
         column += group.count;
      }
}

/// One event. Depths of the input are transformed when they are first needed, and kept in turn.
template <int Inputs, class T>
SOFIE_KERNEL void winograd_event(const ConvShape &s, const WinogradPlan &plan, const WinogradWork<T> &work, const T *x,
                                 const WinogradInput<T> &input, Size at)
{
   const Size taps = s.kernel[0], plane = s.in[1] * s.in[2];
   for (Size tile = 0; tile < plan.tiles; tile += plan.columns) {
      const Size columns = plan.tiles - tile < plan.columns ? plan.tiles - tile : plan.columns;
      Size known = 0;
      for (Size d = 0; d < s.out[0]; ++d) {
         const Size front = d - s.pads[0];
         const Size begin = front < 0 ? -front : 0, behind = s.in[0] - front < taps ? s.in[0] - front : taps;
         for (; known < front + behind; ++known)
            winograd_slice<Inputs>(s, plan, tile, columns, work.slices + known % taps * plan.slice, x + known * plane,
                                   input);
         for (Size tap = begin; tap < behind; ++tap)
            for (Size c = 0; c < s.channels; ++c)
               work.offsets[tap * s.channels + c] =
                  static_cast<std::int32_t>((front + tap) % taps * plan.slice + c * plan.columns);
         const Size depth = behind > begin ? (behind - begin) * s.channels : 0;
         for (Size first = 0; first < s.features; first += winograd_features) {
            winograd_product<Inputs>(s, plan, work, first, begin * s.channels, depth, columns);
            winograd_finish<Inputs>(s, plan, work, first, tile, columns, at + d * s.out[1] * s.out[2]);
         }
      }
   }
}

// What operators call ------------------------------------------------------------------------------

template <class R, class T>
SOFIE_KERNEL void winograd_sink(const void *context, const T *outputs, Size feature, Size at, Size lines, Size count)
{
   const auto &[s, result] = *static_cast<const ConvContext<R> *>(context);
   for (Size i = 0; i < lines; ++i)
      result(feature, at + i * s.out_row, outputs + i * winograd_outputs * lanes<T>, count);
}

template <int Inputs, class F, class T>
SOFIE_KERNEL void convolve_winograd(const F &f, const ConvShape &s, const Sizes<2> &together, const ConvOperands<T> &of,
                                    const T *transformed)
{
   auto [y, scratch, offsets, x, direct, bias, added] = of;
   using Result = ConvResult<F, T>;
   const Result result{f, y, bias, added};
   const ConvContext<Result> context{s, result};
   const WinogradPlan plan = winograd_plan<Inputs, T>(s, together[0]);
   const WinogradWork<T> work{scratch,     scratch + s.kernel[0] * plan.slice, offsets,
                              transformed, &winograd_sink<Result, T>,         &context};
   const WinogradInput<T> input{x, x + s.batch * s.in_event};
   // Few tiles do not pay for reading the transformed weights, nor do tiles of which little is output.
   constexpr Size area = winograd_outputs * winograd_outputs;
   const bool pays = plan.tiles >= together[1] && 2 * s.out[1] * s.out[2] >= area * plan.tiles;
   ConvShape one = s;
   one.batch = 1;
   for (Size event = 0; event < s.batch; ++event) {
      const T *const from = x + event * s.in_event;
      const Size at = event * s.out_event;
      if (transformed && pays && winograd_fits(from, s.in_event, winograd_small))
         winograd_event<Inputs>(s, plan, work, from, input, at);
      else
         convolve<8>(f, one, ConvOperands<T>{y + at, scratch, offsets, from, direct, bias, added ? added + at : nullptr});
   }
}

/// y = f(convolution(x, w) + b + added) with constant weights, strides and dilations of 1 and one
/// group; `added` may be absent. `together` are the tiles that are done at a time, and the fewest of an event that
/// pay: events of fewer tiles, or of tiles that are half empty, are left to `convolution`.
template <int Inputs, class F, class Y, class Scratch, class Offsets, class X, class... Added>
SOFIE_INLINE void convolution_winograd(const F &f, const ConvSizes &sizes, Y y, Scratch scratch, Offsets offsets, X x,
                                       const WinogradWeights<Inputs> &w, Added... added)
{
   convolve_winograd<Inputs>(f, conv_shape(sizes), sizes.together, conv_operands(y, scratch, offsets, x, w, added...),
                             w.transformed());
}

} // namespace sofie

SOFIE_END

#endif
