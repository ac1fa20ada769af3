/// \file
/// Sampling of tensors at positions that the data decide, and grids of such positions.
#ifndef SOFIE_KERNELS_RESAMPLING_GRIDS_HXX
#define SOFIE_KERNELS_RESAMPLING_GRIDS_HXX

#include "sofie/kernels/resampling.hxx"

SOFIE_BEGIN

namespace sofie {

/// How a tensor is sampled. The numbers of the enumerators are the compiler's.
struct GridRule {
   enum Mode { nearest, linear, cubic };
   enum Padding { zeros, border, reflection };
   int mode, padding;
   /// Whether -1 and 1 are the centres of the outermost elements, or their edges.
   bool corners;

   SOFIE_INLINE constexpr int taps() const { return mode == nearest ? 1 : mode == linear ? 2 : 4; }
};

/// x reflected at `low` and `high` until it is between them.
inline double reflected(double x, double low, double high)
{
   const double span = high - low;
   if (!(span > 0))
      return low;
   const bool is_low = x < low;
   const double beyond = is_low ? low - x : x - high;
   if (beyond <= 0)
      return x;
   const double times = __builtin_floor(beyond / span);
   const double rest = beyond - times * span;
   const bool even = __builtin_floor(times / 2) * 2 == times;
   return is_low == even ? low + rest : high - rest;
}

/// What one sample is made of along one axis: an element that does not exist counts 0.
struct GridTaps {
   Size index[4];
   double weight[4];

   SOFIE_INLINE GridTaps(const GridRule &rule, double position, Size size)
   {
      const double count = static_cast<double>(size);
      low_ = rule.corners ? 0 : -0.5;
      high_ = rule.corners ? count - 1 : count - 0.5;
      const double at = rule.corners ? (position + 1) / 2 * (count - 1) : ((position + 1) * count - 1) / 2;
      const bool exists = size > 0 && (at == at || rule.padding != GridRule::zeros);
      double x = inside(rule, rule.mode == GridRule::nearest ? __builtin_rint(at) : at, count);
      const double below = __builtin_floor(x);
      const double rest = x - below;
      if (rule.mode == GridRule::nearest) {
         weight[0] = 1;
      } else if (rule.mode == GridRule::linear) {
         weight[0] = 1 - rest;
         weight[1] = rest;
      } else {
         weight[0] = far(1 + rest);
         weight[1] = near(rest);
         weight[2] = near(1 - rest);
         weight[3] = far(2 - rest);
      }
      const Size first = static_cast<Size>(below) - (rule.mode == GridRule::cubic ? 1 : 0);
      for (int t = 0; t < rule.taps(); ++t) {
         const Size i = exists ? element(rule, first + t, size) : -1;
         index[t] = i < 0 ? 0 : i;
         weight[t] = i < 0 ? 0 : weight[t];
      }
   }

private:
   double low_, high_;

   /// A coordinate that is moved into the tensor, unless what is outside is zero.
   SOFIE_INLINE double inside(const GridRule &rule, double x, double count) const
   {
      x = moderate(x);
      if (x >= low_ && x <= high_)
         return x;
      if (rule.padding == GridRule::border)
         return x > 0 ? (x < count - 1 ? x : count - 1) : 0;
      return rule.padding == GridRule::reflection ? reflected(x, low_, high_) : x;
   }

   /// The element that stands for number `i`, or -1 for zero.
   SOFIE_INLINE Size element(const GridRule &rule, Size i, Size size) const
   {
      if (i >= 0 && i < size)
         return i;
      if (rule.padding == GridRule::zeros)
         return -1;
      if (rule.padding == GridRule::border)
         return within(i, size);
      return within(static_cast<Size>(reflected(static_cast<double>(i), low_, high_)), size);
   }

   // Keys' cubic convolution with a = -0.75, for distances up to 1 and from 1 to 2; as products, so that
   // what is nearly 0 is exact.
   SOFIE_INLINE static double near(double d) { return (1 - d) * (1 + d - 1.25 * d * d); }
   SOFIE_INLINE static double far(double d) { return -0.75 * (d - 1) * (d - 2) * (d - 2); }
};

/// Images of which each is sampled at as many points.
struct GridShape {
   int rank;
   Size images, channels, points;
   Size size[3];
};

/// Samples that are computed together: for each tap where it is in its plane and what it counts.
template <class C>
struct GridBlock {
   static constexpr int width = lanes<C>;
   static constexpr int most_taps = 64;
   int taps;
   Size offset[most_taps][width];
   C weight[most_taps][width];

