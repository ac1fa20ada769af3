/// \file
/// Sums (or products) up to each element along one axis.
#ifndef SOFIE_KERNELS_REDUCTION_SCANS_HXX
#define SOFIE_KERNELS_REDUCTION_SCANS_HXX

#include "sofie/kernels/reduction.hxx"
#include "sofie/kernels/transpose/blocks.hxx"

SOFIE_BEGIN

namespace sofie {

/// In what numbers of type `T` is added up: floats as double.
template <class T>
using Scanned = std::conditional_t<std::is_same_v<T, float>, double, T>;

/// So many packs of columns are added up side by side.
inline constexpr int scan_packs = 8;

/// Sums (or products) along an axis whose neighbours are `inner` apart, in `used` columns side by side.
template <class C, class V, class T>
SOFIE_INLINE void scan_columns(T *y, const T *x, Size n, Size inner, Size used, bool exclusive, bool reverse)
{
   constexpr int w = width<V>;
   using A = ElementOf<V>;
   alignas(64) A totals[scan_packs * w];
   const Size packs = (used + w - 1) / w;
   for (Size p = 0; p < packs; ++p)
      store(totals + p * w, splat<V>(C::template identity<A>()));
   for (Size step = 0; step < n; ++step) {
      const Size at = (reverse ? n - 1 - step : step) * inner;
      for (Size p = 0; p < packs; ++p) {
         const Size j = at + p * w, some = used - p * w < w ? used - p * w : w;
         const V total = load<w>(totals + p * w);
         const V next = C::combined(total, convert<A>(load_some<w>(x + j, some)));
         store_some(y + j, convert<T>(exclusive ? total : next), some);
         store(totals + p * w, next);
      }
   }
}

/// The same for as many columns as are done together: whole packs, and nothing that depends on anything.
template <class C, class V, class T>
SOFIE_INLINE void scan_whole_columns(T *y, const T *x, Size n, Size inner, bool exclusive, bool reverse)
{
   constexpr int w = width<V>;
   using A = ElementOf<V>;
   alignas(64) A totals[scan_packs * w];
   for (int p = 0; p < scan_packs; ++p)
      store(totals + p * w, splat<V>(C::template identity<A>()));
   for (Size step = 0; step < n; ++step) {
      const Size at = (reverse ? n - 1 - step : step) * inner;
      if (exclusive) {
   SOFIE_UNROLL_ALL
         for (int p = 0; p < scan_packs; ++p) {
            const V total = load<w>(totals + p * w);
            store(totals + p * w, C::combined(total, convert<A>(load<w>(x + at + p * w))));
            store(y + at + p * w, convert<T>(total));
         }
      } else {
         SOFIE_UNROLL_ALL
         for (int p = 0; p < scan_packs; ++p) {
            const V next = C::combined(load<w>(totals + p * w), convert<A>(load<w>(x + at + p * w)));
            store(totals + p * w, next);
            store(y + at + p * w, convert<T>(next));
         }
      }
   }
}

/// What is scanned: `n` elements, each `step` elements behind the one before. In both directions, and with or
/// without an element itself, that is y[i] = total of x[0], ..., x[i] from some `x` and `y` on.
template <class T>
struct Scan {
   T *y;
   const T *x;
   Size n, step;

