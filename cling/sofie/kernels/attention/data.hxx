/// \file
/// What attention is computed from: where the vectors of each head are, and which keys a query may attend to.
#ifndef SOFIE_KERNELS_ATTENTION_DATA_HXX
#define SOFIE_KERNELS_ATTENTION_DATA_HXX

#include "sofie/kernels/dense.hxx"
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
   /// a query whose scores are all -inf gets NaN.
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

template <class T>
SOFIE_INLINE void copy_numbers(T *to, const T *from, Size count)
{
   if (count > 0)
      __builtin_memcpy(to, from, static_cast<std::size_t>(count) * sizeof(T));
}

/// sum += the products of `Steps` steps, summed by themselves: sums of sums lose fewer digits.
template <int Steps, int Rows, int Packs, class T>
SOFIE_INLINE void add_steps(Pack<T> (&sum)[Rows][Packs], const T *__restrict x, Size x_stride, Size x_step,
                            const T *__restrict w, Size w_stride)
{
   Pack<T> part[Rows][Packs];
   SOFIE_UNROLL_ALL
   for (int r = 0; r < Rows; ++r)
      SOFIE_UNROLL_ALL
      for (int j = 0; j < Packs; ++j)
         part[r][j] = Pack<T>{};
   SOFIE_UNROLL_ALL
   for (int step = 0; step < Steps; ++step)
      tile_step<Rows, Packs>(x + step * x_step, x_stride, w + step * w_stride, part);
   SOFIE_UNROLL_ALL
   for (int r = 0; r < Rows; ++r)
      SOFIE_UNROLL_ALL
      for (int j = 0; j < Packs; ++j)
         sum[r][j] += part[r][j];
}

/// y[r][j] = sum_k x[r * x_stride + k * x_step] * w[k][j] for whole packs of columns.
template <int Rows, int Packs, class T>
SOFIE_KERNEL void small_product(T *__restrict y, Size y_stride, const T *__restrict x, Size x_stride, Size x_step,
                                const T *__restrict w, Size w_stride, Size depth)
{
   Pack<T> sum[Rows][Packs];
   SOFIE_UNROLL_ALL
   for (int r = 0; r < Rows; ++r)
      SOFIE_UNROLL_ALL
      for (int j = 0; j < Packs; ++j)
         sum[r][j] = Pack<T>{};
   Size k = 0;
   for (; k + 16 <= depth; k += 16)
      add_steps<16>(sum, x + k * x_step, x_stride, x_step, w + k * w_stride, w_stride);
   for (; k + 4 <= depth; k += 4)
      add_steps<4>(sum, x + k * x_step, x_stride, x_step, w + k * w_stride, w_stride);
   for (; k < depth; ++k)
      tile_step<Rows, Packs>(x + k * x_step, x_stride, w + k * w_stride, sum);
   SOFIE_UNROLL_ALL
   for (int r = 0; r < Rows; ++r)
      SOFIE_UNROLL_ALL
      for (int j = 0; j < Packs; ++j)
         store(y + r * y_stride + j * lanes<T>, sum[r][j]);
}

} // namespace sofie

SOFIE_END

#endif
