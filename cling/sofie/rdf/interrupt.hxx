/// \file
/// Ctrl-C in an event loop that Python has started.
///
/// Python looks at signals between two of its own instructions, and a loop is one of them. So the
/// slots look, in the thread that Python waits in, and end the loop with Python's own exception.
#ifndef SOFIE_RDF_INTERRUPT_HXX
#define SOFIE_RDF_INTERRUPT_HXX

#include "sofie/rdf/functor.hxx"

#if __has_include("CPyCppyy/PyException.h")
#include "CPyCppyy/PyException.h"

namespace sofie {

/// Functions of Python's C API, by address: PyGILState_Check and PyErr_CheckSignals.
inline int (*holds_python)() = nullptr;
inline int (*check_signals)() = nullptr;

inline void look_at_signals()
{
   if (holds_python() && check_signals())
      throw CPyCppyy::PyException();
}

inline void listen_to_python(std::uintptr_t holds, std::uintptr_t check)
{
   holds_python = reinterpret_cast<int (*)()>(holds);
   check_signals = reinterpret_cast<int (*)()>(check);
   look_for_interrupt = look_at_signals;
}

} // namespace sofie

#else

namespace sofie {
inline void listen_to_python(std::uintptr_t, std::uintptr_t) {}
} // namespace sofie

#endif
#endif
