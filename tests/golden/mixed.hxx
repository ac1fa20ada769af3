// mixed model: a network compiled by sofie_rdf.
// input  x: float32[N, 6]
// input  set/of particles: float32[N, "n pf", 4]
// output weights: float32[N, "n pf"]
// output positive: bool[N, 8]
// output whole: int64[8, N]
#ifndef TMVA_SOFIE_mixed_model_HXX
#define TMVA_SOFIE_mixed_model_HXX

#include "sofie/target.hxx"
#include "sofie/session/entries.hxx"
#ifdef SOFIE_LINKED
#include "sofie/rdf/native.hxx"
#else
#include "sofie/session/arena.hxx"
#include "sofie/kernels/dense.hxx"
#include "sofie/kernels/elementwise.hxx"
#include "sofie/kernels/elementwise/activations.hxx"
#include "sofie/kernels/layout.hxx"
#include "sofie/kernels/products.hxx"
#include "sofie/kernels/softmax.hxx"
#endif
#ifdef SOFIE_ENTRIES
#include "sofie/session/runtime.hxx"
#endif

SOFIE_BEGIN

namespace TMVA_SOFIE_mixed_model {
#ifdef SOFIE_NATIVE
namespace native {
#endif

#ifndef SOFIE_LINKED
/// The constants as the kernels want them; all Sessions share one copy.
struct Weights {
   sofie::DenseWeights<float, 6, 4> w_0;
   sofie::Constant<sofie::View<const float>> constant;
   sofie::Constant<sofie::View<const float>> half;

   SOFIE_ONCE explicit Weights(const sofie::WeightFile &file) :
      w_0(file.tensor<sofie::View<const float, 6, 4>>(0), file.tensor<sofie::View<const float, 4>>(1)),
      constant(file.tensor<sofie::View<const float>>(2)),
      half(file.tensor<sofie::View<const float>>(3))
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
         sofie::native_entries("TMVA_SOFIE_mixed_model", __FILE__);
      return known;
   }

public:
   /// Reads the weight file that was written with this header.
   explicit Session(const std::string &weights = "mixed_model.dat") :
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
   explicit Session(const std::string &weights = "mixed_model.dat") :
      weights_(sofie::Shared<Weights>::made(sofie::WeightFile(weights)))
   {
   }
   /// Shares the weights of others.
   explicit Session(const sofie::Shared<Weights> &weights) : weights_(weights) {}
#endif

