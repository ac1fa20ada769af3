/// \file
/// Attention: what a query takes from the values, by how well it fits their keys.
///
/// The keys of a head are transposed and its values are made dense once; then a few queries
/// at a time take two products of matrices, and a softmax in between. The result of a query has the
/// same bits in any batch.
#ifndef SOFIE_KERNELS_ATTENTION_HXX
#define SOFIE_KERNELS_ATTENTION_HXX

#include "sofie/kernels/linear.hxx"
#include "sofie/kernels/normalization.hxx"

SOFIE_BEGIN

namespace sofie {

/// The attributes of ONNX's Attention. A window that is not negative bounds the keys on its side.
struct AttentionRule {
   double scale;
   bool has_scale;
   double softcap;
   bool causal;
   Size left_window, right_window;
   int scores_mode;
   /// As an addition and a softmax one after the other: what is masked by a bool becomes `fill`, and
   /// a query whose fits are all -inf gets NaN.
   bool plain = false;
   double fill = 0;
};

/// Vectors of all heads: [batch, head, row, element], or [batch, row, head, element].
template <class T>
struct Heads {
   T *data;
   Size batch_stride, head_stride, row_stride;

   SOFIE_INLINE T *row(Size batch, Size head, Size i) const
   {
      return data + batch * batch_stride + head * head_stride + i * row_stride;
   }
};

template <bool HeadsLast, class V>
SOFIE_INLINE Heads<typename V::Element> heads_of(const V &view)
{
   const Size outer = view.template size_from<1>(), middle = view.template size_from<2>(),
              inner = view.template size_from<3>();
   if constexpr (HeadsLast)
      return {view.data(), outer, inner, middle};
   else
      return {view.data(), outer, middle, inner};
}
template <bool HeadsLast, class T>
SOFIE_INLINE Heads<T> heads_or_none(NoTensor)
{
   return {nullptr, 0, 0, 0};
}
template <bool HeadsLast, class T, class V>
SOFIE_INLINE Heads<T> heads_or_none(const V &view)
{
   return heads_of<HeadsLast>(view);
}

/// A mask of bools or of numbers, broadcast by strides of 0. Keys behind its end are masked.
template <class M>
struct AttentionMask {
   const M *data = nullptr;
   Size batch_stride = 0, head_stride = 0, row_stride = 0, keys = 0;
};

template <class M>
SOFIE_INLINE AttentionMask<M> mask_of(NoTensor)
{
   return {};
}
template <class M, class V>
SOFIE_INLINE AttentionMask<M> mask_of(const V &view)
{
   return {view.data(), view.template stride<0>(), view.template stride<1>(), view.template stride<2>(),
           view.template extent<3>()};
}

template <class T, class M>
struct AttentionData {
   AttentionRule rule;
   Size batch, heads, key_heads, queries, past, keys, head_size, value_size;
   Heads<T> y;
   T *present_key, *present_value, *scores, *work;
   Heads<const T> q, k, v, past_k, past_v;
   AttentionMask<M> mask;
   const std::int64_t *valid_keys;

