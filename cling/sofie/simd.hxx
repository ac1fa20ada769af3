/// \file
/// Pack<T>: a register of numbers, on the vector extension that g++ and clang share.
///
/// All arithmetic of the kernels is done on packs, tails included, so that an element's result
/// does not depend on where in an array it stands.
#ifndef SOFIE_SIMD_HXX
#define SOFIE_SIMD_HXX

#include "sofie/view.hxx"

SOFIE_BEGIN

namespace sofie {

/// `N` elements of type `T`; bool is held as bytes that are 0 or 1.
template <class T, int N>
struct PackOf {
   typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <int N>
struct PackOf<bool, N> {
   typedef unsigned char type __attribute__((vector_size(N)));
};
template <class T, int N>
using PackN = typename PackOf<T, N>::type;

/// How many elements of type `T` a register holds.
template <class T>
inline constexpr int lanes = SOFIE_SIMD_BYTES / static_cast<int>(sizeof(T));

template <class T>
using Pack = PackN<T, lanes<T>>;

/// The element type of a pack.
template <class V>
using ElementOf = std::decay_t<decltype(std::declval<V>()[0])>;

/// How many elements a pack has.
template <class V>
inline constexpr int width = static_cast<int>(sizeof(V) / sizeof(ElementOf<V>));

/// What a comparison of packs gives: -1 where true, 0 where false, in integers of the same size.
template <class V>
using MaskOf = decltype(std::declval<V>() < std::declval<V>());

/// All elements equal to `value` (written so that -0.0 keeps its sign).
template <class V>
SOFIE_INLINE V splat(ElementOf<V> value)
{
   return value - V{};
}

/// `mask ? yes : no`, element by element.
template <class V>
SOFIE_INLINE V select(MaskOf<V> mask, V yes, V no)
{
   return mask ? yes : no;
}

/// The same bits as another type of the same size.
template <class To, class From>
SOFIE_INLINE To bits(From from)
{
   static_assert(sizeof(To) == sizeof(From), "the bits of a pack are read as a pack of the same size");
   To to;
   __builtin_memcpy(&to, &from, sizeof(To));
   return to;
}

/// The packs in which integers are added: those without a sign, where an overflow is no error but
/// wraps around, as it does in NumPy.
template <class V, class T = ElementOf<V>, bool Signed = std::is_integral_v<T> && std::is_signed_v<T>>
struct WrappingOf {
   using type = V;
};
template <class V, class T>
struct WrappingOf<V, T, true> {
   using type = PackN<std::make_unsigned_t<T>, width<V>>;
};
template <class V>
using Wrapping = typename WrappingOf<V>::type;

template <class V>
SOFIE_INLINE V plus(V a, V b)
{
   return bits<V>(bits<Wrapping<V>>(a) + bits<Wrapping<V>>(b));
}

template <class V>
SOFIE_INLINE V minus(V a, V b)
{
   return bits<V>(bits<Wrapping<V>>(a) - bits<Wrapping<V>>(b));
}

template <class V>
SOFIE_INLINE V times(V a, V b)
{
   return bits<V>(bits<Wrapping<V>>(a) * bits<Wrapping<V>>(b));
}

// g++ contracts nothing within one expression only: FMA is asked for by name.
#if defined(__GNUC__) && !defined(__clang__) && (defined(__FMA__) || defined(__aarch64__) || defined(__FP_FAST_FMAF))
#define SOFIE_FUSED
SOFIE_INLINE float fused(float a, float b, float c)
{
   return __builtin_fmaf(a, b, c);
}
SOFIE_INLINE double fused(double a, double b, double c)
{
   return __builtin_fma(a, b, c);
}

template <class V>
SOFIE_INLINE V fused(V a, V b, V c)
{
#if defined(__AVX512F__)
   if constexpr (std::is_same_v<V, PackN<float, 16>>)
      return __builtin_ia32_vfmaddps512_mask(a, b, c, -1, 4); // all elements; round as the mode says
   if constexpr (std::is_same_v<V, PackN<double, 8>>)
      return __builtin_ia32_vfmaddpd512_mask(a, b, c, 0xff, 4);
#endif
#if defined(__FMA__)
   if constexpr (std::is_same_v<V, PackN<float, 8>>)
      return __builtin_ia32_vfmaddps256(a, b, c);
   if constexpr (std::is_same_v<V, PackN<double, 4>>)
      return __builtin_ia32_vfmaddpd256(a, b, c);
   if constexpr (std::is_same_v<V, PackN<float, 4>>)
      return __builtin_ia32_vfmaddps(a, b, c);
   if constexpr (std::is_same_v<V, PackN<double, 2>>)
      return __builtin_ia32_vfmaddpd(a, b, c);
#elif defined(__aarch64__)
   if constexpr (std::is_same_v<V, PackN<float, 4>>)
      return __builtin_aarch64_fmav4sf(a, b, c);
   if constexpr (std::is_same_v<V, PackN<double, 2>>)
      return __builtin_aarch64_fmav2df(a, b, c);
#endif
   if constexpr (width<V> > 1) {
      using Half = PackN<ElementOf<V>, width<V> / 2>;
      Half halves[3][2];
      __builtin_memcpy(halves[0], &a, sizeof(V));
      __builtin_memcpy(halves[1], &b, sizeof(V));
      __builtin_memcpy(halves[2], &c, sizeof(V));
      for (int i = 0; i < 2; ++i)
         halves[0][i] = fused(halves[0][i], halves[1][i], halves[2][i]);
      __builtin_memcpy(&a, halves[0], sizeof(V));
   } else {
      a[0] = fused(a[0], b[0], c[0]);
   }
   return a;
}
#endif

/// `a * b + c` of packs or numbers, rounded once where the target has FMA. Nothing else is: a product
/// and a sum that are written with `*` and `+` are rounded each, by every compiler (target.hxx).
template <class V>
SOFIE_INLINE V multiply_add(V a, V b, V c)
{
   SOFIE_CONTRACTED
#ifdef SOFIE_FUSED
   return fused(a, b, c);
#else
   return a * b + c;
#endif
}

/// Element-wise conversion; to bool: whether it differs from zero. A number with a fraction becomes
/// an integer towards zero, and where `To` cannot hold that, the integer modulo 2^bits.
template <class To, class V>
SOFIE_INLINE PackN<To, width<V>> convert(V v)
{
   using From = ElementOf<V>;
   if constexpr (std::is_same_v<To, bool>)
      return __builtin_convertvector((v != V{}) & 1, PackN<bool, width<V>>);
   else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To> && sizeof(To) < 4)
      return __builtin_convertvector(__builtin_convertvector(v, PackN<std::int32_t, width<V>>), PackN<To, width<V>>);
   else if constexpr (std::is_floating_point_v<From> && std::is_same_v<To, std::uint32_t>)
      return __builtin_convertvector(__builtin_convertvector(v, PackN<std::int64_t, width<V>>), PackN<To, width<V>>);
   else if constexpr (std::is_floating_point_v<From> && std::is_same_v<To, std::uint64_t>) {
      using Signed = PackN<std::int64_t, width<V>>;
      constexpr From half = static_cast<From>(0x1p63);
      const auto high = __builtin_convertvector(v >= splat<V>(half), Signed);
      const auto low = __builtin_convertvector(select(v >= splat<V>(half), v - splat<V>(half), v), Signed);
      return bits<PackN<To, width<V>>>(low ^ (high << 63));
   } else
      return __builtin_convertvector(v, PackN<To, width<V>>);
}

/// `f` of each element: for functions that are rare enough to leave to the C library.
template <class V, class F>
SOFIE_INLINE V each(V v, F f)
{
   for (int i = 0; i < width<V>; ++i)
      v[i] = f(v[i]);
   return v;
}

/// Both halves of a pack.
template <class V>
struct Halves {
   PackN<ElementOf<V>, width<V> / 2> low, high;

