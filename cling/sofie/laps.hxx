/// \file
/// How long each step of a network takes, for the code that `sofie-rdf profile` emits; no other code has it.
#ifndef SOFIE_LAPS_HXX
#define SOFIE_LAPS_HXX

#include "sofie/target.hxx"

SOFIE_BEGIN

namespace sofie {

/// The counter of the CPU that runs at one speed whatever the CPU does.
SOFIE_INLINE std::uint64_t ticks()
{
#if defined(__x86_64__) || defined(__i386__)
   return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
   std::uint64_t now;
   asm volatile("mrs %0, cntvct_el0" : "=r"(now));
   return now;
#else
#error "sofie-rdf profile knows no counter of this CPU"
#endif
}

/// Adds to each element of `out` the ticks of one part of a call; the last element is the time of day.
struct Laps {
   std::uint64_t *out;
   std::uint64_t last;
   explicit Laps(std::uint64_t *where) : out(where), last(ticks()) {}
   void lap(int part)
   {
      const std::uint64_t now = ticks();
      if (out)
         out[part] += now - last;
      last = ticks();
   }
   void end(int part) const
   {
      if (out)
         out[part] = ticks();
   }
};

} // namespace sofie

SOFIE_END

#endif
