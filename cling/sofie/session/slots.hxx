/// \file
/// Sessions for several threads, one for each slot of an event loop.
#ifndef SOFIE_SESSION_SLOTS_HXX
#define SOFIE_SESSION_SLOTS_HXX

#include "sofie/target.hxx"

SOFIE_BEGIN

namespace sofie {

/// Ends the event loop with an exception if the user wants that, who has pressed Ctrl-C; whoever can find out sets it.
/// (A variable by itself is none that ROOT's interpreter finds where ACLiC has compiled this.)
inline void (*&look_for_interrupt())()
{
   static void (*look)() = nullptr;
   return look;
}

/// One Session for each processing slot, all with the same weights. Copies share them: RDataFrame
/// copies its functors, and a slot is never used by two threads at once.
template <class Session>
class Slots {
   // Two Sessions on one cache line would make two threads wait for each other.
   struct alignas(64) Slot {
      Session session;
      unsigned calls = 0;
   };
   std::shared_ptr<std::vector<Slot>> slots_;

public:
   Slots(const Session &session, unsigned count) : slots_(std::make_shared<std::vector<Slot>>())
   {
      for (unsigned i = 0; i < count; ++i)
         slots_->push_back(Slot{session});
   }
   std::size_t size() const { return slots_->size(); }
   Session &at(unsigned slot) const { return (*slots_)[slot].session; }
   /// The Session of a slot for its next event.
   Session &operator[](unsigned slot) const
   {
      if (slot >= slots_->size())
         throw std::out_of_range("SofieFunctor has " + std::to_string(slots_->size()) +
                                 " slots and is used in more: construct it with df.GetNSlots()");
      Slot &its = (*slots_)[slot];
      if (++its.calls % 16 == 0 && look_for_interrupt())
         look_for_interrupt()();
      return its.session;
   }
};

} // namespace sofie

SOFIE_END

#endif
