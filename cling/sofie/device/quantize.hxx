/// \file
/// Numbers as integers of 8 or 16 bits with a scale and a zero point, and products of such integers.
#ifndef SOFIE_DEVICE_QUANTIZE_HXX
#define SOFIE_DEVICE_QUANTIZE_HXX

#include "sofie/device/tiles.hxx"
#include "sofie/device/windows.hxx"

namespace sofie {
namespace device {

/// Which scale an element has: the shape is [outer, length, inner], `block` positions of the middle axis share theirs,
/// and `each` element of an inner row has one of its own, or none has.
struct ScaleBlocks {
   bool each;
   Sizes<5> shape; ///< outer, length, inner, block, and how far apart the scales of neighbours along outer are

   SOFIE_DEVICE Index scale_of(Index i) const
   {
      const Index length = shape[1], inner = shape[2], row = i / inner;
      return row / length * shape[4] + row % length / shape[3] * (each ? inner : 1) + (each ? i % inner : 0);
   }
};

/// The integer nearest to quotient + zero that there is; NaN becomes the least. It is rounded before the addition.
template <class Y, class M, class P>
SOFIE_DEVICE Y to_integer(M m, P quotient, std::int32_t zero)
{
   constexpr int digits = 8 * static_cast<int>(sizeof(Y));
   constexpr std::int32_t low = std::is_signed_v<Y> ? -(1 << (digits - 1)) : 0;
   constexpr std::int32_t high = std::is_signed_v<Y> ? (1 << (digits - 1)) - 1 : (1 << digits) - 1;
   const P least = static_cast<P>(low - zero), most = static_cast<P>(high - zero);
   P rounded = m.rint(quotient);
   rounded = rounded > least ? rounded : least;
   rounded = rounded < most ? rounded : most;
   return static_cast<Y>(static_cast<std::int32_t>(rounded) + zero);
}

template <class Z>
SOFIE_DEVICE std::int32_t zero_at(Index i, const Z *zero)
{
   return static_cast<std::int32_t>(zero[i]);
}
SOFIE_DEVICE std::int32_t zero_at(Index)
{
   return 0;
}

/// y = saturate(round(x / scale) + zero), divided in type P.
template <class P>
struct Quantize {
   ScaleBlocks blocks;

   template <class At, class Y, class X, class S, class... Zero>
   SOFIE_DEVICE void operator()(At at, Y *y, const X *x, const S *scale, const Zero *...zero) const
   {
      const Index place = blocks.scale_of(at.index);
      const P quotient = static_cast<P>(x[at.index]) / static_cast<P>(scale[place]);
      y[at.index] = to_integer<Y>(at.math, quotient, zero_at(place, zero...));
   }
};

/// y = (x - zero) * scale
struct Dequantize {
   ScaleBlocks blocks;

   template <class At, class X, class... Zero>
   SOFIE_DEVICE void operator()(At at, float *y, const X *x, const float *scale, const Zero *...zero) const
   {
      const Index place = blocks.scale_of(at.index);
      const auto above = minus(static_cast<std::int32_t>(x[at.index]), zero_at(place, zero...));
      y[at.index] = static_cast<float>(above) * scale[place];
   }
};

/// y = saturate(round((sum + bias) * (a_scale * b_scale / y_scale)) + zero) of sums in int32, scaled in type P: tensors
/// that are broadcast to y.
template <class P, int Rank>
struct Requantize {
   Sizes<Rank> shape, of_a, of_b, of_bias; ///< how far apart the scales and the offsets of neighbours are

