/// \file
/// Sums (or products) up to each element along one axis.
#ifndef SOFIE_KERNELS_SCANS_HXX
#define SOFIE_KERNELS_SCANS_HXX

#include "sofie/kernels/reduction.hxx"

SOFIE_BEGIN

namespace sofie {

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

/// Sums (or products) up to each element, behind it if `reverse`, without itself if `exclusive`. Those of float are
/// computed as double.
template <class C, class T>
SOFIE_KERNEL void scan_vectors(T *y, const T *x, Size outer, Size n, Size inner, bool exclusive, bool reverse)
{
   using A = std::conditional_t<std::is_same_v<T, float>, double, T>;
   constexpr int w = lanes<A>;
   for (Size o = 0; o < outer; ++o, x += n * inner, y += n * inner) {
      if (inner == 1) {
         const A first = C::template identity<A>();
         A total = first;
         for (Size step = 0; step < n; ++step) {
            const Size at = reverse ? n - 1 - step : step;
            const A next = C::combined(PackN<A, 1>{total}, PackN<A, 1>{static_cast<A>(x[at])})[0];
            y[at] = static_cast<T>(exclusive ? total : next);
            total = next;
         }
         continue;
      }
      for (Size j = 0; j < inner; j += scan_packs * w) {
         const Size used = inner - j < scan_packs * w ? inner - j : scan_packs * w;
         if (used == scan_packs * w)
            scan_whole_columns<C, PackN<A, w>>(y + j, x + j, n, inner, exclusive, reverse);
         else
            scan_columns<C, PackN<A, w>>(y + j, x + j, n, inner, used, exclusive, reverse);
      }
   }
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
