/// \file
/// Transposed convolutions and Col2Im: what spreads each input over many outputs.
#ifndef SOFIE_KERNELS_CONVOLUTION_TRANSPOSED_HXX
#define SOFIE_KERNELS_CONVOLUTION_TRANSPOSED_HXX

#include "sofie/kernels/convolution.hxx"
#include "sofie/kernels/elementwise.hxx"
#include "sofie/owned.hxx"

SOFIE_BEGIN

namespace sofie {

// ConvTranspose ------------------------------------------------------------------------------------

/// y[i * stride] += sums[i]
template <class T>
SOFIE_INLINE void conv_add(T *__restrict y, const T *__restrict sums, Size count, Size stride)
{
   constexpr int n = lanes<T>;
   Size i = 0;
   if (stride == 1) {
      for (; i + n <= count; i += n)
         store(y + i, load<n>(y + i) + load<n>(sums + i));
   }
   for (; i < count; ++i)
      y[i * stride] += sums[i];
}

/// The transposed convolution (its `in` is the input's form), and the output of one event.
template <class T>
struct ConvSpread {
   const ConvShape &shape;
   T *y;
};

/// Adds products of weights and inputs to the outputs that they belong to.
template <int Rows, class T>
SOFIE_KERNEL void conv_spread(const void *context, T *sums, const ConvPlace &place)
{
   const auto &[s, outputs] = *static_cast<const ConvSpread<T> *>(context);
   const Size taps = s.taps(), width = s.in[2], first = place.slab.line * width + place.column;
   for (Size r = 0; r < place.rows; ++r, sums += ConvTile<T, Rows>::width) {
      const Size feature = (place.first + r) / taps, tap = (place.first + r) % taps;
      const Size depth_offset = tap / (s.kernel[1] * s.kernel[2]) * s.dilations[0] - s.pads[0];
      const Size height_offset = tap / s.kernel[2] % s.kernel[1] * s.dilations[1] - s.pads[1];
      const Size width_offset = tap % s.kernel[2] * s.dilations[2] - s.pads[2];
      T *const y = outputs + (place.group * s.group_features() + feature) * s.out_channel;
      for (Size i = 0; i < place.count;) {
         const Size line = (first + i) / width, column = (first + i) % width;
         const Size count = width - column < place.count - i ? width - column : place.count - i;
         const Size depth = line / s.in[1] * s.strides[0] + depth_offset;
         const Size height = line % s.in[1] * s.strides[1] + height_offset;
         if (depth >= 0 && depth < s.out[0] && height >= 0 && height < s.out[1]) {
            const Size start = column * s.strides[2] + width_offset;
            const Size before = conv_below(start, s.strides[2], count, 0);
            const Size end = conv_below(start, s.strides[2], count, s.out[2]);
            if (end > before)
               conv_add(y + (depth * s.out[1] + height) * s.out[2] + start + before * s.strides[2], sums + i + before,
                        end - before, s.strides[2]);
         }
         i += count;
      }
   }
}

/// y = f(y)
template <class F, class T>
SOFIE_KERNEL void conv_apply(const F &f, T *__restrict y, Size count)
{
   constexpr int n = lanes<T>;
   Size i = 0;
   for (; i + n <= count; i += n)
      store(y + i, f(load<n>(y + i)));
   if (i < count)
      store_some(y + i, f(load_some<n>(y + i, count - i)), count - i);
}

template <int Rows, class F, class T>
SOFIE_KERNEL void convolve_transposed(const F &f, const ConvShape &s, T *y, T *scratch, std::int32_t *offsets,
                                      const T *x, const T *panels, const T *bias)
{
   const Size points = s.in_channel;
   // One event at a time, so that the order of additions does not depend on where it is in the batch.
   ConvShape product{};
   product.batch = 1;
   product.channels = s.channels;
   product.features = s.features * s.taps();
   product.groups = s.groups;
   product.kernel = product.strides = product.dilations = Sizes<3>{{1, 1, 1}};
   product.in = product.out = Sizes<3>{{1, s.in[0] * s.in[1], s.in[2]}};
   product.in_row = s.in[2];
   product.in_channel = points;
   product.in_event = s.channels * points;
   for (Size event = 0; event < s.batch; ++event, y += s.out_event, x += product.in_event) {
      for (Size i = 0; i < s.out_event; ++i)
         y[i] = bias ? bias[i / s.out_channel] : T{};
      const ConvSpread<T> context{s, y};
      conv_product<Rows>(product, ConvWork<T>{scratch, offsets, &conv_spread<Rows, T>, &context, nullptr}, panels, x,
                         T{});
      if constexpr (!std::is_same_v<F, Identity>)
         conv_apply(f, y, s.out_event);
   }
}

/// The ConvShape of a transposed convolution.
SOFIE_INLINE ConvShape conv_transposed_shape(const Sizes<4> &counts, const Sizes<3> &in, const Sizes<3> &kernel,
                                             const Sizes<3> &out, const Sizes<3> &strides, const Sizes<3> &dilations,
                                             const Sizes<3> &pads)
{
   ConvShape s{counts[0], counts[1], counts[2], counts[3], in, kernel, out, strides, dilations, pads, 0, 0, 0, 0, 0, 0};
   s.in_channel = ConvShape::product(in);
   s.out_channel = ConvShape::product(out);
   s.out_event = s.features * s.out_channel;
   return s;
}

template <int Rows, class F, class T>
SOFIE_KERNEL void convolve_transposed_computed(const F &f, const ConvShape &s, T *y, T *scratch, std::int32_t *offsets,
                                               T *panels, const T *x, const T *w, const T *bias)
{
   const Size channels = s.group_channels(), each = s.group_features() * s.taps();
   conv_pack_weights<ConvTile<T, Rows>::rows>(panels, w, {channels * each, 1, each}, s.groups, each, channels, 1,
                                              conv_optional<T>(), 0);
   convolve_transposed<Rows>(f, s, y, scratch, offsets, x, panels, bias);
}

/// y[m, i * stride + k * dilation - pad] = f(b[m] + sum_c x[c, i] * w[c, m, k]) with weights that are
/// computed and packed in `panels` at each call. `b` may be absent.
template <int Rows, class F, class Y, class Scratch, class Offsets, class Panels, class X, class W, class... B>
SOFIE_INLINE void transposed_convolution_computed(const F &f, const Sizes<4> &counts, const Sizes<3> &in,
                                                  const Sizes<3> &kernel, const Sizes<3> &out, const Sizes<3> &strides,
                                                  const Sizes<3> &dilations, const Sizes<3> &pads, Y y, Scratch scratch,
                                                  Offsets offsets, Panels panels, X x, W w, B... b)
{
   const ConvShape s = conv_transposed_shape(counts, in, kernel, out, strides, dilations, pads);
   convolve_transposed_computed<Rows>(f, s, y.data(), scratch.data(), offsets.data(), panels.data(), x.data(), w.data(),
                                      conv_optional<typename Y::Element>(b...));
}

// By phases ----------------------------------------------------------------------------------------

/// Outputs whose places differ by multiples of the stride are a convolution of the input with some of
/// the taps, in the opposite order. `first` are the places of the first of them.
struct ConvPhase {
   ConvShape shape;
   Sizes<3> first;
   Sizes<3> tap, tap_step; ///< the first of its taps along each axis, and how far apart they are
};

/// The taps of phase r along one axis: those for which tap * dilation is r modulo the stride.
struct ConvPhaseTaps {
   Size first, step, count;

