/// \file
/// Convolutions whose taps read at places that are data, and causal ones with a state.
#ifndef SOFIE_KERNELS_CONVOLUTION_DEFORMED_HXX
#define SOFIE_KERNELS_CONVOLUTION_DEFORMED_HXX

#include "sofie/kernels/convolution.hxx"
#include "sofie/simd.hxx"

SOFIE_BEGIN

namespace sofie {

// DeformConv ---------------------------------------------------------------------------------------

/// The inputs of a deformable convolution; `Axes` of the three axes are those that the network has.
template <class T>
struct DeformedInputs {
   const T *x, *w, *offset, *bias, *mask;
   Size offset_groups;
};

/// Which points a place lies between, and how near it is to each: linear along each axis.
template <int Axes, class T>
struct DeformedPlace {
   Size point[1 << Axes]; // -1 for points outside of the image
   T weight[1 << Axes];

   /// `at` is the whole part of the place, `part` what is left.
   SOFIE_INLINE DeformedPlace(const Size (&at)[Axes], const T (&part)[Axes], const Size *in)
   {
      for (int corner = 0; corner < 1 << Axes; ++corner) {
         Size place = 0;
         T near = 1;
         bool inside = true;
         for (int i = 0; i < Axes; ++i) {
            const int next = corner >> i & 1;
            const Size position = at[i] + next;
            inside = inside && position >= 0 && position < in[i];
            place = place * in[i] + position;
            near *= next ? part[i] : 1 - part[i];
         }
         point[corner] = inside ? place : -1;
         weight[corner] = near;
      }
   }

