/// \file
/// Two or three numbers of 4 bytes that take turns, as images have their colours: taken apart, and put together.
#ifndef SOFIE_KERNELS_TRANSPOSE_INTERLEAVE_HXX
#define SOFIE_KERNELS_TRANSPOSE_INTERLEAVE_HXX

#include "sofie/simd.hxx"

SOFIE_BEGIN

namespace sofie {

/// Which element, counted through K packs of N, lane `lane` of pack `pack` of the result is: of every K-th one, or of
/// those of all packs in turn.
template <int K, bool Apart, int N>
constexpr int transpose_number(int pack, int lane)
{
   return Apart ? pack + K * lane : (pack * N + lane) % K * N + (pack * N + lane) / K;
}

/// Pack `Which` of the result.
template <int K, bool Apart, int Which, class V, int... I>
SOFIE_INLINE V turned_pack(const V *packs, std::integer_sequence<int, I...>)
{
   constexpr int n = width<V>;
   if constexpr (K == 2) {
      return shuffle(packs[0], packs[1], std::integer_sequence<int, transpose_number<K, Apart, n>(Which, I)...>());
   } else {
      using Two = std::integer_sequence<
         int, (transpose_number<K, Apart, n>(Which, I) < 2 * n ? transpose_number<K, Apart, n>(Which, I) : 0)...>;
      using All = std::integer_sequence<
         int, (transpose_number<K, Apart, n>(Which, I) < 2 * n ? I : transpose_number<K, Apart, n>(Which, I) - n)...>;
      return shuffle(shuffle(packs[0], packs[1], Two()), packs[2], All());
   }
}

/// K packs, `from_step` apart, to places that are `to_step` apart.
template <int K, bool Apart>
SOFIE_INLINE void transpose_packs(float *to, Size to_step, const float *from, Size from_step)
{
   constexpr int n = lanes<float>;
   constexpr auto each = std::make_integer_sequence<int, n>();
   Pack<float> packs[K];
   SOFIE_UNROLL_ALL
   for (int k = 0; k < K; ++k)
      packs[k] = load<n>(from + k * from_step);
   store(to, turned_pack<K, Apart, 0>(packs, each));
   store(to + to_step, turned_pack<K, Apart, 1>(packs, each));
   if constexpr (K == 3)
      store(to + 2 * to_step, turned_pack<K, Apart, 2>(packs, each));
}

/// Apart: to[k * apart + i] = from[K * i + k]; else to[K * i + k] = from[k * apart + i]. At least a pack of each.
template <int K, bool Apart>
SOFIE_KERNEL void take_turns(float *to, const float *from, Size apart, Size count)
{
   constexpr Size n = lanes<float>;
   for (Size i = 0; i < count; i += n) {
      // The last packs once more with numbers that are there already.
      const Size at = i + n > count ? count - n : i;
      if constexpr (Apart)
         transpose_packs<K, true>(to + at, apart, from + K * at, n);
      else
         transpose_packs<K, false>(to + K * at, n, from + at, apart);
   }
}

} // namespace sofie

SOFIE_END

#endif
