/// \file
/// How long calls take: one loop, around a Session and around onnxruntime's C API alike.
#ifndef SOFIE_BENCH_STOPWATCH_HXX
#define SOFIE_BENCH_STOPWATCH_HXX

// ROOT's C++ modules give Cling the standard library; sofie/target.hxx says why SOFIE_CLING.
#if !defined(__CLING__) && !defined(SOFIE_CLING)
#include <chrono>
#include <cstddef>
#include <cstdint>
#endif

namespace sofie {
namespace bench {

template <class Call>
double seconds_of(std::size_t calls, Call call)
{
   using Clock = std::chrono::steady_clock;
   const Clock::time_point start = Clock::now();
   for (std::size_t i = 0; i < calls; ++i)
      call();
   return std::chrono::duration<double>(Clock::now() - start).count();
}

/// The entry point of a Session, which calls `infer`; null, or what went wrong.
using SessionCall = const char *(*)(void *session, const std::size_t *sizes, const void *const *in, void *const *out);

inline double session_seconds(SessionCall infer, void *session, std::size_t calls, const std::size_t *sizes,
                              const void *const *in, void *const *out)
{
   return seconds_of(calls, [=] { infer(session, sizes, in, out); });
}

inline std::uintptr_t session_seconds_address()
{
   return reinterpret_cast<std::uintptr_t>(&session_seconds);
}

/// The arguments of OrtApi::Run, whose types onnxruntime's wheel does not declare.
struct OrtCall {
   void *(*run)(void *session, const void *options, const char *const *input_names, const void *const *inputs,
                std::size_t input_count, const char *const *output_names, std::size_t output_count, void **outputs);
   void *session;
   const char *const *input_names;
   const void *const *inputs;
   std::size_t input_count;
   const char *const *output_names;
   std::size_t output_count;
   void **outputs;
};

/// Ends at the first status that is not null (it stays in `status`, the caller releases it).
inline double ort_seconds(const OrtCall *ort, std::size_t calls, void **status)
{
   *status = nullptr;
   return seconds_of(calls, [=] {
      if (!*status)
         *status = ort->run(ort->session, nullptr, ort->input_names, ort->inputs, ort->input_count, ort->output_names,
                            ort->output_count, ort->outputs);
   });
}

inline std::uintptr_t ort_seconds_address()
{
   return reinterpret_cast<std::uintptr_t>(&ort_seconds);
}

} // namespace bench
} // namespace sofie

#endif