   SOFIE_INLINE T sample(const T *x) const
   {
      T sum = 0;
      for (int corner = 0; corner < 1 << Axes; ++corner)
         sum += point[corner] < 0 ? T{} : x[point[corner]] * weight[corner];
      return sum;
   }
};

/// The samples of all channels and taps for one position of the output.
template <int Axes, class T>
SOFIE_KERNEL void deformed_samples(const ConvShape &s, T *samples, const DeformedInputs<T> &inputs, Size position)
{
   const Size *const in = s.in.values + 3 - Axes;
   const Size taps = s.taps(), positions = s.out_channel, channels = s.channels / inputs.offset_groups;
   for (Size g = 0; g < inputs.offset_groups; ++g)
      for (Size tap = 0; tap < taps; ++tap) {
         Size at[Axes];
         T part[Axes];
         bool inside = true;
         Size tap_rest = tap, position_rest = position;
         for (int i = Axes - 1; i >= 0; --i) {
            const int axis = 3 - Axes + i;
            const T offset = inputs.offset[((g * taps + tap) * Axes + i) * positions + position];
            const Size start = position_rest % s.out[axis] * s.strides[axis] - s.pads[axis] +
                               tap_rest % s.kernel[axis] * s.dilations[axis];
            // Beyond one element outside nothing is read; NaN is nowhere.
            const bool near = offset > static_cast<T>(-1 - start) && offset < static_cast<T>(in[i] - start);
            inside = inside && near;
            const T whole = near ? static_cast<T>(__builtin_floor(offset)) : T{};
            at[i] = start + static_cast<Size>(whole);
            part[i] = near ? offset - whole : T{};
            position_rest /= s.out[axis];
            tap_rest /= s.kernel[axis];
         }
         const T mask = inputs.mask ? inputs.mask[(g * taps + tap) * positions + position] : T{1};
         const DeformedPlace<Axes, T> place(at, part, in);
         for (Size c = g * channels; c < (g + 1) * channels; ++c)
            samples[c * taps + tap] = (inside ? place.sample(inputs.x + c * s.in_channel) : T{}) * mask;
      }
}

/// sum_k w[k] * x[k]
template <class T>
SOFIE_INLINE T deformed_sum(const T *__restrict w, const T *__restrict x, Size count)
{
   constexpr int n = lanes<T>;
   Pack<T> sum{};
   Size k = 0;
   for (; k + n <= count; k += n)
      sum = multiply_add(load<n>(w + k), load<n>(x + k), sum);
   if (k < count)
      sum = multiply_add(load_some<n>(w + k, count - k), load_some<n>(x + k, count - k), sum);
   return sum_of_lanes(sum);
}

template <int Axes, class T>
SOFIE_KERNEL void deformed_events(const ConvShape &s, T *y, T *samples, DeformedInputs<T> inputs)
{
   const Size taps = s.taps(), depth = s.depth(), positions = s.out_channel, each = inputs.offset_groups * taps;
   for (Size event = 0; event < s.batch; ++event, y += s.features * positions) {
      for (Size position = 0; position < positions; ++position) {
         deformed_samples<Axes>(s, samples, inputs, position);
         for (Size m = 0; m < s.features; ++m) {
            const T sum = deformed_sum(inputs.w + m * depth, samples + m / s.group_features() * depth, depth);
            y[m * positions + position] = sum + (inputs.bias ? inputs.bias[m] : T{});
         }
      }
      inputs.x += s.in_event;
      inputs.offset += each * Axes * positions;
      inputs.mask = inputs.mask ? inputs.mask + each * positions : nullptr;
   }
}

/// The convolution of what x is at places that are moved by `offset`, times `mask`. `Given` is 1 if there
/// is a bias, plus 2 if there is a mask.
template <int Axes, int Given, class Y, class Samples, class X, class W, class O, class... More>
SOFIE_INLINE void deformed_convolution(Size offset_groups, const ConvSizes &sizes, Y y, Samples samples, X x, W w,
                                       O offset, More... more)
{
   using T = typename Y::Element;
   const ConvShape s = conv_plain_shape(sizes);
   deformed_events<Axes>(s, y.data(), samples.data(),
                         DeformedInputs<T>{x.data(), w.data(), offset.data(), conv_given<Given, 0, T>(more...),
                                           conv_given<Given, 1, T>(more...), offset_groups});
}

// CausalConvWithState ------------------------------------------------------------------------------

/// The inputs of a causal convolution: `bias` and `past` may be null.
template <class T>
struct CausalInputs {
   const T *x, *w, *bias, *past;
   Size rows, channels, length, kernel;
};

template <class F, class T>
SOFIE_KERNEL void causal_rows(const F &f, T *y, T *present, T *sequence, const CausalInputs<T> &inputs)
{
   constexpr int n = lanes<T>;
   const Size length = inputs.length, kernel = inputs.kernel, before = kernel - 1;
   const auto size = static_cast<std::size_t>(sizeof(T));
   const std::size_t state = static_cast<std::size_t>(before) * size, read = static_cast<std::size_t>(length) * size;
   for (Size row = 0; row < inputs.rows; ++row, y += length, present += before) {
      const Size channel = row % inputs.channels;
      const T *const w = inputs.w + channel * kernel;
      if (inputs.past)
         __builtin_memcpy(sequence, inputs.past + row * before, state);
      else
         __builtin_memset(sequence, 0, state);
      __builtin_memcpy(sequence + before, inputs.x + row * length, read);
      __builtin_memset(sequence + before + length, 0, n * size);
      const T bias = inputs.bias ? inputs.bias[channel] : T{};
      for (Size j = 0; j < length; j += n) {
         Pack<T> sum{};
         for (Size k = 0; k < kernel; ++k)
            sum = accumulate(sum, w[k], load<n>(sequence + j + k));
         store_some(y + j, f(sum + splat<Pack<T>>(bias)), length - j < n ? length - j : n);
      }
      __builtin_memcpy(present, sequence + length, state);
   }
}

/// y[n, c, i] = f(sum_k w[c, k] * s[n, c, i + k] + b[c]), where s is the state and x after it, and the
/// new state: the end of s. `Given` is 1 if there is a bias, plus 2 if there is a state.
template <int Given, class F, class Y, class P, class Sequence, class X, class W, class... More>
SOFIE_INLINE void causal_convolution(const F &f, const Sizes<4> &counts, Y y, P present, Sequence sequence, X x, W w,
                                     More... more)
{
   using T = typename Y::Element;
   causal_rows(f, y.data(), present.data(), sequence.data(),
               CausalInputs<T>{x.data(), w.data(), conv_given<Given, 0, T>(more...), conv_given<Given, 1, T>(more...),
                               counts[0] * counts[1], counts[1], counts[2], counts[3]});
}

} // namespace sofie

SOFIE_END

#endif
