/// \file
/// What RSofieReader::Define can be told: columns of all kinds, and the options of `sofie_rdf.define`, with its names.
///
///     sofie::DefineOptions how;
///     how.columns = {{"jets", {"Jet_pt", "abs(Jet_eta)"}}, {"event", {"met"}}};
///     how.pad = 0;
///     how.truncate = true;
///     how.mask = {{"mask", "jets"}};
///     how.order_by = "Jet_pt";
#ifndef SOFIE_RDF_OPTIONS_HXX
#define SOFIE_RDF_OPTIONS_HXX

#include "sofie/target.hxx"

#if !defined(SOFIE_CLING) || defined(__ROOTCLING__)
#include <initializer_list>
#include <limits>
#include <map>
#endif

namespace sofie {

/// A column by name, an expression of columns, or a number that is the same for all events.
struct Feature {
   std::string said;
   double number = 0;
   bool is_number = false;

   Feature(const char *text) : said(text) {}
   Feature(const std::string &text) : said(text) {}
   template <class Number, class = std::enable_if_t<std::is_arithmetic<Number>::value>>
   Feature(Number constant) : number(static_cast<double>(constant)), is_number(true)
   {
   }
};

/// One feature, or several in order.
struct FeatureList : std::vector<Feature> {
   FeatureList() = default;
   FeatureList(std::initializer_list<Feature> features) : std::vector<Feature>(features) {}
   FeatureList(const std::vector<std::string> &names) : std::vector<Feature>(names.begin(), names.end()) {}
   FeatureList(const char *text) : std::vector<Feature>(1, Feature(text)) {}
   FeatureList(const std::string &text) : std::vector<Feature>(1, Feature(text)) {}
   template <class Number, class = std::enable_if_t<std::is_arithmetic<Number>::value>>
   FeatureList(Number constant) : std::vector<Feature>(1, Feature(constant))
   {
   }
};

/// The columns of a model: in its order, {"pt", "eta"}; by input, {{"jets", {"Jet_pt", "Jet_eta"}}, {"event", "met"}};
/// by feature, {{"pt", "Jet_pt"}, {"eta", "Jet_eta"}}; or none, which are those that its features are called.
class InputColumns {
public:
   struct Entry {
      std::string name;
      FeatureList features;
   };

   InputColumns() = default;
   InputColumns(std::initializer_list<Feature> features) : listed_(features), kind_(Kind::in_order) {}
   InputColumns(const std::vector<std::string> &names) : listed_(names), kind_(Kind::in_order) {}
   InputColumns(std::initializer_list<Entry> entries) : entries_(entries), kind_(Kind::by_name) {}
   InputColumns(const std::map<std::string, std::vector<std::string>> &inputs) : kind_(Kind::by_name)
   {
      for (const auto &input : inputs)
         entries_.push_back({input.first, input.second});
   }

   bool are_default() const { return kind_ == Kind::none; }
   bool are_by_name() const { return kind_ == Kind::by_name; }
   const FeatureList &listed() const { return listed_; }
   const std::vector<Entry> &entries() const { return entries_; }

private:
   enum class Kind { none, in_order, by_name };
   FeatureList listed_;
   std::vector<Entry> entries_;
   Kind kind_ = Kind::none;
};

/// A text, "Jet_pt", or texts by name, {{"jets", "Jet_pt"}}.
class Texts {
public:
   using Pair = std::pair<std::string, std::string>;

   Texts() = default;
   Texts(const char *text) : single_(text) {}
   Texts(const std::string &text) : single_(text) {}
   Texts(std::initializer_list<Pair> pairs) : pairs_(pairs) {}
   Texts(const std::vector<Pair> &pairs) : pairs_(pairs) {}

   bool empty() const { return single_.empty() && pairs_.empty(); }
   bool is_single() const { return pairs_.empty(); }
   const std::string &single() const { return single_; }
   const std::vector<Pair> &pairs() const { return pairs_; }

private:
   std::string single_;
   std::vector<Pair> pairs_;
};

/// What stands for an object that an event lacks: a number, 0, or numbers by input, of all its features or of each:
/// {{"jets", {0, -1}}, {"tracks", {0}}}.
class Pads {
public:
   struct Entry {
      std::string name;
      std::vector<double> numbers;
   };

   Pads() = default;
   template <class Number, class = std::enable_if_t<std::is_arithmetic<Number>::value>>
   Pads(Number number) : all_(1, static_cast<double>(number))
   {
   }
   Pads(std::initializer_list<Entry> entries) : entries_(entries), is_by_name_(true) {}
   explicit Pads(const std::vector<Entry> &entries) : entries_(entries), is_by_name_(true) {}

   bool are_given() const { return is_by_name_ || !all_.empty(); }
   bool are_by_name() const { return is_by_name_; }
   const std::vector<Entry> &entries() const { return entries_; }
   /// Those of this input, one or one for each feature; none where nothing is said.
   std::vector<double> of(const std::string &input) const
   {
      for (const Entry &entry : entries_)
         if (entry.name == input)
            return entry.numbers;
      return all_;
   }

private:
   std::vector<double> all_;
   std::vector<Entry> entries_;
   bool is_by_name_ = false;
};

/// How many objects an open axis has: so many, or {least, most}; -1 is no bound.
struct Lengths {
   long least, most;
   Lengths(long count) : least(count), most(count) {}
   Lengths(long from, long to) : least(from), most(to) {}
};

/// What becomes of NaN in a column: "propagate", "error", or a number.
struct NanRule {
   std::string text = "propagate";
   double number = 0;
   NanRule() = default;
   NanRule(const char *said) : text(said) {}
   template <class Number, class = std::enable_if_t<std::is_arithmetic<Number>::value>>
   NanRule(Number instead) : text(), number(static_cast<double>(instead))
   {
   }
};

/// The options of RSofieReader::Define; docs/guide/columns.md says what each does.
struct DefineOptions {
   InputColumns columns;
   std::string output; ///< "softmax", "softmax[1]", "softmax[label]", "label", "argmax(softmax)"
   std::string per;    ///< "event", "object", "set"; "" follows from the columns
   Pads pad;
   bool truncate = false;
   Texts mask;                             ///< "mask", or {{"mask", "jets"}}
   Texts order_by;                         ///< "Jet_pt", or {{"jets", "Jet_pt"}}
   std::map<std::string, Lengths> lengths; ///< {{"n_pf", {24, 128}}}
   std::string event;                      ///< which event it is, for random numbers (`entry` of Python)
   std::string where; ///< an expression; elsewhere the new columns are `otherwise` (`default` of Python)
   double otherwise = std::numeric_limits<double>::quiet_NaN();
   NanRule nan;
   bool redefine = false;

   DefineOptions() {} // No list of names is taken for options.
};

} // namespace sofie

#endif
