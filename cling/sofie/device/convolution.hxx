/// \file
/// Convolutions as products of matrices: the elements under a window are a column, which a work-group gathers into its
/// local memory. The matrix of all columns is nowhere.
#ifndef SOFIE_DEVICE_CONVOLUTION_HXX
#define SOFIE_DEVICE_CONVOLUTION_HXX

#include "sofie/device/tiles.hxx"
#include "sofie/device/windows.hxx"

namespace sofie {
namespace device {

/// A result: where its image and its window begin in x, where it is among those of the first feature in y, and the
/// first position of its window along each axis. There is no result where `y` is negative.
template <int Rank>
struct Column {
   Index x, y;
   Index at[static_cast<std::size_t>(Rank)];
};
/// A product: how far it is from the beginning of a window in x, where it is in a row of the weights, and its position
/// along each axis.
template <int Rank>
struct Tap {
   Index x, w;
   Index at[static_cast<std::size_t>(Rank)];
};

/// How a convolution is a product: y[m, column] = sum over d of w[m, d] * x[d, column].
template <int Rank>
struct Forward {
   const Windows<Rank> &windows;
   Index channels, features, inner, plane, places, taps;

   SOFIE_DEVICE Forward(const Windows<Rank> &given, Index channels_of_all, Index features_of_all, Index groups, Index)
      : windows(given), channels(channels_of_all), features(features_of_all), inner(channels_of_all / groups),
        plane(given.all(given.sizes)), places(given.all(given.counts)), taps(given.all(given.kernel))
   {
   }
   SOFIE_DEVICE Index columns(Index images) const { return images * places; }
   SOFIE_DEVICE Index depth() const { return inner * taps; }
   SOFIE_DEVICE Index row_of_weights() const { return inner * taps; }
   SOFIE_DEVICE Index plane_of_x() const { return plane; }
   SOFIE_DEVICE Index plane_of_y() const { return places; }
   SOFIE_DEVICE const Sizes<Rank> &sizes() const { return windows.sizes; }

   SOFIE_DEVICE Column<Rank> column(Index number) const
   {
      const Index image = number / places;
      Index rest = number % places, step = 1;
      Column<Rank> found{image * channels * plane, image * features * places + rest, {}};
      for (int axis = Rank - 1; axis >= 0; --axis) {
         found.at[axis] = rest % windows.counts[axis] * windows.stride[axis] - windows.begin[axis];
         found.x += found.at[axis] * step;
         step *= windows.sizes[axis];
         rest /= windows.counts[axis];
      }
      return found;
   }
   SOFIE_DEVICE Tap<Rank> tap(Index number) const
   {
      Index rest = number % taps, step = 1;
      Tap<Rank> found{number / taps * plane, number, {}};
      for (int axis = Rank - 1; axis >= 0; --axis) {
         found.at[axis] = rest % windows.kernel[axis] * windows.dilation[axis];
         found.x += found.at[axis] * step;
         step *= windows.sizes[axis];
         rest /= windows.kernel[axis];
      }
      return found;
   }
};

/// The same for one phase of a transposed convolution: results whose positions have the same rests by the strides meet
/// the same taps. An axis has a stride or a dilation, not both.
template <int Rank>
struct Transposed {
   const Windows<Rank> &windows; ///< their sizes are those of y, their counts those of x
   Index channels, features, inner, outer, plane, places;
   Sizes<Rank> rest, first, counts, kernel;

   SOFIE_DEVICE Transposed(const Windows<Rank> &given, Index channels_of_all, Index features_of_all, Index groups,
                           Index phase)
      : windows(given), channels(channels_of_all), features(features_of_all), inner(channels_of_all / groups),
        outer(features_of_all / groups), plane(given.all(given.sizes)), places(given.all(given.counts)), rest{},
        first{}, counts{}, kernel{}
   {
      for (int axis = Rank - 1; axis >= 0; --axis) {
         const Index stride = given.stride[axis];
         rest.at[axis] = phase % stride;
         first.at[axis] = modulo(rest[axis] - given.begin[axis], stride);
         counts.at[axis] = larger(divided_up(given.sizes[axis] - first[axis], stride), 0);
         kernel.at[axis] = larger(divided_up(given.kernel[axis] - rest[axis], stride), 0);
         phase /= stride;
      }
   }
   SOFIE_DEVICE Index columns(Index images) const { return images * windows.all(counts); }
   SOFIE_DEVICE Index depth() const { return inner * windows.all(kernel); }
   SOFIE_DEVICE Index row_of_weights() const { return windows.all(windows.kernel); }
   SOFIE_DEVICE Index plane_of_x() const { return places; }
   SOFIE_DEVICE Index plane_of_y() const { return plane; }
   SOFIE_DEVICE const Sizes<Rank> &sizes() const { return windows.counts; }

