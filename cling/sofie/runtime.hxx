/// \file
/// What a Session looks like from outside C++: functions with C types, no exceptions.
#ifndef SOFIE_RUNTIME_HXX
#define SOFIE_RUNTIME_HXX

#include "sofie/weights.hxx"

SOFIE_BEGIN

namespace sofie {

/// Handles are addresses of objects on the heap; `Infer::run` calls `infer` with the right types.
template <class Session, class Weights, class Infer>
struct EntryPoints {
   using Shared = std::shared_ptr<const Weights>;

   /// A shared pointer to the weights in these bytes, or null if they are not this model's.
   static void *load(const void *bytes, std::size_t size)
   {
      try {
         return new Shared(std::make_shared<const Weights>(WeightFile(bytes, size)));
      } catch (...) {
         return nullptr;
      }
   }
   static void unload(void *weights) { delete static_cast<Shared *>(weights); }
   static void *create(void *weights) { return new Session(*static_cast<Shared *>(weights)); }
   static void destroy(void *session) { delete static_cast<Session *>(session); }

   /// Null, or what went wrong.
   static const char *call(void *session, const std::size_t *sizes, const void *const *in, void *const *out)
   {
      try {
         Infer::run(*static_cast<Session *>(session), sizes, in, out);
         return nullptr;
      } catch (const std::bad_alloc &) {
         return "not enough memory";
      } catch (...) {
         return "the emitted code threw an exception";
      }
   }
};

} // namespace sofie

SOFIE_END

#endif
