/// \file
/// Attention: what a query takes from the values, by how well it fits their keys.
///
/// Queries are answered side by side (`attention/block.hxx`). The result of a query has the same bits in any batch.
#ifndef SOFIE_KERNELS_ATTENTION_HXX
#define SOFIE_KERNELS_ATTENTION_HXX

#include "sofie/kernels/attention/block.hxx"
#include "sofie/math.hxx"

SOFIE_BEGIN

namespace sofie {

/// All keys, or all values, one head after the other: those of the past, then those that are new.
template <class T>
SOFIE_KERNEL void concatenate_heads(T *to, const Heads<const T> &past, const Heads<const T> &fresh, Size batch,
                                    Size heads, Size past_rows, Size rows, Size size)
{
   for (Size b = 0; b < batch; ++b)
      for (Size h = 0; h < heads; ++h)
         for (Size j = 0; j < past_rows + rows; ++j, to += size)
            copy_numbers(to, j < past_rows ? past.row(b, h, j) : fresh.row(b, h, j - past_rows), size);
}

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

/// Answers all queries, as many side by side as registers have lanes.
template <class T, class M>
SOFIE_KERNEL void attend(const AttentionData<T, M> &of)
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

/// ONNX's Attention.
template <bool HeadsLast, class... Views>
SOFIE_INLINE void attention(const AttentionRule &rule, Views... views)
{
   attend(attention_data<HeadsLast>(rule, AttentionViews<Views...>{views...}));
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

/// y = softmax(scale * q k^T + mask) v
template <class... Views>
SOFIE_INLINE void softmax_attention(const AttentionRule &rule, const AttentionSizes &at, Views... views)
{
   attend(softmax_attention_data(rule, at, views...));
}

} // namespace sofie

SOFIE_END

#endif
