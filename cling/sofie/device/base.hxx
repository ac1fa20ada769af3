/// \file
/// What all device kernels share: indices, lists of sizes, arithmetic that wraps around, mathematical functions.
///
/// A device kernel is a function object that is copied to the device with its attributes and sizes. There are two
/// kinds. A kernel by item computes what belongs to one index:
///
///     struct Kernel { template <class At> void operator()(At at, T *y, const T *x) const; }; // at.index, at.math
///
/// A kernel by work-group is written for the work-group as a whole. `group.each(f)` calls `f(item)` for every
/// work-item, and ends in a barrier; `group.last(f)` ends in none. What a work-item keeps from one call to the next is
/// in a `Group::Private<T>`, and what the work-items share is in the local memory, `group.local()`, of type `Local`:
///
///     struct Kernel { static constexpr int items = 64; struct Local { T partial[items]; };
///                     template <class Group> void operator()(Group &group, T *y, const T *x) const; };
///
/// Adapters (serial.hxx, alpaka.hxx, sycl.hxx) run both kinds. No kernel knows which one does.
#ifndef SOFIE_DEVICE_BASE_HXX
#define SOFIE_DEVICE_BASE_HXX

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#if defined(__CUDACC__) || defined(__HIPCC__)
#define SOFIE_DEVICE __host__ __device__ inline
#else
#define SOFIE_DEVICE inline
#endif

namespace sofie {
namespace device {

/// Sizes, positions and numbers of items. Signed, so that arithmetic on them means what it says.
using Index = std::ptrdiff_t;

/// How many work-items a work-group of a kernel by item has.
inline constexpr int items_of_a_group = 256;

/// A list of sizes, strides or positions.
template <int N>
struct Sizes {
   Index at[N > 0 ? static_cast<std::size_t>(N) : 1];
   SOFIE_DEVICE Index operator[](int i) const { return at[i]; }
};

/// Where element number `index` of a shape is in memory with these strides.
template <int N>
SOFIE_DEVICE Index offset_of(Index index, const Sizes<N> &shape, const Sizes<N> &strides)
{
   Index offset = 0;
   for (int axis = N - 1; axis >= 0; --axis) {
      offset += (axis ? index % shape[axis] : index) * strides[axis];
      index = axis ? index / shape[axis] : 0;
   }
   return offset;
}

/// a / b of positive numbers, rounded up.
SOFIE_DEVICE constexpr Index divided_up(Index a, Index b)
{
   return (a + b - 1) / b;
}

// What expressions of sizes need in a kernel. Divisors are not 0 there.

/// a / b, rounded down.
SOFIE_DEVICE constexpr Index floor_div(Index a, Index b)
{
   return a / b - ((a % b != 0 && (a < 0) != (b < 0)) ? 1 : 0);
}
SOFIE_DEVICE constexpr Index modulo(Index a, Index b)
{
   return a - b * floor_div(a, b);
}
SOFIE_DEVICE constexpr Index smaller(Index a, Index b)
{
   return b < a ? b : a;
}
SOFIE_DEVICE constexpr Index larger(Index a, Index b)
{
   return a < b ? b : a;
}

/// Where a kernel by item is, and the mathematical functions of the device.
template <class M>
struct At {
   Index index;
   M math;
};

/// The functions of the C library, which CUDA and HIP have under the same names.
struct Math {
#define SOFIE_DEVICE_UNARY(name)  \
   template <class T>             \
   SOFIE_DEVICE T name(T x) const \
   {                              \
      return std::name(x);        \
   }
#define SOFIE_DEVICE_BINARY(name)      \
   template <class T>                  \
   SOFIE_DEVICE T name(T x, T y) const \
   {                                   \
      return std::name(x, y);          \
   }
#define SOFIE_DEVICE_MATH(unary, binary)                                                                              \
   unary(exp) unary(log) unary(log1p) unary(sqrt) unary(erf) unary(erfc) unary(sin) unary(cos) unary(tan) unary(asin) \
      unary(acos) unary(atan) unary(sinh) unary(cosh) unary(tanh) unary(atanh) unary(acosh) unary(floor) unary(ceil)  \
         unary(rint) unary(fabs) binary(pow) binary(fmod) binary(copysign)
// Those that SimSYCL lacks.
#define SOFIE_DEVICE_MORE_MATH(unary) unary(expm1) unary(asinh)
   SOFIE_DEVICE_MATH(SOFIE_DEVICE_UNARY, SOFIE_DEVICE_BINARY)
   SOFIE_DEVICE_MORE_MATH(SOFIE_DEVICE_UNARY)
#undef SOFIE_DEVICE_UNARY
#undef SOFIE_DEVICE_BINARY
};

/// The type in which integers are added: without a sign, where an overflow is no error but wraps around.
template <class T, bool Whole = std::is_integral_v<T> && !std::is_same_v<T, bool>>
struct WrappingOf {
   using type = T;
};
template <class T>
struct WrappingOf<T, true> {
   // Narrower ones would be promoted to int, whose products overflow.
   using type = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;
};
template <class T>
using Wrapping = typename WrappingOf<T>::type;

template <class T>
SOFIE_DEVICE T plus(T a, T b)
{
   return static_cast<T>(static_cast<Wrapping<T>>(a) + static_cast<Wrapping<T>>(b));
}
template <class T>
SOFIE_DEVICE T minus(T a, T b)
{
   return static_cast<T>(static_cast<Wrapping<T>>(a) - static_cast<Wrapping<T>>(b));
}
template <class T>
SOFIE_DEVICE T times(T a, T b)
{
   return static_cast<T>(static_cast<Wrapping<T>>(a) * static_cast<Wrapping<T>>(b));
}

/// The larger one; NaN if either is.
template <class T>
SOFIE_DEVICE T maximum(T a, T b)
{
   return a > b || a != a ? a : b;
}
/// The smaller one; NaN if either is.
template <class T>
SOFIE_DEVICE T minimum(T a, T b)
{
   return a < b || a != a ? a : b;
}

/// No local memory.
struct None {};

/// A kernel by item as one by work-group.
template <class Kernel>
struct ByItem {
   static constexpr int items = items_of_a_group;
   using Local = None;
   Kernel kernel;
   Index count;

