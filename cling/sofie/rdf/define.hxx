/// \file
/// New columns of a data frame from a stored model. What depends on the types of columns is a text that ROOT's
/// interpreter compiles, once for equal types; it has no name from a file in it. See filling.hxx for the rest.
#ifndef SOFIE_RDF_DEFINE_HXX
#define SOFIE_RDF_DEFINE_HXX

#include "sofie/rdf/plan.hxx"
#include "sofie/rdf/sha256.hxx"

#if !defined(SOFIE_CLING) || defined(__ROOTCLING__)
#include <TInterpreter.h>
#include <TROOT.h>
#endif

namespace sofie {

/// The text of a function object for planned columns, and what it is told.
class ColumnsText {
   const Planner &planner_;
   const StoredInterface &model_;
   std::vector<FrameColumn> columns_; ///< The parameters behind the entry.
   std::vector<std::string> given_;   ///< Each feature that is a column, as the text makes it of a parameter.

   std::string nan_of(const FrameColumn &column) const
   {
      const NanRule &rule = planner_.options().nan;
      if (rule.text == "propagate" || !column.whole.is_float())
         return "sofie::KeepNan";
      return rule.text.empty() ? "sofie::ReplaceNan" : "sofie::RefuseNan";
   }
   std::size_t parameter(const FrameColumn &column)
   {
      for (std::size_t i = 0; i < columns_.size(); ++i)
         if (columns_[i].name == column.name)
            return i;
      columns_.push_back(column);
      return columns_.size() - 1;
   }
   /// The number among those that are given of a column for elements of this type.
   std::size_t give(const FrameColumn &column, const StoredType &type)
   {
      const std::string number = std::to_string(parameter(column));
      std::string text = std::string("sofie::given<") + type.cxx + ", " + nan_of(column) + ">(c" + number + ", " +
                         number + (column.is_element() ? ", " + std::to_string(column.element) : "") + ")";
      const bool is_outer = planner_.is_nested && column.whole.depth == 1 && !column.is_element();
      const auto known = std::find(given_.begin(), given_.end(), text);
      if (known != given_.end())
         return static_cast<std::size_t>(known - given_.begin());
      given_.push_back(text);
      if (is_outer || column.whole.depth > 1)
         plan.outer.push_back(given_.size() - 1);
      return given_.size() - 1;
   }
   std::size_t index_of(const std::string &input) const
   {
      for (std::size_t i = 0; i < planner_.inputs.size(); ++i)
         if (planner_.inputs[i].port->name == input)
            return i;
      return nothing;
   }
   /// The first set whose number of objects has the same name; this one where it has none.
   std::size_t first_like(std::size_t i) const
   {
      const std::string &name = planner_.inputs[i].objects().name;
      for (std::size_t k = 0; k < i; ++k) {
         const PlannedInput &other = planner_.inputs[k];
         if (!name.empty() && other.is_set() && other.follows.empty() && other.objects().name == name)
            return k;
      }
      return i;
   }
   FilledInput filled(std::size_t i)
   {
      const PlannedInput &input = planner_.inputs[i];
      FilledInput made;
      made.name = input.port->name;
      made.type = input.port->type;
      for (const PlannedFeature &feature : input.features) {
         const std::size_t column = feature.is_number ? nothing : give(feature.column, *made.type);
         made.sources.push_back({column, feature.number});
         if (feature.is_vector())
            made.vectors.push_back(column);
      }
      if (!input.is_set())
         return made;
      made.is_set = true;
      made.is_open = !input.objects().is_fixed;
      made.truncates = planner_.options().truncate;
      made.least = input.least;
      made.most = input.most;
      made.pads = input.pads;
      for (std::size_t k = input.axis + 1; k < input.port->shape.size(); ++k)
         made.behind *= input.port->shape[k].extent;
      if (!input.follows.empty()) {
         made.sources = {{nothing, 1}};
         made.behind = 1;
         made.follows = index_of(input.follows);
         return made;
      }
      if (input.is_ordered)
         made.vectors.push_back(made.order = give(input.order, *made.type));
      made.shares = first_like(i);
      return made;
   }
   /// For each size the input whose objects it counts; `nothing` for the batch.
   std::vector<std::size_t> sizes() const
   {
      std::vector<std::size_t> found(model_.sizes.size(), nothing);
      for (std::size_t s = 0; s < found.size(); ++s)
         for (std::size_t i = 0; i < planner_.inputs.size() && found[s] == nothing; ++i)
            if (planner_.inputs[i].is_set() && planner_.inputs[i].objects().name == model_.sizes[s])
               found[s] = i;
      return found;
   }
   /// The class of filling.hxx that makes a new column.
   std::string kind_of(const PlannedColumn &one) const
   {
      const std::string type = model_.outputs[one.output].type->cxx;
      if (planner_.per == "object")
         return (one.is_largest ? "sofie::LargestOfEach<" : "sofie::NumberOfEach<") + type + ">";
      if (one.is_largest)
         return "sofie::LargestNumber<" + type + ">";
      const bool is_one = one.element != nothing || planner_.row_of(one) == 1;
      return (is_one ? "sofie::OneNumber<" : "sofie::AllNumbers<") + type + ">";
   }
   std::string results() const
   {
      std::string kinds;
      for (const PlannedColumn &one : planner_.shown)
         kinds += ", " + kind_of(one);
      return std::string(planner_.is_nested ? "sofie::NewColumnsOfEach" : "sofie::NewColumns") +
             "<std::make_index_sequence<" + std::to_string(planner_.shown.size()) + ">" + kinds + ">";
   }
   static std::string type_of(const FrameColumn &column)
   {
      return column.whole.depth == 0 ? column.whole.cxx() : "const " + column.whole.cxx() + " &";
   }

public:
   StoredPlan plan;
   std::string event_type; ///< Of the column that says which event it is; "" for ROOT's number of it.
   bool has_where = false;

