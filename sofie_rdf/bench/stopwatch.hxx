/// \file
/// How long calls of onnxruntime's C API take, and of whatever else is called here: the loop of sofie/rdf/seconds.hxx.
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
