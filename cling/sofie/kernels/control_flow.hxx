/// \file
/// The rounds of a loop, and what is stacked in them.
#ifndef SOFIE_KERNELS_CONTROL_FLOW_HXX
#define SOFIE_KERNELS_CONTROL_FLOW_HXX

#include "sofie/session/owned.hxx"

SOFIE_BEGIN

namespace sofie {

/// Calls step(0), step(1), ... while they return true, at most `rounds` times.
template <class Step>
inline void loop(Size rounds, bool go, Step &step)
{
   for (Size i = 0; i < rounds && go; ++i)
      go = step(i);
}

/// y = x, with its shape.
template <class T, int Rank>
void assign(Owned<T, Rank> &y, const T *x, const Sizes<Rank> &shape)
{
   y.resize(shape);
   __builtin_memcpy(static_cast<void *>(y.data()), x, static_cast<std::size_t>(y.size()) * sizeof(T));
}

/// Stacks items of one shape along a new first axis.
template <class T, int Rank>
class Stack {
   Owned<T, Rank> &all_;

public:
   /// What is stacked if there is no item: `empty`, of which the first extent is 0.
   Stack(Owned<T, Rank> &all, const Sizes<Rank> &empty) : all_(all) { all_.reshape(empty); }

   void push(const Owned<T, Rank - 1> &item)
   {
      Sizes<Rank> shape{};
      shape[0] = all_.extent(0) + 1;
      for (int i = 1; i < Rank; ++i) {
         shape[i] = item.extent(i - 1);
         if (all_.extent(0) > 0 && all_.extent(i) != shape[i])
            throw std::invalid_argument("the rounds of a loop give tensors of different shapes to be stacked");
      }
      const Size size = item.size(), before = size * (shape[0] - 1);
      all_.reserve(before, before + size);
      all_.reshape(shape);
      __builtin_memcpy(static_cast<void *>(all_.data() + before), item.data(),
                       static_cast<std::size_t>(size) * sizeof(T));
   }
};

/// y = x, for the condition under which that is what an If gives; throws for the other one.
template <bool Holds, class Y, class X, class Condition>
SOFIE_KERNEL void provided(Y y, X x, Condition condition)
{
   if (*condition.data() != Holds)
      throw std::invalid_argument("an If takes the branch that gives another number of axes: the model has no use for "
                                  "inputs of these sizes");
   __builtin_memcpy(static_cast<void *>(y.data()), x.data(),
                    static_cast<std::size_t>(x.size()) * sizeof(typename Y::Element));
}

/// y[o, i] = x[o, n, i] for the n-th slice, or the n-th from behind.
template <bool Backward, class Y, class X, class I>
SOFIE_KERNEL void scan_slice(Y y, X x, I i)
{
   const Size count = x.template extent<1>(), inner = x.template extent<2>();
   const Size number = static_cast<Size>(*i.data());
   if (number < 0 || number >= count)
      throw std::out_of_range("a scan reads beyond the end of an axis");
   const Size at = Backward ? count - 1 - number : number;
   for (Size o = 0; o < x.template extent<0>(); ++o)
      __builtin_memcpy(static_cast<void *>(y.data() + o * inner), x.data() + (o * count + at) * inner,
                       static_cast<std::size_t>(inner) * sizeof(typename Y::Element));
}

} // namespace sofie

SOFIE_END

#endif