   /// The taps of sample `lane`, at the position that `grid` says, the last axis first.
   template <class G>
   SOFIE_INLINE void place(const GridRule &rule, const GridShape &shape, const G *grid, int lane)
   {
      taps = 1;
      double product[most_taps];
      product[0] = 1;
      offset[0][lane] = 0;
      for (int a = 0; a < shape.rank; ++a) {
         const GridTaps along(rule, static_cast<double>(grid[shape.rank - 1 - a]), shape.size[a]);
         // From the last one on, as each makes room for several.
         for (int k = taps - 1; k >= 0; --k)
            for (int t = rule.taps() - 1; t >= 0; --t) {
               const Size to = offset[k][lane] * shape.size[a] + along.index[t];
               const double part = product[k] * along.weight[t];
               offset[k * rule.taps() + t][lane] = to;
               product[k * rule.taps() + t] = part;
            }
         taps *= rule.taps();
      }
      for (int k = 0; k < taps; ++k)
         weight[k][lane] = static_cast<C>(product[k]);
   }
};

/// y[l] = the sums over the taps of samples 0 <= l < count of one plane
template <class T, class C>
SOFIE_INLINE void sample(T *y, const T *x, const GridBlock<C> &block, Size count)
{
   using V = Pack<C>;
   V sum{};
   for (int k = 0; k < block.taps; ++k) {
      const V part = load<lanes<C>>(block.weight[k]);
      V v{};
      for (Size l = 0; l < count; ++l)
         v[static_cast<int>(l)] = static_cast<C>(x[block.offset[k][l]]);
      sum += select(part == V{}, V{}, part * v);
   }
   store_resized(y, sum, count);
}

template <class T, class G>
SOFIE_KERNEL void grid_sample(const GridRule &rule, const GridShape &shape, T *y, const T *x, const G *grid)
{
   using C = Interpolated<T>;
   constexpr Size n = lanes<C>;
   Size plane = 1;
   for (int a = 0; a < shape.rank; ++a)
      plane *= shape.size[a];
   if (plane == 0) {
      __builtin_memset(static_cast<void *>(y), 0,
                       static_cast<std::size_t>(shape.images * shape.channels * shape.points) * sizeof(T));
      return;
   }
   GridBlock<C> block;
   for (Size i = 0; i < shape.images; ++i) {
      for (Size p = 0; p < shape.points; p += n) {
         const Size count = shape.points - p < n ? shape.points - p : n;
         for (Size l = 0; l < n; ++l)
            block.place(rule, shape, grid + (i * shape.points + p + (l < count ? l : 0)) * shape.rank,
                        static_cast<int>(l));
         for (Size c = i * shape.channels; c < (i + 1) * shape.channels; ++c) {
            T *const to = y + c * shape.points + p;
            const T *const from = x + c * plane;
            if (rule.mode != GridRule::nearest) {
               if constexpr (!std::is_same_v<T, bool>)
                  sample(to, from, block, count);
               continue;
            }
            for (Size l = 0; l < count; ++l)
               to[l] = block.weight[0][l] == 0 ? T(0) : from[block.offset[0][l]];
         }
      }
   }
}

/// y[n, c, p] = x[n, c] at the position grid[n, p]; `size` is the shape of x[n, c].
template <class Y, class X, class Grid, int Rank>
SOFIE_INLINE void grid_sample(const GridRule &rule, Y y, X x, Grid grid, const Sizes<Rank> &size)
{
   static_assert(Rank >= 1 && Rank <= 3, "lines, images or volumes");
   GridShape shape{Rank, y.template extent<0>(), y.template extent<1>(), y.template extent<2>(), {}};
   for (int a = 0; a < Rank; ++a)
      shape.size[a] = size[a];
   grid_sample<typename Y::Element>(rule, shape, y.data(), x.data(), grid.data());
}

/// The position of element `i` of `count` between -1 and 1.
SOFIE_INLINE double grid_position(Size i, Size count, bool corners)
{
   if (corners)
      return count > 1 ? 2 * static_cast<double>(i) / static_cast<double>(count - 1) - 1 : 0;
   return static_cast<double>(2 * i + 1) / static_cast<double>(count) - 1;
}

template <class T>
SOFIE_KERNEL void affine_grid(T *y, const T *theta, Size images, const Size *size, int rank, bool corners)
{
   Size points = 1;
   for (int a = 0; a < rank; ++a)
      points *= size[a];
   for (Size n = 0; n < images; ++n, theta += rank * (rank + 1)) {
      Size at[3] = {};
      for (Size p = 0; p < points; ++p) {
         double position[3] = {};
         for (int a = 0; a < rank; ++a)
            position[rank - 1 - a] = grid_position(at[a], size[a], corners);
         for (int k = 0; k < rank; ++k) {
            const T *const row = theta + k * (rank + 1);
            double sum = static_cast<double>(row[rank]);
            for (int j = 0; j < rank; ++j)
               sum += static_cast<double>(row[j]) * position[j];
            *y++ = static_cast<T>(sum);
         }
         for (int a = rank - 1; a >= 0; --a) {
            if (++at[a] < size[a])
               break;
            at[a] = 0;
         }
      }
   }
}

/// y[n, i, ...] = theta[n] applied to the position of element (i, ...), the last axis first
template <class Y, class Theta, int Rank>
SOFIE_INLINE void affine_grid(Y y, Theta theta, const Sizes<Rank> &size, Size corners)
{
   affine_grid<typename Y::Element>(y.data(), theta.data(), theta.template extent<0>(), size.values, Rank,
                                    corners != 0);
}

/// The same for the size of an image that is computed.
template <class T, int Axes, class Theta, class Size_>
SOFIE_INLINE void affine_grid(Owned<T, Axes> &y, Theta theta, Size_ size, Size corners)
{
   constexpr int rank = Axes - 2;
   Sizes<Axes> shape;
   Sizes<rank> inner;
   shape[0] = theta.template extent<0>();
   shape[Axes - 1] = rank;
   for (int a = 0; a < rank; ++a) {
      inner[a] = shape[a + 1] = static_cast<Size>(size.data()[a + 2]);
      if (inner[a] < 0)
         throw std::invalid_argument("AffineGrid: a size is negative");
   }
   if (static_cast<Size>(size.data()[0]) != shape[0])
      throw std::invalid_argument("AffineGrid: needs as many matrices as there are images");
   y.resize(shape);
   affine_grid<T>(y.data(), theta.data(), shape[0], inner.values, rank, corners != 0);
}

} // namespace sofie

SOFIE_END

#endif
