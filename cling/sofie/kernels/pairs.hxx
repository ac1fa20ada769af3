/// \file
/// All pairs (i, j) of elements with i > j, in the order (1, 0), (2, 0), (2, 1), (3, 0), ...
///
/// As in `layout.hxx`, kernels know of an element only how many bytes it has.
#ifndef SOFIE_KERNELS_PAIRS_HXX
#define SOFIE_KERNELS_PAIRS_HXX

#include "sofie/kernels/layout.hxx"

SOFIE_BEGIN

namespace sofie {

/// y[p] = i, or j if `second`, of all pairs of `size` elements.
template <class Y>
SOFIE_KERNEL void pair_indices(Size second, Size size, const Y &y)
{
   auto *to = y.data();
   for (Size i = 1; i < size; ++i)
      for (Size j = 0; j < i; ++j)
         *to++ = second ? j : i;
}

/// For each row of `size` elements: element i as many times as there are pairs of it, or those before it.
SOFIE_KERNEL inline void spread_pairs(bool second, Size rows, Size size, char *to, const char *from, Size bytes)
{
   for (Size row = 0; row < rows; ++row, from += size * bytes)
      for (Size i = 1; i < size; to += i++ * bytes)
         if (second)
            copy_bytes(to, from, i * bytes);
         else
            fill_elements(to, from + i * bytes, bytes, i);
}

/// y[r, p] = x[r, i], or x[r, j] if `second`, for all pairs p = (i, j).
template <class Y, class X>
SOFIE_INLINE void pair_terms(Size second, Size rows, Size size, const Y &y, const X &x)
{
   spread_pairs(second != 0, rows, size, written(y), read(x), bytes_of<X>);
}

/// Matrices of which the places below the diagonal are the next elements, and those above it the same.
SOFIE_KERNEL inline void fill_symmetric(Size matrices, Size size, char *to, const char *from, const char *diagonal,
                                        Size bytes, PlanesMover turn)
{
   constexpr Size together = 16;
   const Size row = size * bytes;
   for (Size matrix = 0; matrix < matrices; ++matrix, to += size * row) {
      for (Size i = 0; i < size; from += i++ * bytes)
         copy_bytes(to + i * row, from, i * bytes);
      copy_rows(to, row + bytes, diagonal, 0, bytes, size);
      for (Size first = 0; first < size; first += together) {
         // Columns of a few rows, then all behind these.
         const Size next = first + together < size ? first + together : size;
         for (Size i = first; i + 1 < next; ++i)
            copy_rows(to + i * row + (i + 1) * bytes, bytes, to + (i + 1) * row + i * bytes, row, bytes, next - 1 - i);
         if (next < size)
            turn({to + first * row + next * bytes, to + next * row + first * bytes, size - next, next - first, row, row,
                  1, 0, 0});
      }
   }
}

/// y[m, i, j] = y[m, j, i] = x[m, p] for all pairs p = (i, j), and y[m, i, i] = diagonal.
template <class Y, class X, class D>
SOFIE_INLINE void symmetric(Size matrices, Size size, const Y &y, const X &x, const D &diagonal)
{
   fill_symmetric(matrices, size, written(y), read(x), read(diagonal), bytes_of<X>, move_planes<bytes_of<X>>);
}

} // namespace sofie

SOFIE_END

#endif
