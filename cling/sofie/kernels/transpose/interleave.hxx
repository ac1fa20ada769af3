/// \file
/// Two or three elements that take turns, as images have their colours: taken apart, and put together.
#ifndef SOFIE_KERNELS_TRANSPOSE_INTERLEAVE_HXX
#define SOFIE_KERNELS_TRANSPOSE_INTERLEAVE_HXX

#include "sofie/kernels/transpose/any_size.hxx"

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

/// How many elements of so many bytes are shuffled together: smaller ones within 16 bytes, as AVX2 has no other way.
template <int Bytes>
inline constexpr int turn_lanes = Bytes < 4 ? 16 / Bytes : lanes<Moved<Bytes>>;

/// K packs, `from_step` apart, to places that are `to_step` apart.
template <int Bytes, int K, bool Apart>
SOFIE_INLINE void transpose_packs(Moved<Bytes> *to, Size to_step, const Moved<Bytes> *from, Size from_step)
{
   constexpr int n = turn_lanes<Bytes>;
   constexpr auto each = std::make_integer_sequence<int, n>();
   PackN<Moved<Bytes>, n> packs[K];
   SOFIE_UNROLL_ALL
   for (int k = 0; k < K; ++k)
      packs[k] = load<n>(from + k * from_step);
   store(to, turned_pack<K, Apart, 0>(packs, each));
   store(to + to_step, turned_pack<K, Apart, 1>(packs, each));
   if constexpr (K == 3)
      store(to + 2 * to_step, turned_pack<K, Apart, 2>(packs, each));
}

/// Apart: to[k * apart + i] = from[K * i + k]; else to[K * i + k] = from[k * apart + i]. At least a pack of each.
template <int Bytes, int K, bool Apart>
SOFIE_KERNEL void take_turns(char *written, const char *read, Size apart, Size count)
{
   constexpr Size n = turn_lanes<Bytes>;
   auto *const to = reinterpret_cast<Moved<Bytes> *>(written);
   const auto *const from = reinterpret_cast<const Moved<Bytes> *>(read);
   for (Size i = 0; i < count; i += n) {
      // The last packs once more with elements that are there already.
      const Size at = i + n > count ? count - n : i;
      if constexpr (Apart)
         transpose_packs<Bytes, K, true>(to + at, apart, from + K * at, n);
      else
         transpose_packs<Bytes, K, false>(to + K * at, n, from + at, apart);
   }
}

/// Planes of which K rows or columns take turns; whether they do.
template <int Bytes, int K>
SOFIE_INLINE bool transpose_in_turn(const TransposedPlanes &all)
{
   constexpr Size least = turn_lanes<Bytes>;
   const bool apart = all.columns == K && all.from_step == K * Bytes && all.rows >= least;
   const bool joined = all.rows == K && all.to_step == K * Bytes && all.columns >= least;
   for (Size p = 0; (apart || joined) && p < all.planes; ++p) {
      char *const to = all.to + p * all.to_plane;
      const char *const from = all.from + p * all.from_plane;
      if (apart)
         take_turns<Bytes, K, true>(to, from, all.to_step / Bytes, all.rows);
      else
         take_turns<Bytes, K, false>(to, from, all.from_step / Bytes, all.columns);
   }
   return apart || joined;
}

} // namespace sofie

SOFIE_END

#endif
