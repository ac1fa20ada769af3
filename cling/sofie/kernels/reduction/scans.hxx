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

/// So many packs of columns are added up side by side at most.
inline constexpr int scan_packs = 8;

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

/// Sums (or products) in `Packs` packs of columns side by side, or in `used` columns, less than a pack, if that is 0.
template <int Packs, class C, class T>
SOFIE_KERNEL void scan_columns(const Scan<T> &scan, Size used)
{
   using A = Scanned<T>;
   constexpr int w = lanes<A>, packs = Packs ? Packs : 1;
   alignas(64) A totals[packs * w];
   for (int p = 0; p < packs; ++p)
      store(totals + p * w, splat<Pack<A>>(C::template identity<A>()));
   T *y = scan.y;
   const T *x = scan.x;
   for (Size i = 0; i < scan.n; ++i, x += scan.step, y += scan.step) {
   SOFIE_UNROLL_ALL
      for (int p = 0; p < packs; ++p) {
         const auto v = Packs ? load<w>(x + p * w) : load_some<w>(x, used);
         const Pack<A> next = C::combined(load<w>(totals + p * w), convert<A>(v));
         store(totals + p * w, next);
         if constexpr (Packs > 0)
            store(y + p * w, convert<T>(next));
         else
            store_some(y, convert<T>(next), used);
      }
   }
}

/// As many columns of those that are left as are done together; how many these are.
template <int Packs, class C, class T>
SOFIE_INLINE Size scan_some_columns(const Scan<T> &scan, Size left)
{
   constexpr Size together = Packs * lanes<Scanned<T>>;
   if constexpr (Packs > 0)
      if (left < together)
         return scan_some_columns<Packs / 2, C>(scan, left);
   scan_columns<Packs, C>(scan, left);
   return Packs ? together : left;
}

/// `outer` vectors, one behind the other.
template <class C, class T>
SOFIE_KERNEL void scan_one_by_one(T *to, const T *from, Size outer, Size n, bool exclusive, bool reverse)
{
   using V = PackN<Scanned<T>, 1>;
   for (Size o = 0; o < outer; ++o, to += n, from += n) {
      const Scan<T> scan = Scan<T>::template of<C>(to, from, n, 1, exclusive, reverse);
      V total{C::template identity<Scanned<T>>()};
      SOFIE_UNROLL(8)
      for (Size i = 0; i < scan.n; ++i) {
         total = C::combined(total, V{static_cast<Scanned<T>>(scan.x[i * scan.step])});
         scan.y[i * scan.step] = static_cast<T>(total[0]);
      }
   }
}

/// Vectors that lie side by side.
template <class C, class T>
SOFIE_INLINE void scan_side_by_side(T *y, const T *x, Size n, Size inner, bool exclusive, bool reverse)
{
   Scan<T> scan = Scan<T>::template of<C>(y, x, n, inner, exclusive, reverse);
   for (Size left = inner; left > 0;) {
      const Size done = scan_some_columns<scan_packs, C>(scan, left);
      scan.y += done;
      scan.x += done;
      left -= done;
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
