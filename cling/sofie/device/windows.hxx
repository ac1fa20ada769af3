/// \file
/// Windows that slide along axes of space: convolutions and poolings, one item for each result. The convolutions have
/// the members of those by tiles (convolution.hxx), which they are in a kernel for a whole network.
#ifndef SOFIE_DEVICE_WINDOWS_HXX
#define SOFIE_DEVICE_WINDOWS_HXX

#include "sofie/device/reduce.hxx"

namespace sofie {
namespace device {

/// Window j of an axis covers the positions j * stride - begin + t * dilation for t < kernel.
template <int Rank>
struct Windows {
   Sizes<Rank> sizes, counts, kernel, stride, dilation, begin;

   SOFIE_DEVICE static Index all(const Sizes<Rank> &lengths)
   {
      Index product = 1;
      for (int axis = 0; axis < Rank; ++axis)
         product *= lengths[axis];
      return product;
   }

   /// Where tap number `tap` of window number `window` is in a plane of `sizes`; -1 outside of it.
   SOFIE_DEVICE Index place(Index window, Index tap) const
   {
      Index offset = 0, step = 1;
      bool inside = true;
      for (int axis = Rank - 1; axis >= 0; --axis) {
         const Index position =
            window % counts[axis] * stride[axis] - begin[axis] + tap % kernel[axis] * dilation[axis];
         inside = inside && position >= 0 && position < sizes[axis];
         offset += position * step;
         step *= sizes[axis];
         window /= counts[axis];
         tap /= kernel[axis];
      }
      return inside ? offset : -1;
   }

   /// Of which window a position is that tap; -1 of none.
   SOFIE_DEVICE Index window(Index position, Index tap) const
   {
      Index found = 0, step = 1;
      bool inside = true;
      for (int axis = Rank - 1; axis >= 0; --axis) {
         const Index begins = position % sizes[axis] + begin[axis] - tap % kernel[axis] * dilation[axis];
         const Index number = begins / stride[axis];
         inside = inside && begins >= 0 && begins % stride[axis] == 0 && number < counts[axis];
         found += number * step;
         step *= counts[axis];
         position /= sizes[axis];
         tap /= kernel[axis];
      }
      return inside ? found : -1;
   }
};

/// A sum with the bias of feature m, and with what is added at place i.
template <bool Bias, class T>
SOFIE_DEVICE T finished(T sum, Index, Index)
{
   return sum;
}
template <bool Bias, class T>
SOFIE_DEVICE T finished(T sum, Index m, Index i, const T *one)
{
   return sum + one[Bias ? m : i];
}
template <bool Bias, class T>
SOFIE_DEVICE T finished(T sum, Index m, Index i, const T *bias, const T *added)
{
   return sum + bias[m] + added[i];
}

/// y[n, m, j] = function(sum of w[m, c, t] * x[n, c, window j, tap t] + b[m] + added[n, m, j])
template <class F, int Rank, bool Bias, bool Added>
struct Conv {
   F function;
   Index images, channels, features, groups; ///< of all groups
   Windows<Rank> windows;
   Index across; ///< of tiles

   template <class At, class T, class... More>
   SOFIE_DEVICE void operator()(At at, T *y, const T *x, const T *w, const More *...more) const
   {
      static_assert(sizeof...(More) == (Bias ? 1 : 0) + (Added ? 1 : 0), "an array for each flag");
      const Index plane = windows.all(windows.sizes), places = windows.all(windows.counts);
      const Index taps = windows.all(windows.kernel), inner = channels / groups;
      const Index j = at.index % places, m = at.index / places % features, n = at.index / places / features;
      x += (n * channels + m / (features / groups) * inner) * plane;
      w += m * inner * taps;
      T sum = T(0);
      for (Index tap = 0; tap < taps; ++tap) {
         const Index place = windows.place(j, tap);
         if (place >= 0)
            for (Index c = 0; c < inner; ++c)
               sum += w[c * taps + tap] * x[c * plane + place];
      }
      y[at.index] = function(at.math, finished<Bias>(sum, m, at.index, more...));
   }
};

/// y[n, m, i] = function(sum of w[c, m, t] * x[n, c, j] + b[m]) over the windows j of which i is tap t
template <class F, int Rank, bool Bias>
struct ConvTranspose {
   F function;
   Index images, channels, features, groups;
   Windows<Rank> windows; ///< their sizes are those of y, their counts those of x
   Index across;          ///< of tiles

