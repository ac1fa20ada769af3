/// \file
/// From the columns of an event to the inputs of a network: rows of objects, and sets of a fixed or open length.
#ifndef SOFIE_RDF_COLUMNS_HXX
#define SOFIE_RDF_COLUMNS_HXX

#include "sofie/session/events.hxx"
#include "sofie/rdf/functor.hxx"

#if !defined(SOFIE_CLING) || defined(__ROOTCLING__)
#include <algorithm>
#include <cmath>
#endif

SOFIE_BEGIN

namespace sofie {

/// What is no part of the code, so that it can be compiled once: numbers, and, for messages, the names of columns and
/// of the model.
struct Told {
   std::vector<double> numbers;
   std::vector<std::string> names;
   std::string model;
};

/// An error whose message says itself which columns are wrong.
struct ColumnError : std::runtime_error {
   using std::runtime_error::runtime_error;
};

/// The exception that is being caught, with what an event loop knows: the model, the entry and the columns.
[[noreturn]] SOFIE_ONCE inline void throw_of_event(const Told &told, const std::string &entry)
{
   const std::string model = told.model + ": ";
   try {
      throw;
   } catch (const ColumnError &error) {
      throw std::runtime_error(model + entry + error.what());
   } catch (const std::bad_alloc &) {
      throw std::runtime_error(model + entry + "not enough memory");
   } catch (const std::exception &error) {
      std::string what = error.what(), columns;
      if (what.compare(0, model.size(), model) == 0)
         what.erase(0, model.size());
      for (const std::string &name : told.names)
         columns += (columns.empty() ? " (columns: '" : ", '") + name + "'";
      throw std::runtime_error(model + entry + what + (columns.empty() ? "" : columns + ")"));
   }
}

[[noreturn]] SOFIE_ONCE inline void throw_of_event(const Told &told, unsigned long long entry)
{
   throw_of_event(told, "entry " + std::to_string(entry) + ": ");
}

/// Calls `run` with the number of each object of an event; an error names the object.
template <class Run>
inline void for_each_object(std::size_t count, Run run)
{
   std::size_t object = 0;
   try {
      for (; object < count; ++object)
         run(object);
   } catch (const ColumnError &error) {
      throw ColumnError("object " + std::to_string(object) + ": " + error.what());
   }
}

/// A functor with exactly one signature, which is what DefineSlotEntry accepts from Python:
/// `Score::run(work, entry, columns...)` with the slot's own Work.
template <class Work, class Score, class... Columns>
class EntryFunctor {
   Slots<Work> slots_;

public:
   EntryFunctor(const Work &work, unsigned count) : slots_(work, count) {}
   auto operator()(unsigned slot, ULong64_t entry, Columns... columns)
   {
      Work &work = slots_[slot];
      try {
         return Score::run(work, entry, columns...);
      } catch (...) {
         throw_of_event(work.told, entry);
      }
   }
   Slots<Work> &slots() { return slots_; }
};

/// The same for DefineSlot, which does not tell the entry.
template <class Work, class Score, class... Columns>
class SlotFunctor {
   Slots<Work> slots_;

public:
   SlotFunctor(const Work &work, unsigned count) : slots_(work, count) {}
   auto operator()(unsigned slot, Columns... columns)
   {
      Work &work = slots_[slot];
      try {
         return Score::run(work, columns...);
      } catch (...) {
         throw_of_event(work.told, std::string());
      }
   }
};

/// The seed of random numbers, of two words of 32 bits.
inline std::uint64_t seed_of(double high, double low)
{
   return static_cast<std::uint64_t>(high) << 32 | static_cast<std::uint64_t>(low);
}

/// What becomes of NaN in a column: it stays,
struct KeepNan {
   template <class T>
   SOFIE_INLINE T operator()(T x) const
   {
      return x;
   }
};
/// or is this number,
struct ReplaceNan {
   double number;
   template <class T>
   SOFIE_INLINE T operator()(T x) const
   {
      return x != x ? static_cast<T>(number) : x;
   }
};
/// or ends the event loop.
struct RefuseNan {
   const std::string &column;
   template <class T>
   SOFIE_INLINE T operator()(T x) const
   {
      if (x != x)
         throw ColumnError("column '" + column + "' is NaN, and nan=\"error\" was asked for");
      return x;
   }
};

/// Which objects of an event come first, and how many there are of them.
struct Objects {
   std::size_t count = 0;
   const std::size_t *order = nullptr;
   std::size_t operator[](std::size_t i) const { return order ? order[i] : i; }
};

/// to[i * step] = from[i * apart]. With raw pointers and unrolled: Cling's loops are slow otherwise.
template <class To, class From, class Nan>
SOFIE_KERNEL void copy_elements(To *to, std::size_t step, const From *from, std::size_t apart, std::size_t count,
                                Nan nan)
{
   SOFIE_UNROLL(8)
   for (std::size_t i = 0; i < count; ++i)
      to[i * step] = static_cast<To>(nan(from[i * apart]));
}

/// to[i * step] = column[i] for all objects.
template <class To, class Column, class Nan>
SOFIE_INLINE void fill_column(To *to, std::size_t step, const Column &column, const Objects &objects, Nan nan)
{
   // A std::vector<bool> has no array.
   if constexpr (!std::is_same<Column, std::vector<bool>>::value)
      if (!objects.order) {
         copy_elements(to, step, column.data(), 1, objects.count, nan);
         return;
      }
   for (std::size_t i = 0; i < objects.count; ++i)
      to[i * step] = static_cast<To>(nan(column[objects[i]]));
}
/// The same number for all objects.
template <class To, class From>
SOFIE_INLINE void fill_number(To *to, std::size_t step, From number, std::size_t count)
{
   for (std::size_t i = 0; i < count; ++i)
      to[i * step] = static_cast<To>(number);
}

/// ColumnError if two columns of an event have different lengths.
inline void require_length(const std::string &column, std::size_t length, const std::string &first, std::size_t wanted)
{
   if (length != wanted)
      throw ColumnError("column '" + column + "' has " + std::to_string(length) + " elements, and '" + first +
                        "' has " + std::to_string(wanted));
}

/// How many of `count` objects are kept; ColumnError if they are more, and none may go.
inline std::size_t kept_objects(const std::string &column, std::size_t count, std::size_t most, bool truncates)
{
   if (count <= most)
      return count;
   if (!truncates)
      throw ColumnError("column '" + column + "' has " + std::to_string(count) + " elements; the model takes " +
                        std::to_string(most) + ", and truncate=True was not given");
   return most;
}

/// Whether one object comes before another: the larger key first, equal ones as they are, NaN last.
template <class Keys>
struct LargerKey {
   const Keys &keys;
   bool operator()(std::size_t a, std::size_t b) const
   {
      const bool none_a = keys[a] != keys[a], none_b = keys[b] != keys[b];
      if (none_a || none_b || keys[a] == keys[b])
         return none_a == none_b ? a < b : none_b;
      return keys[a] > keys[b];
   }
};
template <class Keys>
inline void sort_objects(std::vector<std::size_t> &order, const Keys &keys)
{
   order.resize(keys.size());
   for (std::size_t i = 0; i < order.size(); ++i)
      order[i] = i;
   std::sort(order.begin(), order.end(), LargerKey<Keys>{keys});
}

/// The index of the largest number; the first one of several.
template <class T>
SOFIE_INLINE int largest_of(const T *numbers, std::size_t count)
{
   std::size_t best = 0;
   for (std::size_t i = 1; i < count; ++i)
      best = static_cast<float>(numbers[i]) > static_cast<float>(numbers[best]) ? i : best;
   return static_cast<int>(best);
}

/// Every `step`-th number as a column.
template <class To, class T>
SOFIE_INLINE ROOT::RVec<To> as_rvec(const T *numbers, std::size_t count, std::size_t step = 1)
{
   ROOT::RVec<To> column(count);
   copy_elements(column.data(), 1, numbers, step, count, KeepNan{});
   return column;
}
/// The largest of each row of `classes` numbers.
template <class T>
SOFIE_INLINE ROOT::RVec<int> largest_of_rows(const T *numbers, std::size_t rows, std::size_t classes)
{
   ROOT::RVec<int> column(rows);
   for (std::size_t i = 0; i < rows; ++i)
      column[i] = largest_of(numbers + i * classes, classes);
   return column;
}

} // namespace sofie

SOFIE_END

#endif
