/// \file
/// Attention for many queries: as many side by side as a register has lanes.
///
/// Each lane is a query, so that the softmax over the keys needs nothing from another lane. Keys and values stay where
/// they are, if they can; the queries of a block are transposed, and so is what a mask says of them.
#ifndef SOFIE_KERNELS_ATTENTION_BLOCK_HXX
#define SOFIE_KERNELS_ATTENTION_BLOCK_HXX

#include "sofie/kernels/attention_data.hxx"
#include "sofie/kernels/lanes_tile.hxx"
#include "sofie/kernels/softmax_lanes.hxx"

SOFIE_BEGIN

namespace sofie {

/// The memory of one head while a block of its queries is answered.
template <class T>
struct QueryBlock {
   T *queries; ///< [head_size][lanes]: times the scale
   T *fits;    ///< [key][lanes]
   T *mask;    ///< [key][lanes]: what the mask says, a bool as 0 or 1
   T *copied_keys, *copied_values;
   const T *keys, *values;
   Size key_stride, value_stride;
};

template <class T, class M>
SOFIE_INLINE QueryBlock<T> block_of(const AttentionData<T, M> &of)
{
   constexpr Size n = lanes<T>;
   const Size total = of.total();
   T *const fits = of.work + of.head_size * n, *const mask = fits + total * n, *const keys = mask + total * n;
   return {of.work, fits, mask, keys, keys + total * of.head_size, nullptr, nullptr, 0, 0};
}

/// Finds the keys and the values of a head in rows that whole packs can be read from, or copies them there.
template <class T, class M>
SOFIE_KERNEL void find_head(const AttentionData<T, M> &of, QueryBlock<T> &block, Size b, Size head)
{
   constexpr Size n = lanes<T>;
   block.keys = of.k.row(b, head, 0), block.key_stride = of.k.row_stride;
   block.values = of.v.row(b, head, 0), block.value_stride = of.v.row_stride;
   if (of.past > 0) {
      block.keys = block.copied_keys, block.key_stride = of.head_size;
      for (Size j = 0; j < of.total(); ++j)
         copy_numbers(block.copied_keys + j * of.head_size, of.key(b, head, j), of.head_size);
   }
   if (of.past > 0 || of.value_size % n != 0) {
      block.values = block.copied_values, block.value_stride = ceil_div(of.value_size, n) * n;
      for (Size j = 0; j < of.total(); ++j)
         for (Size d = 0; d < of.value_size; d += n) {
            const Size left = of.value_size - d;
            store(block.copied_values + j * block.value_stride + d,
                  load_some<n>(of.value(b, head, j) + d, left < n ? left : n));
         }
   }
}

/// to[d][i] = from[i * stride + d] * factor for `count` rows i; something finite where those are in the other lanes.
template <class T>
SOFIE_KERNEL void rows_to_lanes(T *to, const T *from, Size stride, Size count, Size length, T factor)
{
   constexpr int n = lanes<T>;
#ifdef SOFIE_DENSE_ASSEMBLER
   if constexpr (std::is_same_v<T, float>) {
      alignas(64) float turned[n * n];
      for (Size d = 0; d < length; d += n) {
         const Size some = length - d < n ? length - d : n;
         turn_block({turned, n * Size{sizeof(float)}, n, 0xffff},
                    {from + d, stride * Size{sizeof(float)}, count, (Size{1} << some) - 1});
         const Pack<T> times = splat<Pack<T>>(factor);
         for (Size i = 0; i < some; ++i)
            store(to + (d + i) * n, load<n>(turned + i * n) * times);
      }
      return;
   }
#endif
   for (Size d = 0; d < length; d += n) {
      const Size some = length - d < n ? length - d : n;
      Pack<T> rows[n];
      for (int i = 0; i < n; ++i)
         rows[i] = i < count ? load_some<n>(from + i * stride + d, some) * splat<Pack<T>>(factor) : Pack<T>{};
      transpose(rows);
      for (Size i = 0; i < some; ++i)
         store(to + (d + i) * n, rows[i]);
   }
}

template <class T>
SOFIE_INLINE void mask_to_lanes(T *to, const T *from, Size stride, Size count, Size length)
{
   constexpr int n = lanes<T>;
   if (stride != 0)
      rows_to_lanes(to, from, stride, count, length, T(1));
   for (Size j = 0; stride == 0 && j < length; ++j)
      store(to + j * n, splat<Pack<T>>(from[j]));
}
template <class T>
SOFIE_INLINE void mask_to_lanes(T *to, const bool *from, Size stride, Size count, Size length)
{
   constexpr int n = lanes<T>;
   for (Size i = 0; i < n; ++i)
      for (Size j = 0; j < length; ++j)
         to[j * n + i] = i < count && from[i * stride + j] ? T(1) : T(0);
}

/// y[r][j] = sum_k x[r * x_stride + k * x_step] * w[k][j] for `rows` rows and `Packs` packs of columns. A mask, of
/// which only tiles in assembler know, says which columns of the last pack y has.
template <int Packs, class T>
SOFIE_KERNEL void many_rows(T *y, Size y_stride, const T *x, Size x_stride, Size x_step, const T *w, Size w_stride,
                            Size rows, Size depth, [[maybe_unused]] Size mask = 0xffff)
{
#ifdef SOFIE_DENSE_ASSEMBLER
   if constexpr (std::is_same_v<T, float>) {
      constexpr Size part = 64; // Sums of sums lose fewer digits.
      alignas(64) float sums[dense_tile_rows * dense_tile_width];
      alignas(64) const float nothing[Packs * lanes<float>] = {};
      const bool few = rows < dense_tile_half;
      for (DenseTileRows tile{few ? 0 : rows}; tile.next();) {
         const Size r = tile.first;
         Size k = 0;
         do {
            const bool last = k + part >= depth;
            const DenseTileEnd end{sums,
                                   last ? y + r * y_stride : nullptr,
                                   y_stride * Size{sizeof(float)},
                                   nothing,
                                   mask,
                                   k > 0,
                                   0,
                                   tile.is_half()};
            dense_tile_assembler<Packs>(x + r * x_stride + k * x_step, x_stride, x_step, w + k * w_stride, w_stride,
                                        last ? depth - k : part, end);
            k += part;
         } while (k < depth);
      }
      for (Size r = 0; few && r < rows; ++r)
         small_product<1, Packs>(y + r * y_stride, y_stride, x + r * x_stride, x_stride, x_step, w, w_stride, depth);
      return;
   }
#endif
   constexpr int together = 4;
   for (Size i = 0; rows >= together && i < rows; i += together) {
      const Size r = i + together <= rows ? i : rows - together;
      small_product<together, Packs>(y + r * y_stride, y_stride, x + r * x_stride, x_stride, x_step, w, w_stride,
                                     depth);
   }
   for (Size r = 0; rows < together && r < rows; ++r)
      small_product<1, Packs>(y + r * y_stride, y_stride, x + r * x_stride, x_stride, x_step, w, w_stride, depth);
}

/// Whether all queries of a block may attend to all valid keys, apart from what a mask says: the first keys and the
/// ends of queries do not decrease from one to the next.
template <class T, class M>
SOFIE_INLINE bool attend_to_all(const AttentionData<T, M> &of, Size valid, Size query)
{
   const AttendedKeys first = attended_keys(of, valid, query), last = attended_keys(of, valid, query + lanes<T> - 1);
   return first.end == valid && last.first == 0;
}

/// Adds the mask to the fits of a block, -inf where a query may not attend; where it attends at all.
template <class T, class M>
SOFIE_KERNEL void mask_block(const AttentionData<T, M> &of, const QueryBlock<T> &block, Size valid, Size query,
                             T *attends_at_all)
{
   constexpr int n = lanes<T>;
   using V = Pack<T>;
   const V lowest = splat<V>(static_cast<T>(-__builtin_inf())), one = splat<V>(1);
   const bool plain = of.rule.plain;
   T firsts[n], ends[n];
   for (int i = 0; i < n; ++i) {
      const AttendedKeys keys = attended_keys(of, valid, query + i);
      firsts[i] = static_cast<T>(keys.first);
      ends[i] = static_cast<T>(keys.end);
   }
   const V first = load<n>(firsts), end = load<n>(ends);
   V any{};
   for (Size j = 0; j < valid; ++j) {
      const V place = splat<V>(static_cast<T>(j));
      V fit = load<n>(block.fits + j * n), attends = select((place >= first) & (place < end), one, V{});
      if (of.mask.data && j < of.mask.keys) {
         const V says = load<n>(block.mask + j * n);
         if constexpr (std::is_same_v<M, bool>) {
            if (plain)
               fit = select(says != V{}, fit, splat<V>(static_cast<T>(of.rule.fill)));
            else
               attends = select(says != V{}, attends, V{});
         } else {
            fit = fit + says;
            if (!plain)
               attends = select(says != lowest, attends, V{});
         }
      }
      store(block.fits + j * n, select(attends != V{}, fit, lowest));
      any = select(attends != V{}, one, any);
   }
   store(attends_at_all, any);
}

/// Adds a mask of numbers where nothing else keeps queries from keys, if that is so.
template <class T, class M>
SOFIE_INLINE bool add_mask(const AttentionData<T, M> &of, const QueryBlock<T> &block, Size valid, Size query)
{
   constexpr int n = lanes<T>;
   if constexpr (std::is_same_v<T, M>)
      if (of.rule.plain && of.mask.data && of.mask.keys >= valid && attend_to_all(of, valid, query)) {
         for (Size j = 0; j < valid; ++j)
            store(block.fits + j * n, load<n>(block.fits + j * n) + load<n>(block.mask + j * n));
         return true;
      }
   return false;
}

/// Turns the fits of a block into weights, but for the divisor of each query.
template <class T, class M>
SOFIE_KERNEL void weigh_block(const AttentionData<T, M> &of, const QueryBlock<T> &block, Size valid, Size query,
                              T *divisors)
{
   constexpr int n = lanes<T>;
   using V = Pack<T>;
   T *const fits = block.fits;
   const V lowest = splat<V>(static_cast<T>(-__builtin_inf()));
   if (of.rule.softcap > 0) {
      const V cap = splat<V>(static_cast<T>(of.rule.softcap));
      for (Size j = 0; j < valid; ++j)
         store(fits + j * n, cap * tanh(load<n>(fits + j * n) / cap));
   }
   T attends[n];
   store(attends, splat<V>(valid > 0 ? T(1) : T(0)));
   if (!add_mask(of, block, valid, query) && (of.mask.data || !attend_to_all(of, valid, query)))
      mask_block(of, block, valid, query, attends);
#ifdef SOFIE_DENSE_ASSEMBLER
   if constexpr (std::is_same_v<T, float>) {
      Size which = 0;
      for (int i = 0; i < n; ++i)
         which |= Size{attends[i] != 0} << i;
      softmax_lanes(fits, valid, which, of.rule.plain && of.total() > 0);
      store(divisors, splat<V>(1));
      return;
   }
#endif
   V most = lowest;
   for (Size j = 0; j < valid; ++j) {
      const V fit = load<n>(fits + j * n);
      most = select((most > fit) | (most != most), most, fit);
   }
   // Where no key counts all weights are 0, but NaN where that is wanted.
   const bool nans = of.rule.plain && of.total() > 0;
   const MaskOf<V> live = nans ? V{} == V{} : (load<n>(attends) != V{}) & (most != lowest);
   V sum[2] = {};
   Size j = 0;
   for (; j + 2 <= valid; j += 2)
   SOFIE_UNROLL_ALL
      for (int c = 0; c < 2; ++c) {
         const V grown = select(live, exp(load<n>(fits + (j + c) * n) - most), V{});
         store(fits + (j + c) * n, grown);
         sum[c] += grown;
      }
   if (j < valid) {
      const V grown = select(live, exp(load<n>(fits + j * n) - most), V{});
      store(fits + j * n, grown);
      sum[0] += grown;
   }
   store(divisors, select(live, sum[0] + sum[1], splat<V>(1)));
}

/// What a block of queries takes from `Packs` packs of the values, from element `d` on.
template <int Packs, class T, class M>
SOFIE_INLINE void take_from_values(const AttentionData<T, M> &of, const QueryBlock<T> &block, const T *divisors, Size valid,
                                   Size b, Size head, Size query, Size count, Size d)
{
   constexpr int n = lanes<T>;
#ifdef SOFIE_DENSE_ASSEMBLER
   if constexpr (std::is_same_v<T, float>)
      if (count >= dense_tile_half) {
         const Size left = of.value_size - d - (Packs - 1) * n, mask = left < n ? (Size{1} << left) - 1 : 0xffff;
         many_rows<Packs>(of.y.row(b, head, query) + d, of.y.row_stride, block.fits, 1, n, block.values + d,
                          block.value_stride, count, valid, mask);
         return;
      }
#endif
   alignas(64) T sums[n * Packs * n];
   // Rows of queries that are not there would give zeros.
   constexpr Size half = n / 2 >= 4 ? n / 2 : n;
   many_rows<Packs>(sums, Size{Packs * n}, block.fits, 1, n, block.values + d, block.value_stride,
                    count <= half ? half : Size{n}, valid);
   for (Size r = 0; r < count; ++r)
      for (int c = 0; c < Packs; ++c) {
         const Size left = of.value_size - d - c * n;
         store_some(of.y.row(b, head, query + r) + d + c * n,
                    load<n>(sums + (r * Packs + c) * n) / splat<Pack<T>>(divisors[r]), left < n ? left : n);
      }
}

/// Answers all queries of one head.
template <class T, class M>
SOFIE_KERNEL void answer_blocks(const AttentionData<T, M> &of, const QueryBlock<T> &block, Size valid, T scale, Size b, Size head)
{
   constexpr int n = lanes<T>;
   const AttentionMask<M> &mask = of.mask;
   for (Size query = 0; query < of.queries; query += n) {
      const Size left = of.queries - query, count = left < n ? left : n;
      rows_to_lanes(block.queries, of.q.row(b, head, query), of.q.row_stride, count, of.head_size, scale);
      many_rows<1>(block.fits, n, block.keys, block.key_stride, 1, block.queries, n, valid, of.head_size);
      if (mask.data)
         mask_to_lanes(block.mask, mask.data + b * mask.batch_stride + head * mask.head_stride + query * mask.row_stride,
                       mask.row_stride, count, mask.keys < valid ? mask.keys : valid);
      T divisors[n];
      weigh_block(of, block, valid, query, divisors);
      Size d = 0;
      for (; d + n < of.value_size; d += 2 * n)
         take_from_values<2>(of, block, divisors, valid, b, head, query, count, d);
      if (d < of.value_size)
         take_from_values<1>(of, block, divisors, valid, b, head, query, count, d);
   }
}

} // namespace sofie

SOFIE_END

#endif
