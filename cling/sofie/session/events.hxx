/// \file
/// Which events a Session draws random numbers for: see sofie_rdf/ir/rows.py.
#ifndef SOFIE_SESSION_EVENTS_HXX
#define SOFIE_SESSION_EVENTS_HXX

#include "sofie/target.hxx"

SOFIE_BEGIN

namespace sofie {

/// The rows of one event: its objects, or itself.
inline const std::uint64_t *rows_of_event(std::vector<std::uint64_t> &rows, std::uint64_t seed, std::uint64_t entry,
                                          std::size_t objects)
{
   rows.resize(3 * objects + 1);
   for (std::size_t i = 0; i < objects; ++i) {
      rows[3 * i] = seed;
      rows[3 * i + 1] = entry;
      rows[3 * i + 2] = i;
   }
   return rows.data();
}

/// A seed and the number of the next event. A copy goes on from there by itself.
struct Events {
   std::uint64_t seed = 0, entry = 0;
   std::vector<std::uint64_t> rows;

   /// The rows of so many events, after which come the ones behind them.
   const std::uint64_t *next(std::size_t count)
   {
      rows.resize(3 * count + 1);
      for (std::size_t i = 0; i < count; ++i) {
         rows[3 * i] = seed;
         rows[3 * i + 1] = entry++;
         rows[3 * i + 2] = 0;
      }
      return rows.data();
   }
};

} // namespace sofie

SOFIE_END

#endif
