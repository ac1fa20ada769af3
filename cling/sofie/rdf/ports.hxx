/// \file
/// What a stored model says of its inputs and outputs: types, shapes, names of features and classes, and how its sets
/// are filled. sofie_rdf/runtime/files/macro.py writes it.
#ifndef SOFIE_RDF_PORTS_HXX
#define SOFIE_RDF_PORTS_HXX

#include "sofie/rdf/json.hxx"

#if !defined(SOFIE_CLING) || defined(__ROOTCLING__)
#include <algorithm>
#include <cmath>
#include <map>
#endif

namespace sofie {

/// No column, object, axis or input.
constexpr std::size_t nothing = static_cast<std::size_t>(-1);

/// An element type that C++ has, and its elements as doubles.
struct StoredType {
   const char *name, *cxx;
   std::size_t bytes;
   void (*to_doubles)(const void *elements, std::size_t count, double *numbers);
   void (*from_doubles)(const double *numbers, std::size_t count, void *elements);
   void (*repeat)(void *to, std::size_t step, double number, std::size_t count);
   double least, most; ///< Which numbers it has, all whole; of floats none are given, and any is right.

   template <class T>
   static void widen(const void *elements, std::size_t count, double *numbers)
   {
      for (std::size_t i = 0; i < count; ++i)
         numbers[i] = static_cast<double>(static_cast<const T *>(elements)[i]);
   }
   template <class T>
   static void narrow(const double *numbers, std::size_t count, void *elements)
   {
      for (std::size_t i = 0; i < count; ++i)
         static_cast<T *>(elements)[i] = static_cast<T>(numbers[i]);
   }
   template <class T>
   static void repeated(void *to, std::size_t step, double number, std::size_t count)
   {
      for (std::size_t i = 0; i < count; ++i)
         static_cast<T *>(to)[i * step] = static_cast<T>(number);
   }
   template <class T>
   static StoredType make(const char *name, const char *cxx, double least = 0, double most = 0)
   {
      return {name, cxx, sizeof(T), &widen<T>, &narrow<T>, &repeated<T>, least, most};
   }

   bool takes_floats() const { return most == 0; }
   /// Whether it has this number, as a whole one if it is a type of whole numbers.
   bool has(double number) const
   {
      // Of 64 bits the largest number is none of double's, which has the one after it.
      const bool is_below = most > 1e18 ? number < most : number <= most;
      return takes_floats() || (number >= least && is_below && number == std::floor(number));
   }

   /// std::runtime_error for float16 and others that C++ has not.
   static const StoredType &of(const std::string &name)
   {
      static const StoredType known[] = {
         make<float>("float32", "float"),
         make<double>("float64", "double"),
         make<bool>("bool", "bool", 0, 1),
         make<std::int8_t>("int8", "std::int8_t", -128, 127),
         make<std::int16_t>("int16", "std::int16_t", -32768, 32767),
         make<std::int32_t>("int32", "std::int32_t", -2147483648., 2147483647),
         make<std::int64_t>("int64", "std::int64_t", -9223372036854775808., 9223372036854775808.),
         make<std::uint8_t>("uint8", "std::uint8_t", 0, 255),
         make<std::uint16_t>("uint16", "std::uint16_t", 0, 65535),
         make<std::uint32_t>("uint32", "std::uint32_t", 0, 4294967295.),
         make<std::uint64_t>("uint64", "std::uint64_t", 0, 18446744073709551616.),
      };
      for (const StoredType &type : known)
         if (name == type.name)
            return type;
      throw std::runtime_error("an input or output is " + name + ", which C++ has no type for");
   }
};

/// An axis of a stored shape: a number, a named size, or an expression of such.
struct StoredAxis {
   bool is_fixed = false;
   std::size_t extent = 0;
   std::string said;                 ///< As Python writes it; no two axes are said alike.
   std::string name;                 ///< "" but for a named size.
   std::vector<std::string> symbols; ///< The sizes that it depends on.

   bool operator==(const StoredAxis &other) const { return said == other.said; }
   bool operator!=(const StoredAxis &other) const { return said != other.said; }
};
using StoredShape = std::vector<StoredAxis>;

/// How many elements these axes have; 0 where one of them is open.
inline std::size_t elements_of(const StoredShape &axes)
{
   std::size_t count = 1;
   for (const StoredAxis &axis : axes)
      count *= axis.is_fixed ? axis.extent : 0;
   return count;
}

/// An input or an output of a stored model.
struct StoredPort {
   std::string name;
   const StoredType *type;
   std::size_t rank;
   bool owned; ///< The data decide its size.
   StoredShape shape;

   /// "float32[N, 7]".
   std::string described() const
   {
      std::string text;
      for (const StoredAxis &axis : shape)
         text += (text.empty() ? "" : ", ") + axis.said;
      return type->name + ("[" + text + "]");
   }
};

/// What a model says of the set of an input: its lengths, what pads each feature, or that it is a mask.
struct StoredSet {
   std::size_t least = 0, most = 0;
   bool has_lengths = false, is_mask = false;
   std::vector<double> pads;
};

/// All of that of a model.
struct StoredInterface {
   using Names = std::map<std::string, std::vector<std::string>>;

