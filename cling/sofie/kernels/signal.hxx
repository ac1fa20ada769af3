/// \file
/// Discrete Fourier transforms, and the windows and filters that belong to them.
///
/// Everything is computed in double. A lane of a pack is a signal: as many signals as a pack has lanes
/// are transformed together, each as if it were alone.
#ifndef SOFIE_KERNELS_SIGNAL_HXX
#define SOFIE_KERNELS_SIGNAL_HXX

#include "sofie/session/owned.hxx"
#include "sofie/simd.hxx"

SOFIE_BEGIN

namespace sofie {

/// A complex number in each lane.
struct ComplexPack {
   Pack<double> re, im;

   SOFIE_INLINE ComplexPack operator+(const ComplexPack &other) const { return {re + other.re, im + other.im}; }
   SOFIE_INLINE ComplexPack operator-(const ComplexPack &other) const { return {re - other.re, im - other.im}; }
   SOFIE_INLINE ComplexPack operator*(double factor) const { return {re * factor, im * factor}; }
   SOFIE_INLINE ComplexPack times(double c, double s) const
   {
      const auto cosine = splat<Pack<double>>(c), sine = splat<Pack<double>>(s);
      return {multiply_add(re, cosine, -im * sine), multiply_add(re, sine, im * cosine)};
   }

   /// Times -i.
   SOFIE_INLINE ComplexPack turned() const { return {im, -re}; }
};

/// e^(-2 pi i j / n) for j = 0 ... n - 1, as cosines and sines in turns.
///
/// The library's functions see only the first octant, where they are exact to the last bit; symmetry
/// gives the others.
SOFIE_INLINE void fourier_roots(double *roots, Size n)
{
   constexpr double pi = 3.14159265358979323846;
   for (Size j = 0; j < n; ++j) {
      double c, s;
      if (2 * j > n) {
         c = roots[2 * (n - j)];
         s = -roots[2 * (n - j) + 1];
      } else if (n % 2 == 0 && 4 * j > n) {
         c = -roots[n - 2 * j];
         s = roots[n - 2 * j + 1];
      } else if (n % 4 == 0 && 8 * j > n) {
         c = -roots[n / 2 - 2 * j + 1];
         s = -roots[n / 2 - 2 * j];
      } else {
         const double angle = 2 * pi * static_cast<double>(j) / static_cast<double>(n);
         c = __builtin_cos(angle);
         s = -__builtin_sin(angle);
      }
      roots[2 * j] = c;
      roots[2 * j + 1] = s;
   }
}

/// A transform of a few numbers that are `apart` from each other; the results are neighbours `stride` apart,
/// each times its root.
struct FourierStep {
   const ComplexPack *from;
   ComplexPack *to;
   const double *roots;
   Size apart, stride, turn; // Result k is multiplied with root number k * turn.

   SOFIE_INLINE ComplexPack in(Size k) const { return from[k * apart]; }
   SOFIE_INLINE void out(Size k, const ComplexPack &value) const
   {
      to[k * stride] = value.times(roots[2 * k * turn], roots[2 * k * turn + 1]);
   }

