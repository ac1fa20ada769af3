/// \file
/// The checksum of weight files.
#ifndef SOFIE_SESSION_CHECKSUM_HXX
#define SOFIE_SESSION_CHECKSUM_HXX

#include "sofie/target.hxx"

SOFIE_BEGIN

namespace sofie {

/// The sum of mixed words (of 64 bits; `size` is a multiple of 8), to which each place adds another number before. What
/// is mixed is not linear: the same bit that is wrong in several words, as damaged memory has it, does not cancel.
SOFIE_KERNEL inline std::uint64_t checksum(const char *bytes, std::size_t size)
{
   std::uint64_t sum = size, place = 0;
   SOFIE_UNROLL(2
   ) // More takes longer to compile than it saves.
   for (std::size_t i = 0; i + 8 <= size; i += 8) {
      std::uint64_t word;
      __builtin_memcpy(&word, bytes + i, sizeof word);
      place += 0x9e3779b97f4a7c15u;
      word += place;
      word = (word ^ word >> 32) * 0xd6e8feb86659fd93u;
      sum += word ^ word >> 32;
   }
   return sum;
}

/// What stands in a weight file as its checksum: of all of it but the word where it stands.
SOFIE_ONCE inline std::uint64_t checksum_of_file(const char *bytes, std::size_t size)
{
   return checksum(bytes, 24) + checksum(bytes + 32, size - 32);
}

} // namespace sofie

SOFIE_END

#endif
