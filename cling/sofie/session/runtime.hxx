/// \file
/// What a Session looks like from outside C++: functions with C types, no exceptions.
#ifndef SOFIE_SESSION_RUNTIME_HXX
#define SOFIE_SESSION_RUNTIME_HXX

#include "sofie/session/entries.hxx"
#include "sofie/session/weights.hxx"

SOFIE_BEGIN

namespace sofie {

/// Handles are addresses of objects on the heap; `Infer::run` calls `infer` with the right types.
/// `Infer::Results` holds the outputs whose sizes the data decide, until they are asked for.
template <class Session, class Weights, class Infer>
struct EntryPoints {
   using Shared = sofie::Shared<Weights>;

   struct Handle {
      Session session;
      typename Infer::Results results;
      char message[1024];
      explicit Handle(const Shared &weights) : session(weights) {}
   };

   /// A shared pointer to the weights in the bytes of the file `name`; null with a message, which ends within `length`
   /// bytes, if they are not this model's.
   SOFIE_ONCE static void *load(const void *bytes, std::size_t size, const char *name, char *message,
                                std::size_t length)
   {
      try {
         return new Shared(Shared::made(WeightFile(bytes, size, name)));
      } catch (const std::bad_alloc &) {
         std::snprintf(message, length, "not enough memory");
      } catch (const std::exception &error) {
         std::snprintf(message, length, "%s", error.what());
      } catch (...) {
         std::snprintf(message, length, "the emitted code threw an exception");
      }
      return nullptr;
   }
   /// Another owner of the same weights.
   SOFIE_ONCE static void *share(void *weights) { return new Shared(*static_cast<Shared *>(weights)); }
   SOFIE_ONCE static void unload(void *weights) { delete static_cast<Shared *>(weights); }
   SOFIE_ONCE static void *create(void *weights) { return new Handle(*static_cast<Shared *>(weights)); }
   SOFIE_ONCE static void destroy(void *handle) { delete static_cast<Handle *>(handle); }

   /// Null, or what went wrong.
   static const char *call(void *handle, const std::size_t *sizes, const void *const *in, void *const *out)
   {
      Handle &own = *static_cast<Handle *>(handle);
      try {
         Infer::run(own.session, own.results, sizes, in, out);
         return nullptr;
      } catch (const std::bad_alloc &) {
         return "not enough memory";
      } catch (const std::exception &error) {
         std::snprintf(own.message, sizeof own.message, "%s", error.what());
         return own.message;
      } catch (...) {
         return "the emitted code threw an exception";
      }
   }

   /// Result number `index` of the last call: its memory, and its extents in `shape`.
   static const void *result(void *handle, std::size_t index, std::size_t *shape)
   {
      return Infer::result(static_cast<Handle *>(handle)->results, index, shape);
   }

   /// How many elements each input must have and each output will have; 0 where the data decide.
   SOFIE_ONCE static void elements(const std::size_t *sizes, std::size_t *in, std::size_t *out)
   {
      Infer::elements(sizes, in, out);
   }

   /// What finds the same weights for as long as somebody owns them: `found` gives another owner, or null.
   SOFIE_ONCE static void *watch(void *weights)
   {
      return new typename Shared::Watcher(*static_cast<Shared *>(weights));
   }
   SOFIE_ONCE static void *found(void *watcher) { return static_cast<typename Shared::Watcher *>(watcher)->found(); }
   SOFIE_ONCE static void forget(void *watcher) { delete static_cast<typename Shared::Watcher *>(watcher); }

   /// All of them, for as long as the code is there.
   SOFIE_ONCE static const Entries *table()
   {
      static const Entries entries = {&load,   &share,    &unload, &create, &destroy, &call,
                                      &result, &elements, &watch,  &found,  &forget};
      return &entries;
   }
};

} // namespace sofie

SOFIE_END

#endif