   SOFIE_DEVICE Column<Rank> column(Index number) const
   {
      const Index each = windows.all(counts), image = number / each;
      Index left = number % each, step_of_x = 1, step_of_y = 1;
      Column<Rank> found{image * channels * places, image * features * plane, {}};
      for (int axis = Rank - 1; axis >= 0; --axis) {
         const Index position = first[axis] + left % counts[axis] * windows.stride[axis];
         found.at[axis] = floor_div(position + windows.begin[axis] - rest[axis], windows.stride[axis]);
         found.x += found.at[axis] * step_of_x;
         found.y += position * step_of_y;
         step_of_x *= windows.counts[axis];
         step_of_y *= windows.sizes[axis];
         left /= counts[axis];
      }
      return found;
   }
   SOFIE_DEVICE Tap<Rank> tap(Index number) const
   {
      const Index all = windows.all(kernel), channel = number / all;
      Index left = number % all, step_of_x = 1, step_of_w = 1;
      Tap<Rank> found{channel * places, channel * outer * windows.all(windows.kernel), {}};
      for (int axis = Rank - 1; axis >= 0; --axis) {
         const Index place = left % kernel[axis];
         found.at[axis] = -place * windows.dilation[axis];
         found.x += found.at[axis] * step_of_x;
         found.w += (rest[axis] + place * windows.stride[axis]) * step_of_w;
         step_of_x *= windows.counts[axis];
         step_of_w *= windows.kernel[axis];
         left /= kernel[axis];
      }
      return found;
   }
};

/// What `Conv` and `ConvTranspose` compute, by tiles: a work-group has some features at some positions, of one group of
/// the channels and in one phase.
template <template <int> class Geometry, class T, class F, class Tile, int Rank, bool Bias, bool Added>
struct ConvTiles {
   F function;
   Index images, channels, features, groups;
   Windows<Rank> windows;
   Index across; ///< tiles beside each other, at most

   static constexpr int items = Tile::items;
   using Product = TileProduct<T, Tile>;
   using Sums = typename Product::Sums;
   struct Local {
      typename Product::Local product;
      Column<Rank> columns[static_cast<std::size_t>(Tile::columns)];
      Tap<Rank> taps[static_cast<std::size_t>(Tile::depth)];
   };

   template <class Group, class... More>
   SOFIE_DEVICE void operator()(Group &group, T *y, const T *x, const T *w, const More *...more) const
   {
      static_assert(sizeof...(More) == (Bias ? 1 : 0) + (Added ? 1 : 0), "an array for each flag");
      const Index outer = features / groups, down = divided_up(outer, Tile::rows);
      const Index begin = group.index() % across * Tile::columns, row = group.index() / across % down * Tile::rows;
      const Index part = group.index() / across / down % groups;
      const Geometry<Rank> geometry(windows, channels, features, groups, group.index() / across / down / groups);
      const Index columns = geometry.columns(images), k = geometry.depth(), step = geometry.row_of_weights();
      if (begin >= columns)
         return;
      x += part * (channels / groups) * geometry.plane_of_x();
      w += part * outer * (channels / groups) * windows.all(windows.kernel) + row * step;
      auto &local = group.local();
      const auto prepare = [&](int item, Index from) {
         for (int d = item; d < Tile::depth; d += items)
            if (from + d < k)
               local.taps[d] = geometry.tap(from + d);
      };
      group.each([&](int item) {
         for (int c = item; c < Tile::columns; c += items)
            local.columns[c] = begin + c < columns ? geometry.column(begin + c) : Column<Rank>{0, -1, {}};
         prepare(item, 0);
      });
      typename Group::template Private<Sums> sums;
      Product::sum(
         group, local.product, sums, k,
         [&](int r, Index, int d) { return row + r < outer ? w[r * step + local.taps[d].w] : T(0); },
         [&](Index, int d, int c) { return under(x, local.columns[c], local.taps[d], geometry.sizes()); },
         [&](int item, Index from) { prepare(item, from + Tile::depth); });
      const Index plane = geometry.plane_of_y(), feature = part * outer + row;
      group.last([&](int item) {
         const typename Group::MathOfIt math{};
         const int first = Tile::row_of(item);
         for (int r = 0; r < Tile::item_rows && row + first + r < outer; ++r)
            for (int c = 0; c < Tile::item_columns; ++c) {
               const Index place = local.columns[Tile::column_of(item) + c].y, m = feature + first + r;
               if (place >= 0) {
                  const Index i = place + m * plane;
                  y[i] = function(math, finished<Bias>(sums(item).at[r][c], m, i, more...));
               }
            }
      });
   }

private:
   SOFIE_DEVICE static T under(const T *x, const Column<Rank> &column, const Tap<Rank> &tap, const Sizes<Rank> &sizes)
   {
      bool inside = column.y >= 0;
      for (int axis = 0; axis < Rank; ++axis) {
         const Index position = column.at[axis] + tap.at[axis];
         inside = inside && position >= 0 && position < sizes[axis];
      }
      return inside ? x[column.x + tap.x] : T(0);
   }
};

} // namespace device
} // namespace sofie

#endif