   SOFIE_INLINE ConvPhaseTaps(Size r, Size kernel, Size stride, Size dilation) : first(0), step(1), count(0)
   {
      while (step * dilation % stride != 0)
         ++step;
      while (first < step && first * dilation % stride != r)
         ++first;
      if (first < step && first < kernel)
         count = (kernel - 1 - first) / step + 1;
   }
};

/// The remainder that is not negative.
SOFIE_INLINE Size conv_modulo(Size a, Size b)
{
   return (a % b + b) % b;
}

/// Phase r of a transposed convolution.
SOFIE_INLINE ConvPhase conv_phase(const ConvShape &s, const Sizes<3> &r)
{
   ConvPhase phase{s, {}, {}, {}};
   ConvShape &p = phase.shape;
   p.strides = Sizes<3>{{1, 1, 1}};
   for (int i = 0; i < 3; ++i) {
      const Size stride = s.strides[i];
      const ConvPhaseTaps taps(r[i], s.kernel[i], stride, s.dilations[i]);
      phase.first[i] = conv_modulo(r[i] - s.pads[i], stride);
      phase.tap[i] = taps.first;
      phase.tap_step[i] = taps.step;
      p.out[i] = phase.first[i] < s.out[i] ? (s.out[i] - 1 - phase.first[i]) / stride + 1 : 0;
      p.kernel[i] = taps.count;
      p.dilations[i] = taps.step * s.dilations[i] / stride;
      const Size nearest = (taps.first * s.dilations[i] - r[i]) / stride;
      p.pads[i] = nearest + (taps.count - 1) * p.dilations[i] - (phase.first[i] + s.pads[i] - r[i]) / stride;
   }
   p.in_row = p.in[2];
   p.in_channel = ConvShape::product(p.in);
   p.in_event = p.channels * p.in_channel;
   return phase;
}

/// Does something for all phases: r[i] < strides[i].
template <class Each>
SOFIE_INLINE void conv_each_phase(const Sizes<3> &strides, Each &each)
{
   Sizes<3> r;
   for (r[0] = 0; r[0] < strides[0]; ++r[0])
      for (r[1] = 0; r[1] < strides[1]; ++r[1])
         for (r[2] = 0; r[2] < strides[2]; ++r[2])
            each(r);
}

/// Packs the weights w[C, M / groups, kernel...] of each phase behind those of the one before.
template <int Rows, class T>
struct ConvPhasePacker {
   T *to;
   const T *w;
   const ConvShape &shape;

