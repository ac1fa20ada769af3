/// \file
/// Losses of classifications: the logarithm of the probability of the class that it is.
#ifndef SOFIE_KERNELS_LOSSES_HXX
#define SOFIE_KERNELS_LOSSES_HXX

#include "sofie/kernels/softmax.hxx"

SOFIE_BEGIN

namespace sofie {

enum class LossReduction { none, sum, mean };

/// How the losses of samples become the result.
struct LossRule {
   LossReduction reduction;
   bool ignores;
   std::int64_t ignored;
};

/// For a pack of columns the largest of `count` numbers that are `stride` apart, and the logarithm
/// of sum_c e^(x[c] - largest).
template <class T>
struct LogTotal {
   Pack<T> most, rest;

   SOFIE_INLINE LogTotal(const T *x, Size count, Size stride, Size some)
   {
      constexpr int n = lanes<T>;
      using V = Pack<T>;
      most = splat<V>(static_cast<T>(-__builtin_inf()));
      for (Size c = 0; c < count; ++c) {
         const V v = load_some<n>(x + c * stride, some);
         most = select((most > v) | (most != most), most, v);
      }
      V sum{};
      for (Size c = 0; c < count; ++c)
         sum += exp(load_some<n>(x + c * stride, some) - most);
      rest = log(sum);
   }
};

/// The numbers are logarithms already.
template <class T>
struct NoTotal {
   SOFIE_INLINE NoTotal(const T *, Size, Size, Size) {}
};

/// A sum of doubles that is as exact for many as for few: what each addition loses is kept.
class ExactSum {
   double sum_ = 0, lost_ = 0;

public:
   SOFIE_INLINE void add(double x)
   {
      const double next = sum_ + x, taken = next - sum_;
      lost_ += (sum_ - (next - taken)) + (x - taken);
      sum_ = next;
   }
   /// Of numbers that are not all finite, what is lost means nothing.
   SOFIE_INLINE double value() const { return lost_ - lost_ == 0 ? sum_ + lost_ : sum_; }
};

/// The sum of losses and that of weights.
struct LossSum {
   ExactSum loss, weight;
};

/// Samples that stand side by side: where their results, their numbers and their targets begin, and how many they are.
template <class T, class I>
struct LossSamples {
   T *y;
   const T *x;
   const I *target;
   Size some;
};

/// Their losses.
template <bool Scores, class T, class I>
SOFIE_INLINE void losses(LossRule rule, LossSum &total, const LossSamples<T, I> &of, const T *weight, Size classes,
                         Size inner)
{
   T *const y = of.y;
   const T *const x = of.x;
   [[maybe_unused]] const std::conditional_t<Scores, LogTotal<T>, NoTotal<T>> shift(x, classes, inner, of.some);
   for (Size i = 0; i < of.some; ++i) {
      const auto label = static_cast<std::int64_t>(of.target[i]);
      T loss = 0, factor = 0;
      if (!rule.ignores || label != rule.ignored) {
         if (label < 0 || label >= classes)
            throw std::out_of_range("a target of a loss is no class");
         factor = weight ? weight[label] : T(1);
         const T chosen = x[static_cast<Size>(label) * inner + i];
         if constexpr (Scores)
            loss = shift.rest[i] - (chosen - shift.most[i]);
         else
            loss = -chosen;
      }
      if (rule.reduction == LossReduction::none)
         y[i] = loss * factor;
      total.loss.add(static_cast<double>(loss) * static_cast<double>(factor));
      total.weight.add(static_cast<double>(factor));
   }
}

template <bool Scores, class T, class I>
SOFIE_KERNEL void classification_loss(LossRule rule, T *y, const T *x, const I *target, const T *weight, Size outer,
                                      Size classes, Size inner)
{
   LossSum total;
   for (Size o = 0; o < outer; ++o)
      for (Size i = 0; i < inner; i += lanes<T>) {
         const LossSamples<T, I> some{y + (rule.reduction == LossReduction::none ? o * inner + i : 0),
                                      x + o * classes * inner + i, target + o * inner + i,
                                      inner - i < lanes<T> ? inner - i : lanes<T>};
         losses<Scores>(rule, total, some, weight, classes, inner);
      }
   if (rule.reduction == LossReduction::sum)
      *y = static_cast<T>(total.loss.value());
   if (rule.reduction == LossReduction::mean)
      *y = static_cast<T>(total.loss.value() / total.weight.value());
}

template <class T>
SOFIE_INLINE const T *weights_or_null()
{
   return nullptr;
}
template <class T, class W>
SOFIE_INLINE const T *weights_or_null(const W &weight)
{
   return weight.data();
}

/// Losses of x[outer, classes, inner]: of log-probabilities, or of scores, whose log_softmax they are.
template <bool Scores, class Y, class X, class Target, class... Weight>
SOFIE_INLINE void loss(Size reduction, Size ignores, Size ignored, Y y, X x, Target target, Weight... weight)
{
   using T = typename Y::Element;
   const LossRule rule{static_cast<LossReduction>(reduction), ignores != 0, static_cast<std::int64_t>(ignored)};
   classification_loss<Scores>(rule, y.data(), x.data(), target.data(), weights_or_null<T>(weight...),
                               x.template extent<0>(), x.template extent<1>(), x.template extent<2>());
}

/// The same, with the log-probabilities as a result.
template <class Y, class P, class X, class Target, class... Weight>
SOFIE_INLINE void loss_and_log(Size reduction, Size ignores, Size ignored, Y y, P log_probability, X x, Target target,
                               Weight... weight)
{
   log_softmax(log_probability, x);
   loss<false>(reduction, ignores, ignored, y, log_probability, target, weight...);
}

} // namespace sofie

SOFIE_END

#endif