   template <class Group, class... T>
   SOFIE_DEVICE void operator()(Group &group, T *...arrays) const
   {
      const Index begin = group.index() * items;
      group.last([&](int item) {
         if (begin + item < count)
            kernel(At<typename Group::MathOfIt>{begin + item, {}}, arrays...);
      });
   }
};

/// A work-item as a work-group of its own, for kernels by work-group with one work-item.
template <class M, class Kernel>
class LoneGroup {
   Index index_;
   typename Kernel::Local local_;

public:
   using MathOfIt = M;

   template <class T>
   class Private {
      T value_;

   public:
      SOFIE_DEVICE T &operator()(int) { return value_; }
   };

   SOFIE_DEVICE explicit LoneGroup(Index index) : index_(index) {}
   SOFIE_DEVICE Index index() const { return index_; }
   SOFIE_DEVICE typename Kernel::Local &local() { return local_; }

   template <class F>
   SOFIE_DEVICE void last(const F &f) const
   {
      f(0);
   }
   template <class F>
   SOFIE_DEVICE void each(const F &f) const
   {
      f(0);
   }
};

template <class M, class Kernel, class... T>
SOFIE_DEVICE auto part_of(M math, const Kernel &kernel, Index part, T *...arrays)
   -> decltype(static_cast<void>(Kernel::items))
{
   static_assert(Kernel::items == 1, "the form for one work-item");
   static_cast<void>(math);
   LoneGroup<M, Kernel> group(part);
   kernel(group, arrays...);
}
template <class M, class Kernel, class... T>
SOFIE_DEVICE auto part_of(M math, const Kernel &kernel, Index part, T *...arrays)
   -> decltype(kernel(At<M>{part, math}, arrays...))
{
   kernel(At<M>{part, math}, arrays...);
}

/// All parts of a kernel, by item or with one work-item, shared among the work-items of a larger one; ends in a
/// barrier.
template <class Group, class Kernel, class... T>
SOFIE_DEVICE void share(Group &group, Index count, const Kernel &kernel, T *...arrays)
{
   group.each([&](int item) {
      for (Index part = item; part < count; part += items_of_a_group)
         part_of(typename Group::MathOfIt{}, kernel, part, arrays...);
   });
}

} // namespace device
} // namespace sofie

#endif