   SOFIE_KERNEL void operator()(const Sizes<3> &r)
   {
      const ConvShape &s = shape;
      const ConvPhase phase = conv_phase(s, r);
      const Size features = s.group_features(), taps = s.taps();
      for (Size g = 0; g < s.groups; ++g)
         for (Size m = 0; m < features; m += Rows)
            for (Size c = g * s.group_channels(); c < (g + 1) * s.group_channels(); ++c)
               for (Size d = phase.shape.kernel[0]; d-- > 0;)
                  for (Size h = phase.shape.kernel[1]; h-- > 0;)
                     for (Size v = phase.shape.kernel[2]; v-- > 0; to += Rows)
                        for (Size f = 0; f < Rows; ++f)
                           to[f] = m + f < features ? w[(c * features + m + f) * taps + tap(phase, {{d, h, v}})] : T{};
   }
   SOFIE_INLINE Size tap(const ConvPhase &phase, const Sizes<3> &number) const
   {
      Size at = 0;
      for (int i = 0; i < 3; ++i)
         at = at * shape.kernel[i] + phase.tap[i] + number[i] * phase.tap_step[i];
      return at;
   }
};

/// W[C, M / groups, kernel...] and b[M], if there is one, packed by phases. The last six numbers are
/// the strides and the dilations.
template <class T, int Rows, int Groups, Size... Steps>
class ConvPhaseWeights {
   static constexpr int rows = ConvTile<T, Rows>::rows;
   Buffer<T> panels_;
   Buffer<T> bias_;

public:
   template <class W>
   explicit ConvPhaseWeights(W w)
   {
      constexpr Size steps[6] = {Steps...};
      ConvShape s{};
      s.channels = w.template extent<0>();
      s.groups = Groups;
      s.features = w.template extent<1>() * Groups;
      s.kernel = kernel(w);
      for (int i = 0; i < 3; ++i) {
         s.strides[i] = steps[i];
         s.dilations[i] = steps[3 + i];
      }
      panels_ = Buffer<T>(conv_weights_size<rows>(Groups, s.group_features(), s.depth()));
      ConvPhasePacker<rows, T> packer{panels_.data(), w.data(), s};
      conv_each_phase(s.strides, packer);
   }
   template <class W, class B>
   ConvPhaseWeights(W w, B b) : ConvPhaseWeights(w)
   {
      bias_ = Buffer<T>(b.size());
      __builtin_memcpy(bias_.data(), b.data(), static_cast<std::size_t>(b.size()) * sizeof(T));
   }
   const T *panels() const { return panels_.data(); }
   const T *bias() const { return bias_.size() ? bias_.data() : nullptr; }

private:
   template <class W>
   static Sizes<3> kernel(const W &w)
   {
      if constexpr (W::rank == 3)
         return {{1, 1, w.template extent<2>()}};
      else if constexpr (W::rank == 4)
         return {{1, w.template extent<2>(), w.template extent<3>()}};
      else
         return {{w.template extent<2>(), w.template extent<3>(), w.template extent<4>()}};
   }
};

#ifdef SOFIE_MASKS
/// to[2 * i] = v[i] for i < count; what is between them stays.
SOFIE_INLINE void store_every_second(float *to, Pack<float> v, Size count)
{
   constexpr Size half = lanes<float> / 2;
   const unsigned places = 0x55555555U & static_cast<unsigned>((std::uint64_t{1} << (2 * count)) - 1);
   __builtin_ia32_storeups512_mask(to, in_turn<0>(v, v), static_cast<unsigned short>(places & 0xffff));
   if (count > half)
      __builtin_ia32_storeups512_mask(to + 2 * half, in_turn<half>(v, v), static_cast<unsigned short>(places >> 16));
}
#endif

/// Where the outputs of one phase go.
template <class F, class T>
struct ConvInterleaved {
   const F &f;
   const ConvShape &shape; ///< of the transposed convolution
   const ConvPhase &phase;
   T *y;
   const T *bias;

