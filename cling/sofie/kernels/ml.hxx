/// \file
/// What classical models need beside linear algebra: lookups, support vectors, n-grams.
#ifndef SOFIE_KERNELS_ML_HXX
#define SOFIE_KERNELS_ML_HXX

#include "sofie/kernels/elementwise/map.hxx"
#include "sofie/math.hxx"

SOFIE_BEGIN

namespace sofie {

/// The quantile of the normal distribution: an approximation in the nearer tail, then two steps of
/// Halley's method on the distribution function itself.
inline double probit(double p)
{
   if (!(p > 0 && p < 1))
      return p == 0 ? -__builtin_inf() : p == 1 ? __builtin_inf() : __builtin_nan("");
   if (p == 0.5)
      return 0;
   const double tail = p < 0.5 ? p : 1 - p;
   // x = -t + (a rational function of t), t = sqrt(-2 ln p): within 0.004.
   const double t = __builtin_sqrt(-2 * __builtin_log(tail));
   double x = (2.30753 + 0.27061 * t) / (1 + t * (0.99229 + 0.04481 * t)) - t;
   for (int step = 0; step < 3; ++step) {
      constexpr double sqrt_half = 0.70710678118654752440, sqrt_two_pi = 2.5066282746310005024;
      // Near the middle from there, so that the result is exact where it is nearly 0.
      const double off =
         tail < 0.25 ? 0.5 * __builtin_erfc(-x * sqrt_half) - tail : 0.5 * __builtin_erf(x * sqrt_half) - (tail - 0.5);
      const double newton = off * sqrt_two_pi * __builtin_exp(0.5 * x * x);
      x -= newton / (1 + 0.5 * x * newton);
   }
   return p < 0.5 ? x : -x;
}

/// Element-wise.
struct Probit {
   template <class V>
   SOFIE_INLINE V operator()(V x) const
   {
      V y{};
      for (int i = 0; i < width<V>; ++i)
         y[i] = static_cast<ElementOf<V>>(probit(static_cast<double>(x[i])));
      return y;
   }
};

/// Whether `key` stands before `x` in an order in which NaN is the last.
template <class T>
SOFIE_INLINE bool before(T key, T x)
{
   return key < x || (x != x && key == key);
}

/// y = values[i] where keys[i] = x, else the last of the values.
template <class Y, class X, class Keys, class Values>
SOFIE_KERNEL void lookup(Y y, X x, Keys keys, Values values)
{
   const Size count = keys.size();
   for (Size i = 0; i < x.size(); ++i) {
      const auto wanted = x.data()[i];
      Size low = 0, high = count;
      while (low < high) {
         const Size middle = low + (high - low) / 2;
         if (before(keys.data()[middle], wanted))
            low = middle + 1;
         else
            high = middle;
      }
      const bool found = low < count && !before(wanted, keys.data()[low]);
      y.data()[i] = values.data()[found ? low : count];
   }
}

/// y[n, i] = x[n] is categories[i]. Without `Zeros` each number must be a category.
template <bool Zeros, class Y, class X, class Known>
SOFIE_KERNEL void categories(Y y, X x, Known known)
{
   const Size count = known.size();
   for (Size n = 0; n < x.size(); ++n) {
      bool found = false;
      for (Size i = 0; i < count; ++i) {
         const bool same = x.data()[n] == known.data()[i];
         y.data()[n * count + i] = same ? 1.0f : 0.0f;
         found = found || same;
      }
      if (!Zeros && !found)
         throw std::invalid_argument("OneHotEncoder: a number is none of the categories");
   }
}

/// y[n, s] = sum_k (x[n, k] - v[s, k])^2
template <class T>
SOFIE_KERNEL void squared_distance_rows(T *y, const T *x, const T *v, Size events, Size vectors, Size count)
{
   constexpr int n = lanes<T>;
   for (Size e = 0; e < events; ++e)
      for (Size s = 0; s < vectors; ++s) {
         const T *const a = x + e * count;
         const T *const b = v + s * count;
         Pack<T> sum{};
         Size k = 0;
         for (; k + n <= count; k += n) {
            const Pack<T> apart = load<n>(a + k) - load<n>(b + k);
            sum = multiply_add(apart, apart, sum);
         }
         if (k < count) {
            const Pack<T> apart = load_some<n>(a + k, count - k) - load_some<n>(b + k, count - k);
            sum = multiply_add(apart, apart, sum);
         }
         T total = 0;
         for (int i = 0; i < n; ++i)
            total += sum[i];
         y[e * vectors + s] = total;
      }
}

template <class Y, class X, class W>
SOFIE_INLINE void squared_distances(Y y, X x, W v)
{
   squared_distance_rows(y.data(), x.data(), v.data(), x.template extent<0>(), v.template extent<0>(),
                         x.template extent<1>());
}

/// Class probabilities p from those of pairs; see `PairwiseProbabilities` in sofie_rdf/ops/ml.py.
inline void couple(const double *r, double *q, double *p, double *qp, Size classes)
{
   for (Size i = 0; i < classes; ++i) {
      double diagonal = 0;
      for (Size j = 0; j < classes; ++j) {
         q[i * classes + j] = -r[j * classes + i] * r[i * classes + j];
         if (j != i)
            diagonal += r[j * classes + i] * r[j * classes + i];
      }
      q[i * classes + i] = diagonal;
      p[i] = 1 / static_cast<double>(classes);
   }
   const Size rounds = classes > 100 ? classes : 100;
   for (Size round = 0; round < rounds; ++round) {
      double pqp = 0, off = 0;
      for (Size i = 0; i < classes; ++i) {
         qp[i] = 0;
         for (Size j = 0; j < classes; ++j)
            qp[i] += q[i * classes + j] * p[j];
         pqp += p[i] * qp[i];
      }
      for (Size i = 0; i < classes; ++i) {
         const double apart = qp[i] > pqp ? qp[i] - pqp : pqp - qp[i];
         off = apart > off || apart != apart ? apart : off;
      }
      if (off < 0.005 / static_cast<double>(classes))
         return;
      for (Size t = 0; t < classes; ++t) {
         const double step = (pqp - qp[t]) / q[t * classes + t];
         p[t] += step;
         pqp = (pqp + step * (step * q[t * classes + t] + 2 * qp[t])) / ((1 + step) * (1 + step));
         for (Size j = 0; j < classes; ++j) {
            qp[j] = (qp[j] + step * q[t * classes + j]) / (1 + step);
            p[j] /= 1 + step;
         }
      }
   }
}

/// `memory` holds two matrices and two lists of one event.
template <class Y, class Memory, class X, class A, class B>
SOFIE_KERNEL void pairwise_probabilities(Y y, Memory memory, X x, A a, B b)
{
   const Size classes = y.template extent<1>(), pairs = x.template extent<1>();
   double *const r = memory.data(), *const q = r + classes * classes;
   double *const p = q + classes * classes, *const qp = p + classes;
   for (Size n = 0; n < y.template extent<0>(); ++n) {
      Size pair = 0;
      for (Size i = 0; i < classes; ++i) {
         r[i * classes + i] = 0;
         for (Size j = i + 1; j < classes; ++j, ++pair) {
            const double exponent =
               static_cast<double>(a.data()[pair]) * static_cast<double>(x.data()[n * pairs + pair]) +
               static_cast<double>(b.data()[pair]);
            double won = 1 / (1 + __builtin_exp(exponent));
            won = won < 1e-7 ? 1e-7 : won > 1 - 1e-7 ? 1 - 1e-7 : won;
            r[i * classes + j] = won;
            r[j * classes + i] = 1 - won;
         }
      }
      couple(r, q, p, qp, classes);
      for (Size c = 0; c < classes; ++c)
         y.data()[n * classes + c] = static_cast<typename Y::Element>(p[c]);
   }
}

/// Which n-grams are looked for, and what a found one counts: see `NGrams` in sofie_rdf/ops/ml.py.
struct NGramLimits {
   Size min_length, max_length, max_skip;
   int mode;
};

/// How often the tokens follow each other in a row, at all distances that are allowed.
inline Size times_found(const std::int64_t *row, Size count, const std::int64_t *tokens, Size length, Size max_skip)
{
   Size times = 0;
   for (Size distance = 1; distance <= (length == 1 ? 1 : max_skip + 1); ++distance) {
      if (length > 1 && distance > (count - 1) / (length - 1))
         break;
      for (Size at = 0; at + distance * (length - 1) < count; ++at) {
         Size same = 0;
         while (same < length && row[at + same * distance] == tokens[same])
            ++same;
         times += same == length ? 1 : 0;
      }
   }
   return times;
}

template <class Y, class X, class Pool, class W>
SOFIE_KERNEL void n_grams(const NGramLimits &limits, Y y, X x, Pool pool, W weights)
{
   const Size outputs = y.template extent<1>(), count = x.template extent<1>();
   const Size stride = pool.template extent<1>();
   for (Size n = 0; n < y.template extent<0>(); ++n) {
      float *const to = y.data() + n * outputs;
      for (Size i = 0; i < outputs; ++i)
         to[i] = 0;
      for (Size g = 0; g < pool.template extent<0>(); ++g) {
         const std::int64_t *const gram = pool.data() + g * stride;
         if (gram[0] < limits.min_length || gram[0] > limits.max_length)
            continue;
         if (gram[1] < 0 || gram[1] >= outputs)
            throw std::out_of_range("n-grams: one counts for an output that does not exist");
         Size times = times_found(x.data() + n * count, count, gram + 2, gram[0], limits.max_skip);
         if (limits.mode == 1 && times > 1)
            times = 1;
         to[gram[1]] += static_cast<float>(times) * (limits.mode == 0 ? 1.0f : weights.data()[g]);
      }
   }
}

} // namespace sofie

SOFIE_END

#endif