   template <class At, class Y, class... Bias>
   SOFIE_DEVICE void operator()(At at, Y *y, const std::int32_t *sums, const float *a_scale, const float *b_scale,
                                const float *y_scale, const Y *zero, const Bias *...bias) const
   {
      static_assert(sizeof...(Bias) <= 1, "there is one offset or none");
      const float factor = a_scale[offset_of(at.index, shape, of_a)] * b_scale[offset_of(at.index, shape, of_b)];
      std::int32_t sum = sums[at.index];
      ((sum = plus(sum, bias[offset_of(at.index, shape, of_bias)])), ...);
      y[at.index] = to_integer<Y>(at.math, static_cast<P>(sum) * static_cast<P>(factor / *y_scale), zero_at(0, zero));
   }
};

template <int Items>
struct ExtremesLocal {
   float partial[static_cast<std::size_t>(Items)];
   float low, high;
};

/// The least and the largest of 0 and of x at begin, begin + 1, ... up to `size`, in rows of all work-items that are
/// `step` apart; NaN if there is any.
template <int Items, class Group>
SOFIE_DEVICE void extremes_of(Group &group, ExtremesLocal<Items> &local, const float *x, Index size, Index begin,
                              Index step)
{
   const auto of = [=](int item, auto join) {
      float found = 0;
      for (Index i = begin + item; i < size; i += step)
         found = join(found, x[i]);
      return found;
   };
   const auto less = [](float a, float b) { return minimum(a, b); };
   const auto more = [](float a, float b) { return maximum(a, b); };
   fold_group<Items>(group, local.partial, &local.low, [=](int item) { return of(item, less); }, less);
   fold_group<Items>(group, local.partial, &local.high, [=](int item) { return of(item, more); }, more);
}

/// The extremes of each of `parts` parts of x, one work-group for each.
template <int Items>
struct Extremes {
   Index size, parts;

   static constexpr int items = Items;
   using Local = ExtremesLocal<Items>;

   template <class Group>
   SOFIE_DEVICE void operator()(Group &group, float *y, const float *x) const
   {
      auto &local = group.local();
      extremes_of(group, local, x, size, group.index() * Items, parts * Items);
      group.last([&](int item) {
         if (item == 0) {
            y[2 * group.index()] = local.low;
            y[2 * group.index() + 1] = local.high;
         }
      });
   }
};

/// The scale and the zero point with which 0 ... 255 reach from the least to the largest of these.
template <int Items>
struct DynamicScale {
   Index size;

   static constexpr int items = Items;
   using Local = ExtremesLocal<Items>;

   template <class Group>
   SOFIE_DEVICE void operator()(Group &group, float *scale, std::uint8_t *zero, const float *x) const
   {
      auto &local = group.local();
      extremes_of(group, local, x, size, 0, Items);
      group.last([&](int item) {
         if (item == 0) {
            const float found = (local.high - local.low) / 255.0f;
            *scale = found;
            // Where all is zero, 0 / 0 becomes zero.
            *zero = to_integer<std::uint8_t>(typename Group::MathOfIt{}, 0.0f - local.low / found, 0);
         }
      });
   }
};

/// y[m, n] = sum over k of (a[m, k] - a_zero) * (b[k, n] - b_zero), in int32, which wraps around.
template <class Tile, int Batch, bool ZeroA, bool ZeroB>
struct IntegerGemm {
   Index m, n, k;
   Sizes<2> of_a, of_b; ///< how far apart the zero points of neighbouring matrices and of neighbouring vectors are
   Sizes<Batch> batch, a_batch, b_batch; ///< how many matrices apart neighbours are

   static constexpr int items = Tile::items;
   using Product = TileProduct<std::int32_t, Tile>;
   using Local = typename Product::Local;

