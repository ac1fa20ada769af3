/// \file
/// Tensors brought to another size along one axis: the nearest element, or interpolation.
#ifndef SOFIE_DEVICE_RESIZE_HXX
#define SOFIE_DEVICE_RESIZE_HXX

#include "sofie/device/base.hxx"

namespace sofie {
namespace device {

/// y[o, j, i] = the sum over the elements near j / scale of what they count; x is [outer, size, inner]. The numbers of
/// modes are those of `sofie::ResizeRule`. What counts for nothing does not contribute, even if it is infinite.
struct Resize {
   int mode, coordinate, rounding;
   bool antialias, exclude_outside;
   double cubic_a;
   double given; ///< the scale; 0 where it is count / size
   Index size, count, inner;

   template <class At, class T>
   SOFIE_DEVICE void operator()(At at, T *y, const T *x) const
   {
      const Index i = at.index % inner, j = at.index / inner % count, o = at.index / inner / count;
      x += o * size * inner + i;
      const double place = position(static_cast<double>(j));
      if (mode == 0)
         y[at.index] = x[within(nearest(at.math, place)) * inner];
      else if constexpr (std::is_floating_point_v<T>)
         y[at.index] = interpolated(at.math, x, place);
   }

private:
   SOFIE_DEVICE double scale() const
   {
      return given > 0 ? given : size == count ? 1 : static_cast<double>(count) / static_cast<double>(size);
   }
   SOFIE_DEVICE Index within(Index i) const { return i < 0 ? 0 : i < size ? i : size - 1; }

   /// Where in the old axis element number j of the new one is.
   SOFIE_DEVICE double position(double j) const
   {
      const double from = static_cast<double>(size), to = static_cast<double>(count);
      const double width = given > 0 ? given * from : to, centred = (j + 0.5) / scale() - 0.5;
      switch (coordinate) {
      case 1:
         return from / 2 * (1 - to / width) + centred;
      case 2:
         return count > 1 ? centred : 0;
      case 3:
         return width == 1 ? 0 : j * (from - 1) / (width - 1);
      case 4:
         return j / scale();
      case 6:
         return (j + 0.5) / scale();
      default:
         return centred;
      }
   }
   template <class M>
   SOFIE_DEVICE Index nearest(M m, double x) const
   {
      switch (rounding) {
      case 1:
         return static_cast<Index>(m.floor(x + 0.5));
      case 2:
         return static_cast<Index>(m.floor(x));
      case 3:
         return static_cast<Index>(m.ceil(x));
      case 4:
         return static_cast<Index>(scale() < 1 ? m.ceil(x) : m.floor(x));
      default:
         return static_cast<Index>(m.ceil(x - 0.5));
      }
   }
   /// What an element counts at this distance: a triangle, or Keys' cubic convolution.
   template <class M>
   SOFIE_DEVICE double weight(M m, double distance) const
   {
      const double d = m.fabs(distance), a = cubic_a;
      if (mode == 1)
         return d < 1 ? 1 - d : 0;
      // As products, so that what is nearly 0 is exact.
      return d <= 1 ? (1 - d) * (1 + d - (a + 2) * d * d) : d < 2 ? a * (d - 1) * (d - 2) * (d - 2) : 0;
   }
   template <class M, class T>
   SOFIE_DEVICE T interpolated(M m, const T *x, double place) const
   {
      const double shrink = antialias && scale() < 1 ? scale() : 1;
      const Index half = static_cast<Index>(m.ceil(mode / shrink)), below = static_cast<Index>(m.ceil(place)) - 1;
      double total = 0;
      for (Index i = below + 1 - half; i <= below + half; ++i)
         total += counted(m, i, place, shrink);
      const bool scaled = (antialias || exclude_outside) && total != 0;
      T sum = T(0);
      for (Index i = below + 1 - half; i <= below + half; ++i) {
         const double part = counted(m, i, place, shrink);
         const T rounded = static_cast<T>(scaled ? part / total : part);
         if (rounded != T(0))
            sum += rounded * x[within(i) * inner];
      }
      return sum;
   }
   template <class M>
   SOFIE_DEVICE double counted(M m, Index i, double place, double shrink) const
   {
      const bool outside = i < 0 || i >= size;
      return outside && exclude_outside ? 0 : weight(m, (static_cast<double>(i) - place) * shrink);
   }
};

} // namespace device
} // namespace sofie

#endif