   /// The output for the first position of a row of the phase.
   SOFIE_INLINE T *row(Size event, Size feature, Size depth, Size line) const
   {
      const Size d = depth * shape.strides[0] + phase.first[0], h = line * shape.strides[1] + phase.first[1];
      return y + event * shape.out_event + feature * shape.out_channel + (d * shape.out[1] + h) * shape.out[2] +
             phase.first[2];
   }
   /// to[j * stride] = f(sums[j] + bias), or f(bias) without sums
   SOFIE_INLINE void put(T *__restrict to, const T *__restrict sums, Size feature, Size count) const
   {
      constexpr int n = lanes<T>;
      const Size stride = shape.strides[2];
      const Pack<T> offset = splat<Pack<T>>(bias ? bias[feature] : T{});
      for (Size j = 0; j < count; j += n) {
         const Size some = count - j < n ? count - j : n;
         const Pack<T> v = f(sums ? plus(load_some<n>(sums + j, some), offset) : offset);
         if (stride == 1) {
            store_some(to + j, v, some);
#ifdef SOFIE_MASKS
         } else if (std::is_same_v<T, float> && stride == 2) {
            store_every_second(reinterpret_cast<float *>(to + 2 * j), bits<Pack<float>>(v), some);
#endif
         } else {
            alignas(64) T apart[n];
            store(apart, v);
            for (Size i = 0; i < some; ++i)
               to[(j + i) * stride] = apart[i];
         }
      }
   }
};

/// Hands the sums of a tile to their outputs, row by row of the phase.
template <int Rows, class F, class T>
SOFIE_KERNEL void conv_interleave(const void *context, T *sums, const ConvPlace &place)
{
   const auto &target = *static_cast<const ConvInterleaved<F, T> *>(context);
   const Sizes<3> &out = target.phase.shape.out;
   const Size feature = place.group * target.shape.group_features() + place.first;
   for (Size r = 0; r < place.rows; ++r, sums += ConvTile<T, Rows>::width) {
      Size line = place.slab.line + place.column / place.row, column = place.column % place.row;
      for (Size i = 0; i < place.count; ++line) {
         const Size left = out[2] - column, rest = place.count - i;
         if (left > 0)
            target.put(target.row(place.slab.event, feature + r, place.slab.depth, line) +
                          column * target.shape.strides[2],
                       sums + i, feature + r, left < rest ? left : rest);
         i += place.row - column;
         column = 0;
      }
   }
}

/// The outputs of a phase that no input belongs to.
template <class F, class T>
SOFIE_KERNEL void conv_put_bias(const ConvInterleaved<F, T> &target)
{
   const ConvShape &s = target.phase.shape;
   for (Size event = 0; event < s.batch; ++event)
      for (Size feature = 0; feature < s.features; ++feature)
         for (Size d = 0; d < s.out[0]; ++d)
            for (Size h = 0; h < s.out[1]; ++h)
               target.put(target.row(event, feature, d, h), nullptr, feature, s.out[2]);
}

template <int Rows, class F, class T>
struct ConvPhases {
   const F &f;
   const ConvShape &shape;
   T *y, *scratch;
   std::int32_t *offsets;
   const T *x, *panels, *bias;

