/// The kernel of counted.py: a copy that notes which numbers it has seen.
#ifndef TESTS_RUNTIME_COUNTED_HXX
#define TESTS_RUNTIME_COUNTED_HXX

#include "sofie/view.hxx"

SOFIE_BEGIN

namespace counted {

inline long calls = 0;
/// How often the kernel has had each number from 0 to 4095; others are at the end.
inline long seen[4097] = {};

inline void forget()
{
   calls = 0;
   for (long &n : seen)
      n = 0;
}

template <class Y, class X>
SOFIE_KERNEL void forward(Y y, X x)
{
   __atomic_fetch_add(&calls, 1L, __ATOMIC_RELAXED);
   for (sofie::Size i = 0; i < y.size(); ++i) {
      const auto value = x.data()[i];
      y.data()[i] = value;
      const long place = value >= 0 && value < 4096 ? static_cast<long>(value) : 4096;
      __atomic_fetch_add(&seen[place], 1L, __ATOMIC_RELAXED);
   }
}

} // namespace counted

SOFIE_END

#endif