   SOFIE_INLINE void two() const
   {
      const ComplexPack a = in(0), b = in(1);
      to[0] = a + b;
      out(1, a - b);
   }
   SOFIE_INLINE void three() const
   {
      constexpr double sine = 0.86602540378443864676; // sin(2 pi / 3)
      const ComplexPack a = in(0), b = in(1), c = in(2), sum = b + c;
      const ComplexPack middle = a - sum * 0.5, side = ((b - c) * sine).turned();
      to[0] = a + sum;
      out(1, middle + side);
      out(2, middle - side);
   }
   SOFIE_INLINE void four() const
   {
      const ComplexPack a = in(0), b = in(1), c = in(2), d = in(3);
      const ComplexPack even = a + c, odd = b + d, difference = a - c, side = (b - d).turned();
      to[0] = even + odd;
      out(1, difference + side);
      out(2, even - odd);
      out(3, difference - side);
   }
   SOFIE_INLINE void five() const
   {
      constexpr double c1 = 0.30901699437494742410, c2 = -0.80901699437494742410; // cos(2 pi k / 5)
      constexpr double s1 = 0.95105651629515357212, s2 = 0.58778525229247312917;  // sin(2 pi k / 5)
      const ComplexPack a = in(0), b = in(1), c = in(2), d = in(3), e = in(4);
      const ComplexPack near = b + e, far = c + d, near_side = (b - e).turned(), far_side = (c - d).turned();
      const ComplexPack first = a + (near * c1 + far * c2), second = a + (near * c2 + far * c1);
      const ComplexPack first_side = near_side * s1 + far_side * s2, second_side = near_side * s2 - far_side * s1;
      to[0] = a + (near + far);
      out(1, first + first_side);
      out(2, second + second_side);
      out(3, second - second_side);
      out(4, first - first_side);
   }
   /// Any other number: every result is a sum over all. `n` is how many roots there are.
   SOFIE_INLINE void any(Size radix, Size n) const
   {
      for (Size k = 0; k < radix; ++k) {
         ComplexPack sum = in(0);
         Size root = 0;
         for (Size j = 1; j < radix; ++j) {
            root += k * (n / radix);
            root -= root >= n ? n : 0;
            sum = sum + in(j).times(roots[2 * root], roots[2 * root + 1]);
         }
         out(k, sum);
      }
   }
};

/// All steps of one factor of the length; `left` is the length that is still to transform.
template <int Radix>
SOFIE_KERNEL void fourier_pass(const ComplexPack *from, ComplexPack *to, const double *roots, Size n, Size left,
                               Size radix)
{
   const Size done = n / left, groups = left / radix;
   for (Size g = 0; g < groups; ++g)
      for (Size i = 0; i < done; ++i) {
         const FourierStep step{from + g * done + i, to + g * radix * done + i, roots, groups * done, done, g * done};
         if constexpr (Radix == 2)
            step.two();
         else if constexpr (Radix == 3)
            step.three();
         else if constexpr (Radix == 4)
            step.four();
         else if constexpr (Radix == 5)
            step.five();
         else
            step.any(radix, n);
      }
}

/// The transform of n packs in `a`, with `b` as a second buffer; where the result is.
SOFIE_INLINE ComplexPack *fourier(ComplexPack *a, ComplexPack *b, const double *roots, Size n)
{
   for (Size left = n, radix = 0; left > 1; left /= radix) {
      if (left % 4 == 0)
         fourier_pass<4>(a, b, roots, n, left, radix = 4);
      else if (left % 2 == 0)
         fourier_pass<2>(a, b, roots, n, left, radix = 2);
      else if (left % 3 == 0)
         fourier_pass<3>(a, b, roots, n, left, radix = 3);
      else if (left % 5 == 0)
         fourier_pass<5>(a, b, roots, n, left, radix = 5);
      else {
         for (radix = 7; left % radix != 0;)
            radix = (radix + 2) * (radix + 2) > left ? left : radix + 2;
         fourier_pass<0>(a, b, roots, n, left, radix);
      }
      ComplexPack *const other = a;
      a = b;
      b = other;
   }
   return a;
}

/// Which signals are transformed, and how. A signal is `count` numbers of `channels` components that are
/// `from_apart` elements from each other; behind them it is 0.
struct FourierPlan {
   Size n, count, results;
   Size channels, from_apart, to_apart;
   bool inverse, real_result; // With `real_result` half of a spectrum is given, and a real signal is made.
};

/// The memory for transforms of `n` numbers, in doubles.
SOFIE_INLINE Size fourier_memory(Size n)
{
   return n * (4 * lanes<double> + 2);
}

/// Packs of signals; `T` is their element type. `memory` has room for `fourier_memory` doubles.
template <class T>
class FourierRun {
   FourierPlan plan_;
   ComplexPack *first_, *second_;
   double *roots_;

   /// Number k of a signal; the imaginary part of what has none is 0.
   SOFIE_INLINE void put(Size k, Size lane, double re, double im) const
   {
      // The inverse transform is the transform with both parts exchanged, before and after.
      first_[k].re[lane] = plan_.inverse ? im : re;
      first_[k].im[lane] = plan_.inverse ? re : im;
   }

   SOFIE_INLINE void load_signal(const T *from, const T *window, Size lane) const
   {
      const Size half = plan_.n / 2 + 1, used = plan_.real_result && half < plan_.count ? half : plan_.count;
      for (Size k = 0; k < plan_.n; ++k) {
         double re = 0, im = 0;
         if (k < used) {
            const double weight = window ? static_cast<double>(window[k]) : 1.0;
            re = weight * static_cast<double>(from[k * plan_.from_apart]);
            im = plan_.channels > 1 ? weight * static_cast<double>(from[k * plan_.from_apart + 1]) : 0;
         }
         if (plan_.real_result && (k == 0 || 2 * k == plan_.n))
            im = 0;
         if (plan_.real_result && 2 * k > plan_.n)
            continue;
         put(k, lane, re, im);
         if (plan_.real_result && k > 0 && 2 * k < plan_.n)
            put(plan_.n - k, lane, re, -im);
      }
   }

