/// \file
/// The largest few elements of many rows or columns: a lane for each, so that little depends on the data.
///
/// Each place of the sorted list is a pack of keys and one of positions; from an element on that is
/// larger than what is there, all others move down. Keys are integers, in which NaN and -0 have their
/// places, and of equal elements the first stays in front.
#ifndef SOFIE_KERNELS_SELECTION_TOP_LANES_HXX
#define SOFIE_KERNELS_SELECTION_TOP_LANES_HXX

#include "sofie/simd.hxx"

SOFIE_BEGIN

namespace sofie {

/// How many elements are selected at most; more than `top_lanes_some` only of rows that are short.
inline constexpr Size top_lanes_most = 128, top_lanes_some = 64, top_lanes_short = 256;

/// Whether k of n elements are selected like that.
SOFIE_INLINE bool is_for_top_lanes(Size k, Size n)
{
   return k <= (n <= top_lanes_short ? top_lanes_most : top_lanes_some) && n < 0x7fffffff;
}

/// The types of which packs are compared as integers of 32 bits.
template <class T>
inline constexpr bool has_top_lanes = std::is_same_v<T, float> || std::is_same_v<T, std::int32_t>;

/// Integers in the order of the elements: 0 and -0 are equal, and NaN is the largest.
template <bool Largest, class T>
SOFIE_INLINE Pack<std::int32_t> lane_keys(Pack<T> x)
{
   using I = Pack<std::int32_t>;
   if constexpr (std::is_same_v<T, float>) {
      const I u = bits<I>(x + Pack<T>{});
      const I ordered = select<I>(x != x, splat<I>(0x7fffffff), u ^ ((u >> 31) & 0x7fffffff));
      return Largest ? ordered : ~ordered;
   } else {
      return Largest ? x : ~x;
   }
}

/// The sorted lists of as many rows as a pack has lanes.
struct TopLists {
   using I = Pack<std::int32_t>;
   static constexpr int w = width<I>;
   alignas(64) std::int32_t keys[top_lanes_most * w], places[top_lanes_most * w];

   /// Elements `place` of all rows; those in front of it and at most `k` are in the lists.
   SOFIE_INLINE void insert(const I key, std::int32_t place, Size k)
   {
      const Size there = place < k ? place : k;
      // What moves down: the new element, from where that is larger on the one before.
      I down = key, at = splat<I>(place);
#ifdef SOFIE_AVX512_ASSEMBLER
      // The loop below: Cling takes three times as long for it.
      const std::int32_t *old = keys;
      const std::int32_t *const last = keys + (k - 1) * w;
      Size left = there;
      asm volatile("test %[left], %[left]\n\t"
                   "jle 2f\n\t"
                   // Nothing where no row has a larger one than the last of its full list.
                   "cmp %[k], %[left]\n\t"
                   "jl 1f\n\t"
                   "vpcmpgtd (%[last]), %[key], %%k1\n\t"
                   "kortestw %%k1, %%k1\n\t"
                   "jz 2f\n"
                   "1:\n\t"
                   "vmovdqa32 (%[old]), %%zmm30\n\t"
                   "vmovdqa32 %c[places](%[old]), %%zmm31\n\t"
                   "vpcmpgtd %%zmm30, %[key], %%k1\n\t"
                   "vpblendmd %[down], %%zmm30, %%zmm28%{%%k1%}\n\t"
                   "vpblendmd %[at], %%zmm31, %%zmm29%{%%k1%}\n\t"
                   "vmovdqa32 %%zmm30, %[down]%{%%k1%}\n\t"
                   "vmovdqa32 %%zmm31, %[at]%{%%k1%}\n\t"
                   "vmovdqa32 %%zmm28, (%[old])\n\t"
                   "vmovdqa32 %%zmm29, %c[places](%[old])\n\t"
                   "add $64, %[old]\n\t"
                   "dec %[left]\n\t"
                   "jnz 1b\n"
                   "2:\n\t"
                   : [old] "+&r"(old), [left] "+&r"(left), [down] "+&v"(down), [at] "+&v"(at)
                   : [key] "v"(key), [places] "i"(sizeof(keys)), [k] "r"(k), [last] "r"(last)
                   : "memory", "cc", "k1", "xmm28", "xmm29", "xmm30", "xmm31");
#else
      SOFIE_UNROLL(4)
      for (Size r = 0; r < there; ++r) {
         const I old_key = load<w>(keys + r * w), old_at = load<w>(places + r * w);
         const MaskOf<I> larger = key > old_key;
         store(keys + r * w, select<I>(larger, down, old_key));
         store(places + r * w, select<I>(larger, at, old_at));
         down = select<I>(larger, old_key, down);
         at = select<I>(larger, old_at, at);
      }
#endif
      if (there < k) {
         store(keys + there * w, down);
         store(places + there * w, at);
      }
   }
};

/// The lists of `rows` <= lanes rows of `n` elements. The last row stands in for those beyond.
template <bool Largest, class T>
SOFIE_INLINE void fill_top_lists(TopLists &lists, const T *x, Size rows, Size n, Size k)
{
   constexpr int w = lanes<T>;
   Pack<std::int32_t> block[static_cast<std::size_t>(w)];
   for (Size first = 0; first < n; first += w) {
      const Size count = n - first < w ? n - first : w;
      for (int r = 0; r < w; ++r)
         block[r] = lane_keys<Largest, T>(load_some<w>(x + (r < rows ? r : rows - 1) * n + first, count));
      transpose(block);
      for (int i = 0; i < count; ++i)
         lists.insert(block[i], static_cast<std::int32_t>(first) + i, k);
   }
}

/// The first `k` of each of `outer` rows, their elements and their places where somebody wants them.
template <bool Largest, class T>
SOFIE_KERNEL void top_of_rows(T *values, std::int64_t *indices, const T *x, Size outer, Size n, Size k)
{
   constexpr int w = lanes<T>;
   TopLists lists;
   for (Size first = 0; first < outer; first += w, x += w * n) {
      const Size rows = outer - first < w ? outer - first : w;
      fill_top_lists<Largest>(lists, x, rows, n, k);
      for (Size row = 0; row < rows; ++row) {
         for (Size r = 0; r < k; ++r) {
            const Size at = lists.places[r * w + row];
            *values++ = x[row * n + at];
            if (indices)
               *indices++ = at;
         }
      }
   }
}

/// The same along the middle one of three axes, a lane for each place along the last one.
template <bool Largest, class T>
SOFIE_KERNEL void top_of_columns(T *values, std::int64_t *indices, const T *x, const Sizes<3> &sizes, Size k)
{
   constexpr int w = lanes<T>;
   const Size n = sizes[1], inner = sizes[2];
   TopLists lists;
   for (Size o = 0; o < sizes[0]; ++o)
      for (Size first = 0; first < inner; first += w) {
         const Size count = inner - first < w ? inner - first : w, to = o * k * inner + first;
         const T *const from = x + o * n * inner + first;
         for (Size i = 0; i < n; ++i)
            lists.insert(lane_keys<Largest, T>(load_some<w>(from + i * inner, count)), static_cast<std::int32_t>(i), k);
         for (Size r = 0; r < k; ++r)
            for (Size lane = 0; lane < count; ++lane) {
               const Size at = lists.places[r * w + lane];
               values[to + r * inner + lane] = from[at * inner + lane];
               if (indices)
                  indices[to + r * inner + lane] = at;
            }
      }
}

} // namespace sofie

SOFIE_END

#endif