   SOFIE_KERNEL void operator()(const Sizes<3> &r)
   {
      const ConvPhase phase = conv_phase(shape, r);
      const ConvInterleaved<F, T> target{f, shape, phase, y, bias};
      if (phase.shape.depth() == 0)
         return conv_put_bias(target);
      const ConvWork<T> work{scratch, offsets, &conv_interleave<Rows, F, T>, &target, nullptr};
      conv_product<Rows>(phase.shape, work, panels, x, T{});
      panels += conv_weights_size<ConvTile<T, Rows>::rows>(shape.groups, shape.group_features(), phase.shape.depth());
   }
};

/// The same with constant weights, which are packed by phases.
template <int Rows, class F, class Y, class Scratch, class Offsets, class X, class W>
SOFIE_INLINE void transposed_convolution_by_phases(const F &f, const Sizes<4> &counts, const Sizes<3> &in,
                                                   const Sizes<3> &kernel, const Sizes<3> &out, const Sizes<3> &strides,
                                                   const Sizes<3> &dilations, const Sizes<3> &pads, Y y,
                                                   Scratch scratch, Offsets offsets, X x, const W &w)
{
   using T = typename Y::Element;
   const ConvShape s = conv_transposed_shape(counts, in, kernel, out, strides, dilations, pads);
   ConvPhases<Rows, F, T> phases{f, s, y.data(), scratch.data(), offsets.data(), x.data(), w.panels(), w.bias()};
   conv_each_phase(strides, phases);
}

// Col2Im -------------------------------------------------------------------------------------------

/// a + b; integers wrap.
template <class T>
SOFIE_INLINE T col2im_sum(T a, T b)
{
   if constexpr (std::is_floating_point_v<T>)
      return a + b;
   else
      return static_cast<T>(static_cast<std::make_unsigned_t<T>>(a) + static_cast<std::make_unsigned_t<T>>(b));
}

/// Blocks that are laid over an image of `N` axes.
template <int N>
struct Col2ImShape {
   Sizes<N> image, block, strides, dilations, pads, count;

   SOFIE_INLINE Size points() const { return product(image); }
   SOFIE_INLINE Size taps() const { return product(block); }
   SOFIE_INLINE Size blocks() const { return product(count); }

   static SOFIE_INLINE Size product(const Sizes<N> &s)
   {
      Size total = 1;
      for (int i = 0; i < N; ++i)
         total *= s[i];
      return total;
   }

