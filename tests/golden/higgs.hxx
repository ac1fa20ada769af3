// higgs: a network compiled by sofie_rdf.
// input  features: float32[N, 7]
// output score: float32[N, 1]
#ifndef TMVA_SOFIE_higgs_HXX
#define TMVA_SOFIE_higgs_HXX

#include "sofie/target.hxx"
#include "sofie/session/entries.hxx"
#ifdef SOFIE_LINKED
#include "sofie/rdf/native.hxx"
#else
#include "sofie/session/arena.hxx"
#include "sofie/kernels/dense/layers.hxx"
#include "sofie/kernels/elementwise.hxx"
#include "sofie/kernels/elementwise/activations.hxx"
#endif
#ifdef SOFIE_ENTRIES
#include "sofie/session/runtime.hxx"
#endif

SOFIE_BEGIN

namespace TMVA_SOFIE_higgs {
#ifdef SOFIE_NATIVE
namespace native {
#endif

#ifndef SOFIE_LINKED
/// The constants as the kernels want them; all Sessions share one copy.
struct Weights {
   sofie::DenseWeights<float, 7, 64> dense1_weight;
   sofie::DenseWeights<float, 64, 64> dense2_weight;
   sofie::DenseWeights<float, 64, 64> dense3_weight;
   sofie::DenseWeights<float, 64, 64> dense4_weight;
   sofie::DotWeights<float, 64> dense5_weight;

   SOFIE_ONCE explicit Weights(const sofie::WeightFile &file) :
      dense1_weight(file.tensor<sofie::View<const float, 7, 64>>(0), file.tensor<sofie::View<const float, 64>>(1)),
      dense2_weight(file.tensor<sofie::View<const float, 64, 64>>(2), file.tensor<sofie::View<const float, 64>>(3)),
      dense3_weight(file.tensor<sofie::View<const float, 64, 64>>(4), file.tensor<sofie::View<const float, 64>>(5)),
      dense4_weight(file.tensor<sofie::View<const float, 64, 64>>(6), file.tensor<sofie::View<const float, 64>>(7)),
      dense5_weight(file.tensor<sofie::View<const float, 64, 1>>(8), file.tensor<sofie::View<const float, 1>>(9))
   {
   }
};

#endif

/// Evaluates the network. Each thread needs its own; copies share the weights.
class Session {
#ifdef SOFIE_LINKED
   sofie::Linked code_;
   static const sofie::Entries &entries()
   {
      static const sofie::Entries &known =
         sofie::native_entries("TMVA_SOFIE_higgs", __FILE__);
      return known;
   }

public:
   /// Reads the weight file that was written with this header.
   explicit Session(const std::string &weights = "higgs.dat") :
      code_(entries(), weights)
   {
   }
   /// Code and weights of others, which are shared.
   Session(const sofie::Entries &code, void *weights) : code_(code, weights) {}
#else
   sofie::Shared<Weights> weights_;
   sofie::Arena scratch_;

public:
   /// Reads the weight file that was written with this header.
   explicit Session(const std::string &weights = "higgs.dat") :
      weights_(sofie::Shared<Weights>::made(sofie::WeightFile(weights)))
   {
   }
   /// Shares the weights of others.
   explicit Session(const sofie::Shared<Weights> &weights) : weights_(weights) {}
#endif

   /// One event: so many numbers in, so many out.
   using Input = float;
   static constexpr sofie::Size input_size = 7;
   using Output = float;
   static constexpr sofie::Size output_size = 1;