   SOFIE_INLINE Size total() const { return past + keys; }
   SOFIE_INLINE const T *key(Size b, Size head, Size j) const
   {
      return j < past ? past_k.row(b, head, j) : k.row(b, head, j - past);
   }
   SOFIE_INLINE const T *value(Size b, Size head, Size j) const
   {
      return j < past ? past_v.row(b, head, j) : v.row(b, head, j - past);
   }
};

/// A whole number of blocks of columns that is not below `count`.
template <class T>
SOFIE_INLINE Size padded_columns(Size count)
{
   constexpr Size block = 2 * lanes<T>;
   return (count + block - 1) / block * block;
}

/// sum += the products of `Steps` steps, summed by themselves: sums of sums lose fewer digits.
template <int Steps, int Rows, int Packs, class T>
SOFIE_INLINE void add_steps(Pack<T> (&sum)[Rows][Packs], const T *__restrict x, Size x_stride, const T *__restrict w,
                            Size w_stride)
{
   Pack<T> part[Rows][Packs];
   SOFIE_UNROLL_ALL
   for (int r = 0; r < Rows; ++r)
      SOFIE_UNROLL_ALL
      for (int j = 0; j < Packs; ++j)
         part[r][j] = Pack<T>{};
   SOFIE_UNROLL_ALL
   for (int step = 0; step < Steps; ++step)
      tile_step<Rows, Packs>(x + step, x_stride, w + step * w_stride, part);
   SOFIE_UNROLL_ALL
   for (int r = 0; r < Rows; ++r)
      SOFIE_UNROLL_ALL
      for (int j = 0; j < Packs; ++j)
         sum[r][j] += part[r][j];
}

/// y[r][j] = sum_k x[r][k] * w[k][j] for whole packs of columns.
template <int Rows, int Packs, class T>
SOFIE_KERNEL void small_product(T *__restrict y, Size y_stride, const T *__restrict x, Size x_stride, const T *__restrict w,
                                Size w_stride, Size depth)
{
   Pack<T> sum[Rows][Packs];
   SOFIE_UNROLL_ALL
   for (int r = 0; r < Rows; ++r)
      SOFIE_UNROLL_ALL
      for (int j = 0; j < Packs; ++j)
         sum[r][j] = Pack<T>{};
   Size k = 0;
   for (; k + 16 <= depth; k += 16)
      add_steps<16>(sum, x + k, x_stride, w + k * w_stride, w_stride);
   for (; k + 4 <= depth; k += 4)
      add_steps<4>(sum, x + k, x_stride, w + k * w_stride, w_stride);
   for (; k < depth; ++k)
      tile_step<Rows, Packs>(x + k, x_stride, w + k * w_stride, sum);
   SOFIE_UNROLL_ALL
   for (int r = 0; r < Rows; ++r)
      SOFIE_UNROLL_ALL
      for (int j = 0; j < Packs; ++j)
         store(y + r * y_stride + j * lanes<T>, sum[r][j]);
}

/// How many queries are answered together.
inline constexpr Size queries_at_once = 16;

/// The memory of one head while its queries are answered.
template <class T>
struct AttentionWork {
   T *keys;   ///< [panel][head_size][2 packs]: the transposed keys, times the scale
   T *values; ///< [total][value_columns]
   T *fits;   ///< [queries_at_once][columns]
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
      for (Size d = 0; d < of.head_size; d += n) {
         const Size count = of.head_size - d < n ? of.head_size - d : n;
         Pack<T> rows[n];
         for (int i = 0; i < n; ++i)
            rows[i] = j + i < total ? load_some<n>(of.key(b, head, j + i) + d, count) * splat<Pack<T>>(scale) : Pack<T>{};
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

/// Which keys a query may attend to, apart from what a mask says: `first` to `end`, without `end`.
struct AttendedKeys {
   Size first, end;
};

template <class T, class M>
SOFIE_INLINE AttendedKeys attended_keys(const AttentionData<T, M> &of, Size valid, Size query)
{
   const Size place = query + (of.past > 0 || !of.valid_keys ? of.past : valid - of.queries);
   AttendedKeys found{0, valid};
   if (of.mask.data && of.mask.keys < found.end)
      found.end = of.mask.keys;
   if (of.rule.causal && place + 1 < found.end)
      found.end = place + 1;
   if (of.rule.right_window >= 0 && of.rule.right_window < of.total() && place + of.rule.right_window + 1 < found.end)
      found.end = place + of.rule.right_window + 1;
   if (of.rule.left_window >= 0 && of.rule.left_window < of.total() + of.queries && place - of.rule.left_window > 0)
      found.first = place - of.rule.left_window;
   if (found.end < 0)
      found.end = 0;
   if (found.first > found.end)
      found.first = found.end;
   return found;
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

template <class T>
SOFIE_INLINE void copy_numbers(T *to, const T *from, Size count)
{
   if (count > 0)
      __builtin_memcpy(to, from, static_cast<std::size_t>(count) * sizeof(T));
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

/// What `Rows` queries take from the values; their weights begin at `fits`.
template <int Rows, class T, class M>
SOFIE_INLINE void take_values(const AttentionData<T, M> &of, const AttentionWork<T> &work, const T *fits, const T *divisors,
                              Size valid, Size b, Size head, Size query)
{
   constexpr int n = lanes<T>;
   alignas(64) T sums[Rows * 2 * n];
   for (Size d = 0; d < of.value_size; d += 2 * n) {
      if (of.value_size - d <= n)
         small_product<Rows, 1>(sums, 2 * n, fits, work.columns, work.values + d, work.value_columns, valid);
      else
         small_product<Rows, 2>(sums, 2 * n, fits, work.columns, work.values + d, work.value_columns, valid);
      for (int r = 0; r < Rows; ++r)
         for (int c = 0; c < 2; ++c) {
            const Size left = of.value_size - d - c * n;
            if (left > 0)
               store_some(of.y.row(b, head, query + r) + d + c * n,
                          load<n>(sums + (r * 2 + c) * n) / splat<Pack<T>>(divisors[r]), left < n ? left : n);
         }
   }
}

/// Answers `count` queries from `query` on, `Rows` at a time; `count` is at least `Rows`.
template <int Rows, class T, class M>
SOFIE_INLINE void answer(const AttentionData<T, M> &of, const AttentionWork<T> &work, Size valid, Size b, Size head,
                         Size query, Size count)
{
   constexpr int panel = 2 * lanes<T>;
   // The last rows: once more with rows that are done already, which gives them the same values.
   for (Size j = 0; j < work.columns; j += panel)
      for (Size i = 0; i < count; i += Rows) {
         const Size r = i + Rows <= count ? i : count - Rows;
         small_product<Rows, 2>(work.fits + r * work.columns + j, work.columns, of.q.row(b, head, query + r), of.q.row_stride,
                                work.keys + j * of.head_size, panel, of.head_size);
      }
   T divisors[queries_at_once];
   for (Size r = 0; r < count; ++r)
      divisors[r] = weigh(of, work.fits + r * work.columns, work.columns, valid, b, head, query + r);
   for (Size i = 0; i < count; i += Rows) {
      const Size r = i + Rows <= count ? i : count - Rows;
      take_values<Rows>(of, work, work.fits + r * work.columns, divisors + r, valid, b, head, query + r);
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

template <class T, class M>
SOFIE_KERNEL void attend(const AttentionData<T, M> &of)
{
   if (of.present_key)
      concatenate_heads(of.present_key, of.past_k, of.k, of.batch, of.key_heads, of.past, of.keys, of.head_size);
   if (of.present_value)
      concatenate_heads(of.present_value, of.past_v, of.v, of.batch, of.key_heads, of.past, of.keys, of.value_size);
   const AttentionWork<T> work = work_of(of);
   const double scale = of.rule.has_scale ? of.rule.scale : 1 / __builtin_sqrt(static_cast<double>(of.head_size));
   const Size group = of.key_heads > 0 ? of.heads / of.key_heads : 0;
   for (Size b = 0; b < of.batch; ++b) {
      const Size total = of.total();
      Size valid = total;
      if (of.valid_keys)
         valid = of.valid_keys[b] < 0 ? 0 : of.valid_keys[b] < total ? static_cast<Size>(of.valid_keys[b]) : total;
      for (Size h = 0; h < of.heads; ++h) {
         if (h % group == 0)
            gather_head(of, work, b, h / group, static_cast<T>(scale));
         for (Size i = 0; i < of.queries; i += queries_at_once) {
            const Size left = of.queries - i, count = left < queries_at_once ? left : queries_at_once;
            if (count >= 4)
               answer<4>(of, work, valid, b, h, i, count);
            else
               answer<1>(of, work, valid, b, h, i, count);
         }
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

/// y = softmax(scale * q k^T + mask) v; sizes are batch, heads, queries, keys, head_size, value_size.
template <class Y, class Work, class Q, class K, class V, class Mask>
SOFIE_INLINE void softmax_attention(const AttentionRule &rule, const Sizes<6> &sizes, const Sizes<3> &y_strides,
                                    const Sizes<3> &q_strides, const Sizes<3> &k_strides, const Sizes<3> &v_strides, Y y,
                                    Work work, Q q, K k, V v, Mask mask)
{
   using T = typename Y::Element;
   using M = typename MaskElement<Mask>::type;
   AttentionData<T, M> of{};
   of.rule = rule;
   of.batch = sizes[0];
   of.heads = of.key_heads = sizes[1];
   of.queries = sizes[2];
   of.keys = sizes[3];
   of.head_size = sizes[4];
   of.value_size = sizes[5];
   of.work = work.data();
   of.y = heads_at(y.data(), y_strides);
   of.q = heads_at(q.data(), q_strides);
   of.k = heads_at(k.data(), k_strides);
   of.v = heads_at(v.data(), v_strides);
   of.mask = mask_of<M>(mask);
   attend(of);
}

} // namespace sofie

SOFIE_END

#endif
