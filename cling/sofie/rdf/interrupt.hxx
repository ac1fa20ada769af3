/// \file
/// Ctrl-C in an event loop that Python has started.
///
/// Python looks at signals between two of its own instructions, and a loop is one of them. So the
/// slots look, in the thread that Python waits in, and end the loop with Python's own exception.
#ifndef SOFIE_RDF_INTERRUPT_HXX
#define SOFIE_RDF_INTERRUPT_HXX

#include "sofie/session/slots.hxx"

// Without the system's headers Ctrl-C waits for the end of the loop.
#if __has_include("CPyCppyy/PyException.h") && __has_include(<string>)
#include "CPyCppyy/PyException.h"
#include <atomic>
#include <mutex>

namespace sofie {

/// Functions of Python's C API, by address: PyGILState_Check and PyErr_CheckSignals.
inline int (*holds_python)() = nullptr;
inline int (*check_signals)() = nullptr;

/// Ends the loop in one slot. It is made of Python's error, which only Python's thread may look at;
/// the other slots throw copies, which are gone, like the first one, when Python has its error.
struct Interrupt : CPyCppyy::PyException {
   std::shared_ptr<const CPyCppyy::PyException> first;
   explicit Interrupt(const std::shared_ptr<const CPyCppyy::PyException> &it) : PyException(*it), first(it) {}
};

struct Interruption {
   std::atomic<bool> may_be{false};
   std::mutex mutex;
   std::weak_ptr<const CPyCppyy::PyException> first;
};
inline Interruption &interruption()
{
   static Interruption one;
   return one;
}

inline void look_at_signals()
{
   Interruption &now = interruption();
   if (now.may_be) {
      const std::lock_guard<std::mutex> lock(now.mutex);
      if (auto first = now.first.lock())
         throw Interrupt(first);
      now.may_be = false;
   }
   if (holds_python() && check_signals()) {
      const auto first = std::make_shared<const CPyCppyy::PyException>();
      const std::lock_guard<std::mutex> lock(now.mutex);
      now.first = first;
      now.may_be = true;
      throw Interrupt(first);
   }
}

inline void listen_to_python(std::uintptr_t holds, std::uintptr_t check)
{
   holds_python = reinterpret_cast<int (*)()>(holds);
   check_signals = reinterpret_cast<int (*)()>(check);
   look_for_interrupt() = look_at_signals;
}

} // namespace sofie

#else

namespace sofie {
inline void listen_to_python(std::uintptr_t, std::uintptr_t) {}
} // namespace sofie

#endif
#endif
