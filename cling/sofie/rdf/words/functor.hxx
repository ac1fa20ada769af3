/// \file
/// TMVA::Experimental::SofieFunctor: a network as a column of an RDataFrame, as SOFIE has it.
#ifndef SOFIE_RDF_WORDS_FUNCTOR_HXX
#define SOFIE_RDF_WORDS_FUNCTOR_HXX

#ifndef SOFIE_RDF_WORDS
#define SOFIE_RDF_WORDS
#endif

#include "sofie/rdf/functor.hxx"

SOFIE_BEGIN

namespace TMVA {
namespace Experimental {

template <class Numbers, class Session>
class SofieFunctorHelper;

/// Gives the first number of the first output, whatever the network gives, as a double.
template <std::size_t... I, class Session>
class SofieFunctorHelper<std::index_sequence<I...>, Session> {
   static_assert(sizeof...(I) == static_cast<std::size_t>(Session::input_size),
                 "SofieFunctor<N, Session>: the network has another number of inputs than N");
   static_assert(
      !sofie::DrawsNumbers<Session>::value,
      "this network draws random numbers, and SOFIE's SofieFunctor is told of no events: sofie::SofieFunctor");
   template <std::size_t>
   using Number = sofie::NumberOf<typename Session::Input>;
   sofie::Slots<Session> slots_;

   static Session opened(const std::string &weights) { return weights.empty() ? Session() : Session(weights); }

public:
   /// `nslots` Sessions (0: as many as ROOT has threads), with the weights of this file or of the Session's own.
   SofieFunctorHelper(unsigned nslots = 0, const std::string &weights = "")
      : slots_(opened(weights), nslots                        ? nslots
                                : ROOT::IsImplicitMTEnabled() ? ROOT::GetThreadPoolSize()
                                                              : 1)
   {
   }
   double operator()(unsigned slot, Number<I>... x)
   {
      const typename Session::Input features[] = {static_cast<typename Session::Input>(x)...};
      typename Session::Output y[static_cast<std::size_t>(Session::output_size)];
      slots_[slot].infer(features, y);
      return static_cast<double>(y[0]);
   }
};

/// df.DefineSlot("y", SofieFunctor<N, TMVA_SOFIE_model::Session>(nslots), {N columns})
template <std::size_t N, class Session>
SofieFunctorHelper<std::make_index_sequence<N>, Session> SofieFunctor(unsigned nslots = 0,
                                                                      const std::string &weights = "")
{
   return {nslots, weights};
}

} // namespace Experimental
} // namespace TMVA

SOFIE_END

#endif