   SOFIE_INLINE void store_signal(T *to, const ComplexPack *found, Size lane) const
   {
      const double divisor = plan_.inverse ? static_cast<double>(plan_.n) : 1.0;
      for (Size k = 0; k < plan_.results; ++k) {
         const double first = found[k].re[lane] / divisor, second = found[k].im[lane] / divisor;
         to[k * plan_.to_apart] = static_cast<T>(plan_.inverse ? second : first);
         if (!plan_.real_result)
            to[k * plan_.to_apart + 1] = static_cast<T>(plan_.inverse ? first : second);
      }
   }

public:
   SOFIE_INLINE FourierRun(const FourierPlan &plan, double *memory)
      : plan_(plan), first_(reinterpret_cast<ComplexPack *>(memory)), second_(first_ + plan.n),
        roots_(reinterpret_cast<double *>(second_ + plan.n))
   {
      fourier_roots(roots_, plan.n);
   }

   /// The signals that begin at from[i] go to to[i], for i < count <= lanes.
   SOFIE_INLINE void run(T *const *to, const T *const *from, const T *window, Size count) const
   {
      for (Size lane = 0; lane < lanes<double>; ++lane)
         load_signal(from[lane < count ? lane : 0], window, lane);
      const ComplexPack *const found = fourier(first_, second_, roots_, plan_.n);
      for (Size lane = 0; lane < count; ++lane)
         store_signal(to[lane], found, lane);
   }
};

/// Signals [outer, inner]: in elements, how far apart those are that are neighbours, and their results.
struct FourierSignals {
   Size outer, inner, from_outer, from_inner, to_outer, to_inner;
};

/// y[o, i, :] is the transform of x[o, i, :], times a window if there is one.
template <class T>
SOFIE_KERNEL void fourier_of_all(T *y, const T *x, const T *window, const FourierPlan &plan, const FourierSignals &all,
                                 double *memory)
{
   const Size signals = all.outer * all.inner;
   if (plan.n == 0 || signals == 0)
      return;
   const FourierRun<T> transform(plan, memory);
   T *to[lanes<double>];
   const T *from[lanes<double>];
   for (Size s = 0; s < signals; s += lanes<double>) {
      const Size count = signals - s < lanes<double> ? signals - s : lanes<double>;
      for (Size i = 0; i < count; ++i) {
         const Size o = (s + i) / all.inner, p = (s + i) % all.inner;
         to[i] = y + o * all.to_outer + p * all.to_inner;
         from[i] = x + o * all.from_outer + p * all.from_inner;
      }
      transform.run(to, from, window, count);
   }
}

/// Along which axis of [outer, given, inner, channels] a transform goes.
struct FourierAxis {
   Size outer, given, inner;

   SOFIE_INLINE FourierSignals signals(const FourierPlan &plan) const
   {
      const Size components = plan.real_result ? 1 : 2;
      return {outer,     inner, given * inner * plan.channels, plan.channels, plan.results * inner * components,
              components};
   }
};

/// What ONNX's DFT does: which direction, and whether only half of a spectrum is there.
struct Dft {
   bool inverse, onesided;