   ColumnsText(const Planner &planner, const StoredInterface &model) : planner_(planner), model_(model)
   {
      for (std::size_t i = 0; i < planner.inputs.size(); ++i)
         plan.inputs.push_back(filled(i));
      for (const StoredPort &output : model.outputs)
         plan.outputs.push_back(output.type);
      for (const PlannedColumn &one : planner.shown)
         plan.shown.push_back({one.output, one.element == nothing ? 0 : one.element, planner.row_of(one)});
      plan.sizes = sizes();
      plan.per_object = planner.per == "object";
      plan.otherwise = planner.options().otherwise;
   }

   std::vector<std::string> names() const
   {
      std::vector<std::string> found;
      for (const FrameColumn &column : columns_)
         found.push_back(column.name);
      return found;
   }
   /// For messages, what the user calls each column, of model `place`.
   Told told(const std::string &place) const
   {
      Told all{{planner_.options().nan.number}, {}, place};
      for (const FrameColumn &column : columns_)
         all.names.push_back(column.said);
      return all;
   }

   /// A function `define` that adds the columns, with what it needs.
   std::string text() const
   {
      std::string parameters, types, given;
      if (has_where) {
         parameters += ", bool where";
         types += ", bool";
      }
      if (!event_type.empty()) {
         parameters += ", " + event_type + " event";
         types += ", " + event_type;
      }
      for (std::size_t i = 0; i < columns_.size(); ++i) {
         parameters += ", " + type_of(columns_[i]) + " c" + std::to_string(i);
         types += ", " + type_of(columns_[i]);
      }
      for (const std::string &one : given_)
         given += one + ", ";
      const std::string only = planner_.shown.size() == 1 ? "std::get<0>(" : "(";
      return "SOFIE_BEGIN\nusing Results = " + results() +
             ";\nstruct Score {\n   static auto run(sofie::StoredWork &work, ULong64_t entry" + parameters +
             ")\n   {\n" +
             (has_where ? "      if (!where)\n         return " + only + "Results::absent(work));\n" : "") +
             "      const sofie::Given given[] = {" + given + "{}};\n      return " + only +
             "Results::of(work, given, " + (event_type.empty() ? "entry" : "static_cast<std::uint64_t>(event)") +
             "));\n   }\n};\nusing Functor = sofie::EntryFunctor<sofie::StoredWork, Score" + types + ">;\nSOFIE_END\n" +
             adding();
   }

private:
   /// The function that adds the columns: the only one, or a hidden one with all, and what takes each out of it.
   std::string adding() const
   {
      const std::string way = planner_.options().redefine ? "Redefine" : "Define";
      const std::string head = "void define(ROOT::RDF::RNode &df, const sofie::StoredWork &work, "
                               "const std::vector<std::string> &columns, const std::vector<std::string> &names)\n{\n"
                               "   const Functor functor(work, df.GetNSlots());\n";
      if (planner_.shown.size() == 1)
         return head + "   df = df." + way + "SlotEntry(columns[0], functor, names);\n}\n";
      std::string text = "using All = decltype(std::declval<Functor &>()(0u, ULong64_t()";
      text += has_where ? ", true" : "";
      text += event_type.empty() ? "" : ", " + event_type + "()";
      for (const FrameColumn &column : columns_)
         text += ", std::declval<" + type_of(column) + ">()";
      text += "));\n" + head + "   df = df.DefineSlotEntry(columns.back(), functor, names);\n";
      for (std::size_t i = 0; i < planner_.shown.size(); ++i) {
         const std::string number = std::to_string(i);
         text += "   df = df." + way + "(columns[" + number + "], [](const All &all) { return std::get<" + number +
                 ">(all); }, {columns.back()});\n";
      }
      return text + "}\n";
   }
};

/// The columns of one call of RSofieReader::Define.
class ColumnsOfModel {
   const StoredInterface &model_;
   const std::string &place_;
   const DefineOptions &options_;

