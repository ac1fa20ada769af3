/// \file
/// Convolutions of which each feature is of one channel, with sixteen channels side by side in the lanes.
///
/// Some rows of sixteen channels become one row of places with sixteen numbers each, with their padding; a row of
/// outputs is then a sum of neighbours times weights, each a whole register, wherever strides and dilations put them.
#ifndef SOFIE_KERNELS_CONVOLUTION_DEPTHWISE_LANES_HXX
#define SOFIE_KERNELS_CONVOLUTION_DEPTHWISE_LANES_HXX

#include "sofie/kernels/convolution/grouped.hxx"

SOFIE_BEGIN

namespace sofie {

#ifdef SOFIE_TRANSPOSE_ASSEMBLER
/// Biases, and weights with sixteen channels side by side, for up to so many channels from `first` on.
SOFIE_KERNEL inline void depthwise_panel(const ConvShape &s, float *panel, const float *w, const float *bias,
                                         Size first, Size channels)
{
   constexpr Size n = 16, bytes = Size{sizeof(float)};
   Size at[n];
   for (Size lane = 0; lane < n; ++lane) {
      const Size c = grouped_lane(lane, n, channels, 1).group;
      panel[lane] = bias ? bias[first + c] : 0;
      at[lane] = c * s.taps() * bytes;
   }
   rows_to_places(panel + n, w + first * s.taps(), at, s.taps());
}

template <int Columns, int Stride, class F>
SOFIE_KERNEL void convolve_depthwise_lanes(const F &f, const ConvShape &s, Size lines, const ConvOperands<float> &of)
{
   auto [y, scratch, table, x, w, bias, added] = of;

   constexpr Size n = 16;
   if (s.batch <= 0 || s.out_channel <= 0 || depthwise_events<3>(f, s, y, x, w, bias))
      return;
   Size *const at = reinterpret_cast<Size *>(scratch);
   const GroupedPlaces places{at, at + n, 1, 1};
   float *const panel = scratch + 4 * n, *const image = panel + (ceil_div(s.taps(), n) * n + 1) * n;
   GroupedRows start{};
   const GroupedTaps taps = grouped_taps(start, table, s, n, 0);
   start.floor = conv_floor<F>;
   start.w = panel;
   for (Size c = 0; c < s.channels; c += n) {
      const Size channels = s.channels - c < n ? s.channels - c : n;
      if (c == 0 || channels < n)
         grouped_places(places, s, n, channels);
      depthwise_panel(s, panel, w, bias, c, channels);
      for (Size event = 0; event < s.batch; ++event) {
         float *const to = y + (event * s.channels + c) * s.out_channel;
         grouped_block<Columns, Stride, 16>(s, start, taps, places, to, image,
                                            x + event * s.in_event + c * s.in_channel, lines);
         if constexpr (!is_in_tile<F>)
            apply_function(f, to, to, channels * s.out_channel);
      }
   }
}
#endif

/// The same as `depthwise_convolution`, of floats; so many rows of outputs are computed together, in blocks of so many
/// columns.
template <int Columns, int Stride, class F, class Y, class Table, class Scratch, class X, class W, class... B>
SOFIE_INLINE void depthwise_lanes(const F &f, const ConvSizes &sizes, Y y, Table table,
                                  [[maybe_unused]] Scratch scratch, X x, W w, B... b)
{
#ifdef SOFIE_TRANSPOSE_ASSEMBLER
   const ConvShape s = conv_plain_shape(sizes);
   convolve_depthwise_lanes<Columns, Stride>(
      f, s, sizes.together[0],
      {y.data(), scratch.data(), table.data(), x.data(), w.data(), conv_optional<float>(b...), nullptr});
#else
   depthwise_convolution(f, sizes, y, table, x, w, b...);
#endif
}

} // namespace sofie

SOFIE_END

#endif
