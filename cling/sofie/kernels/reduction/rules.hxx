/// \file
/// How reductions make one value of two, and what they do with each before.
#ifndef SOFIE_KERNELS_REDUCTION_RULES_HXX
#define SOFIE_KERNELS_REDUCTION_RULES_HXX

#include "sofie/math/rounding.hxx"

SOFIE_BEGIN

namespace sofie {

/// What is done with all numbers of a row of floats, if it is one of these.
enum class RowRule { none, sum, magnitudes, squares, product, largest, least };

// How two values become one ------------------------------------------------------------------------

/// The larger one; NaN if either is.
struct Largest {
   static constexpr bool is_pairwise = false;
   template <class T>
   SOFIE_INLINE static constexpr T identity()
   {
      if constexpr (std::is_floating_point_v<T>)
         return static_cast<T>(-__builtin_inf());
      else if constexpr (std::is_signed_v<T>)
         return static_cast<T>(T{1} << (8 * sizeof(T) - 1));
      else
         return T{0};
   }
   template <class V>
   SOFIE_INLINE static V combined(V a, V b)
   {
      return select<V>((a > b) | (a != a), a, b);
   }
};

/// The smaller one; NaN if either is.
struct Least {
   static constexpr bool is_pairwise = false;
   template <class T>
   SOFIE_INLINE static constexpr T identity()
   {
      if constexpr (std::is_floating_point_v<T>)
         return static_cast<T>(__builtin_inf());
      else
         return static_cast<T>(~Largest::identity<T>());
   }
   template <class V>
   SOFIE_INLINE static V combined(V a, V b)
   {
      return select<V>((a < b) | (a != a), a, b);
   }
};

struct Total {
   static constexpr bool is_pairwise = true;
   template <class T>
   SOFIE_INLINE static constexpr T identity()
   {
      return T{0};
   }
   template <class V>
   SOFIE_INLINE static V combined(V a, V b)
   {
      return plus(a, b);
   }
};

struct Product {
   static constexpr bool is_pairwise = false;
   template <class T>
   SOFIE_INLINE static constexpr T identity()
   {
      return T{1};
   }
   template <class V>
   SOFIE_INLINE static V combined(V a, V b)
   {
      return times(a, b);
   }
};

// What is summed -----------------------------------------------------------------------------------

struct AsItIs {
   template <class V>
   SOFIE_INLINE V operator()(V v) const
   {
      return v;
   }
};

struct Magnitude {
   template <class V>
   SOFIE_INLINE V operator()(V v) const
   {
      if constexpr (std::is_floating_point_v<ElementOf<V>>)
         return abs(v);
      else
         return select<V>(v < V{}, minus(V{}, v), v);
   }
};

struct Squared {
   template <class V>
   SOFIE_INLINE V operator()(V v) const
   {
      return times(v, v);
   }
};

template <class V>
struct SquaredOver {
   V scale;
   SOFIE_INLINE V operator()(V v) const { return (v / scale) * (v / scale); }
};

} // namespace sofie

SOFIE_END

#endif
