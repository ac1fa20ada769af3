/// \file
/// The functions with C types by which an emitted Session is known outside C++.
#ifndef SOFIE_SESSION_ENTRIES_HXX
#define SOFIE_SESSION_ENTRIES_HXX

#include "sofie/view.hxx"

namespace sofie {

/// The functions of `EntryPoints`. Python reads this table, so what is new comes last.
struct Entries {
   void *(*load)(const void *bytes, std::size_t size, const char *name, char *message, std::size_t length);
   void *(*share)(void *weights);
   void (*unload)(void *weights);
   void *(*create)(void *weights);
   void (*destroy)(void *handle);
   const char *(*call)(void *handle, const std::size_t *sizes, const void *const *in, void *const *out);
   const void *(*result)(void *handle, std::size_t index, std::size_t *shape);
   void (*elements)(const std::size_t *sizes, std::size_t *in, std::size_t *out);
   void *(*watch)(void *weights);
   void *(*found)(void *watcher);
   void (*forget)(void *watcher);
};

} // namespace sofie

#endif
