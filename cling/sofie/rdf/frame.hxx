/// \file
/// The columns of a data frame as features: their types, and expressions, which become hidden columns.
#ifndef SOFIE_RDF_FRAME_HXX
#define SOFIE_RDF_FRAME_HXX

#include "sofie/rdf/ports.hxx"

#if !defined(SOFIE_CLING) || defined(__ROOTCLING__)
#include <ROOT/RDataFrame.hxx>
#include <algorithm>
#include <map>
#include <set>
#endif

namespace sofie {

/// std::invalid_argument that names the model, what is wrong, and the way out.
[[noreturn]] inline void refuse(const std::string &model, const std::string &thing, const std::string &remedy = "")
{
   throw std::invalid_argument(model + ": " + thing + (remedy.empty() ? "" : ". " + remedy));
}

/// The names with commas between them.
inline std::string joined(const std::vector<std::string> &names, const std::string &quote = "")
{
   std::string text;
   for (const std::string &name : names)
      text += (text.empty() ? "" : ", ") + quote + name + quote;
   return text;
}

inline bool is_one_of(const std::vector<std::string> &names, const std::string &name)
{
   return std::find(names.begin(), names.end(), name) != names.end();
}

/// The C++ type of a column: a number, a vector or array of such types, or another.
struct ColumnType {
   std::string name;
   std::string element;   ///< Of a vector or array.
   std::size_t array = 0; ///< The size of a std::array.
   int depth = -1;        ///< 0 for numbers, 1 for vectors of them, 2 for vectors of vectors; -1 for other types.

   ColumnType() = default;
   explicit ColumnType(const std::string &type) : name(type)
   {
      if (is_number(type)) {
         depth = 0;
      } else if (split()) {
         const int below = ColumnType(element).depth;
         depth = below < 0 ? -1 : below + 1;
      }
   }

   bool is_float() const { return name.find("loat") != std::string::npos || name.find("ouble") != std::string::npos; }
   /// Of numbers alone: another type's name is text of a file, and is none of the code.
   std::string cxx() const
   {
      std::string text = name;
      for (const char *shorter : {"Float16_t", "Double32_t"})
         for (std::size_t at; (at = text.find(shorter)) != std::string::npos;)
            text.replace(at, std::string(shorter).size(), shorter[0] == 'F' ? "float" : "double");
      return text;
   }

private:
   static std::set<std::string> numbers()
   {
      std::set<std::string> known = {"float",   "double",   "long double", "bool",      "signed char", "size_t",
                                     "Float_t", "Double_t", "Bool_t",      "Float16_t", "Double32_t",  "std::size_t"};
      for (const char *kind : {"char", "short", "int", "long", "long long"})
         for (const char *sign : {"", "unsigned "})
            known.insert(std::string(sign) + kind);
      for (const char *bits : {"8", "16", "32", "64"})
         for (const char *scope : {"", "std::"})
            for (const char *sign : {"", "u"})
               known.insert(std::string(scope) + sign + "int" + bits + "_t");
      for (const char *kind : {"Char", "Short", "Int", "Long", "Long64"})
         for (const char *sign : {"", "U"})
            known.insert(std::string(sign) + kind + "_t");
      return known;
   }
   static bool is_number(const std::string &type)
   {
      static const std::set<std::string> known = numbers();
      return known.count(type) > 0;
   }
   static std::string trimmed(const std::string &text)
   {
      const std::size_t first = text.find_first_not_of(' '), last = text.find_last_not_of(' ');
      return first == std::string::npos ? "" : text.substr(first, last - first + 1);
   }
   /// Whether it is a vector or array, of `element`.
   bool split()
   {
      for (const char *kind : {"ROOT::VecOps::RVec<", "ROOT::RVec<", "std::vector<", "vector<", "std::span<", "span<"})
         if (name.compare(0, std::string(kind).size(), kind) == 0 && name.back() == '>') {
            const std::size_t begin = std::string(kind).size();
            element = trimmed(name.substr(begin, name.size() - 1 - begin));
            return true;
         }
      for (const std::string kind : {"std::array<", "array<"})
         if (name.compare(0, kind.size(), kind) == 0 && name.back() == '>') {
            const std::size_t comma = name.rfind(',');
            const std::string count =
               comma == std::string::npos ? "" : trimmed(name.substr(comma + 1, name.size() - comma - 2));
            if (count.empty() || count.size() > 9 || count.find_first_not_of("0123456789") != std::string::npos)
               return false;
            element = trimmed(name.substr(kind.size(), comma - kind.size()));
            array = std::stoul(count);
            return true;
         }
      return false;
   }
};

/// A column: its name in the data frame, what the user called it, its type there, and what of it is meant.
struct FrameColumn {
   std::string name, said;
   ColumnType whole, type;
   std::size_t element = nothing; ///< The only one of an array that is meant.