   template <class Group, class A, class B, class... Zero>
   SOFIE_DEVICE void operator()(Group &group, std::int32_t *y, const A *a, const B *b, const Zero *...zeros) const
   {
      static_assert(sizeof...(Zero) == (ZeroA ? 1 : 0) + (ZeroB ? 1 : 0), "an array for each flag");
      const Index tiles_across = divided_up(n, Tile::columns), tiles_down = divided_up(m, Tile::rows);
      const Index column = group.index() % tiles_across * Tile::columns;
      const Index row = group.index() / tiles_across % tiles_down * Tile::rows;
      const Index matrix = group.index() / tiles_across / tiles_down;
      Index rest = matrix, number_a = 0, number_b = 0;
      for (int axis = Batch - 1; axis >= 0; --axis) {
         number_a += rest % batch[axis] * a_batch[axis];
         number_b += rest % batch[axis] * b_batch[axis];
         rest /= batch[axis];
      }
      a += number_a * m * k;
      b += number_b * k * n;
      const auto zero_a = [=, *this](Index i) { return first_zero(number_a * of_a[0] + i * of_a[1], zeros...); };
      const auto zero_b = [=, *this](Index i) { return second_zero(number_b * of_b[0] + i * of_b[1], zeros...); };
      typename Group::template Private<typename Product::Sums> sums;
      Product::sum(
         group, group.local(), sums, k,
         [&](int r, Index begin, int d) {
            return row + r < m ? static_cast<std::int32_t>(a[(row + r) * k + begin + d]) - zero_a(row + r) : 0;
         },
         [&](Index begin, int d, int c) {
            return column + c < n ? static_cast<std::int32_t>(b[(begin + d) * n + column + c]) - zero_b(column + c) : 0;
         },
         [](int, Index) {});
      y += matrix * m * n;
      group.last([&](int item) {
         const Index r0 = row + Tile::row_of(item), c0 = column + Tile::column_of(item);
         for (int r = 0; r < Tile::item_rows && r0 + r < m; ++r)
            for (int c = 0; c < Tile::item_columns && c0 + c < n; ++c)
               y[(r0 + r) * n + c0 + c] = sums(item).at[r][c];
      });
   }

private:
   template <class... Zero>
   SOFIE_DEVICE static std::int32_t first_zero(Index i, const Zero *...zeros)
   {
      return ZeroA ? picked_zero<0>(i, zeros...) : 0;
   }
   template <class... Zero>
   SOFIE_DEVICE static std::int32_t second_zero(Index i, const Zero *...zeros)
   {
      return ZeroB ? picked_zero<ZeroA ? 1 : 0>(i, zeros...) : 0;
   }
   template <int Number>
   SOFIE_DEVICE static std::int32_t picked_zero(Index)
   {
      return 0;
   }
   template <int Number, class Z, class... More>
   SOFIE_DEVICE static std::int32_t picked_zero(Index i, const Z *zero, const More *...more)
   {
      if constexpr (Number == 0)
         return zero_at(i, zero);
      else
         return picked_zero<Number - 1>(i, more...);
   }
};

/// y[n, m, j] = sum of (w[m, c, t] - w_zero) * (x[n, c, window j, tap t] - x_zero), in int32; pads add nothing.
template <int Rank, bool ZeroX, bool ZeroW>
struct IntegerConv {
   Index channels, features, groups;
   Windows<Rank> windows;
   bool each; ///< whether each feature has a zero point

   template <class At, class X, class W, class... Zero>
   SOFIE_DEVICE void operator()(At at, std::int32_t *y, const X *x, const W *w, const Zero *...zeros) const
   {
      static_assert(sizeof...(Zero) == (ZeroX ? 1 : 0) + (ZeroW ? 1 : 0), "an array for each flag");
      const Index plane = windows.all(windows.sizes), places = windows.all(windows.counts);
      const Index taps = windows.all(windows.kernel), inner = channels / groups;
      const Index j = at.index % places, m = at.index / places % features, n = at.index / places / features;
      const std::int32_t less_x = zero_of_x(zeros...), less_w = zero_of_w(each ? m : 0, zeros...);
      x += (n * channels + m / (features / groups) * inner) * plane;
      w += m * inner * taps;
      std::int32_t sum = 0;
      for (Index tap = 0; tap < taps; ++tap) {
         const Index place = windows.place(j, tap);
         if (place >= 0)
            for (Index c = 0; c < inner; ++c)
               sum = plus(sum, times(static_cast<std::int32_t>(w[c * taps + tap]) - less_w,
                                     static_cast<std::int32_t>(x[c * plane + place]) - less_x));
      }
      y[at.index] = sum;
   }

private:
   SOFIE_DEVICE static std::int32_t zero_of_x() { return 0; }
   template <class Z, class... More>
   SOFIE_DEVICE static std::int32_t zero_of_x(const Z *first, const More *...)
   {
      return ZeroX ? zero_at(0, first) : 0;
   }
   SOFIE_DEVICE static std::int32_t zero_of_w(Index) { return 0; }
   template <class Z>
   SOFIE_DEVICE static std::int32_t zero_of_w(Index m, const Z *only)
   {
      return ZeroW ? zero_at(m, only) : 0;
   }
   template <class X, class W>
   SOFIE_DEVICE static std::int32_t zero_of_w(Index m, const X *, const W *second)
   {
      return zero_at(m, second);
   }
};

} // namespace device
} // namespace sofie

#endif
