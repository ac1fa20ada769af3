/// \file
/// Random numbers that depend on a seed and a position alone: see sofie_rdf/ops/random.py.
#ifndef SOFIE_KERNELS_RANDOM_HXX
#define SOFIE_KERNELS_RANDOM_HXX

#include "sofie/circular.hxx"

SOFIE_BEGIN

namespace sofie {

/// Philox 4x32-10 (Salmon, Moraes, Dror and Shaw, 2011) for as many counters as a register holds of
/// doubles. Words of 32 bits stand in the low halves of 64 bits.
class Philox {
public:
   using Words = PackN<std::uint64_t, lanes<double>>;

   explicit Philox(double seed)
   {
      std::uint64_t key;
      __builtin_memcpy(&key, &seed, sizeof key);
      key_[0] = key & low;
      key_[1] = key >> 32;
   }

   /// The two uniform numbers of elements `first`, `first + 1`, ...
   SOFIE_INLINE void uniforms(Size first, Pack<double> &u, Pack<double> &v) const
   {
      Words counter;
      for (int i = 0; i < lanes<double>; ++i)
         counter[i] = static_cast<std::uint64_t>(first + i);
      Words a = counter & low, b = counter >> 32, c{}, d{};
      std::uint64_t k0 = key_[0], k1 = key_[1];
      SOFIE_UNROLL_ALL
      for (int round = 0; round < 10; ++round) {
         const Words left = a * 0xD2511F53u, right = c * 0xCD9E8D57u;
         a = (right >> 32) ^ b ^ k0;
         c = (left >> 32) ^ d ^ k1;
         b = right & low;
         d = left & low;
         k0 = (k0 + 0x9E3779B9u) & low;
         k1 = (k1 + 0xBB67AE85u) & low;
      }
      u = uniform(a, b);
      v = uniform(c, d);
   }

private:
   static constexpr std::uint64_t low = 0xFFFFFFFFu;
   std::uint64_t key_[2];

   static SOFIE_INLINE Pack<double> uniform(Words high_word, Words low_word)
   {
      return __builtin_convertvector(((high_word << 32) | low_word) >> 11, Pack<double>) * splat<Pack<double>>(0x1p-53);
   }
};

struct NormalLaw {
   double mean, scale;

   template <class T>
   SOFIE_INLINE Pack<double> operator()(Pack<double> u, Pack<double> v) const
   {
      using V = Pack<double>;
      const V radius = sqrt(splat<V>(-2) * log1p(-u));
      return splat<V>(mean) + splat<V>(scale) * radius * cos(splat<V>(6.283185307179586477) * v);
   }
};

struct UniformLaw {
   double low, high;

   template <class T>
   SOFIE_INLINE Pack<double> operator()(Pack<double> u, Pack<double>) const
   {
      using V = Pack<double>;
      V y = splat<V>(low) + splat<V>(high - low) * u;
      // Rounded to T, what is just below `high` must stay below it.
      for (int i = 0; i < width<V>; ++i)
         if (static_cast<double>(static_cast<T>(y[i])) >= high && low < high) {
            const T limit = static_cast<T>(high);
            if constexpr (sizeof(T) == 4)
               y[i] = static_cast<double>(limit < high ? limit : __builtin_nextafterf(limit, -__builtin_inff()));
            else
               y[i] = __builtin_nextafter(limit, -__builtin_inf());
         }
      return y;
   }
};

/// y[i] = law(u[i], v[i])
template <class Law, class Y>
SOFIE_KERNEL void draw(double seed, const Law &law, Y y)
{
   using T = typename Y::Element;
   constexpr int n = lanes<double>;
   const Philox philox(seed);
   const Size count = y.size();
   for (Size i = 0; i < count; i += n) {
      Pack<double> u, v;
      philox.uniforms(i, u, v);
      store_some(y.data() + i, convert<T>(law.template operator()<T>(u, v)), count - i < n ? count - i : n);
   }
}

/// The uniform numbers of up to `lanes<double>` elements, for loops over single elements.
struct Uniforms {
   double values[static_cast<std::size_t>(lanes<double>)];

   SOFIE_INLINE Uniforms(const Philox &philox, Size first)
   {
      Pack<double> u, v;
      philox.uniforms(first, u, v);
      store(values, u);
   }
};

/// y[i] = u[i] < x[i]
template <class Y, class X>
SOFIE_KERNEL void bernoulli(double seed, Y y, X x)
{
   using T = typename Y::Element;
   const Philox philox(seed);
   const Size count = y.size();
   for (Size i = 0; i < count; i += lanes<double>) {
      const Uniforms u(philox, i);
      for (Size j = i; j < count && j < i + lanes<double>; ++j)
         y.data()[j] = static_cast<T>(u.values[j - i] < static_cast<double>(x.data()[j]) ? 1 : 0);
   }
}

/// One class for each uniform number, with probabilities in proportion to e^x.
template <class Y, class X>
SOFIE_KERNEL void multinomial(double seed, Y y, X x)
{
   using T = typename Y::Element;
   const Philox philox(seed);
   const Size classes = x.template extent<1>(), samples = y.template extent<1>();
   for (Size n = 0; n < y.template extent<0>(); ++n) {
      const auto *const row = x.data() + n * classes;
      double most = static_cast<double>(row[0]), total = 0;
      for (Size c = 1; c < classes; ++c) {
         const double value = static_cast<double>(row[c]);
         most = most > value || most != most ? most : value;
      }
      for (Size c = 0; c < classes; ++c)
         total += __builtin_exp(static_cast<double>(row[c]) - most);
      for (Size s = 0; s < samples; ++s) {
         const double limit = Uniforms(philox, n * samples + s).values[0] * total;
         double below = 0;
         Size drawn = classes - 1;
         for (Size c = 0; c < classes; ++c) {
            below += __builtin_exp(static_cast<double>(row[c]) - most);
            if (below > limit) {
               drawn = c;
               break;
            }
         }
         y.data()[n * samples + s] = static_cast<T>(drawn);
      }
   }
}

/// y[i] = x[i] / (1 - ratio) where u[i] >= ratio, else 0; `kept` says where.
template <class Y, class Kept, class X, class Ratio, class Training>
SOFIE_KERNEL void random_dropout(double seed, Y y, Kept kept, X x, Ratio ratio, Training training)
{
   using T = typename Y::Element;
   const Philox philox(seed);
   const double share = *training.data() ? *ratio.data() : 0;
   const T scale = static_cast<T>(1 / (1 - share));
   const Size count = y.size();
   for (Size i = 0; i < count; i += lanes<double>) {
      const Uniforms u(philox, i);
      for (Size j = i; j < count && j < i + lanes<double>; ++j) {
         const bool stays = share == 0 || u.values[j - i] >= share;
         kept.data()[j] = stays;
         y.data()[j] = stays ? x.data()[j] * scale : T(0);
      }
   }
}

} // namespace sofie

SOFIE_END

#endif