   template <class At, class T, class... More>
   SOFIE_DEVICE void operator()(At at, T *y, const T *x, const T *w, const More *...bias) const
   {
      static_assert(sizeof...(More) == (Bias ? 1 : 0), "an array for the flag");
      const Index plane = windows.all(windows.sizes), places = windows.all(windows.counts);
      const Index taps = windows.all(windows.kernel), inner = channels / groups, outer = features / groups;
      const Index i = at.index % plane, m = at.index / plane % features, n = at.index / plane / features;
      const Index first = m / outer * inner;
      x += (n * channels + first) * places;
      w += (first * outer + m % outer) * taps;
      T sum = T(0);
      for (Index tap = 0; tap < taps; ++tap) {
         const Index j = windows.window(i, tap);
         if (j >= 0)
            for (Index c = 0; c < inner; ++c)
               sum += w[c * outer * taps + tap] * x[c * places + j];
      }
      y[at.index] = function(at.math, finished<Bias>(sum, m, at.index, bias...));
   }
};

/// The mean of each window; pads are elements if they are counted.
template <int Rank>
struct AveragePool {
   Windows<Rank> windows;
   Sizes<Rank> end;
   bool with_pads;

   template <class At, class T>
   SOFIE_DEVICE void operator()(At at, T *y, const T *x) const
   {
      const Index places = windows.all(windows.counts), taps = windows.all(windows.kernel);
      const Index j = at.index % places;
      x += at.index / places * windows.all(windows.sizes);
      T sum = T(0);
      for (Index tap = 0; tap < taps; ++tap) {
         const Index place = windows.place(j, tap);
         sum += place >= 0 ? x[place] : T(0);
      }
      const Index count = members(j);
      y[at.index] = sum / static_cast<T>(count > 0 ? count : 1);
   }

private:
   SOFIE_DEVICE Index members(Index window) const
   {
      Index found = 1;
      for (int axis = Rank - 1; axis >= 0; --axis) {
         const Index start = window % windows.counts[axis] * windows.stride[axis] - windows.begin[axis];
         const Index least = with_pads ? -windows.begin[axis] : 0;
         const Index most = windows.sizes[axis] + (with_pads ? end[axis] : 0);
         Index along = 0;
         for (Index tap = 0; tap < windows.kernel[axis]; ++tap) {
            const Index position = start + tap * windows.dilation[axis];
            along += position >= least && position < most ? 1 : 0;
         }
         found *= along;
         window /= windows.counts[axis];
      }
      return found;
   }
};

/// The largest element of each window, the first of equal ones, and NaN if there is any; and where it is.
template <int Rank, bool Turned>
struct MaxPool {
   Windows<Rank> windows;

   template <class At, class T>
   SOFIE_DEVICE void operator()(At at, T *y, const T *x) const
   {
      pooled(at, x, y);
   }
   template <class At, class T>
   SOFIE_DEVICE void operator()(At at, T *y, std::int64_t *indices, const T *x) const
   {
      pooled(at, x, y, indices);
   }

private:
   template <class At, class T, class... I>
   SOFIE_DEVICE void pooled(At at, const T *x, T *y, I *...indices) const
   {
      const Index places = windows.all(windows.counts), taps = windows.all(windows.kernel);
      const Index j = at.index % places, plane = at.index / places * windows.all(windows.sizes);
      T best = least<T>();
      Index found = -1;
      for (Index tap = 0; tap < taps; ++tap) {
         const Index place = windows.place(j, tap);
         if (place < 0)
            continue;
         const T value = x[plane + place];
         if (found < 0 || value > best || (value != value && best == best)) {
            best = value;
            found = place;
         }
      }
      y[at.index] = best;
      ((indices[at.index] = static_cast<I>(found < 0 ? -1 : plane + (Turned ? turned(found) : found))), ...);
   }

   /// The place in a plane whose first axis is the innermost one.
   SOFIE_DEVICE Index turned(Index place) const
   {
      Index positions[static_cast<std::size_t>(Rank)] = {};
      for (int axis = Rank - 1; axis >= 0; --axis) {
         positions[axis] = place % windows.sizes[axis];
         place /= windows.sizes[axis];
      }
      Index found = 0;
      for (int axis = Rank - 1; axis >= 0; --axis)
         found = found * windows.sizes[axis] + positions[axis];
      return found;
   }
};

/// (the sum over each window of |x|^p)^(1/p)
template <int Rank>
struct LpPool {
   Windows<Rank> windows;
   Index p;

   template <class At, class T>
   SOFIE_DEVICE void operator()(At at, T *y, const T *x) const
   {
      const Index places = windows.all(windows.counts), taps = windows.all(windows.kernel);
      const Index j = at.index % places;
      x += at.index / places * windows.all(windows.sizes);
      T largest = T(0), sum = T(0);
      for (Index tap = 0; tap < taps; ++tap) {
         const Index place = windows.place(j, tap);
         if (place >= 0)
            largest = maximum(largest, at.math.fabs(x[place]));
      }
      // Powers of numbers up to 1 do not overflow.
      const T scale = ReduceL2::scale(largest);
      for (Index tap = 0; tap < taps; ++tap) {
         const Index place = windows.place(j, tap);
         if (place >= 0)
            sum += at.math.pow(at.math.fabs(x[place]) / scale, static_cast<T>(p));
      }
      y[at.index] = scale * (p == 1 ? sum : p == 2 ? at.math.sqrt(sum) : at.math.pow(sum, T(1) / static_cast<T>(p)));
   }
};

} // namespace device
} // namespace sofie

#endif
