/// \file
/// SofieFunctor: a network as a column of an RDataFrame, one Session for each slot.
#ifndef SOFIE_RDF_FUNCTOR_HXX
#define SOFIE_RDF_FUNCTOR_HXX

#include "sofie/session/slots.hxx"
#include "sofie/view.hxx"

#if !defined(SOFIE_CLING) || defined(__ROOTCLING__)
#include <ROOT/RVec.hxx>
#include <TROOT.h>
#endif

SOFIE_BEGIN

namespace sofie {

/// What stands for an element where only the numbers of C++ are known: itself, or the float that it is.
template <class T>
using NumberOf = std::conditional_t<std::is_arithmetic<T>::value, T, float>;

/// What a new column holds for an element. ROOT cannot write a signed char to a TTree, nor read a char into NumPy.
template <class T>
using ColumnOf = std::conditional_t<std::is_same<T, signed char>::value, short, NumberOf<T>>;

template <class T>
SOFIE_INLINE ROOT::RVec<ColumnOf<T>> as_column(const ROOT::RVec<T> &elements)
{
   ROOT::RVec<ColumnOf<T>> numbers(elements.size());
   for (std::size_t i = 0; i < elements.size(); ++i)
      numbers[i] = static_cast<ColumnOf<T>>(elements[i]);
   return numbers;
}

/// What one event gives: a number, or an RVec where the network has several outputs.
template <class Session>
SOFIE_INLINE auto score_event(Session &session, const typename Session::Input *x)
{
   using T = typename Session::Output;
   if constexpr (Session::output_size == 1) {
      T y;
      session.infer(x, &y);
      return static_cast<ColumnOf<T>>(y);
   } else {
      ROOT::RVec<T> y(static_cast<std::size_t>(Session::output_size));
      session.infer(x, y.data());
      if constexpr (std::is_same<T, ColumnOf<T>>::value)
         return y;
      else
         return as_column(y);
   }
}

/// Whether a Session draws random numbers, for events that it must be told of.
template <class Session, class = void>
struct DrawsNumbers : std::false_type {};
template <class Session>
struct DrawsNumbers<Session, std::enable_if_t<Session::is_random>> : std::true_type {};

template <class Session, class Numbers, bool draws = DrawsNumbers<Session>::value>
class SofieFunctorOf;

template <class Session, std::size_t... I>
class SofieFunctorOf<Session, std::index_sequence<I...>, false> {
   static_assert(sizeof...(I) == static_cast<std::size_t>(Session::input_size),
                 "SofieFunctor<N, Session>: the network has another number of inputs than N");
   template <std::size_t>
   using Number = NumberOf<typename Session::Input>;
   Slots<Session> slots_;

public:
   /// `nslots` Sessions (0: as many as ROOT has threads), with the weights of this file.
   explicit SofieFunctorOf(unsigned nslots, const std::string &weights)
      : slots_(Session(weights), nslots                        ? nslots
                                 : ROOT::IsImplicitMTEnabled() ? ROOT::GetThreadPoolSize()
                                                               : 1)
   {
   }
   auto operator()(unsigned slot, Number<I>... x)
   {
      const typename Session::Input features[] = {static_cast<typename Session::Input>(x)...};
      return score_event(slots_[slot], features);
   }
};

/// The same of a network that draws random numbers, for `DefineSlotEntry`: it is told of the event.
template <class Session, std::size_t... I>
class SofieFunctorOf<Session, std::index_sequence<I...>, true> {
   static_assert(sizeof...(I) == static_cast<std::size_t>(Session::input_size),
                 "SofieFunctor<N, Session>: the network has another number of inputs than N");
   template <std::size_t>
   using Number = NumberOf<typename Session::Input>;
   Slots<Session> slots_;

   static Session seeded(Session session, std::uint64_t seed)
   {
      session.seed(seed);
      return session;
   }

public:
   /// With the Session's own seed, or this one.
   explicit SofieFunctorOf(unsigned nslots, const std::string &weights)
      : slots_(Session(weights), nslots                        ? nslots
                                 : ROOT::IsImplicitMTEnabled() ? ROOT::GetThreadPoolSize()
                                                               : 1)
   {
   }
   SofieFunctorOf(unsigned nslots, const std::string &weights, std::uint64_t seed)
      : slots_(seeded(Session(weights), seed), nslots                        ? nslots
                                               : ROOT::IsImplicitMTEnabled() ? ROOT::GetThreadPoolSize()
                                                                             : 1)
   {
   }
   auto operator()(unsigned slot, unsigned long long entry, Number<I>... x)
   {
      const typename Session::Input features[] = {static_cast<typename Session::Input>(x)...};
      Session &session = slots_[slot];
      session.entry(entry);
      return score_event(session, features);
   }
};

/// df.DefineSlot("y", SofieFunctor<N, TMVA_SOFIE_model::Session>(nslots, "model.dat"), {N columns})
/// or, of a variable `f` that the interpreter has been told of, df.Define("y", "f(rdfslot_, column, ...)"):
/// gInterpreter->Declare("SofieFunctor<N, TMVA_SOFIE_model::Session> f(nslots, \"model.dat\");")
/// (A global of a macro is one as well, but not of a compiled macro, whose globals are made before
/// the interpreter knows its headers.)
/// Of a network that draws random numbers: df.DefineSlotEntry, "f(rdfslot_, rdfentry_, column, ...)".
template <std::size_t N, class Session>
using SofieFunctor = SofieFunctorOf<Session, std::make_index_sequence<N>>;

} // namespace sofie

// SOFIE's words have a SofieFunctor of their own in TMVA::Experimental.
#ifndef SOFIE_RDF_WORDS
using sofie::SofieFunctor;
#endif

SOFIE_END

#endif
