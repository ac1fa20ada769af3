/// \file
/// Attention: as many queries side by side as a register has lanes.
///
/// Each lane is a query, so that the softmax over the keys needs nothing from another lane. Keys and values stay where
/// they are, if they can; the queries of a block are transposed, and so is what a mask says of them. With AVX-512 two
/// packs of queries are answered together: what one waits for, the other computes.
#ifndef SOFIE_KERNELS_ATTENTION_BLOCK_HXX
#define SOFIE_KERNELS_ATTENTION_BLOCK_HXX

#include "sofie/kernels/attention/data.hxx"
#include "sofie/kernels/softmax/lanes.hxx"
#include "sofie/kernels/softmax/packs.hxx"
#include "sofie/kernels/transpose/blocks.hxx"
#include "sofie/math.hxx"

SOFIE_BEGIN

namespace sofie {

/// How many packs of queries are answered together, at most.
template <class T>
inline constexpr int block_packs =
#ifdef SOFIE_AVX512_ASSEMBLER
   std::is_same_v<T, float> ? 2 :
#endif
                            1;

/// The memory of one head while a block of its queries is answered.
template <class T>
struct QueryBlock {
   Size width;   ///< The lanes of all packs together.
   Size counted; ///< How many keys there are scores of.
   T *queries;   ///< [head_size][width]: times the scale
   T *scores;    ///< [key][width]
   T *mask;      ///< [key][width]: what the mask says, a bool as 0 or 1
   T *copied_keys, *copied_values;
   const T *keys, *values;
   Size key_stride, value_stride;
};

template <class T, class M>
SOFIE_INLINE QueryBlock<T> block_of(const AttentionData<T, M> &of)
{
   constexpr Size n = block_packs<T> * lanes<T>;
   const Size total = of.total();
   T *const scores = of.work + of.head_size * n, *const mask = scores + total * n, *const keys = mask + total * n;
   return {n, 0, of.work, scores, mask, keys, keys + total * of.head_size, nullptr, nullptr, 0, 0};
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

/// to[d * width + i] = from[i * stride + d] * factor for `count` rows i of a pack; something finite where those are in
/// the other lanes.
template <class T>
SOFIE_KERNEL void rows_to_lanes(T *to, Size width, const T *from, Size stride, Size count, Size length, T factor)
{
   constexpr int n = lanes<T>;
#ifdef SOFIE_AVX512_ASSEMBLER
   if constexpr (std::is_same_v<T, float>) {
      alignas(64) float turned[n * n];
      for (Size d = 0; d < length; d += n) {
         const Size some = length - d < n ? length - d : n;
         transpose_block({turned, n * Size{sizeof(float)}, n, 0xffff},
                         {from + d, stride * Size{sizeof(float)}, count, (Size{1} << some) - 1});
         const Pack<T> times = splat<Pack<T>>(factor);
         for (Size i = 0; i < some; ++i)
            store(to + (d + i) * width, load<n>(turned + i * n) * times);
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
         store(to + (d + i) * width, rows[i]);
   }
}

template <class T>
SOFIE_INLINE void mask_to_lanes(T *to, Size width, const T *from, Size stride, Size count, Size length)
{
   if (stride != 0)
      rows_to_lanes(to, width, from, stride, count, length, T(1));
   for (Size j = 0; stride == 0 && j < length; ++j)
      store(to + j * width, splat<Pack<T>>(from[j]));
}
template <class T>
SOFIE_INLINE void mask_to_lanes(T *to, Size width, const bool *from, Size stride, Size count, Size length)
{
   constexpr int n = lanes<T>;
   for (Size i = 0; i < n; ++i)
      for (Size j = 0; j < length; ++j)
         to[j * width + i] = i < count && from[i * stride + j] ? T(1) : T(0);
}

/// y[r][j] = sum_k x[r][k] * w[k][j] for `rows` rows and `Packs` packs of columns. A mask, of which only tiles in
/// assembler know, says which columns of the last pack y has.
template <int Packs, class T>
SOFIE_KERNEL void many_rows(StridedRows<T> y, StridedRows<const T> x, StridedRows<const T> w, Size rows, Size depth,
                            [[maybe_unused]] Size mask = 0xffff)
{
#ifdef SOFIE_TILE_ASSEMBLER
   if constexpr (std::is_same_v<T, float>) {
      constexpr Size part = 64, bytes = static_cast<Size>(sizeof(float)); // Sums of sums lose fewer digits.
      alignas(64) float sums[dense_tile_rows * dense_tile_width];
      DenseTiles of = dense_tiles_of(x, w, depth, y, rows);
      of.mask = static_cast<std::int32_t>(mask);
      if (depth > part) {
         of.passes = ceil_div(depth, part);
         of.depth = part;
         of.last = depth - (of.passes - 1) * part;
         of.x_pass = part * x.step * bytes;
         of.w_pass = part * w.stride * bytes;
         of.sums = sums;
      }
      dense_tiles<Packs>(of);
      return;
   }
#endif
   const auto some = [=](auto count, Size r) {
      small_product<decltype(count)::value, Packs>(y.data + r * y.stride, y.stride, x.data + r * x.stride, x.stride,
                                                   x.step, w.data, w.stride, depth);
   };
   constexpr std::integral_constant<int, 1> one{};
   constexpr std::integral_constant<int, 4> together{};
   for (Size i = 0; rows >= together && i < rows; i += together)
      some(together, i + together <= rows ? i : rows - together);
   for (Size r = 0; rows < together && r < rows; ++r)
      some(one, r);
}

/// The scores of `count` queries of a head from `query` on, if somebody wants them at this stage.
template <class T, class M>
SOFIE_KERNEL void keep_scores(const AttentionData<T, M> &of, const QueryBlock<T> &block, int stage, Size first,
                              Size count)
{
   const Size total = of.total();
   for (Size i = 0; of.scores && of.rule.scores_mode == stage && i < count; ++i)
      for (Size j = 0; j < total; ++j)
         of.scores[(first + i) * total + j] = block.scores[j * block.width + i];
}

/// Whether all queries of a pack may attend to all of so many keys, apart from what a mask says: the first keys and the
/// ends of queries do not decrease from one to the next.
template <class T, class M>
SOFIE_INLINE bool attend_to_all(const AttentionData<T, M> &of, Size keys, Size valid, Size query)
{
   const AttendedKeys first = attended_keys(of, valid, query), last = attended_keys(of, valid, query + lanes<T> - 1);
   return first.end == keys && last.first == 0;
}

/// Adds a mask to the scores of a pack of queries, -inf where a query may not attend; where it attends at all.
template <class T, class M>
SOFIE_KERNEL void mask_block(const AttentionData<T, M> &of, const QueryBlock<T> &block, Size pack, Size valid,
                             Size query, T *attends_at_all)
{
   constexpr int n = lanes<T>;
   using V = Pack<T>;
   const V lowest = splat<V>(static_cast<T>(-__builtin_inf())), one = splat<V>(1);
   const bool plain = of.rule.plain;
   T *const scores = block.scores + pack;
   const T *const mask = block.mask + pack;
   const Size width = block.width;
   T firsts[n], ends[n];
   for (int i = 0; i < n; ++i) {
      const AttendedKeys keys = attended_keys(of, valid, query + i);
      firsts[i] = static_cast<T>(keys.first);
      ends[i] = static_cast<T>(keys.end);
   }
   const V first = load<n>(firsts), end = load<n>(ends);
   V any{};
   for (Size j = 0; j < block.counted; ++j) {
      const V place = splat<V>(static_cast<T>(j));
      V score = load<n>(scores + j * width), attends = select((place >= first) & (place < end), one, V{});
      if (of.mask.data && j < of.mask.keys) {
         const V says = load<n>(mask + j * width);
         if constexpr (std::is_same_v<M, bool>) {
            if (plain)
               score = select(says != V{}, score, splat<V>(static_cast<T>(of.rule.fill)));
            else
               attends = select(says != V{}, attends, V{});
         } else {
            score = score + says;
            if (!plain)
               attends = select(says != lowest, attends, V{});
         }
      }
      store(scores + j * width, select(attends != V{}, score, lowest));
      any = select(attends != V{}, one, any);
   }
   store(attends_at_all, any);
}

/// The mask of a pack of queries. Which of them attend to anything, as bits.
template <class T, class M>
SOFIE_KERNEL Size limit_scores(const AttentionData<T, M> &of, const QueryBlock<T> &block, Size pack, Size valid,
                               Size query)
{
   constexpr int n = lanes<T>;
   constexpr Size all = (Size{1} << n) - 1;
   const Size keys = block.counted, width = block.width;
   if (attend_to_all(of, keys, valid, query)) {
      if (!of.mask.data)
         return valid > 0 ? all : 0;
      if constexpr (std::is_same_v<T, M>)
         if (of.rule.plain && of.mask.keys >= keys) {
            T *const scores = block.scores + pack;
            for (Size j = 0; j < keys; ++j)
               store(scores + j * width, load<n>(scores + j * width) + load<n>(block.mask + pack + j * width));
            return valid > 0 ? all : 0;
         }
   }
   T attends[n];
   mask_block(of, block, pack, valid, query, attends);
   Size bits = 0;
   for (int i = 0; i < n; ++i)
      bits |= Size{attends[i] != 0} << i;
   return bits;
}

#ifdef SOFIE_AVX2_ASSEMBLER
/// softmax_of_lanes where all lanes attend to something and none has -inf alone, else false and nothing is done.
SOFIE_KERNEL inline bool softmax_of_live_lanes(float *scores, Size valid, Size attends)
{
   constexpr int n = lanes<float>;
   constexpr Size all = (Size{1} << n) - 1;
   if (attends != all)
      return false;
   const Pack<float> lowest = splat<Pack<float>>(-__builtin_inff());
   const Pack<float> most = largest_of_packs(scores, valid * n, lowest);
   if (fold_lanes<AnyOfLanes>(most == lowest))
      return false;
   const Pack<float> sum = add_exponentials<false>(scores, scores, valid * n, most, Pack<float>{});
   const Pack<float> factor = splat<Pack<float>>(1) / sum;
   for (Size j = 0; j < valid * n; j += n)
      store(scores + j, load<n>(scores + j) * factor);
   return true;
}
#endif

/// scores[key][lane] become e^(score - largest score) / their sum; 0 in lanes of which `attends` says so or where all
/// scores are -inf, but NaN if `nans`.
template <class T>
SOFIE_KERNEL void softmax_of_lanes(T *scores, Size width, Size valid, Size attends, bool nans)
{
   constexpr int n = lanes<T>;
   using V = Pack<T>;
#ifdef SOFIE_AVX2_ASSEMBLER
   if constexpr (std::is_same_v<T, float>)
      if (width == n && softmax_of_live_lanes(scores, valid, attends))
         return;
#endif
   const V lowest = splat<V>(static_cast<T>(-__builtin_inf()));
   V most = lowest;
   for (Size j = 0; j < valid; ++j) {
      const V score = load<n>(scores + j * width);
      most = select((most > score) | (most != most), most, score);
   }
   T any[n];
   for (int i = 0; i < n; ++i)
      any[i] = static_cast<T>(attends >> i & 1);
   const MaskOf<V> live = nans ? V{} == V{} : (load<n>(any) != V{}) & (most != lowest);
   V sum{};
   for (Size j = 0; j < valid; ++j) {
      const V power = select(live, exp(load<n>(scores + j * width) - most), V{});
      store(scores + j * width, power);
      sum += power;
   }
   const V factor = select(live, splat<V>(1) / sum, splat<V>(1));
   for (Size j = 0; j < valid; ++j)
      store(scores + j * width, load<n>(scores + j * width) * factor);
}

/// Turns the scores of `Packs` packs of queries into weights; the scores of `count` of them begin with number `first`.
template <int Packs, class T, class M>
SOFIE_KERNEL void weigh_block(const AttentionData<T, M> &of, const QueryBlock<T> &block, Size valid, Size query,
                              Size first, Size count)
{
   constexpr int n = lanes<T>;
   const Size keys = block.counted;
   // Where no key counts all weights are 0, but NaN where that is wanted.
   const bool nans = of.rule.plain && of.total() > 0;
   Size attends[Packs];
   keep_scores(of, block, 0, first, count);
   if (of.rule.softcap > 0) {
      const Pack<T> cap = splat<Pack<T>>(static_cast<T>(of.rule.softcap));
      for (Size j = 0; j < keys * block.width; j += n)
         store(block.scores + j, cap * tanh(load<n>(block.scores + j) / cap));
   }
   keep_scores(of, block, 1, first, count);
   for (int i = 0; i < Packs; ++i)
      attends[i] = limit_scores(of, block, i * n, valid, query + i * n);
   keep_scores(of, block, 2, first, count);
#ifdef SOFIE_AVX512_ASSEMBLER
   if constexpr (std::is_same_v<T, float>)
      softmax_lanes<Packs>(block.scores, keys, attends, nans);
   else
#endif
      for (int i = 0; i < Packs; ++i)
         softmax_of_lanes(block.scores + i * n, block.width, keys, attends[i], nans);
   keep_scores(of, block, 3, first, count);
}

/// What a pack of queries takes from `Packs` packs of the values, from element `d` on.
template <int Packs, class T, class M>
SOFIE_INLINE void take_from_values(const AttentionData<T, M> &of, const QueryBlock<T> &block, const T *weights,
                                   Size valid, T *y, Size count, Size d)
{
   constexpr int n = lanes<T>;
   const T *const values = block.values + d;
   const Size last = of.value_size - d - (Packs - 1) * n;
#ifdef SOFIE_TILE_ASSEMBLER
   if constexpr (std::is_same_v<T, float>)
      return many_rows<Packs, T>({y + d, of.y.row_stride}, {weights, 1, block.width}, {values, block.value_stride},
                                 count, valid, last < n ? (Size{1} << last) - 1 : 0xffff);
#endif
   alignas(64) T sums[n * Packs * n];
   // Rows of queries that are not there are computed as well, but not written.
   constexpr Size half = n / 2 >= 4 ? n / 2 : n;
   many_rows<Packs, T>({sums, Size{Packs * n}}, {weights, 1, block.width}, {values, block.value_stride},
                       count <= half ? half : Size{n}, valid);
   for (Size r = 0; r < count; ++r)
      for (int c = 0; c < Packs; ++c)
         store_some(y + r * of.y.row_stride + d + c * n, load<n>(sums + (r * Packs + c) * n),
                    c + 1 < Packs || last >= n ? n : last);
}

/// Answers the `count` queries of a head from `query` on, which fill `Packs` packs or a part of them.
template <int Packs, class T, class M>
SOFIE_KERNEL void answer_block(const AttentionData<T, M> &of, const QueryBlock<T> &block, Size valid, T scale, Size b,
                               Size head, Size query, Size count)
{
   constexpr int n = lanes<T>;
   const AttentionMask<M> &mask = of.mask;
   const Size keys = block.counted;
   for (Size i = 0; i < Packs; ++i) {
      const Size first = query + i * n, some = count - i * n < n ? count - i * n : n;
      rows_to_lanes(block.queries + i * n, block.width, of.q.row(b, head, first), of.q.row_stride, some, of.head_size,
                    scale);
      if (mask.data)
         mask_to_lanes(block.mask + i * n, block.width,
                       mask.data + b * mask.batch_stride + head * mask.head_stride + first * mask.row_stride,
                       mask.row_stride, some, mask.keys < keys ? mask.keys : keys);
   }
   many_rows<Packs, T>({block.scores, block.width}, {block.keys, block.key_stride}, {block.queries, block.width}, keys,
                       of.head_size);
   weigh_block<Packs>(of, block, valid, query, (b * of.heads + head) * of.queries + query, count);
   for (Size i = 0; i < Packs; ++i) {
      const Size some = count - i * n < n ? count - i * n : n;
      const T *const weights = block.scores + i * n;
      T *const y = of.y.row(b, head, query + i * n);
      Size d = 0;
      for (; d + n < of.value_size; d += 2 * n)
         take_from_values<2>(of, block, weights, valid, y, some, d);
      if (d < of.value_size)
         take_from_values<1>(of, block, weights, valid, y, some, d);
   }
}

/// Answers all queries of one head.
template <class T, class M>
SOFIE_KERNEL void answer_blocks(const AttentionData<T, M> &of, QueryBlock<T> &block, Size valid, T scale, Size b,
                                Size head)
{
   constexpr int n = lanes<T>;
   // Scores are those of all keys.
   block.counted = of.scores ? of.total() : valid;
   for (Size query = 0; query < of.queries;) {
      const Size left = of.queries - query;
      if constexpr (block_packs<T> == 2)
         if (left > n) {
            block.width = 2 * n;
            answer_block<2>(of, block, valid, scale, b, head, query, left < 2 * n ? left : 2 * n);
            query += 2 * n;
            continue;
         }
      block.width = n;
      answer_block<1>(of, block, valid, scale, b, head, query, left < n ? left : n);
      query += n;
   }
}

} // namespace sofie

SOFIE_END

#endif
