/// \file
/// How long each step of a network takes, for the code that `sofie-rdf profile` emits; no other code has it.
#ifndef SOFIE_SESSION_LAPS_HXX
#define SOFIE_SESSION_LAPS_HXX

#include "sofie/target.hxx"

SOFIE_BEGIN

namespace sofie {

/// The counter of the CPU that runs at one speed whatever the CPU does, read when all before it is done, and before
/// anything behind it begins: else a short step would have no time, and the next one that of both.
SOFIE_INLINE std::uint64_t ticks()
{
#if defined(__x86_64__) || defined(__i386__)
   __builtin_ia32_lfence();
   const std::uint64_t now = __builtin_ia32_rdtsc();
   __builtin_ia32_lfence();
   return now;
#elif defined(__aarch64__)
   std::uint64_t now;
   asm volatile("isb\n\tmrs %0, cntvct_el0\n\tisb" : "=r"(now) : : "memory");
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
