/// \file
/// Arena: the scratch memory of one Session; and arithmetic on sizes.
#ifndef SOFIE_SESSION_ARENA_HXX
#define SOFIE_SESSION_ARENA_HXX

#include "sofie/session/weights.hxx"

SOFIE_BEGIN

namespace sofie {

/// a / b, rounded down; std::invalid_argument for b = 0.
SOFIE_INLINE Size floor_div(Size a, Size b)
{
   if (b == 0)
      throw std::invalid_argument("a size is divided by one that is 0");
   return a / b - ((a % b != 0 && (a < 0) != (b < 0)) ? 1 : 0);
}

/// a - b * floor(a / b)
inline Size modulo(Size a, Size b)
{
   return a - b * floor_div(a, b);
}

SOFIE_INLINE Size smaller(Size a, Size b)
{
   return b < a ? b : a;
}

SOFIE_INLINE Size larger(Size a, Size b)
{
   return a < b ? b : a;
}

/// Calls piece(first row, number of rows) for equal pieces of a batch, of at most `most` bytes of scratch memory each,
/// where all of its rows but one would take `more` bytes; false where these are few, so that it is done at once.
template <class Piece>
SOFIE_INLINE bool in_pieces(Size rows, Size more, Size most, const Piece &piece)
{
   if (more <= 2 * most)
      return false;
   const Size count = smaller(rows, (more + most - 1) / most);
   const Size step = (rows + count - 1) / count;
   for (Size row = 0; row < rows; row += step)
      piece(row, smaller(step, rows - row));
   return true;
}

/// An error of a network that runs, whose message names the model and the node.
struct NodeError : std::runtime_error {
   using std::runtime_error::runtime_error;
};

/// The exception that is being caught, as a NodeError: it comes from this node. One that names its node already stays
/// as it is, and so does one that says that there is no memory.
[[noreturn]] SOFIE_ONCE inline void throw_at(const char *model, const char *node)
{
   try {
      throw;
   } catch (const NodeError &) {
      throw;
   } catch (const std::bad_alloc &) {
      throw;
   } catch (const std::exception &error) {
      throw NodeError(std::string(model) + ": " + node + (*node ? ": " : "") + error.what());
   }
}

/// NodeError where sizes do not fit together that only the run could tell.
inline void require(bool holds, const char *what)
{
   if (!holds)
      throw NodeError(what);
}

/// Aligned scratch memory that grows when more is needed and never shrinks. Its contents mean
/// nothing between two calls, so a copy starts empty.
class Arena {
   Buffer<char> memory_;

   SOFIE_KERNEL void grow(Size bytes) { memory_ = Buffer<char>(bytes); }

public:
   Arena() = default;
   Arena(const Arena &) {}
   Arena(Arena &&) = default;
   Arena &operator=(const Arena &) { return *this; }
   Arena &operator=(Arena &&) = default;
   ~Arena() = default;

   /// Makes sure that there are `bytes` bytes: an allocation only where there were never so many.
   /// For none there is a pointer too: memcpy accepts no null, not even to copy nothing.
   SOFIE_INLINE void require(Size bytes)
   {
      if (__builtin_expect(bytes > memory_.size() || !memory_.data(), false))
         grow(bytes);
   }

   /// The memory from `offset` on.
   SOFIE_INLINE char *at(Size offset) { return memory_.data() + offset; }
};

} // namespace sofie

SOFIE_END

#endif