   bool is_element() const { return element != nothing; }
   bool is_vector() const { return !is_element() && type.depth > 0; }
   /// The same, as one object of an event has it.
   FrameColumn of_object() const
   {
      FrameColumn its = *this;
      if (is_vector())
         its.type = ColumnType(type.element);
      return its;
   }
};

/// A data frame, to which expressions are added as hidden columns when they are first used. Texts that `foreign` has
/// are from the model, whose author may be a stranger, and no expressions: an expression is code that runs.
class ColumnFrame {
   std::string model_, owner_;
   std::set<std::string> foreign_;
   std::map<std::string, FrameColumn> known_;

   /// Whether it can only be a name.
   static bool is_name(const std::string &text)
   {
      for (const char c : text)
         if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.'))
            return false;
      return true;
   }
   FrameColumn found(const std::string &said)
   {
      FrameColumn column;
      column.name = column.said = said;
      if (!df.HasColumn(said)) {
         if (is_name(said))
            require(said);
         column.name = hidden(said);
      }
      column.whole = column.type = ColumnType(df.GetColumnType(column.name));
      if (column.type.depth < 0 || column.type.depth > 2)
         refuse_type(column);
      return column;
   }

public:
   ROOT::RDF::RNode df;

   ColumnFrame(const ROOT::RDF::RNode &node, const std::string &model, const std::string &owner,
               const std::set<std::string> &foreign)
      : model_(model), owner_(owner), foreign_(foreign), df(node)
   {
   }

   [[noreturn]] void refuse_type(const FrameColumn &column) const
   {
      const bool is_vector = !column.type.element.empty();
      refuse(model_, "column '" + column.said + "' is " + column.type.name + "; numbers or RVecs of numbers are needed",
             is_vector ? "An expression can make one of it, such as '" + column.said + "[0]'"
                       : "An expression can make one of it");
   }
   /// Nothing, if there is a column of this name.
   void require(const std::string &name)
   {
      if (df.HasColumn(name))
         return;
      std::vector<std::string> known = df.GetColumnNames();
      const bool more = known.size() > 20;
      known.resize(std::min<std::size_t>(known.size(), 20));
      refuse(model_, "the data frame has no column '" + name + "'", "It has " + joined(known) + (more ? ", ..." : ""));
   }
   /// The column of that name, or of that expression.
   FrameColumn column(const std::string &said)
   {
      const auto known = known_.find(said);
      return known != known_.end() ? known->second : known_[said] = found(said);
   }
   /// The name of a new hidden column. ROOT's interpreter says what is wrong with an expression.
   std::string hidden(const std::string &expression, const std::string &as_type = "")
   {
      if (foreign_.count(expression) && !is_name(expression))
         refuse(model_,
                "the data frame has no column '" + expression +
                   "', which is a name in the model and never taken as an expression",
                "Say which column or expression it is: columns = {{\"FEATURE\", \"COLUMN\"}, ...}. If it should be "
                "computed as it stands, write it in parentheses");
      const std::string name = free_name();
      try {
         df = df.Define(name, as_type.empty() ? expression : "static_cast<" + as_type + ">(" + expression + ")");
      } catch (const std::runtime_error &error) {
         refuse(model_, "'" + expression + "' is no column and no expression", "ROOT: " + std::string(error.what()));
      }
      return name;
   }
   /// A name of the kind that is ROOT's own: nobody sees it, and Snapshot leaves it out.
   std::string free_name()
   {
      for (std::size_t n = 0;; ++n) {
         const std::string name = "rdf_sofie_" + owner_ + "_" + std::to_string(n) + "_";
         if (!df.HasColumn(name))
            return name;
      }
   }
};

} // namespace sofie

#endif
