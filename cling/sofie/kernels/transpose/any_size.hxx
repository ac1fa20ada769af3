/// \file
/// Planes of elements of any size whose rows become columns, in registers of 16 bytes: by blocks in which either the
/// rows or the columns fill a register.
#ifndef SOFIE_KERNELS_TRANSPOSE_ANY_SIZE_HXX
#define SOFIE_KERNELS_TRANSPOSE_ANY_SIZE_HXX

#include "sofie/simd.hxx"

SOFIE_BEGIN

namespace sofie {

/// Planes whose rows become columns: to[p][j][i] = from[p][i][j]. All steps are in bytes.
struct TransposedPlanes {
   char *to;
   const char *from;
   Size rows, columns;      ///< of what is read; the elements of a row are side by side
   Size to_step, from_step; ///< from a column to the next in what is written, from a row to the next in what is read
   Size planes, to_plane, from_plane;
};

/// An integer of so many bytes, for what is moved and not computed with.
template <int Bytes>
using Moved = std::conditional_t<
   Bytes == 8, std::uint64_t,
   std::conditional_t<Bytes == 4, std::uint32_t, std::conditional_t<Bytes == 2, std::uint16_t, std::uint8_t>>>;

/// 16 bytes of such integers.
template <int Bytes>
using MovedPack = PackN<Moved<Bytes>, 16 / Bytes>;

/// A pack that begins with `Bytes` bytes from memory.
template <class V, int Bytes>
SOFIE_INLINE V load_piece(const char *from)
{
   if constexpr (Bytes == 16) {
      return bits<V>(load<16>(from));
   } else {
      MovedPack<Bytes> piece{};
      Moved<Bytes> number;
      __builtin_memcpy(&number, from, Bytes);
      piece[0] = number;
      return bits<V>(piece);
   }
}

/// Piece number `Which`, of `Bytes` bytes, of a pack.
template <int Bytes, class V>
SOFIE_INLINE void store_piece(char *to, V v, int which)
{
   if constexpr (Bytes == 16) {
      __builtin_memcpy(to, &v, Bytes);
   } else {
      const Moved<Bytes> number = bits<MovedPack<Bytes>>(v)[which];
      __builtin_memcpy(to, &number, Bytes);
   }
}

/// `Rows` rows, of which `Count` packs hold `Filled` elements each, merged pair by pair until each pack has the
/// elements of all rows, column after column.
template <int Rows, int Filled, int Count, class V>
SOFIE_INLINE void merge_rows(V *packs)
{
   if constexpr (Rows > 1) {
      constexpr int half = Count / 2;
      constexpr bool is_full = Filled == width<V>;
      V merged[Count];
   SOFIE_UNROLL_ALL
      for (int i = 0; i < half; ++i) {
         merged[is_full ? 2 * i : i] = in_turn<0>(packs[i], packs[i + half]);
         if constexpr (is_full)
            merged[2 * i + 1] = in_turn<width<V> / 2>(packs[i], packs[i + half]);
      }
      SOFIE_UNROLL_ALL
      for (int i = 0; i < (is_full ? Count : half); ++i)
         packs[i] = merged[i];
      merge_rows<Rows / 2, is_full ? Filled : 2 * Filled, is_full ? Count : half>(packs);
   }
}

/// A block of `Rows` rows and `Columns` columns, the more of which fill a register.
template <int Bytes, int Rows, int Columns>
SOFIE_INLINE void transpose_pieces(char *to, Size to_step, const char *from, Size from_step)
{
   using V = MovedPack<Bytes>;
   constexpr int pieces = 16 / (Rows * Bytes);
   V packs[Rows];
   SOFIE_UNROLL_ALL
   for (int i = 0; i < Rows; ++i)
      packs[i] = load_piece<V, Columns * Bytes>(from + i * from_step);
   merge_rows<Rows, Columns, Rows>(packs);
   SOFIE_UNROLL_ALL
   for (int i = 0; i < Columns; ++i)
      store_piece<Rows * Bytes>(to + i * to_step, packs[i / pieces], i % pieces);
}

/// Planes that have a block at least. The last blocks begin within others, and write once more what is there.
template <int Bytes, int Rows, int Columns>
SOFIE_KERNEL void transpose_by_blocks(const TransposedPlanes &all)
{
   const Size to_step = all.to_step, from_step = all.from_step, rows = all.rows, columns = all.columns;
   char *to = all.to;
   const char *from = all.from;
   for (Size p = 0; p < all.planes; ++p, to += all.to_plane, from += all.from_plane)
      for (Size j = 0; j < columns; j += Columns) {
         const Size column = j + Columns > columns ? columns - Columns : j;
         for (Size i = 0; i < rows; i += Rows) {
            const Size row = i + Rows > rows ? rows - Rows : i;
            transpose_pieces<Bytes, Rows, Columns>(to + column * to_step + row * Bytes, to_step,
                                              from + row * from_step + column * Bytes, from_step);
         }
      }
}

/// The same by blocks of up to `Side` rows or columns, as many as there are; whether there were two.
template <int Bytes, int Side>
SOFIE_INLINE bool transpose_by_pieces(const TransposedPlanes &all)
{
   constexpr int full = 16 / Bytes;
   if (all.rows >= Side && all.columns >= full)
      transpose_by_blocks<Bytes, Side, full>(all);
   else if (all.rows >= full && all.columns >= Side)
      transpose_by_blocks<Bytes, full, Side>(all);
   else if constexpr (Side > 2)
      return transpose_by_pieces<Bytes, Side / 2>(all);
   else
      return false;
   return true;
}

} // namespace sofie

SOFIE_END

#endif