   std::vector<StoredPort> inputs, outputs;
   std::vector<std::string> sizes;
   Names features, labels; ///< By input and by output.
   std::map<std::string, StoredSet> sets;
   bool is_complete = false; ///< Versions that did not store names and sets stored the rest.

   StoredInterface() = default;
   explicit StoredInterface(const Json &interface)
   {
      for (const Json &size : interface["sizes"].items())
         sizes.push_back(size.text());
      inputs = ports(interface["inputs"]);
      outputs = ports(interface["outputs"]);
      is_complete = interface.has("features") && interface.has("labels") && interface.has("sets");
      if (!is_complete)
         return;
      features = names(interface["features"]);
      labels = names(interface["labels"]);
      const Json &held = interface["sets"];
      for (std::size_t i = 0; i < held.keys().size(); ++i)
         sets[held.keys()[i]] = set(held.items()[i]);
   }

   /// The input or output of that name; null if there is none.
   static const StoredPort *find(const std::vector<StoredPort> &ports, const std::string &name)
   {
      for (const StoredPort &port : ports)
         if (port.name == name)
            return &port;
      return nullptr;
   }
   const StoredPort *input(const std::string &name) const { return find(inputs, name); }

   /// The size of the batch: the first axis of all inputs, and no other axis of any; "" where there is none.
   std::string batch() const
   {
      std::vector<std::string> first, others;
      for (const StoredPort &port : inputs)
         for (std::size_t i = 0; i < port.shape.size(); ++i)
            if (i)
               others.insert(others.end(), port.shape[i].symbols.begin(), port.shape[i].symbols.end());
            else if (!port.shape[0].name.empty())
               first.push_back(port.shape[0].name);
      std::string found;
      for (const std::string &name : first) {
         if (std::count(others.begin(), others.end(), name) || name == found)
            continue;
         if (!found.empty())
            return "";
         found = name;
      }
      return found;
   }

   /// A whole number of 64 bits, of which the description has the digits.
   static std::uint64_t number_of(const std::string &digits)
   {
      std::uint64_t number = 0;
      for (const char digit : digits) {
         if (digit < '0' || digit > '9')
            throw std::runtime_error("its description has a number that is none");
         number = 10 * number + static_cast<std::uint64_t>(digit - '0');
      }
      return number;
   }

private:
   StoredAxis axis(const Json &port, std::size_t index) const
   {
      StoredAxis made;
      const Json &size = port["shape"][index];
      made.is_fixed = size.is_number();
      made.extent = made.is_fixed ? size.size() : 0;
      made.said = made.is_fixed ? std::to_string(made.extent) : size.text();
      if (made.is_fixed)
         return made;
      if (!port.has("axes")) {
         const bool is_name = std::count(sizes.begin(), sizes.end(), made.said) > 0;
         made.name = is_name ? made.said : "";
         made.symbols = is_name ? std::vector<std::string>{made.said} : sizes;
         return made;
      }
      const Json &depends = port["axes"][index];
      if (depends.is_text())
         made.symbols = {made.name = depends.text()};
      for (const Json &name : depends.items())
         made.symbols.push_back(name.text());
      return made;
   }
   std::vector<StoredPort> ports(const Json &list) const
   {
      std::vector<StoredPort> found;
      for (const Json &port : list.items()) {
         found.push_back({port["name"].text(),
                          &StoredType::of(port["dtype"].text()),
                          port["rank"].size(),
                          port["owned"].size() != 0,
                          {}});
         for (std::size_t i = 0; i < port["shape"].items().size(); ++i)
            found.back().shape.push_back(axis(port, i));
      }
      return found;
   }
   static Names names(const Json &lists)
   {
      Names found;
      for (std::size_t i = 0; i < lists.keys().size(); ++i)
         for (const Json &name : lists.items()[i].items())
            found[lists.keys()[i]].push_back(name.text());
      return found;
   }
   static StoredSet set(const Json &held)
   {
      StoredSet made;
      made.is_mask = held["mask"].size() != 0;
      made.has_lengths = !held["lengths"].items().empty();
      if (made.has_lengths) {
         made.least = held["lengths"][0].size();
         made.most = held["lengths"][1].size();
      }
      for (const Json &bits : held["pads"].items()) {
         const std::uint64_t number = number_of(bits.text());
         made.pads.emplace_back();
         __builtin_memcpy(&made.pads.back(), &number, sizeof number);
      }
      return made;
   }
};

/// Memory for elements of any type.
struct Elements {
   std::vector<std::uint64_t> words;
   Elements() = default;
   explicit Elements(std::size_t bytes) : words(bytes / 8 + 1) {}
   void resize(std::size_t bytes) { words.resize(bytes / 8 + 1); }
   void *data() { return words.data(); }
   const void *data() const { return words.data(); }
};

} // namespace sofie

#endif
