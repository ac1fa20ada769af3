/// \file
/// Attention: what a query takes from the values, by how well it fits their keys.
///
/// Queries are answered side by side (`attention/block.hxx`) or one by one, as `sofie_rdf/kernels/attention.py` says.
/// One by one the keys of a head are transposed and its values are made dense once, and somebody may see the scores.
/// The result of a query has the same bits in any batch.
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

/// From how many queries on they are answered side by side: the numbers of `kernels/attention.py`.
template <class T>
inline constexpr Size least_block = lanes<T> / 2;
#ifdef SOFIE_AVX512_ASSEMBLER
template <>
inline constexpr Size least_block<float> = 1;
#endif

/// Keys and values behind those of the past, where somebody wants them.
template <class T, class M>
SOFIE_KERNEL void keep_present(const AttentionData<T, M> &of)
{
   if (of.present_key)
      concatenate_heads(of.present_key, of.past_k, of.k, of.batch, of.key_heads, of.past, of.keys, of.head_size);
   if (of.present_value)
      concatenate_heads(of.present_value, of.past_v, of.v, of.batch, of.key_heads, of.past, of.keys, of.value_size);
}

template <class T, class M>
SOFIE_INLINE T scale_of(const AttentionData<T, M> &of)
{
   return static_cast<T>(of.rule.has_scale ? of.rule.scale : 1 / __builtin_sqrt(static_cast<double>(of.head_size)));
}

/// How many keys of an element of the batch count.
template <class T, class M>
SOFIE_INLINE Size valid_keys(const AttentionData<T, M> &of, Size b)
{
   const Size total = of.total();
   if (!of.valid_keys)
      return total;
   return of.valid_keys[b] < 0 ? 0 : of.valid_keys[b] < total ? static_cast<Size>(of.valid_keys[b]) : total;
}

/// Answers as many queries side by side as registers have lanes. Nobody sees the scores.
template <class T, class M>
SOFIE_KERNEL void attend_in_blocks(const AttentionData<T, M> &of)
{
   keep_present(of);
   const T scale = scale_of(of);
   const Size group = of.key_heads > 0 ? of.heads / of.key_heads : 0;
   QueryBlock<T> block = block_of(of);
   for (Size b = 0; b < of.batch; ++b) {
      const Size valid = valid_keys(of, b);
      for (Size h = 0; h < of.heads; ++h) {
         if (h % group == 0)
            find_head(of, block, b, h / group);
         answer_blocks(of, block, valid, scale, b, h);
      }
   }
}

/// Answers one query after the other.
template <class T, class M>
SOFIE_KERNEL void attend_one_by_one(const AttentionData<T, M> &of)
{
   keep_present(of);
   const T scale = scale_of(of);
   const Size group = of.key_heads > 0 ? of.heads / of.key_heads : 0;
   const AttentionWork<T> work = work_of(of);
   for (Size b = 0; b < of.batch; ++b) {
      const Size valid = valid_keys(of, b);
      for (Size h = 0; h < of.heads; ++h) {
         if (h % group == 0)
            gather_head(of, work, b, h / group, scale);
         for (Size i = 0; i < of.queries; ++i)
            answer(of, work, valid, b, h, i);
      }
   }
}

/// More queries than `least_block` is anywhere.
inline constexpr Size many_queries = 64;

/// So many queries side by side; one by one where an instruction set has no blocks of so few.
template <Size Queries, class T, class M>
SOFIE_INLINE void attend_side_by_side(const AttentionData<T, M> &of)
{
   static_assert(least_block<T> <= many_queries);
   if constexpr (Queries >= least_block<T>)
      attend_in_blocks(of);
   else
      attend_one_by_one(of);
}

