/// \file
/// Attention: what a query takes from the values, by how well it fits their keys.
///
/// Queries are answered side by side (`attention/block.hxx`). Without AVX-512 few of them are answered one by one, and
/// so are all where somebody wants to see the scores: the keys of a head are transposed and its values are made dense
/// once. The result of a query has the same bits in any batch.
#ifndef SOFIE_KERNELS_ATTENTION_HXX
#define SOFIE_KERNELS_ATTENTION_HXX

#include "sofie/kernels/attention/block.hxx"
#include "sofie/math.hxx"

SOFIE_BEGIN

namespace sofie {

/// A whole number of blocks of columns that is not below `count`.
template <class T>
SOFIE_INLINE Size padded_columns(Size count)
{
   constexpr Size block = 2 * lanes<T>;
   return (count + block - 1) / block * block;
}

/// The memory of one head while its queries are answered.
template <class T>
struct AttentionWork {
   T *keys;   ///< [panel][head_size][2 packs]: the transposed keys, times the scale
   T *values; ///< [total][value_columns]
   T *fits;   ///< [columns]
   Size columns, value_columns;
};

template <class T, class M>
SOFIE_INLINE AttentionWork<T> work_of(const AttentionData<T, M> &of)
{
   const Size columns = padded_columns<T>(of.total());
   T *const values = of.work + of.head_size * columns;
   const Size value_columns = padded_columns<T>(of.value_size);
   return {of.work, values, values + of.total() * value_columns, columns, value_columns};
}

/// Transposes the keys of one head and copies its values.
template <class T, class M>
SOFIE_KERNEL void gather_head(const AttentionData<T, M> &of, const AttentionWork<T> &work, Size b, Size head, T scale)
{
   constexpr int n = lanes<T>, panel = 2 * n;
   const Size total = of.total();
   for (Size j = 0; j < work.columns; j += n) {
      T *const to = work.keys + j / panel * panel * of.head_size + j % panel;
      if (of.past == 0 && j < total) {
         rows_to_lanes(to, panel, of.key(b, head, j), of.k.row_stride, total - j < n ? total - j : n, of.head_size,
                       scale);
         continue;
      }
      for (Size d = 0; d < of.head_size; d += n) {
         const Size count = of.head_size - d < n ? of.head_size - d : n;
         Pack<T> rows[n];
         for (int i = 0; i < n; ++i)
            rows[i] =
               j + i < total ? load_some<n>(of.key(b, head, j + i) + d, count) * splat<Pack<T>>(scale) : Pack<T>{};
         transpose(rows);
         for (Size i = 0; i < count; ++i)
            store(to + (d + i) * panel, rows[i]);
      }
   }
   for (Size j = 0; j < total; ++j) {
      const T *const from = of.value(b, head, j);
      T *const to = work.values + j * work.value_columns;
      for (Size d = 0; d < work.value_columns; d += n) {
         const Size count = of.value_size - d < n ? of.value_size - d : n;
         store(to + d, count > 0 ? load_some<n>(from + d, count) : Pack<T>{});
      }
   }
}

/// Adds a mask of numbers to all fits; or replaces by `fill` what a mask of bools says.
template <class T, class M>
SOFIE_INLINE void mask_all(T *__restrict fits, const M *__restrict mask, Size count, T fill)
{
   constexpr int n = lanes<T>;
   if constexpr (std::is_same_v<M, bool>) {
      for (Size j = 0; j < count; ++j)
         fits[j] = mask[j] ? fits[j] : fill;
   } else {
      Size j = 0;
      for (; j + n <= count; j += n)
         store(fits + j, load<n>(fits + j) + load<n>(mask + j));
      if (j < count)
         store_some(fits + j, load_some<n>(fits + j, count - j) + load_some<n>(mask + j, count - j), count - j);
   }
}

/// `count` times the same number.
template <class T>
SOFIE_INLINE void fill_some(T *to, Size count, T value)
{
   constexpr int n = lanes<T>;
   for (Size j = 0; j < count; j += n)
      store_some(to + j, splat<Pack<T>>(value), count - j < n ? count - j : n);
}

/// Adds the mask to the fits of one query, -inf where it may not attend; whether it attends at all.
template <class T, class M>
SOFIE_INLINE bool mask_row(const AttentionRule &rule, T *__restrict fits, const M *__restrict mask, AttendedKeys keys,
                           Size columns)
{
   const T lowest = static_cast<T>(-__builtin_inf());
   fill_some(fits, keys.first, lowest);
   fill_some(fits + keys.end, columns - keys.end, lowest);
   if (!mask)
      return keys.first < keys.end;
   if (rule.plain) {
      mask_all(fits, mask, keys.end, static_cast<T>(rule.fill));
      return true;
   }
   bool any = false;
   for (Size j = keys.first; j < keys.end; ++j) {
      bool attends;
      if constexpr (std::is_same_v<M, bool>)
         attends = mask[j];
      else
         attends = mask[j] != lowest;
      any |= attends;
      if (!attends)
         fits[j] = lowest;
      else if constexpr (!std::is_same_v<M, bool>)
         fits[j] += mask[j];
   }
   return any;
}

/// e^(fit - largest fit) for each key, and their sum; zeros and 1 where all fits are -inf, but NaN
/// where that is wanted.
template <class T>
SOFIE_INLINE T exponentials(T *__restrict fits, Size columns, bool attends, bool nans)
{
   constexpr int n = lanes<T>;
   using V = Pack<T>;
   const T lowest = static_cast<T>(-__builtin_inf());
   V most = splat<V>(lowest);
   for (Size j = 0; j < columns; j += n) {
      const V v = load<n>(fits + j);
      most = select((most > v) | (most != most), most, v);
   }
   const T largest = largest_of_lanes(most);
   if (!nans && (!attends || largest == lowest)) {
      for (Size j = 0; j < columns; j += n)
         store(fits + j, V{});
      return 1;
   }
   V sum[2] = {};
   for (Size j = 0; j < columns; j += 2 * n)
   SOFIE_UNROLL_ALL
      for (int c = 0; c < 2; ++c) {
         const V grown = exp(load<n>(fits + j + c * n) - splat<V>(largest));
         store(fits + j + c * n, grown);
         sum[c] += grown;
      }
   return sum_of_lanes(sum[0] + sum[1]);
}

/// Turns the fits of one query into weights, but for their common divisor, which is returned.
template <class T, class M>
SOFIE_KERNEL T weigh(const AttentionData<T, M> &of, T *fits, Size columns, Size valid, Size b, Size head, Size query)
{
   constexpr int n = lanes<T>;
   const Size total = of.total();
   T *const scores = of.scores ? of.scores + ((b * of.heads + head) * of.queries + query) * total : nullptr;
   if (scores && of.rule.scores_mode == 0)
      copy_numbers(scores, fits, total);
   if (of.rule.softcap > 0) {
      const Pack<T> cap = splat<Pack<T>>(static_cast<T>(of.rule.softcap));
      for (Size j = 0; j < columns; j += n)
         store(fits + j, cap * tanh(load<n>(fits + j) / cap));
   }
   if (scores && of.rule.scores_mode == 1)
      copy_numbers(scores, fits, total);
   const AttentionMask<M> &mask = of.mask;
   const M *const row = mask.data ? mask.data + b * mask.batch_stride + head * mask.head_stride + query * mask.row_stride : nullptr;
   const bool attends = mask_row(of.rule, fits, row, attended_keys(of, valid, query), columns);
   if (scores && of.rule.scores_mode == 2)
      copy_numbers(scores, fits, total);
   const T divisor = exponentials(fits, columns, attends, of.rule.plain && total > 0);
   if (scores && of.rule.scores_mode == 3)
      for (Size j = 0; j < total; j += n) {
         const Size count = total - j < n ? total - j : n;
         store_some(scores + j, load<n>(fits + j) / splat<Pack<T>>(divisor), count);
      }
   return divisor;
}

/// Answers one query.
template <class T, class M>
SOFIE_KERNEL void answer(const AttentionData<T, M> &of, const AttentionWork<T> &work, Size valid, Size b, Size head, Size query)
{
   constexpr int n = lanes<T>, panel = 2 * n;
   for (Size j = 0; j < work.columns; j += panel)
      small_product<1, 2>(work.fits + j, 0, of.q.row(b, head, query), 0, 1, work.keys + j * of.head_size, panel, of.head_size);
   const Pack<T> divisor = splat<Pack<T>>(weigh(of, work.fits, work.columns, valid, b, head, query));
   T *const to = of.y.row(b, head, query);
   for (Size d = 0; d < of.value_size; d += panel) {
      T sums[panel];
      small_product<1, 2>(sums, 0, work.fits, 0, 1, work.values + d, work.value_columns, valid);
      for (Size c = 0; c < panel && d + c < of.value_size; c += n) {
         const Size left = of.value_size - d - c;
         store_some(to + d + c, load<n>(sums + c) / divisor, left < n ? left : n);
      }
   }
}

/// All keys, or all values, one head after the other: those of the past, then those that are new.
template <class T>
SOFIE_KERNEL void concatenate_heads(T *to, const Heads<const T> &past, const Heads<const T> &fresh, Size batch, Size heads,
                                    Size past_rows, Size rows, Size size)
{
   for (Size b = 0; b < batch; ++b)
      for (Size h = 0; h < heads; ++h)
         for (Size j = 0; j < past_rows + rows; ++j, to += size)
            copy_numbers(to, j < past_rows ? past.row(b, h, j) : fresh.row(b, h, j - past_rows), size);
}

/// From how many queries on they are answered side by side.
template <class T>
inline constexpr Size least_block = lanes<T> / 2;
#ifdef SOFIE_AVX512_ASSEMBLER
template <>
inline constexpr Size least_block<float> = 1;
#endif

template <class T, class M>
SOFIE_KERNEL void attend(const AttentionData<T, M> &of)
{
   if (of.present_key)
      concatenate_heads(of.present_key, of.past_k, of.k, of.batch, of.key_heads, of.past, of.keys, of.head_size);
   if (of.present_value)
      concatenate_heads(of.present_value, of.past_v, of.v, of.batch, of.key_heads, of.past, of.keys, of.value_size);
   const T scale = static_cast<T>(of.rule.has_scale ? of.rule.scale : 1 / __builtin_sqrt(static_cast<double>(of.head_size)));
   const Size group = of.key_heads > 0 ? of.heads / of.key_heads : 0, total = of.total();
   const bool many = of.queries >= least_block<T> && !of.scores;
   const AttentionWork<T> work = work_of(of);
   QueryBlock<T> block = block_of(of);
   for (Size b = 0; b < of.batch; ++b) {
      Size valid = total;
      if (of.valid_keys)
         valid = of.valid_keys[b] < 0 ? 0 : of.valid_keys[b] < total ? static_cast<Size>(of.valid_keys[b]) : total;
      for (Size h = 0; h < of.heads; ++h)
         if (many) {
            if (h % group == 0)
               find_head(of, block, b, h / group);
            answer_blocks(of, block, valid, scale, b, h);
         } else {
            if (h % group == 0)
               gather_head(of, work, b, h / group, scale);
            for (Size i = 0; i < of.queries; ++i)
               answer(of, work, valid, b, h, i);
         }
   }
}

template <class M>
struct MaskElement {
   using type = std::remove_const_t<typename M::Element>;
};
template <>
struct MaskElement<NoTensor> {
   using type = bool;
};

template <class V>
SOFIE_INLINE Size past_rows(const V &past)
{
   return past.template extent<2>();
}
SOFIE_INLINE Size past_rows(NoTensor)
{
   return 0;
}

/// ONNX's Attention on [batch, head, row, element], or with `HeadsLast` on [batch, row, head,
/// element]; what is of the past or of the present always is of the former form.
template <bool HeadsLast, class Y, class PresentK, class PresentV, class Scores, class Work, class Q, class K, class V,
          class Mask, class PastK, class PastV, class Valid>
SOFIE_INLINE void attention(const AttentionRule &rule, Y y, PresentK present_key, PresentV present_value, Scores scores,
                            Work work, Q q, K k, V v, Mask mask, PastK past_key, PastV past_value, Valid valid)
{
   using T = typename Y::Element;
   using M = typename MaskElement<Mask>::type;
   constexpr int head = HeadsLast ? 2 : 1, row = HeadsLast ? 1 : 2;
   AttentionData<T, M> of{};
   of.rule = rule;
   of.batch = q.template extent<0>();
   of.heads = q.template extent<head>();
   of.key_heads = k.template extent<head>();
   of.queries = q.template extent<row>();
   of.past = past_rows(past_key);
   of.keys = k.template extent<row>();
   of.head_size = q.template extent<3>();
   of.value_size = v.template extent<3>();
   of.y = heads_of<HeadsLast>(y);
   of.present_key = data_of(present_key);
   of.present_value = data_of(present_value);
   of.scores = data_of(scores);
   of.work = data_of(work);
   of.q = heads_of<HeadsLast>(q);
   of.k = heads_of<HeadsLast>(k);
   of.v = heads_of<HeadsLast>(v);
   of.past_k = heads_or_none<false, const T>(past_key);
   of.past_v = heads_or_none<false, const T>(past_value);
   of.mask = mask_of<M>(mask);
   of.valid_keys = data_of(valid);
   attend(of);
}

/// Where the vectors of all heads are, by the strides of batch, head and row.
template <class T>
SOFIE_INLINE Heads<T> heads_at(T *data, const Sizes<3> &strides)
{
   return {data, strides[0], strides[1], strides[2]};
}

/// Batch, heads, queries, keys, head_size, value_size; and where the vectors of each tensor are.
struct AttentionSizes {
   Sizes<6> sizes;
   Sizes<3> y, q, k, v;
};

/// y = softmax(scale * q k^T + mask) v
template <class Y, class Work, class Q, class K, class V, class Mask>
SOFIE_INLINE void softmax_attention(const AttentionRule &rule, const AttentionSizes &at, Y y, Work work, Q q, K k, V v,
                                    Mask mask)
{
   using T = typename Y::Element;
   using M = typename MaskElement<Mask>::type;
   const Sizes<6> &sizes = at.sizes;
   AttentionData<T, M> of{};
   of.rule = rule;
   of.batch = sizes[0];
   of.heads = of.key_heads = sizes[1];
   of.queries = sizes[2];
   of.keys = sizes[3];
   of.head_size = sizes[4];
   of.value_size = sizes[5];
   of.work = work.data();
   of.y = heads_at(y.data(), at.y);
   of.q = heads_at(q.data(), at.q);
   of.k = heads_at(k.data(), at.k);
   of.v = heads_at(v.data(), at.v);
   of.mask = mask_of<M>(mask);
   attend(of);
}

} // namespace sofie

SOFIE_END

#endif