   /// `inner` vectors side by side; what is behind each element if `reverse`. Without itself (`exclusive`) each
   /// result belongs to the next element, and that of no elements to the first one.
   template <class C>
   SOFIE_INLINE static Scan of(T *to, const T *from, Size n, Size inner, bool exclusive, bool reverse)
   {
      Scan scan{reverse ? to + (n - 1) * inner : to, reverse ? from + (n - 1) * inner : from, n,
                reverse ? -inner : inner};
      if (exclusive) {
         for (Size j = 0; j < inner; ++j)
            scan.y[j] = C::template identity<T>();
         scan.y += scan.step;
         --scan.n;
      }
      return scan;
   }
};

/// One more element of one vector.
template <class C, class T, class V>
SOFIE_INLINE V scan_element(T *y, const T *x, V total)
{
   const V next = C::combined(total, V{static_cast<Scanned<T>>(*x)});
   *y = static_cast<T>(next[0]);
   return next;
}

/// Many short vectors of numbers that are not rounded in between: each element of all of them in turn, so that no sum
/// waits for the one before it.
inline constexpr Size short_scan = 16, many_scans = 8;
template <class C, class T>
SOFIE_KERNEL void scan_short(T *to, const T *from, Size outer, Size n, bool exclusive, bool reverse)
{
   using V = PackN<T, 1>;
   constexpr Size together = 8, at_once = 64;
   const Size step = reverse ? -1 : 1, first = reverse ? n - 1 : 0, shift = exclusive ? step : 0;
   const T none = C::template identity<T>();
   for (Size begin = 0; begin < outer; begin += at_once) {
      const Size end = outer - begin < at_once ? outer : begin + at_once;
      for (Size o = begin; o < end; ++o)
         to[o * n + first] = exclusive ? none : C::combined(V{none}, V{from[o * n + first]})[0];
      for (Size i = 1; i < n; ++i) {
         T *y = to + begin * n + first + i * step;
         const T *x = from + begin * n + first + i * step - shift;
         Size left = end - begin;
         for (; left >= together; left -= together, x += together * n, y += together * n) {
            SOFIE_UNROLL_ALL
            for (Size o = 0; o < together; ++o)
               y[o * n] = C::combined(V{y[o * n - step]}, V{x[o * n]})[0];
         }
         for (; left > 0; --left, x += n, y += n)
            *y = C::combined(V{*(y - step)}, V{*x})[0];
      }
   }
}

/// `outer` vectors, one behind the other.
template <class C, class T>
SOFIE_KERNEL void scan_one_by_one(T *to, const T *from, Size outer, Size n, bool exclusive, bool reverse)
{
   using V = PackN<Scanned<T>, 1>;
   constexpr Size together = 8;
   for (Size o = 0; o < outer; ++o, to += n, from += n) {
      const Scan<T> scan = Scan<T>::template of<C>(to, from, n, 1, exclusive, reverse);
      V total{C::template identity<Scanned<T>>()};
      T *y = scan.y;
      const T *x = scan.x;
      const Size step = scan.step;
      Size left = scan.n;
      for (; left >= together; left -= together) {
         SOFIE_UNROLL_ALL
         for (Size i = 0; i < together; ++i)
            total = scan_element<C>(y + i * step, x + i * step, total);
         x += together * step;
         y += together * step;
      }
      for (; left > 0; --left, x += step, y += step)
         total = scan_element<C>(y, x, total);
   }
}

#ifdef SOFIE_TRANSPOSE_ASSEMBLER
/// Whether the columns of such a scan are added up in assembler.
template <class C, class T>
inline constexpr bool has_scan_lanes = std::is_same_v<C, Total> && (sizeof(T) == 4 || sizeof(T) == 8);

// clang-format off
#define SOFIE_SCAN_FLOATS(a, k)                                                                                    \
   "vcvtps2pd " #a "*32(%[x]), %%zmm1" #a "%{%%k" #k "%}%{z%}\n\t"                                                   \
   "vaddpd %%zmm1" #a ", %%zmm" #a ", %%zmm" #a "\n\t"                                                               \
   "vcvtpd2ps %%zmm" #a ", %%ymm1" #a "\n\t"                                                                         \
   "vmovups %%ymm1" #a ", " #a "*32(%[y])%{%%k" #k "%}\n\t"
#define SOFIE_SCAN_OTHERS(move, add, a, k)                                                                         \
   move " " #a "*64(%[x]), %%zmm1" #a "%{%%k" #k "%}%{z%}\n\t"                                                       \
   add " %%zmm1" #a ", %%zmm" #a ", %%zmm" #a "\n\t"                                                                 \
   move " %%zmm" #a ", " #a "*64(%[y])%{%%k" #k "%}\n\t"
#define SOFIE_SCAN_DOUBLES(a, k) SOFIE_SCAN_OTHERS("vmovupd", "vaddpd", a, k)
#define SOFIE_SCAN_INTS(a, k) SOFIE_SCAN_OTHERS("vmovups", "vpaddd", a, k)
#define SOFIE_SCAN_LONGS(a, k) SOFIE_SCAN_OTHERS("vmovupd", "vpaddq", a, k)
#define SOFIE_SCAN_1(each) each(0, 1)
#define SOFIE_SCAN_2(each) SOFIE_SCAN_1(each) each(1, 2)
#define SOFIE_SCAN_4(each) SOFIE_SCAN_2(each) each(2, 3) each(3, 4)
#define SOFIE_SCAN_ROWS(packs, each)                                                                               \
   asm volatile("kmovw (%[masks]), %%k1\n\t"                                                                         \
                "kmovw 2(%[masks]), %%k2\n\t"                                                                        \
                "kmovw 4(%[masks]), %%k3\n\t"                                                                        \
                "kmovw 6(%[masks]), %%k4\n\t"                                                                        \
                "vpxord %%zmm0, %%zmm0, %%zmm0\n\t"                                                                  \
                "vpxord %%zmm1, %%zmm1, %%zmm1\n\t"                                                                  \
                "vpxord %%zmm2, %%zmm2, %%zmm2\n\t"                                                                  \
                "vpxord %%zmm3, %%zmm3, %%zmm3\n\t"                                                                  \
                ".p2align 5\n"                                                                                       \
                "1:\n\t"                                                                                             \
                packs(each)                                                                                        \
                "add %[step], %[x]\n\t"                                                                              \
                "add %[step], %[y]\n\t"                                                                              \
                "dec %[n]\n\t"                                                                                       \
                "jnz 1b\n\t"                                                                                         \
                : [x] "+&r"(x), [y] "+&r"(y), [n] "+&r"(n)                                                         \
                : [step] "r"(step), [masks] "r"(masks)                                                             \
                : "memory", "cc", "k1", "k2", "k3", "k4", "xmm0", "xmm1", "xmm2", "xmm3", "xmm10", "xmm11",        \
                  "xmm12", "xmm13")
#define SOFIE_SCAN_PACKS(each)                                                                                     \
   do {                                                                                                            \
      if (packs == 1)                                                                                              \
         SOFIE_SCAN_ROWS(SOFIE_SCAN_1, each);                                                                      \
      else if (packs == 2)                                                                                         \
         SOFIE_SCAN_ROWS(SOFIE_SCAN_2, each);                                                                      \
      else                                                                                                         \
         SOFIE_SCAN_ROWS(SOFIE_SCAN_4, each);                                                                      \
   } while (false)
// clang-format on

/// Up to 4 packs of columns, in registers from the first row to the last.
template <class T>
SOFIE_KERNEL void scan_lanes(T *y, const T *x, Size n, Size step, Size columns)
{
   constexpr Size width = lanes<Scanned<T>>;
   const Size packs = (columns + width - 1) / width;
   unsigned short masks[4];
   for (Size p = 0; p < 4; ++p) {
      const Size some = columns - p * width;
      masks[p] = static_cast<unsigned short>((Size{1} << (some < 0 ? 0 : some < width ? some : width)) - 1);
   }
   step *= static_cast<Size>(sizeof(T));
   if (n <= 0)
      return;
   if constexpr (std::is_same_v<T, float>)
      SOFIE_SCAN_PACKS(SOFIE_SCAN_FLOATS);
   else if constexpr (std::is_same_v<T, double>)
      SOFIE_SCAN_PACKS(SOFIE_SCAN_DOUBLES);
   else if constexpr (sizeof(T) == 4)
      SOFIE_SCAN_PACKS(SOFIE_SCAN_INTS);
   else
      SOFIE_SCAN_PACKS(SOFIE_SCAN_LONGS);
}
#endif

/// Vectors that lie side by side.
template <class C, class T>
SOFIE_INLINE void scan_side_by_side(T *y, const T *x, Size n, Size inner, bool exclusive, bool reverse)
{
   using A = Scanned<T>;
   constexpr Size w = lanes<A>;
#ifdef SOFIE_TRANSPOSE_ASSEMBLER
   if constexpr (has_scan_lanes<C, T>) {
      const Scan<T> scan = Scan<T>::template of<C>(y, x, n, inner, exclusive, reverse);
      for (Size j = 0; j < inner; j += 4 * w)
         scan_lanes(scan.y + j, scan.x + j, scan.n, scan.step, inner - j < 4 * w ? inner - j : 4 * w);
      return;
   }
#endif
   for (Size j = 0; j < inner; j += scan_packs * w) {
      const Size used = inner - j < scan_packs * w ? inner - j : scan_packs * w;
      if (used == scan_packs * w)
         scan_whole_columns<C, Pack<A>>(y + j, x + j, n, inner, exclusive, reverse);
      else
         scan_columns<C, Pack<A>>(y + j, x + j, n, inner, used, exclusive, reverse);
   }
}

#ifdef SOFIE_TRANSPOSE_ASSEMBLER
/// So many vectors at least are turned into lanes.
inline constexpr Size least_transposed_scans = 5;

/// Up to 16 vectors of numbers of 4 bytes, each of which is a row: they change places with the columns, are lanes of
/// packs while they are added up, in the order of a single one, and change places again.
template <class C, class T>
SOFIE_KERNEL void scan_transposed(T *y, const T *x, Size rows, Size n, bool exclusive, bool reverse)
{
   constexpr Size side = 16, bytes = 4;
   using V = PackN<Scanned<T>, side>;
   alignas(64) float turned[side * side];
   T *const numbers = reinterpret_cast<T *>(turned);
   const Size shift = exclusive ? reverse ? -1 : 1 : 0, first = reverse ? n - 1 : 0;
   V total = splat<V>(C::template identity<Scanned<T>>());
   for (Size r = 0; exclusive && r < rows; ++r)
      y[r * n + first] = C::template identity<T>();
   const Size count = exclusive ? n - 1 : n;
   for (Size done = 0; done < count; done += side) {
      const Size some = count - done < side ? count - done : side;
      const Size at = reverse ? n - done - some : done, mask = (Size{1} << some) - 1;
      transpose_block({turned, side * bytes, side, 0xffff}, {reinterpret_cast<const float *>(x + at), n * bytes, rows, mask});
      T *line = numbers + (reverse ? some - 1 : 0) * side;
      const Size next = reverse ? -side : side;
      SOFIE_UNROLL(4)
      for (Size i = 0; i < some; ++i) {
         total = C::combined(total, convert<Scanned<T>>(load<side>(line)));
         store(line, convert<T>(total));
         line += next;
      }
      transpose_block({reinterpret_cast<const float *>(y + at + shift), n * bytes, rows, mask},
                 {turned, side * bytes, side, 0xffff});
   }
}
#endif

/// Sums (or products) up to each element, behind it if `reverse`, without itself if `exclusive`. Those of float are
/// computed as double.
template <class C, class T>
SOFIE_KERNEL void scan_vectors(T *y, const T *x, Size outer, Size n, Size inner, bool exclusive, bool reverse)
{
   if (n == 0)
      return;
   if constexpr (std::is_same_v<T, Scanned<T>>)
      if (inner == 1 && n <= short_scan && outer >= many_scans)
         return scan_short<C>(y, x, outer, n, exclusive, reverse);
#ifdef SOFIE_TRANSPOSE_ASSEMBLER
   if constexpr (sizeof(T) == 4) {
      constexpr Size side = 16;
      while (inner == 1 && outer >= least_transposed_scans) {
         const Size rows = outer < side ? outer : side;
         scan_transposed<C>(y, x, rows, n, exclusive, reverse);
         outer -= rows;
         x += rows * n;
         y += rows * n;
      }
   }
#endif
   if (inner == 1)
      return scan_one_by_one<C>(y, x, outer, n, exclusive, reverse);
   for (Size o = 0; o < outer; ++o)
      scan_side_by_side<C>(y + o * n * inner, x + o * n * inner, n, inner, exclusive, reverse);
}

template <class C, class Y, class X>
SOFIE_INLINE void scan(Y y, X x, Size exclusive, Size reverse)
{
   scan_vectors<C>(y.data(), x.data(), x.template extent<0>(), x.template extent<1>(), x.template extent<2>(),
                   exclusive != 0, reverse != 0);
}

/// The same along an axis that is known at run time.
template <class C, class Y, class X, class A, int Rank>
SOFIE_INLINE void scan_runtime(Y y, X x, A axis, const Sizes<Rank> &shape, Size exclusive, Size reverse)
{
   const Size given = static_cast<Size>(axis.data()[0]);
   const Size at = given < 0 ? given + Rank : given;
   if (at < 0 || at >= Rank)
      throw std::out_of_range("a sum along an axis that does not exist");
   Size outer = 1, inner = 1;
   for (Size a = 0; a < Rank; ++a)
      (a < at ? outer : inner) *= a == at ? 1 : shape[a];
   scan_vectors<C>(y.data(), x.data(), outer, shape[at], inner, exclusive != 0, reverse != 0);
}

} // namespace sofie

SOFIE_END

#endif