   SOFIE_INLINE FourierPlan plan(Size n, const FourierAxis &axis, Size channels) const
   {
      const bool real_result = inverse && onesided;
      const Size results = onesided && !inverse ? n / 2 + 1 : n;
      const Size given = axis.given < n ? axis.given : n, apart = axis.inner * (real_result ? 1 : 2);
      return {n, given, results, channels, axis.inner * channels, apart, inverse, real_result};
   }
};

/// y[outer, result, inner, 1 or 2] of x[outer, given, inner, 1 or 2]
template <class Y, class Work, class X>
SOFIE_INLINE void dft(const Dft &how, Y y, Work memory, X x, Size n)
{
   const FourierAxis axis{x.template extent<0>(), x.template extent<1>(), x.template extent<2>()};
   const FourierPlan plan = how.plan(n, axis, x.template extent<3>());
   fourier_of_all<typename Y::Element>(y.data(), x.data(), nullptr, plan, axis.signals(plan), memory.data());
}

/// The one number of an input, or what holds without it.
template <class V>
SOFIE_INLINE Size number_or(const V &v, Size otherwise)
{
   if constexpr (is_there<V>)
      return static_cast<Size>(*v.data());
   else
      return otherwise;
}

template <int Axis, class X>
SOFIE_INLINE void signal_shape(const X &x, Sizes<X::rank> &shape)
{
   if constexpr (Axis < X::rank) {
      shape[Axis] = x.template extent<Axis>();
      signal_shape<Axis + 1>(x, shape);
   }
}

/// The same for a length and an axis that are computed.
template <class T, int Rank, class X, class L, class A>
SOFIE_KERNEL void runtime_dft(const Dft &how, Owned<T, Rank> &y, X x, L length, A along)
{
   Sizes<Rank> shape{};
   signal_shape<0>(x, shape);
   const Size given_axis = number_or(along, -2), at = given_axis < 0 ? given_axis + Rank : given_axis;
   if (at < 0 || at >= Rank - 1)
      throw std::invalid_argument("DFT has no axis " + std::to_string(given_axis));
   const bool half = how.inverse && how.onesided;
   const Size n = number_or(length, half ? 2 * (shape[at] - 1) : shape[at]);
   if (n < 1)
      throw std::invalid_argument("DFT cannot have the length " + std::to_string(n));
   FourierAxis axis{1, shape[at], 1};
   for (Size i = 0; i < at; ++i)
      axis.outer *= shape[i];
   for (Size i = at + 1; i < Rank - 1; ++i)
      axis.inner *= shape[i];
   const FourierPlan plan = how.plan(n, axis, shape[Rank - 1]);
   shape[at] = plan.results;
   shape[Rank - 1] = half ? 1 : 2;
   y.resize(shape);
   // Only the data decide how much this is.
   Buffer<double> memory(fourier_memory(n));
   fourier_of_all<T>(y.data(), x.data(), nullptr, plan, axis.signals(plan), memory.data());
}

/// Frames of signals [batch, length], of which each begins `step` behind the one before.
SOFIE_INLINE FourierSignals fourier_frames(const FourierPlan &plan, Size batch, Size length, Size frames, Size step)
{
   return {batch, frames, length * plan.channels, step * plan.channels, frames * plan.results * 2, plan.results * 2};
}

/// y[batch, frame, result, 2] of x[batch, time, 1 or 2]
template <class Y, class Work, class X, class W>
SOFIE_INLINE void stft(const Dft &how, Y y, Work memory, X x, W window, Size step, Size n)
{
   const FourierPlan plan = how.plan(n, {1, n, 1}, x.template extent<2>());
   fourier_of_all<typename Y::Element>(
      y.data(), x.data(), data_of(window), plan,
      fourier_frames(plan, x.template extent<0>(), x.template extent<1>(), y.template extent<1>(), step),
      memory.data());
}

/// The same for a step and a length that are computed.
template <class T, class X, class S, class W, class L>
SOFIE_KERNEL void runtime_stft(const Dft &how, Owned<T, 4> &y, X x, S frame_step, W window, L frame_length)
{
   const Size step = number_or(frame_step, 0), length = x.template extent<1>();
   Size n = number_or(frame_length, length);
   if constexpr (is_there<W>) {
      const Size given = window.template extent<0>();
      if (is_there<L> && n != given)
         throw std::invalid_argument("STFT has a window of " + std::to_string(given) + " for frames of " +
                                     std::to_string(n));
      n = given;
   }
   if (step < 1 || n < 1 || n > length)
      throw std::invalid_argument("STFT cannot cut " + std::to_string(length) + " into frames of " + std::to_string(n) +
                                  " in steps of " + std::to_string(step));
   const FourierPlan plan = how.plan(n, {1, n, 1}, x.template extent<2>());
   const Size batch = x.template extent<0>(), frames = (length - n) / step + 1;
   y.resize({{batch, frames, plan.results, 2}});
   // Only the data decide how much this is.
   Buffer<double> memory(fourier_memory(n));
   fourier_of_all<T>(y.data(), x.data(), data_of(window), plan, fourier_frames(plan, batch, length, frames, step),
                     memory.data());
}

// Windows --------------------------------------------------------------------------------------------

/// sin^2(pi t)
struct HannWindow {
   SOFIE_INLINE static double at(double t)
   {
      const double s = __builtin_sin(3.14159265358979323846 * t);
      return s * s;
   }
};

/// 25/46 - 21/46 cos(2 pi t)
struct HammingWindow {
   SOFIE_INLINE static double at(double t) { return 25.0 / 46 - 21.0 / 46 * __builtin_cos(6.28318530717958647693 * t); }
};

/// 0.42 - 0.5 cos(2 pi t) + 0.08 cos(4 pi t)
struct BlackmanWindow {
   SOFIE_INLINE static double at(double t)
   {
      const double turns = 6.28318530717958647693 * t;
      return 0.42 + (0.08 * __builtin_cos(2 * turns) - 0.5 * __builtin_cos(turns)); // 1 in the middle
   }
};

/// y[i] = W(i / n), or W(i / (n - 1)) if it is not periodic
template <class W, class T>
SOFIE_KERNEL void window_values(T *y, Size n, bool periodic)
{
   const Size last = periodic ? n : n - 1;
   for (Size i = 0; i < n; ++i) // A window of one number, which has no other end, is 1.
      y[i] = last == 0 ? T(1) : static_cast<T>(W::at(static_cast<double>(i) / static_cast<double>(last)));
}

template <class W, class Y>
SOFIE_INLINE void signal_window(const W &, Y y, Size periodic)
{
   window_values<W>(y.data(), y.template extent<0>(), periodic != 0);
}

template <class W, class T, class N>
SOFIE_INLINE void runtime_signal_window(const W &, Owned<T, 1> &y, N size, Size periodic)
{
   const Size n = number_or(size, 0);
   if (n < 0)
      throw std::invalid_argument("a window cannot have the size " + std::to_string(n));
   y.resize({{n}});
   window_values<W>(y.data(), n, periodic != 0);
}

// Mel filters ----------------------------------------------------------------------------------------

/// Triangles over the bins of a spectrum whose edges are evenly spread on the mel scale,
/// mel(f) = 2595 log10(1 + f / 700).
struct MelFilters {
   Size filters, length, rate;
   double low, high;

