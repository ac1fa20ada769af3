/// \file
/// Random numbers that are those of an event: see sofie_rdf/ops/random.py.
#ifndef SOFIE_KERNELS_RANDOM_HXX
#define SOFIE_KERNELS_RANDOM_HXX

#include "sofie/math/circular.hxx"

SOFIE_BEGIN

namespace sofie {

/// What distinguishes an operator from all others of its model, as two words of 32 bits.
struct Stream {
   std::uint64_t low, high;
};

/// The finalizer of SplitMix64.
SOFIE_INLINE std::uint64_t mixed(std::uint64_t x)
{
   x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
   x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
   return x ^ (x >> 31);
}

/// Two uniform numbers for each element of y[before, row, behind], in its order, as many at a time as a register holds
/// of doubles. Philox 4x32-10 (Salmon, Moraes, Dror and Shaw, 2011); words of 32 bits stand in the low halves of 64.
class Draws {
   static constexpr std::uint64_t low = 0xFFFFFFFFu;
   static constexpr int count = lanes<double>;
   static constexpr std::size_t many = static_cast<std::size_t>(count);
   using Words = PackN<std::uint64_t, count>;

   const std::uint64_t *rows_;
   std::uint64_t stream_;
   Size given_, extent_, inner_;
   Size row_ = 0, behind_ = 0, before_ = 0;
   std::uint64_t key_ = 0, entry_ = 0, object_ = 0;

   /// What the row has for all its numbers; without any row it is one of zeros.
   SOFIE_INLINE void begin_row()
   {
      const std::uint64_t none[3] = {0, 0, 0};
      const std::uint64_t *const row = given_ ? rows_ + 3 * row_ : none;
      key_ = mixed(row[0] + stream_);
      entry_ = row[1];
      object_ = row[2] & low;
   }
   SOFIE_INLINE void step()
   {
      if (++behind_ < inner_)
         return;
      behind_ = 0;
      if (++row_ == extent_) {
         row_ = 0;
         ++before_;
      }
      begin_row();
   }
   static SOFIE_INLINE Words words(const std::uint64_t *from)
   {
      Words pack;
      __builtin_memcpy(&pack, from, sizeof pack);
      return pack;
   }
   static SOFIE_INLINE Pack<double> uniform(Words high_word, Words low_word)
   {
      return __builtin_convertvector(((high_word << 32) | low_word) >> 11, Pack<double>) * splat<Pack<double>>(0x1p-53);
   }

public:
   template <class Y, class Rows>
   SOFIE_INLINE Draws(Stream stream, const Y &y, const Rows &rows)
      : rows_(rows.data()), stream_(stream.high << 32 | stream.low), given_(rows.template extent<0>()),
        extent_(y.template extent<1>()), inner_(y.template extent<2>())
   {
      begin_row();
   }

   SOFIE_INLINE void next(Pack<double> &u, Pack<double> &v)
   {
      std::uint64_t number[many], object[many], entry[many], key[many];
      SOFIE_UNROLL_ALL
      for (int i = 0; i < count; ++i) {
         number[i] = static_cast<std::uint64_t>(before_ * inner_ + behind_);
         object[i] = object_;
         entry[i] = entry_;
         key[i] = key_;
         step();
      }
      Words a = words(number) & low, b = words(object), e = words(entry), c = e & low, d = e >> 32;
      Words k = words(key), k0 = k & low, k1 = k >> 32;
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
template <class Law, class Y, class Rows>
SOFIE_KERNEL void draw(Stream stream, const Law &law, Y y, Rows rows)
{
   using T = typename Y::Element;
   constexpr int n = lanes<double>;
   const Size count = y.size();
   if (!count)
      return;
   Draws draws(stream, y, rows);
   for (Size i = 0; i < count; i += n) {
      Pack<double> u, v;
      draws.next(u, v);
      store_some(y.data() + i, convert<T>(law.template operator()<T>(u, v)), count - i < n ? count - i : n);
   }
}

/// The uniform numbers one by one.
class Uniforms {
   Draws draws_;
   double values_[static_cast<std::size_t>(lanes<double>)];
   int left_ = 0;

public:
   SOFIE_INLINE explicit Uniforms(const Draws &draws) : draws_(draws) {}
   SOFIE_INLINE double next()
   {
      if (!left_) {
         Pack<double> u, v;
         draws_.next(u, v);
         store(values_, u);
         left_ = lanes<double>;
      }
      return values_[lanes<double> - left_--];
   }
};

/// y[i] = u[i] < x[i]
template <class Y, class X, class Rows>
SOFIE_KERNEL void bernoulli(Stream stream, Y y, X x, Rows rows)
{
   using T = typename Y::Element;
   const Size count = y.size();
   if (!count)
      return;
   Uniforms u(Draws(stream, y, rows));
   for (Size i = 0; i < count; ++i)
      y.data()[i] = static_cast<T>(u.next() < static_cast<double>(x.data()[i]) ? 1 : 0);
}

/// One class for each uniform number, with probabilities in proportion to e^x.
template <class Y, class X, class Rows>
SOFIE_KERNEL void multinomial(Stream stream, Y y, X x, Rows rows)
{
   using T = typename Y::Element;
   const Size classes = x.template extent<1>(), count = y.size();
   if (!count)
      return;
   const Size samples = count / x.template extent<0>();
   Uniforms u(Draws(stream, y, rows));
   for (Size n = 0; n < x.template extent<0>(); ++n) {
      const auto *const row = x.data() + n * classes;
      double most = static_cast<double>(row[0]), total = 0;
      for (Size c = 1; c < classes; ++c) {
         const double value = static_cast<double>(row[c]);
         most = most > value || most != most ? most : value;
      }
      for (Size c = 0; c < classes; ++c)
         total += __builtin_exp(static_cast<double>(row[c]) - most);
      for (Size s = 0; s < samples; ++s) {
         const double limit = u.next() * total;
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
template <class Y, class Kept, class X, class Ratio, class Training, class Rows>
SOFIE_KERNEL void random_dropout(Stream stream, Y y, Kept kept, X x, Ratio ratio, Training training, Rows rows)
{
   using T = typename Y::Element;
   const double share = *training.data() ? *ratio.data() : 0;
   const T scale = static_cast<T>(1 / (1 - share));
   const Size count = y.size();
   if (!count)
      return;
   Uniforms u(Draws(stream, y, rows));
   for (Size i = 0; i < count; ++i) {
      const bool stays = share == 0 || u.next() >= share;
      kept.data()[i] = stays;
      y.data()[i] = stays ? x.data()[i] * scale : T(0);
   }
}

/// The rows of a round of a loop, which has other random numbers than the one before.
template <class Y, class Rows, class Number>
SOFIE_KERNEL void rows_of_round(Y y, Rows rows, Number number)
{
   const std::uint64_t step = (static_cast<std::uint64_t>(*number.data()) + 1) * 0x9E3779B97F4A7C15u;
   for (Size i = 0; i < rows.size(); i += 3) {
      y.data()[i] = mixed(rows.data()[i] + step);
      y.data()[i + 1] = rows.data()[i + 1];
      y.data()[i + 2] = rows.data()[i + 2];
   }
}

} // namespace sofie

SOFIE_END

#endif