/// The same rule as that of `kernels/attention.py`, for numbers of queries that are known at run time only.
template <class T, class M>
SOFIE_KERNEL void attend(const AttentionData<T, M> &of)
{
   if (of.queries >= least_block<T>)
      attend_in_blocks(of);
   else
      attend_one_by_one(of);
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

/// The tensors of ONNX's Attention in the order in which a header gives them.
template <class Y, class PresentK, class PresentV, class Scores, class Work, class Q, class K, class V, class Mask,
          class PastK, class PastV, class Valid>
struct AttentionViews {
   using T = typename Y::Element;
   using M = typename MaskElement<Mask>::type;

   Y y;
   PresentK present_key;
   PresentV present_value;
   Scores scores;
   Work work;
   Q q;
   K k;
   V v;
   Mask mask;
   PastK past_key;
   PastV past_value;
   Valid valid;
};

/// Those tensors as [batch, head, row, element], or with `HeadsLast` as [batch, row, head, element]; what is of the
/// past or of the present always is of the former form.
template <bool HeadsLast, class Views, class T = typename Views::T, class M = typename Views::M>
SOFIE_INLINE AttentionData<T, M> attention_data(const AttentionRule &rule, const Views &from)
{
   constexpr int head = HeadsLast ? 2 : 1, row = HeadsLast ? 1 : 2;
   AttentionData<T, M> of{};
   of.rule = rule;
   of.batch = from.q.template extent<0>();
   of.heads = from.q.template extent<head>();
   of.key_heads = from.k.template extent<head>();
   of.queries = from.q.template extent<row>();
   of.past = past_rows(from.past_key);
   of.keys = from.k.template extent<row>();
   of.head_size = from.q.template extent<3>();
   of.value_size = from.v.template extent<3>();
   of.y = heads_of<HeadsLast>(from.y);
   of.present_key = data_of(from.present_key);
   of.present_value = data_of(from.present_value);
   of.scores = data_of(from.scores);
   of.work = data_of(from.work);
   of.q = heads_of<HeadsLast>(from.q);
   of.k = heads_of<HeadsLast>(from.k);
   of.v = heads_of<HeadsLast>(from.v);
   of.past_k = heads_or_none<false, const T>(from.past_key);
   of.past_v = heads_or_none<false, const T>(from.past_value);
   of.mask = mask_of<M>(from.mask);
   of.valid_keys = data_of(from.valid);
   return of;
}

/// ONNX's Attention, its queries side by side or one by one.
template <bool HeadsLast, class... Views>
SOFIE_INLINE void attention(const AttentionRule &rule, Views... views)
{
   attend(attention_data<HeadsLast>(rule, AttentionViews<Views...>{views...}));
}

/// The same of many queries, or of so many.
template <bool HeadsLast, Size Queries = many_queries, class... Views>
SOFIE_INLINE void attention_in_blocks(const AttentionRule &rule, Views... views)
{
   attend_side_by_side<Queries>(attention_data<HeadsLast>(rule, AttentionViews<Views...>{views...}));
}

/// The same one by one, with or without scores.
template <bool HeadsLast, class... Views>
SOFIE_INLINE void attention_one_by_one(const AttentionRule &rule, Views... views)
{
   attend_one_by_one(attention_data<HeadsLast>(rule, AttentionViews<Views...>{views...}));
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

/// What y = softmax(scale * q k^T + mask) v is computed from.
template <class Y, class Work, class Q, class K, class V, class Mask>
SOFIE_INLINE auto softmax_attention_data(const AttentionRule &rule, const AttentionSizes &at, Y y, Work work, Q q, K k,
                                         V v, Mask mask)
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
   return of;
}

/// y = softmax(scale * q k^T + mask) v, its queries side by side or one by one.
template <class... Views>
SOFIE_INLINE void softmax_attention(const AttentionRule &rule, const AttentionSizes &at, Views... views)
{
   attend(softmax_attention_data(rule, at, views...));
}

/// The same of many queries, or of so many.
template <Size Queries = many_queries, class... Views>
SOFIE_INLINE void softmax_attention_in_blocks(const AttentionRule &rule, const AttentionSizes &at, Views... views)
{
   attend_side_by_side<Queries>(softmax_attention_data(rule, at, views...));
}

/// The same one by one.
template <class... Views>
SOFIE_INLINE void softmax_attention_one_by_one(const AttentionRule &rule, const AttentionSizes &at, Views... views)
{
   attend_one_by_one(softmax_attention_data(rule, at, views...));
}

} // namespace sofie

SOFIE_END

#endif
