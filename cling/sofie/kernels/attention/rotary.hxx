/// \file
/// RotaryEmbedding: pairs of numbers, turned by an angle that depends on their place.
#ifndef SOFIE_KERNELS_ATTENTION_ROTARY_HXX
#define SOFIE_KERNELS_ATTENTION_ROTARY_HXX

#include "sofie/simd.hxx"

SOFIE_BEGIN

namespace sofie {

/// (a, b) -> (a cos - b sin, a sin + b cos) for `half` pairs, which are neighbours or half apart.
template <bool Interleaved, class T>
SOFIE_INLINE void rotate(T *__restrict y, const T *__restrict x, const T *__restrict cosine, const T *__restrict sine,
                         Size half)
{
   constexpr int n = lanes<T>;
   if constexpr (Interleaved) {
      for (Size i = 0; i < half; ++i) {
         const T a = x[2 * i], b = x[2 * i + 1];
         y[2 * i] = multiply_add(a, cosine[i], -b * sine[i]);
         y[2 * i + 1] = multiply_add(a, sine[i], b * cosine[i]);
      }
   } else {
      for (Size i = 0; i < half; i += n) {
         const Size count = half - i < n ? half - i : n;
         const Pack<T> a = load_some<n>(x + i, count), b = load_some<n>(x + half + i, count);
         const Pack<T> c = load_some<n>(cosine + i, count), s = load_some<n>(sine + i, count);
         store_some(y + i, multiply_add(a, c, -b * s), count);
         store_some(y + half + i, multiply_add(a, s, b * c), count);
      }
   }
}

/// x is [batch, middle, inner, size], where the time is the middle axis or the inner one.
struct RotaryShape {
   Size batch, middle, inner, size, half, angles;
};

/// The row of angles of a time: its own one, or that of its place.
SOFIE_INLINE Size angle_row(const std::int64_t *places, Size time, Size angles)
{
   if (!places)
      return time;
   if (places[time] < 0 || places[time] >= angles)
      throw std::out_of_range("RotaryEmbedding: position_ids names a row that the caches do not have");
   return static_cast<Size>(places[time]);
}

template <bool Interleaved, class T>
SOFIE_KERNEL void rotate_all(T *y, const T *x, const T *cosine, const T *sine, const std::int64_t *places,
                             const RotaryShape &shape, bool time_first)
{
   for (Size b = 0; b < shape.batch; ++b)
      for (Size i = 0; i < shape.middle; ++i)
         for (Size j = 0; j < shape.inner; ++j, x += shape.size, y += shape.size) {
            const Size time = time_first ? b * shape.middle + i : b * shape.inner + j;
            const Size row = angle_row(places, time, shape.angles) * shape.half;
            rotate<Interleaved>(y, x, cosine + row, sine + row, shape.half);
            for (Size d = 2 * shape.half; d < shape.size; ++d)
               y[d] = x[d];
         }
}

SOFIE_INLINE const std::int64_t *places_of()
{
   return nullptr;
}
template <class P>
SOFIE_INLINE const std::int64_t *places_of(const P &places)
{
   return places.data();
}

/// Angles are rows of `cosine` and `sine`: one for each time, or those that `places` names.
template <bool Interleaved, bool TimeFirst, class Y, class X, class C, class S, class... P>
SOFIE_INLINE void rotary_embedding(Y y, X x, C cosine, S sine, P... places)
{
   const RotaryShape shape{x.template extent<0>(), x.template extent<1>(),      x.template extent<2>(),
                           x.template extent<3>(), cosine.template extent<1>(), cosine.template extent<0>()};
   rotate_all<Interleaved, typename Y::Element>(y.data(), x.data(), cosine.data(), sine.data(), places_of(places...),
                                                shape, TimeFirst);
}

} // namespace sofie

SOFIE_END

#endif