   SOFIE_INLINE explicit Halves(V v) { __builtin_memcpy(static_cast<void *>(this), &v, sizeof(V)); }
};

/// All elements as one: the halves are combined, then the halves of that, and so on.
template <class Combine, class V>
SOFIE_INLINE ElementOf<V> fold_lanes(V v)
{
   if constexpr (width<V> == 1) {
      return v[0];
   } else {
      const Halves<V> halves(v);
      return fold_lanes<Combine>(Combine::combined(halves.low, halves.high));
   }
}

struct SumOfLanes {
   template <class V>
   SOFIE_INLINE static V combined(V a, V b)
   {
      return a + b;
   }
};
/// Of a mask.
struct AnyOfLanes {
   template <class V>
   SOFIE_INLINE static V combined(V a, V b)
   {
      return a | b;
   }
};
struct LargestOfLanes {
   template <class V>
   SOFIE_INLINE static V combined(V a, V b)
   {
      return select((a > b) | (a != a), a, b);
   }
};

/// The sum of all elements, pairwise.
template <class V>
SOFIE_INLINE ElementOf<V> sum_of_lanes(V v)
{
   return fold_lanes<SumOfLanes>(v);
}

/// The largest element; NaN if any is.
template <class V>
SOFIE_INLINE ElementOf<V> largest_of_lanes(V v)
{
   return fold_lanes<LargestOfLanes>(v);
}

/// 0, 1, 2, ... in the integers that comparisons of `V` give.
template <class V>
SOFIE_INLINE MaskOf<V> lane_numbers()
{
   MaskOf<V> number{};
   for (int i = 0; i < width<V>; ++i)
      number[i] = static_cast<ElementOf<MaskOf<V>>>(i);
   return number;
}

/// The mask of assembler for a register of 16 numbers, of which `left` are left.
SOFIE_INLINE Size mask_of_pack(Size left)
{
   return left <= 0 ? 0 : left >= 16 ? 0xffff : (Size{1} << left) - 1;
}

/// Elements of a and then b, by their numbers.
template <class V, int... I>
SOFIE_INLINE V shuffle(V a, V b, std::integer_sequence<int, I...>)
{
#if defined(__clang__)
   return __builtin_shufflevector(a, b, I...);
#else
   return __builtin_shuffle(a, b, MaskOf<V>{I...});
#endif
}

/// Every second element of a and b, beginning with `First`.
template <int First, class V, int... I>
SOFIE_INLINE V every_second(V a, V b, std::integer_sequence<int, I...>)
{
   return shuffle(a, b, std::integer_sequence<int, (2 * I + First)...>());
}
template <int First, class V>
SOFIE_INLINE V every_second(V a, V b)
{
   return every_second<First>(a, b, std::make_integer_sequence<int, width<V>>());
}

/// The elements of a and b in turn, beginning with element `First` of each.
template <int First, class V, int... I>
SOFIE_INLINE V in_turn(V a, V b, std::integer_sequence<int, I...>)
{
   return shuffle(a, b, std::integer_sequence<int, (First + I / 2 + I % 2 * width<V>)...>());
}
template <int First, class V>
SOFIE_INLINE V in_turn(V a, V b)
{
   return in_turn<First>(a, b, std::make_integer_sequence<int, width<V>>());
}

/// Rows i and i + Block of a matrix exchange the blocks that are not on its diagonal.
template <int Block, class V, int... Lane>
SOFIE_INLINE void exchange_blocks(V &a, V &b, std::integer_sequence<int, Lane...>)
{
   constexpr int n = width<V>;
   const V first = shuffle(a, b, std::integer_sequence<int, (Lane & Block ? n + Lane - Block : Lane)...>());
   b = shuffle(a, b, std::integer_sequence<int, (Lane & Block ? n + Lane : Lane + Block)...>());
   a = first;
}

/// Rows become columns.
template <class V, int Block = width<V> / 2>
SOFIE_INLINE void transpose(V (&rows)[static_cast<std::size_t>(width<V>)])
{
   if constexpr (Block > 0) {
   SOFIE_UNROLL_ALL
      for (int i = 0; i < width<V>; ++i)
         if (!(i & Block))
            exchange_blocks<Block>(rows[i], rows[i + Block], std::make_integer_sequence<int, width<V>>());
      transpose<V, Block / 2>(rows);
   }
}

/// `N` elements from memory that need not be aligned.
template <int N, class T>
SOFIE_INLINE PackN<std::remove_const_t<T>, N> load(T *from)
{
   PackN<std::remove_const_t<T>, N> v;
   __builtin_memcpy(&v, from, sizeof(v));
   return v;
}

/// Copies `Bytes`, `Bytes / 2`, ... as the bits of `count` say: a tail without a loop.
template <int Bytes>
SOFIE_INLINE void copy_tail(char *to, const char *from, Size count)
{
   if (count & Bytes) {
      __builtin_memcpy(to, from, Bytes);
      to += Bytes;
      from += Bytes;
   }
   if constexpr (Bytes > 1)
      copy_tail<Bytes / 2>(to, from, count);
}

#ifdef SOFIE_AVX512_ASSEMBLER
#define SOFIE_MASKS
/// Whether the CPU itself loads and stores some elements of such a pack.
template <class V>
inline constexpr bool has_masks = sizeof(V) == 64 && sizeof(ElementOf<V>) >= 4;

template <class V>
SOFIE_INLINE V load_masked(const void *from, Size count)
{
   if constexpr (sizeof(ElementOf<V>) == 8)
      return bits<V>(__builtin_ia32_loadupd512_mask(static_cast<const double *>(from), PackN<double, 8>{},
                                                    static_cast<unsigned char>((1U << count) - 1)));
   else
      return bits<V>(__builtin_ia32_loadups512_mask(static_cast<const float *>(from), PackN<float, 16>{},
                                                    static_cast<unsigned short>((1U << count) - 1)));
}

template <class V>
SOFIE_INLINE void store_masked(void *to, V v, Size count)
{
   if constexpr (sizeof(ElementOf<V>) == 8)
      __builtin_ia32_storeupd512_mask(static_cast<double *>(to), bits<PackN<double, 8>>(v),
                                      static_cast<unsigned char>((1U << count) - 1));
   else
      __builtin_ia32_storeups512_mask(static_cast<float *>(to), bits<PackN<float, 16>>(v),
                                      static_cast<unsigned short>((1U << count) - 1));
}
#endif

/// The first `count` <= N elements; the others are zero.
template <int N, class T>
SOFIE_INLINE PackN<std::remove_const_t<T>, N> load_some(T *from, Size count)
{
   if (count == N)
      return load<N>(from);
#ifdef SOFIE_MASKS
   if constexpr (has_masks<PackN<std::remove_const_t<T>, N>>)
      return load_masked<PackN<std::remove_const_t<T>, N>>(from, count);
#endif
   PackN<std::remove_const_t<T>, N> v{};
   copy_tail<sizeof(v) / 2>(reinterpret_cast<char *>(&v), reinterpret_cast<const char *>(from),
                            count * static_cast<Size>(sizeof(T)));
   return v;
}

/// The same for what is seldom a whole pack, as at the end of a row: without a branch, where the CPU has masks.
template <int N, class T>
SOFIE_INLINE PackN<std::remove_const_t<T>, N> load_rest(T *from, Size count)
{
#ifdef SOFIE_MASKS
   if constexpr (has_masks<PackN<std::remove_const_t<T>, N>>)
      return load_masked<PackN<std::remove_const_t<T>, N>>(from, count);
   else
#endif
      return load_some<N>(from, count);
}

template <class T, class V>
SOFIE_INLINE void store(T *to, V v)
{
   static_assert(sizeof(V) == sizeof(T) * width<V>, "a pack is stored in its own element type");
   __builtin_memcpy(to, &v, sizeof(V));
}

/// The first `count` <= width elements of `v`.
template <class T, class V>
SOFIE_INLINE void store_some(T *to, V v, Size count)
{
   static_assert(sizeof(V) == sizeof(T) * width<V>, "a pack is stored in its own element type");
   if (count == width<V>)
      return store(to, v);
#ifdef SOFIE_MASKS
   if constexpr (has_masks<V>)
      return store_masked(to, v, count);
#endif
   char buffer[sizeof(V)];
   __builtin_memcpy(buffer, &v, sizeof(V));
   copy_tail<sizeof(V) / 2>(reinterpret_cast<char *>(to), buffer, count * static_cast<Size>(sizeof(T)));
}

/// The same for what is seldom all of it.
template <class T, class V>
SOFIE_INLINE void store_rest(T *to, V v, Size count)
{
#ifdef SOFIE_MASKS
   if constexpr (has_masks<V>)
      store_masked(to, v, count);
   else
#endif
      store_some(to, v, count);
}

/// y = packs(x) for `count` numbers, where `packs(y, x, number of packs)` is for whole packs. y may be x.
template <class T, class Packs>
SOFIE_INLINE void in_whole_packs(T *y, const T *x, Size count, const Packs &packs)
{
   constexpr int n = lanes<T>;
   packs(y, x, count / n);
   if (const Size done = count / n * n; done < count) {
      alignas(64) T some[static_cast<std::size_t>(n)];
      store(some, load_some<n>(x + done, count - done));
      packs(some, some, 1);
      store_some(y + done, load<n>(some), count - done);
   }
}

/// Ends a step of a tile: loads of later steps stay behind it. clang for aarch64 would do the loads of all steps of a
/// block first, for which there are not enough registers. For x86 it would finish one chain of a single pack before it
/// begins the next.
template <class V, std::size_t Rows, std::size_t Packs>
SOFIE_INLINE void end_step([[maybe_unused]] V (&sums)[Rows][Packs])
{
#if defined(SOFIE_CLANG) && defined(__aarch64__)
   SOFIE_UNROLL_ALL
   for (std::size_t r = 0; r < Rows; ++r)
      SOFIE_UNROLL_ALL
      for (std::size_t j = 0; j < Packs; ++j)
         asm volatile("" : "+w"(sums[r][j]) : : "memory");
#elif defined(SOFIE_CLANG) && defined(SOFIE_X86)
   if constexpr (Rows * Packs == 1)
      asm volatile("" : "+x"(sums[0][0]));
#endif
}

} // namespace sofie

SOFIE_END

#endif