   static bool is_identifier(const std::string &text)
   {
      bool is_right = !text.empty() && (text[0] < '0' || text[0] > '9');
      for (const char c : text)
         is_right =
            is_right && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_');
      return is_right;
   }
   /// Every name that the model brings, of whatever it is.
   std::set<std::string> foreign() const
   {
      std::set<std::string> found(model_.sizes.begin(), model_.sizes.end());
      for (const auto *ports : {&model_.inputs, &model_.outputs})
         for (const StoredPort &port : *ports)
            found.insert(port.name);
      for (const auto *names : {&model_.features, &model_.labels})
         for (const auto &one : *names)
            found.insert(one.second.begin(), one.second.end());
      return found;
   }
   /// Nothing, if there can be a new column of this name.
   void require_free(ColumnFrame &frame, const std::string &column) const
   {
      if (options_.redefine)
         return frame.require(column);
      if (!is_identifier(column))
         refuse(place_, "'" + column + "' cannot be the name of a column: it is no C++ identifier");
      if (frame.df.HasColumn(column))
         refuse(place_, "the data frame has a column '" + column + "' already",
                "redefine = true puts the model's output in its place");
   }
   /// Nothing, if events of this source are told apart, and always in the same way.
   void require_numbered(const ROOT::RDF::RNode &df) const
   {
      ROOT::RDF::RNode node = df;
      const std::string source = ROOT::Internal::RDF::GetDataSourceLabel(node);
      const bool numbered = is_one_of({"EmptyDS", "RVecDS", "RNumpyDS", "RNTupleDS"}, source);
      // Of one slot it may be the only one of a pool.
      const bool has_threads = node.GetNSlots() > 1 || (ROOT::IsImplicitMTEnabled() && ROOT::GetThreadPoolSize() == 1);
      if (!numbered && has_threads)
         refuse(place_,
                "it draws random numbers for each event, and ROOT numbers the entries of this source (" + source +
                   ") anew on several threads, in another order each time: name a column that tells events apart");
   }
   FrameColumn event(ColumnFrame &frame) const
   {
      const FrameColumn column = frame.column(options_.event);
      if (column.type.depth != 0 || column.type.is_float())
         refuse(place_,
                "column '" + options_.event + "' is " + column.type.name + "; a whole number for each event is needed");
      return column;
   }
   /// The function that is compiled of this text, once for equal ones.
   void *compiled(const std::string &code, const std::string &column) const
   {
      const std::string space = "sofie_column_" + sha256(code).substr(0, 16);
      const std::string here = __FILE__;
      TInterpreter &cling = *TInterpreter::Instance();
      cling.AddIncludePath(here.substr(0, here.size() - std::string("sofie/rdf/define.hxx").size()).c_str());
      const std::string text = "#include <sofie/rdf/filling.hxx>\n#ifndef IS_" + space + "\n#define IS_" + space +
                               "\nnamespace " + space + " {\n" + code + "}\n#endif\n";
      TInterpreter::EErrorCode failed = TInterpreter::kNoError;
      Longptr_t address = 0;
      if (cling.Declare(text.c_str()))
         address = cling.Calc(("reinterpret_cast<long>(&" + space + "::define)").c_str(), &failed);
      if (!address || failed != TInterpreter::kNoError)
         refuse(place_, "ROOT's interpreter refused the column '" + column + "'; its message says why");
      return reinterpret_cast<void *>(address);
   }

public:
   ColumnsOfModel(const StoredInterface &model, const std::string &place, const DefineOptions &options)
      : model_(model), place_(place), options_(options)
   {
   }

   ROOT::RDF::RNode define(const ROOT::RDF::RNode &df, const Texts &columns, const Entries &entries, const Linked &code,
                           bool draws, std::uint64_t seed) const
   {
      Planner planner(model_, place_, options_, columns);
      ColumnFrame frame(df, place_, planner.shown[0].column, foreign());
      for (const PlannedColumn &one : planner.shown)
         require_free(frame, one.column);
      planner.plan(frame);
      if (planner.is_nested && draws)
         refuse(place_, "it draws random numbers, which would be the same for all objects of an event",
                "Give columns of vectors of numbers");
      ColumnsText text(planner, model_);
      text.plan.draws = draws;
      text.plan.seed = seed;
      std::vector<std::string> names = text.names(), made;
      if (!options_.event.empty()) {
         const FrameColumn column = event(frame);
         text.event_type = column.type.cxx();
         names.insert(names.begin(), column.name);
      } else if (draws) {
         require_numbered(df);
      }
      text.has_where = !options_.where.empty();
      if (text.has_where)
         names.insert(names.begin(), frame.hidden(options_.where, "bool"));
      for (const PlannedColumn &one : planner.shown)
         made.push_back(one.column);
      if (made.size() > 1)
         made.push_back(frame.free_name());
      using Define = void (*)(ROOT::RDF::RNode &, const StoredWork &, const std::vector<std::string> &,
                              const std::vector<std::string> &);
      const auto add = reinterpret_cast<Define>(compiled(text.text(), made[0]));
      add(frame.df, StoredWork(entries, code, text.plan, text.told(place_)), made, names);
      return frame.df;
   }
};

} // namespace sofie

#endif
