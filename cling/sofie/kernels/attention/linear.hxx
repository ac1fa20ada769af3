/// \file
/// LinearAttention: attention without a softmax, as a recurrence of a matrix for each head.
#ifndef SOFIE_KERNELS_ATTENTION_LINEAR_HXX
#define SOFIE_KERNELS_ATTENTION_LINEAR_HXX

#include "sofie/kernels/normalization.hxx"
#include "sofie/math.hxx"

SOFIE_BEGIN

namespace sofie {

/// `scale` 0 stands for 1 / sqrt(size of a key).
struct LinearAttentionRule {
   double scale;
};

/// Queries, keys and values are [batch, time, head, element]; pointers that are null stand for what
/// an update rule does not have.
template <class T>
struct LinearAttentionData {
   double scale;
   Size batch, times, heads, key_heads, key_size, value_size, decay_size, beta_heads;
   T *y, *state, *work;
   const T *q, *k, *v, *past, *decay, *beta;
};

/// How a state is updated: by which factors it decays, if there are some, and whether v is stored, or `beta` times by
/// how much it differs from what is recalled.
template <class T>
struct LinearUpdate {
   const T *factors;
   bool corrects;
   T beta;
};

/// Columns `column` to `column + count` of the state after one step, in which the state is [key,
/// value]: it decays, then k is stored with v, or with by how much v differs from what k recalls.
template <class T>
SOFIE_INLINE void update_columns(T *state, Size stride, const T *k, Size keys, Pack<T> v, const LinearUpdate<T> &how,
                                 Size count)
{
   const T *const factors = how.factors;
   const bool corrects = how.corrects;
   constexpr int n = lanes<T>;
   using V = Pack<T>;
   V recalled{};
   for (Size d = 0; d < keys && (factors || corrects); ++d) {
      V row = load_some<n>(state + d * stride, count);
      if (factors) {
         row *= splat<V>(factors[d]);
         store_some(state + d * stride, row, count);
      }
      recalled = multiply_add(row, splat<V>(k[d]), recalled);
   }
   if (corrects)
      v = (v - recalled) * splat<V>(how.beta);
   for (Size d = 0; d < keys; ++d)
      store_some(state + d * stride, multiply_add(v, splat<V>(k[d]), load_some<n>(state + d * stride, count)), count);
}

/// What a query recalls from the same columns.
template <class T>
SOFIE_INLINE Pack<T> recall_columns(const T *state, Size stride, const T *q, Size keys, Size count)
{
   constexpr int n = lanes<T>;
   Pack<T> sum{};
   for (Size d = 0; d < keys; ++d)
      sum = multiply_add(splat<Pack<T>>(q[d]), load_some<n>(state + d * stride, count), sum);
   return sum;
}

/// One step of one head; `heads` queries read its state.
template <class T>
SOFIE_INLINE void linear_attention_step(const LinearAttentionData<T> &of, T *state, T scale, Size row, Size head)
{
   constexpr int n = lanes<T>;
   const Size group = of.heads / of.key_heads;
   const T *const k = of.k + (row * of.key_heads + head) * of.key_size;
   const T *const v = of.v + (row * of.key_heads + head) * of.value_size;
   T *const factors = of.decay ? of.work : nullptr;
   if (of.decay) {
      const T *const from = of.decay + (row * of.key_heads + head) * of.decay_size;
      for (Size d = 0; d < of.key_size; d += n) {
         const Size count = of.key_size - d < n ? of.key_size - d : n;
         const Pack<T> g = of.decay_size == 1 ? splat<Pack<T>>(from[0]) : load_some<n>(from + d, count);
         store_some(factors + d, exp(g), count);
      }
   }
   const T beta = of.beta ? of.beta[row * of.beta_heads + (of.beta_heads == 1 ? 0 : head)] : T(0);
   for (Size j = 0; j < of.value_size; j += n) {
      const Size count = of.value_size - j < n ? of.value_size - j : n;
      const LinearUpdate<T> how{factors, of.beta != nullptr, beta};
      update_columns(state + j, of.value_size, k, of.key_size, load_some<n>(v + j, count), how, count);
      for (Size g = 0; g < group; ++g) {
         const Size h = row * of.heads + head * group + g;
         const Pack<T> sum = recall_columns(state + j, of.value_size, of.q + h * of.key_size, of.key_size, count);
         store_some(of.y + h * of.value_size + j, sum * splat<Pack<T>>(scale), count);
      }
   }
}

template <class T>
SOFIE_KERNEL void linear_attention_heads(const LinearAttentionData<T> &of)
{
   const double root = __builtin_sqrt(static_cast<double>(of.key_size));
   const T scale = static_cast<T>(of.scale != 0 ? of.scale : 1 / root);
   const Size size = of.key_size * of.value_size;
   for (Size b = 0; b < of.batch; ++b)
      for (Size h = 0; h < of.key_heads; ++h) {
         T *const state = of.state ? of.state + (b * of.key_heads + h) * size : of.work + of.key_size;
         for (Size i = 0; i < size; ++i)
            state[i] = of.past ? of.past[(b * of.key_heads + h) * size + i] : T(0);
         for (Size t = 0; t < of.times; ++t)
            linear_attention_step(of, state, scale, b * of.times + t, h);
      }
}

/// The last extent of a view of four axes; 1 where there is none.
template <class V>
SOFIE_INLINE Size last_extent(const V &view)
{
   return view.template extent<V::rank - 1>();
}
SOFIE_INLINE Size last_extent(NoTensor)
{
   return 1;
}

/// y and the new state, and memory, which are written; q[b, t, heads, key], k[b, t, key heads, key], v[b, t, key heads,
/// value], past[b, key heads, key, value], decay[b, t, key heads, 1 or key] and beta[b, t, 1 or key heads].
template <class Y, class State, class Work, class Q, class K, class V, class Past, class Decay, class Beta>
struct LinearAttentionTensors {
   Y y;
   State state;
   Work work;
   Q q;
   K k;
   V v;
   Past past;
   Decay decay;
   Beta beta;
};
template <class Y, class State, class Work, class Q, class K, class V, class Past, class Decay, class Beta>
LinearAttentionTensors(Y, State, Work, Q, K, V, Past, Decay, Beta)
   -> LinearAttentionTensors<Y, State, Work, Q, K, V, Past, Decay, Beta>;

template <class Tensors>
SOFIE_INLINE void linear_attention(const LinearAttentionRule &rule, const Tensors &given)
{
   using T = typename decltype(given.y)::Element;
   LinearAttentionData<T> of{};
   of.scale = rule.scale;
   of.batch = given.q.template extent<0>();
   of.times = given.q.template extent<1>();
   of.heads = given.q.template extent<2>();
   of.key_heads = given.k.template extent<2>();
   of.key_size = given.q.template extent<3>();
   of.value_size = given.v.template extent<3>();
   of.decay_size = last_extent(given.decay);
   of.beta_heads = last_extent(given.beta);
   of.y = given.y.data();
   of.state = data_of(given.state);
   of.work = given.work.data();
   of.q = given.q.data();
   of.k = given.k.data();
   of.v = given.v.data();
   of.past = data_of(given.past);
   of.decay = data_of(given.decay);
   of.beta = data_of(given.beta);
   linear_attention_heads(of);
}

} // namespace sofie

SOFIE_END

#endif
