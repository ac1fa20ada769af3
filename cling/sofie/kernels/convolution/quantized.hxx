/// \file
/// Convolutions of 8-bit integers.
#ifndef SOFIE_KERNELS_CONVOLUTION_QUANTIZED_HXX
#define SOFIE_KERNELS_CONVOLUTION_QUANTIZED_HXX

#include "sofie/kernels/convolution.hxx"
#include "sofie/math/rounding.hxx"

SOFIE_BEGIN

namespace sofie {

/// 8-bit inputs and their zero points, which may be absent; one for each feature, or one for all.
template <class X, class W>
struct ConvBytes {
   const X *x;
   const W *w;
   const X *x_zero;
   const W *w_zero;
   bool each;
};

/// The products of x - x_zero and w - w_zero, handed to a result.
template <int Rows, class R, class X, class W>
SOFIE_KERNEL void convolve_bytes(const R &result, const ConvShape &s, std::int32_t *scratch, std::int32_t *offsets,
                                 std::int32_t *panels, const ConvBytes<X, W> &bytes)
{
   using T = std::int32_t;
   const Size channels = s.group_channels(), taps = s.taps(), features = s.group_features();
   conv_pack_weights<ConvTile<T, Rows>::rows>(panels, bytes.w, {features * channels * taps, channels * taps, taps},
                                              s.groups, features, channels, taps, {bytes.w_zero, bytes.each ? 1 : 0});
   const ConvContext<R> context{s, result};
   conv_product<Rows>(s, ConvWork<T>{scratch, offsets, &conv_finish<Rows, R, T>, &context, nullptr}, panels, bytes.x,
                      bytes.x_zero ? T{*bytes.x_zero} : T{});
}

/// y[at + j] = sums[j]
struct ConvIntegers {
   std::int32_t *y;
   SOFIE_INLINE void operator()(Size, Size at, const std::int32_t *sums, Size count) const
   {
      __builtin_memcpy(y + at, sums, static_cast<std::size_t>(count) * sizeof(std::int32_t));
   }
};

/// y = convolution(x - x_zero, w - w_zero) in 32 bits. `Given` is 1 if x_zero is there, plus 2 if w_zero is.
template <int Rows, int Given, class Y, class Scratch, class Offsets, class Panels, class X, class W, class... Z>
SOFIE_INLINE void integer_convolution(const ConvSizes &sizes, Y y, Scratch scratch, Offsets offsets, Panels panels, X x,
                                      W w, Z... zeros)
{
   using A = std::remove_const_t<typename X::Element>;
   using B = std::remove_const_t<typename W::Element>;
   const ConvShape s = conv_shape(sizes);
   ConvBytes<A, B> bytes{x.data(), w.data(), conv_given<Given, 0, A>(zeros...), conv_given<Given, 1, B>(zeros...),
                         false};
   if constexpr (Given & 2)
      bytes.each = std::get<sizeof...(Z) - 1>(std::tie(zeros...)).size() > 1;
   convolve_bytes<Rows>(ConvIntegers{y.data()}, s, scratch.data(), offsets.data(), panels.data(), bytes);
}

/// y[at + j] = (sums[j] + bias[feature]) * scale, rounded, plus the zero point, within the range of T.
template <class T>
struct ConvRequantized {
   T *y;
   const std::int32_t *bias;
   const float *w_scale;
   float x_scale, y_scale;
   T zero;
   bool each;

   SOFIE_INLINE void operator()(Size feature, Size at, const std::int32_t *sums, Size count) const
   {
      using V = Pack<std::int32_t>;
      using F = Pack<float>;
      constexpr int n = lanes<std::int32_t>;
      constexpr float least = std::is_signed_v<T> ? -128 : 0, most = std::is_signed_v<T> ? 127 : 255;
      const F scale = splat<F>(x_scale * w_scale[each ? feature : 0] / y_scale);
      const F low = splat<F>(least - static_cast<float>(zero)), high = splat<F>(most - static_cast<float>(zero));
      const V offset = splat<V>(bias ? bias[feature] : 0);
      for (Size j = 0; j < count; j += n) {
         const F exact = convert<float>(plus(load<n>(sums + j), offset)) * scale;
         // Written so that NaN, of scales that make no sense, becomes a number.
         const F above = select(exact >= low, exact, low);
         const F inside = select(above <= high, above, high);
         const V whole = convert<std::int32_t>(round_even(inside)) + static_cast<std::int32_t>(zero);
         store_some(y + at + j, convert<T>(whole), count - j < n ? count - j : n);
      }
   }
};

/// y = round((convolution(x - x_zero, w - w_zero) + b) * x_scale * w_scale / y_scale) + y_zero, where `inputs` are x, w
/// and y, each with its scale and its zero point, and b, which may be absent.
template <int Rows, class Y, class Scratch, class Offsets, class Panels, class... X>
SOFIE_INLINE void quantized_convolution(const ConvSizes &sizes, Y y, Scratch scratch, Offsets offsets, Panels panels,
                                        X... inputs)
{
   const auto all = std::tie(inputs...);
   const auto &x = std::get<0>(all);
   const auto &w = std::get<3>(all);
   const auto &w_scale = std::get<4>(all);
   const auto &w_zero = std::get<5>(all);
   using T = typename Y::Element;
   using P = std::remove_const_t<typename std::decay_t<decltype(x)>::Element>;
   using Q = std::remove_const_t<typename std::decay_t<decltype(w)>::Element>;
   const ConvShape s = conv_shape(sizes);
   const ConvRequantized<T> result{y.data(),
                                   conv_input<8, std::int32_t>(inputs...),
                                   w_scale.data(),
                                   *std::get<1>(all).data(),
                                   *std::get<6>(all).data(),
                                   *std::get<7>(all).data(),
                                   w_scale.size() > 1};
   const ConvBytes<P, Q> bytes{x.data(), w.data(), std::get<2>(all).data(), w_zero.data(), w_zero.size() > 1};
   convolve_bytes<Rows>(result, s, scratch.data(), offsets.data(), panels.data(), bytes);
}

} // namespace sofie

SOFIE_END

#endif
