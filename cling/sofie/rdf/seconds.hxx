/// \file
/// How long a Session takes: a loop around its entry point.
#ifndef SOFIE_RDF_SECONDS_HXX
#define SOFIE_RDF_SECONDS_HXX

#include "sofie/target.hxx"

#if !defined(SOFIE_CLING)
#include <chrono>
#endif

namespace sofie {

/// The entry point of a Session, which calls `infer`; null, or what went wrong.
using SessionCall = const char *(*)(void *session, const std::size_t *sizes, const void *const *in, void *const *out);

/// The time of so many calls.
inline double seconds_of_calls(SessionCall infer, void *session, std::size_t calls, const std::size_t *sizes,
                               const void *const *in, void *const *out)
{
   using Clock = std::chrono::steady_clock;
   const Clock::time_point start = Clock::now();
   for (std::size_t i = 0; i < calls; ++i)
      infer(session, sizes, in, out);
   return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Where that is: a number, which Python can call.
inline std::uintptr_t address_of_seconds()
{
   return reinterpret_cast<std::uintptr_t>(&seconds_of_calls);
}

} // namespace sofie

#endif