   SOFIE_INLINE static double mel(double hertz)
   {
      return 2595.0 * __builtin_log1p(hertz / 700.0) / 2.30258509299404568402;
   }

   /// The bin of edge number i, of which filter f has f, f + 1 and f + 2.
   SOFIE_INLINE Size edge(Size i) const
   {
      const double from = mel(low), step = (mel(high) - from) / static_cast<double>(filters + 2);
      const double at = from + static_cast<double>(i) * step;
      const double hertz = 700.0 * __builtin_expm1(at / 2595.0 * 2.30258509299404568402);
      const double bin = __builtin_floor(static_cast<double>(length + 1) * hertz / static_cast<double>(rate));
      const double end = static_cast<double>(length) * 4.0 + 4.0;
      return static_cast<Size>(bin > end ? end : bin > 0 ? bin : 0.0);
   }
   SOFIE_INLINE Size bins() const { return length / 2 + 1; }
};

template <class T>
SOFIE_KERNEL void mel_filter_values(T *y, const MelFilters &mel)
{
   const Size bins = mel.bins(), n = mel.filters;
   for (Size i = 0; i < bins * n; ++i)
      y[i] = T(0);
   for (Size f = 0; f < n; ++f) {
      const Size low = mel.edge(f), centre = mel.edge(f + 1), high = mel.edge(f + 2);
      for (Size b = low; b < bins && b <= centre && b <= high; ++b) {
         const double rise = centre == low ? 1.0 : static_cast<double>(b - low) / static_cast<double>(centre - low);
         y[b * n + f] = static_cast<T>(rise);
      }
      for (Size b = centre; b < bins && b < high; ++b)
         y[b * n + f] = static_cast<T>(static_cast<double>(high - b) / static_cast<double>(high - centre));
   }
}

template <class Y>
SOFIE_INLINE void mel_weights(const MelFilters &mel, Y y)
{
   mel_filter_values(y.data(), mel);
}

template <class T, class N, class L, class R, class F, class G>
SOFIE_INLINE void runtime_mel_weights(Owned<T, 2> &y, N filters, L length, R rate, F low, G high)
{
   const MelFilters mel{number_or(filters, 0), number_or(length, 0), number_or(rate, 0),
                        static_cast<double>(*low.data()), static_cast<double>(*high.data())};
   if (mel.filters < 0 || mel.length < 0 || mel.rate < 1 || !(mel.low >= 0 && mel.high >= mel.low))
      throw std::invalid_argument("MelWeightMatrix has no meaning for these numbers");
   y.resize({{mel.bins(), mel.filters}});
   mel_filter_values(y.data(), mel);
}

} // namespace sofie

SOFIE_END

#endif