   /// Evaluates into the caller's memory; input and output must not overlap.
   void infer(std::size_t N, const float *features, float *score);
#ifndef SOFIE_ENTRIES
   std::vector<float> infer(std::size_t N, const float *features)
   {
      std::vector<float> score(static_cast<std::size_t>(static_cast<sofie::Size>(N)));
      infer(N, features, score.data());
      return score;
   }
   /// The same for vectors, whose sizes are checked.
   std::vector<float> infer(std::size_t N, const std::vector<float> &features)
   {
      if (features.size() != static_cast<std::size_t>(7 * static_cast<sofie::Size>(N)))
         throw std::invalid_argument("higgs: input features has the wrong number of elements");
      return infer(N, features.data());
   }
   void infer(std::size_t N, const std::vector<float> &features, std::vector<float> &score)
   {
      if (features.size() != static_cast<std::size_t>(7 * static_cast<sofie::Size>(N)))
         throw std::invalid_argument("higgs: input features has the wrong number of elements");
      score.resize(static_cast<std::size_t>(static_cast<sofie::Size>(N)));
      infer(N, features.data(), score.data());
   }
   /// One event: N is 1.
   void infer(const float *features, float *score) { infer(1, features, score); }
   std::vector<float> infer(const float *features)
   {
      const std::size_t N = 1;
      std::vector<float> score(static_cast<std::size_t>(static_cast<sofie::Size>(N)));
      infer(N, features, score.data());
      return score;
   }
   /// The same for vectors, whose sizes are checked.
   std::vector<float> infer(const std::vector<float> &features)
   {
      const std::size_t N = 1;
      if (features.size() != static_cast<std::size_t>(7 * static_cast<sofie::Size>(N)))
         throw std::invalid_argument("higgs: input features has the wrong number of elements");
      return infer(N, features.data());
   }
   void infer(const std::vector<float> &features, std::vector<float> &score)
   {
      const std::size_t N = 1;
      if (features.size() != static_cast<std::size_t>(7 * static_cast<sofie::Size>(N)))
         throw std::invalid_argument("higgs: input features has the wrong number of elements");
      score.resize(static_cast<std::size_t>(static_cast<sofie::Size>(N)));
      infer(N, features.data(), score.data());
   }
#endif
};

#ifdef SOFIE_LINKED
inline void Session::infer(std::size_t N, const float *features, float *score)
{
   const std::size_t sizes_[] = {N};
   const void *const in_[] = {features};
   void *const out_[] = {score};
   code_.call(sizes_, in_, out_);
}
#else
SOFIE_ENTRY void Session::infer(std::size_t N_, const float *features, float *score)
{
   const sofie::Size N = static_cast<sofie::Size>(N_);
   const Weights &w = *weights_;
   const char *volatile at_ = "";
   try {
      scratch_.require(32768);
      char *const slot0_ = scratch_.at(0);
      float *const score_work0 = reinterpret_cast<float *>(slot0_);
      at_ = "dense5";
      sofie::dense_layers(
         sofie::View<float, sofie::dyn, 1>(score, N),
         sofie::View<float, 8192>(score_work0),
         sofie::View<const float, sofie::dyn, 7>(features, N),
         sofie::Relu{},
         w.dense1_weight,
         sofie::Relu{},
         w.dense2_weight,
         sofie::Relu{},
         w.dense3_weight,
         sofie::Relu{},
         w.dense4_weight,
         sofie::Sigmoid{},
         w.dense5_weight);
   } catch (...) {
      sofie::throw_at("higgs", at_);
   }
   SOFIE_LEAVE_PACKS;
}
#endif

#ifdef SOFIE_ENTRIES
/// The same for callers that know C types only.
struct Infer {
   struct Results {
   };
   static const void *result([[maybe_unused]] const Results &results,
                             [[maybe_unused]] std::size_t index,
                             [[maybe_unused]] std::size_t *shape)
   {
      return nullptr;
   }
   SOFIE_INLINE static void run(Session &session, [[maybe_unused]] Results &results,
                                [[maybe_unused]] const std::size_t *sizes,
                                [[maybe_unused]] const void *const *in,
                                [[maybe_unused]] void *const *out)
   {
      session.infer(sizes[0], static_cast<const float *>(in[0]), static_cast<float *>(out[0]));
   }
   static void elements([[maybe_unused]] const std::size_t *sizes_,
                        [[maybe_unused]] std::size_t *in_,
                        [[maybe_unused]] std::size_t *out_)
   {
      [[maybe_unused]] const std::size_t N = sizes_[0];
      in_[0] = static_cast<std::size_t>(7 * static_cast<sofie::Size>(N));
      out_[0] = static_cast<std::size_t>(static_cast<sofie::Size>(N));
   }
};
using Entry = sofie::EntryPoints<Session, Weights, Infer>;
inline const sofie::Entries *entries() { return Entry::table(); }
#endif

#ifdef SOFIE_NATIVE
} // namespace native
#endif
} // namespace TMVA_SOFIE_higgs

SOFIE_END

#endif