   /// Where element `tap` of block `number` is in the image, or -1 for one in the padding.
   SOFIE_INLINE Size place(Size tap, Size number) const
   {
      Size place = 0, step = 1;
      for (int i = N - 1; i >= 0; --i) {
         const Size at = number % count[i] * strides[i] + tap % block[i] * dilations[i] - pads[i];
         if (at < 0 || at >= image[i])
            return -1;
         place += at * step;
         step *= image[i];
         number /= count[i];
         tap /= block[i];
      }
      return place;
   }
};

template <int N, class T>
SOFIE_KERNEL void col2im_images(const Col2ImShape<N> &s, T *y, const T *x, Size images)
{
   const Size points = s.points(), taps = s.taps(), blocks = s.blocks();
   for (Size i = 0; i < images; ++i, y += points) {
      for (Size j = 0; j < points; ++j)
         y[j] = T{};
      for (Size tap = 0; tap < taps; ++tap, x += blocks)
         for (Size number = 0; number < blocks; ++number) {
            const Size place = s.place(tap, number);
            if (place >= 0)
               y[place] = col2im_sum(y[place], x[number]);
         }
   }
}

/// y[n, c, ...] = the sum of all elements of blocks x[n, c * taps + tap, number] that lie there.
template <int N, class Y, class X>
SOFIE_INLINE void col2im(Size images, const Sizes<N> &image, const Sizes<N> &block, const Sizes<N> &strides,
                         const Sizes<N> &dilations, const Sizes<N> &pads, const Sizes<N> &count, Y y, X x)
{
   col2im_images(Col2ImShape<N>{image, block, strides, dilations, pads, count}, y.data(), x.data(), images);
}

/// How many blocks fit; throws for what cannot be an image, a block, or their number.
template <int N>
SOFIE_KERNEL void col2im_check(Col2ImShape<N> &s, const Sizes<N> &ends, Size channels, Size blocks)
{
   for (int i = 0; i < N; ++i) {
      const Size reach = s.image[i] + s.pads[i] + ends[i] - (s.block[i] - 1) * s.dilations[i] - 1;
      if (s.image[i] < 0 || s.block[i] < 1 || reach < 0)
         throw std::invalid_argument("Col2Im: a block does not fit into the image");
      s.count[i] = reach / s.strides[i] + 1;
   }
   if (channels % s.taps() != 0 || s.blocks() != blocks)
      throw std::invalid_argument("Col2Im: the input has not the size that image_shape and block_shape say");
}

/// The same where the sizes are data.
template <int N, class T, class X, class I, class B>
SOFIE_KERNEL void runtime_col2im(const Sizes<N> &strides, const Sizes<N> &dilations, const Sizes<N> &pads,
                                 const Sizes<N> &ends, Owned<T, N + 2> &y, X x, I image, B block)
{
   Col2ImShape<N> s{{}, {}, strides, dilations, pads, {}};
   // Far above all that fits into memory, and far below what overflows.
   constexpr std::int64_t most = std::int64_t{1} << 40;
   for (int i = 0; i < N; ++i) {
      if (image.data()[i] > most || block.data()[i] > most)
         throw std::invalid_argument("Col2Im: an image or a block is too large");
      s.image[i] = static_cast<Size>(image.data()[i]);
      s.block[i] = static_cast<Size>(block.data()[i]);
   }
   const Size batch = x.template extent<0>(), channels = x.template extent<1>();
   col2im_check(s, ends, channels, x.template extent<2>());
   Sizes<N + 2> shape;
   shape[0] = batch;
   shape[1] = channels / s.taps();
   for (int i = 0; i < N; ++i)
      shape[i + 2] = s.image[i];
   y.resize(shape);
   col2im_images(s, y.data(), x.data(), batch * shape[1]);
}

} // namespace sofie

SOFIE_END

#endif
