// Networks in several threads: each has a slot of its own, as in an event loop of ROOT, which takes no part here.
// Prints how many results there were; says on the error stream what differs from one thread's.
#include "layers.hxx"
#include "decided.hxx"
#include "sofie/session/slots.hxx"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <tuple>

using Bytes = std::vector<char>;

template <class T>
static void put(Bytes &bytes, const T *from, std::size_t count)
{
   const char *first = reinterpret_cast<const char *>(from);
   bytes.insert(bytes.end(), first, first + count * sizeof(T));
}
template <class T>
static void put(Bytes &bytes, const std::vector<T> &numbers)
{
   put(bytes, numbers.data(), numbers.size());
}
template <class T, int Rank>
static void put(Bytes &bytes, const sofie::Owned<T, Rank> &tensor)
{
   std::size_t shape[Rank + 1];
   const void *memory = sofie::described(tensor, shape);
   put(bytes, shape, std::size_t(Rank));
   put(bytes, static_cast<const T *>(memory), static_cast<std::size_t>(tensor.size()));
}
template <class... T>
static void put(Bytes &bytes, const std::tuple<T...> &all)
{
   std::apply([&](const auto &...one) { (put(bytes, one), ...); }, all);
}

template <class Session>
static Bytes result(Session &session, std::size_t features, unsigned event)
{
   std::mt19937 random(event);
   std::normal_distribution<float> normal;
   const std::size_t rows = event % 6;
   std::vector<float> x(rows * features);
   for (float &number : x)
      number = normal(random);
   Bytes bytes;
   put(bytes, session.infer(rows, x));
   return bytes;
}

// `shared` gives all threads the same slot, which is the mistake that the race detector must see.
template <class Session>
static unsigned compare(const char *weights, std::size_t features, unsigned threads, unsigned events, bool shared)
{
   const Session first{std::string(weights)};
   std::vector<Bytes> wanted;
   Session alone = first;
   for (unsigned event = 0; event < events; ++event)
      wanted.push_back(result(alone, features, event));
   const sofie::Slots<Session> slots(first, threads);
   std::vector<unsigned> wrong(threads * 64), right(threads * 64);
   std::vector<std::thread> running;
   for (unsigned thread = 0; thread < threads; ++thread)
      running.emplace_back([&, thread] {
         Session copied = first; // Copies share the weights, too.
         for (unsigned i = 0; i < events; ++i) {
            const unsigned event = (i * 7 + thread) % events;
            const Bytes one = result(slots[shared ? 0 : thread], features, event);
            const bool same = one == wanted[event] && (i % 5 || result(copied, features, event) == one);
            ++(same ? right : wrong)[thread * 64];
         }
      });
   for (std::thread &one : running)
      one.join();
   unsigned total = 0;
   for (unsigned thread = 0; thread < threads; ++thread) {
      total += right[thread * 64];
      if (wrong[thread * 64])
         std::fprintf(stderr, "%s: %u results of thread %u differ\n", weights, wrong[thread * 64], thread);
   }
   return total;
}

int main(int count, char **)
{
   unsigned total = compare<TMVA_SOFIE_layers::Session>("layers.dat", 48, 4, 60, count > 1);
   total += compare<TMVA_SOFIE_decided::Session>("decided.dat", 3, 4, 60, count > 1);
   std::printf("%u", total);
}
