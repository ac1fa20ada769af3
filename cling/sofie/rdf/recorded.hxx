/// \file
/// What a network has given for the events of one loop, for the next one, which finds it by the inputs.
#ifndef SOFIE_RDF_RECORDED_HXX
#define SOFIE_RDF_RECORDED_HXX

#include "sofie/rdf/columns.hxx"

SOFIE_BEGIN

namespace sofie {

/// 128 bits of the inputs of an event: of n different inputs two have the same ones with a probability of n^2 / 2^129.
class Key {
   std::uint64_t first_ = 0x9e3779b97f4a7c15u, second_ = 0xd1b54a32d192ed03u;

   static SOFIE_INLINE std::uint64_t mixed(std::uint64_t x, std::uint64_t y)
   {
      __extension__ typedef unsigned __int128 Wide;
      const Wide product = static_cast<Wide>(x) * y;
      return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
   }
   SOFIE_INLINE void add_words(std::uint64_t x, std::uint64_t y)
   {
      first_ = mixed(first_ ^ x, y ^ 0xa0761d6478bd642fu) + y;
      second_ = mixed(second_ ^ y, x ^ 0xe7037ed1a0b428dbu) + x;
   }

public:
   template <class T>
   SOFIE_INLINE void add(const T *elements, std::size_t count)
   {
      const char *bytes = reinterpret_cast<const char *>(elements);
      std::size_t left = count * sizeof(T);
      add_words(left, 0);
      for (; left >= 16; left -= 16, bytes += 16) {
         std::uint64_t words[2];
         __builtin_memcpy(words, bytes, 16);
         add_words(words[0], words[1]);
      }
      std::uint64_t rest[2] = {0, 0};
      __builtin_memcpy(rest, bytes, left);
      add_words(rest[0], rest[1]);
   }
   std::uint64_t first() const { return first_; }
   bool operator==(const Key &other) const { return first_ == other.first_ && second_ == other.second_; }
};

/// The results of an event are those of a slot, from this row on.
struct RecordedAt {
   Key key;
   std::uint64_t row;
   std::uint32_t slot = 0;
   bool there = false;
};

/// Without the events whose results begin at this row or later.
inline void forget_events(std::vector<RecordedAt> &events, std::size_t row)
{
   while (!events.empty() && events.back().row >= row)
      events.pop_back();
}

/// Where the results of all events are: a hash table of keys, which are as good as random numbers.
class Recorded {
   std::vector<RecordedAt> places_;

   std::size_t begin(const Key &key) const
   {
      __extension__ typedef unsigned __int128 Wide;
      return static_cast<std::size_t>((static_cast<Wide>(key.first()) * places_.size()) >> 64);
   }

public:
   explicit Recorded(std::size_t events) : places_(events + events / 2 + 1) {}
   void add(RecordedAt event)
   {
      std::size_t i = begin(event.key);
      for (; places_[i].there; i = i + 1 == places_.size() ? 0 : i + 1)
         if (places_[i].key == event.key)
            return;
      event.there = true;
      places_[i] = event;
   }
   /// The place of these inputs, which is not `there` for new ones.
   const RecordedAt &find(const Key &key) const
   {
      std::size_t i = begin(key);
      while (places_[i].there && !(places_[i].key == key))
         i = i + 1 == places_.size() ? 0 : i + 1;
      return places_[i];
   }
};

/// The table of what all slots have recorded, which is complete from now on.
template <class Taken>
inline std::shared_ptr<const Recorded> recorded_in(Slots<Taken> &slots)
{
   std::size_t events = 0;
   for (unsigned slot = 0; slot < slots.size(); ++slot)
      events += slots.at(slot).events.size();
   const auto table = std::make_shared<Recorded>(events);
   for (unsigned slot = 0; slot < slots.size(); ++slot) {
      Taken &taken = slots.at(slot);
      taken.flush();
      for (RecordedAt event : taken.events) {
         event.slot = slot;
         table->add(event);
      }
      std::vector<RecordedAt>().swap(taken.events);
   }
   return table;
}

/// to[i] = from[i]
template <class To, class From>
SOFIE_INLINE void take_row(To *to, const From *from, std::size_t count)
{
   static_assert(sizeof(To) == sizeof(From), "the same elements");
   __builtin_memcpy(to, from, count * sizeof(To));
}
/// The elements behind those of the rows that wait.
template <class Stored, class T>
SOFIE_INLINE void add_row(std::vector<Stored> &rows, const T *elements, std::size_t count)
{
   const std::size_t before = rows.size();
   rows.resize(before + count);
   take_row(rows.data() + before, elements, count);
}

} // namespace sofie

SOFIE_END

#endif