   /// Evaluates into the caller's memory; input and output must not overlap.
   void infer(std::size_t N, std::size_t n_pf, const float *x, const float *set_of_particles, float *weights_2, bool *positive, std::int64_t *whole);
#ifndef SOFIE_ENTRIES
   std::tuple<std::vector<float>, std::vector<std::uint8_t>, std::vector<std::int64_t>> infer(std::size_t N, std::size_t n_pf, const float *x, const float *set_of_particles)
   {
      std::vector<float> weights_2(static_cast<std::size_t>(static_cast<sofie::Size>(N) * static_cast<sofie::Size>(n_pf)));
      std::vector<std::uint8_t> positive(static_cast<std::size_t>(8 * static_cast<sofie::Size>(N)));
      std::vector<std::int64_t> whole(static_cast<std::size_t>(8 * static_cast<sofie::Size>(N)));
      infer(N, n_pf, x, set_of_particles, weights_2.data(), reinterpret_cast<bool *>(positive.data()), whole.data());
      return {std::move(weights_2), std::move(positive), std::move(whole)};
   }
   /// The same for vectors, whose sizes are checked.
   std::tuple<std::vector<float>, std::vector<std::uint8_t>, std::vector<std::int64_t>> infer(std::size_t N, std::size_t n_pf, const std::vector<float> &x, const std::vector<float> &set_of_particles)
   {
      if (x.size() != static_cast<std::size_t>(6 * static_cast<sofie::Size>(N)))
         throw std::invalid_argument("mixed model: input x has the wrong number of elements");
      if (set_of_particles.size() != static_cast<std::size_t>(4 * static_cast<sofie::Size>(N) * static_cast<sofie::Size>(n_pf)))
         throw std::invalid_argument("mixed model: input set/of particles has the wrong number of elements");
      return infer(N, n_pf, x.data(), set_of_particles.data());
   }
   void infer(std::size_t N, std::size_t n_pf, const std::vector<float> &x, const std::vector<float> &set_of_particles, std::vector<float> &weights_2, std::vector<std::uint8_t> &positive, std::vector<std::int64_t> &whole)
   {
      if (x.size() != static_cast<std::size_t>(6 * static_cast<sofie::Size>(N)))
         throw std::invalid_argument("mixed model: input x has the wrong number of elements");
      if (set_of_particles.size() != static_cast<std::size_t>(4 * static_cast<sofie::Size>(N) * static_cast<sofie::Size>(n_pf)))
         throw std::invalid_argument("mixed model: input set/of particles has the wrong number of elements");
      weights_2.resize(static_cast<std::size_t>(static_cast<sofie::Size>(N) * static_cast<sofie::Size>(n_pf)));
      positive.resize(static_cast<std::size_t>(8 * static_cast<sofie::Size>(N)));
      whole.resize(static_cast<std::size_t>(8 * static_cast<sofie::Size>(N)));
      infer(N, n_pf, x.data(), set_of_particles.data(), weights_2.data(), reinterpret_cast<bool *>(positive.data()), whole.data());
   }
#endif
};

#ifdef SOFIE_LINKED
inline void Session::infer(std::size_t N, std::size_t n_pf, const float *x, const float *set_of_particles, float *weights_2, bool *positive, std::int64_t *whole)
{
   const std::size_t sizes_[] = {N, n_pf};
   const void *const in_[] = {x, set_of_particles};
   void *const out_[] = {weights_2, positive, whole};
   code_.call(sizes_, in_, out_);
}
#else
SOFIE_ENTRY void Session::infer(std::size_t N_, std::size_t n_pf_, const float *x, const float *set_of_particles, float *weights_2, bool *positive, std::int64_t *whole)
{
   const sofie::Size N = static_cast<sofie::Size>(N_);
   const sofie::Size n_pf = static_cast<sofie::Size>(n_pf_);
   const Weights &w = *weights_;
   const char *volatile at_ = "";
   try {
      const sofie::Size begin1_ = 64 * sofie::floor_div(sofie::larger(32 * N, 4 * N * n_pf) + 63, 64);
      const sofie::Size begin2_ = begin1_ + 64 * sofie::floor_div(32 * N + 63, 64);
      const sofie::Size begin3_ = begin2_ + 64 * sofie::floor_div(16 * N + 63, 64);
      scratch_.require(begin3_);
      char *const slot0_ = scratch_.at(begin1_);
      char *const slot1_ = scratch_.at(0);
      char *const slot2_ = scratch_.at(begin2_);
      float *const dense = reinterpret_cast<float *>(slot0_);
      float *const matmul = reinterpret_cast<float *>(slot1_);
      float *const matmul_2 = reinterpret_cast<float *>(slot2_);
      float *const concat = reinterpret_cast<float *>(slot1_);
      float *const mul = reinterpret_cast<float *>(slot0_);
      float *const transpose = reinterpret_cast<float *>(slot0_);
      at_ = "dense";
      sofie::dense(
         sofie::Tanh{},
         sofie::View<float, sofie::dyn, 4>(dense, N),
         sofie::View<const float, sofie::dyn, 6>(x, N),
         w.w_0);
      at_ = "matmul";
      sofie::matmul_dots(
         sofie::View<float, sofie::dyn, sofie::dyn, 1>(matmul, N, n_pf),
         sofie::View<const float, sofie::dyn, sofie::dyn, 4>(set_of_particles, N, n_pf),
         sofie::View<const float, sofie::dyn, 4, 1>(dense, N));
      at_ = "weights";
      sofie::softmax(
         sofie::View<float, sofie::dyn, sofie::dyn, 1>(weights_2, N, n_pf),
         sofie::View<const float, sofie::dyn, sofie::dyn, 1>(matmul, N, n_pf));
      at_ = "matmul_2";
      sofie::matmul_tiled(
         sofie::View<float, sofie::dyn, 1, 4>(matmul_2, N),
         sofie::View<const float, sofie::dyn, 1, sofie::dyn>(weights_2, N, n_pf),
         sofie::View<const float, sofie::dyn, sofie::dyn, 4>(set_of_particles, N, n_pf));
      at_ = "concat";
      sofie::concat(
         N,
         sofie::Sizes<2>{{4, 4}},
         sofie::View<float>(concat),
         sofie::View<const float>(matmul_2),
         sofie::View<const float>(dense));
      at_ = "positive";
      sofie::map(
         sofie::Greater{},
         sofie::View<bool, sofie::dyn>(positive, 8 * N),
         sofie::View<const float, sofie::dyn>(concat, 8 * N),
         sofie::View<const float, 1>(w.constant.data()));
      at_ = "mul";
      sofie::map(
         sofie::Mul{},
         sofie::View<float, sofie::dyn>(mul, 8 * N),
         sofie::View<const float, sofie::dyn>(concat, 8 * N),
         sofie::View<const float, 1>(w.half.data()));
      at_ = "where";
      sofie::map(
         sofie::Where{},
         sofie::View<float, sofie::dyn>(concat, 8 * N),
         sofie::View<const bool, sofie::dyn>(positive, 8 * N),
         sofie::View<const float, sofie::dyn>(concat, 8 * N),
         sofie::View<const float, sofie::dyn>(mul, 8 * N));
      at_ = "add";
      sofie::map(
         sofie::Add{},
         sofie::View<float, sofie::dyn>(concat, 8 * N),
         sofie::View<const float, sofie::dyn>(concat, 8 * N),
         sofie::View<const float, sofie::dyn>(concat, 8 * N));
      at_ = "transpose";
      sofie::read_strided(
         sofie::Sizes<2>{{8, N}},
         sofie::Sizes<2>{{1, 8}},
         0,
         sofie::View<float>(transpose),
         sofie::View<const float>(concat));
      at_ = "whole";
      sofie::map(
         sofie::Cast<std::int64_t>{},
         sofie::View<std::int64_t, sofie::dyn>(whole, 8 * N),
         sofie::View<const float, sofie::dyn>(transpose, 8 * N));
   } catch (...) {
      sofie::throw_at("mixed model", at_);
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
      session.infer(sizes[0], sizes[1], static_cast<const float *>(in[0]), static_cast<const float *>(in[1]), static_cast<float *>(out[0]), static_cast<bool *>(out[1]), static_cast<std::int64_t *>(out[2]));
   }
   static void elements([[maybe_unused]] const std::size_t *sizes_,
                        [[maybe_unused]] std::size_t *in_,
                        [[maybe_unused]] std::size_t *out_)
   {
      [[maybe_unused]] const std::size_t N = sizes_[0];
      [[maybe_unused]] const std::size_t n_pf = sizes_[1];
      in_[0] = static_cast<std::size_t>(6 * static_cast<sofie::Size>(N));
      in_[1] = static_cast<std::size_t>(4 * static_cast<sofie::Size>(N) * static_cast<sofie::Size>(n_pf));
      out_[0] = static_cast<std::size_t>(static_cast<sofie::Size>(N) * static_cast<sofie::Size>(n_pf));
      out_[1] = static_cast<std::size_t>(8 * static_cast<sofie::Size>(N));
      out_[2] = static_cast<std::size_t>(8 * static_cast<sofie::Size>(N));
   }
};
using Entry = sofie::EntryPoints<Session, Weights, Infer>;
inline const sofie::Entries *entries() { return Entry::table(); }
#endif

#ifdef SOFIE_NATIVE
} // namespace native
#endif
} // namespace TMVA_SOFIE_mixed_model

SOFIE_END

#endif
