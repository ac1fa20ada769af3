/// \file
/// Columns by the names of a stored model's features, and outputs by the names of its classes, as
/// sofie_rdf/runtime/rdataframe/named.py has them for Python.
#ifndef SOFIE_RDF_NAMED_HXX
#define SOFIE_RDF_NAMED_HXX

#include "sofie/rdf/options.hxx"
#include "sofie/rdf/shapes.hxx"

namespace sofie {

/// A new column, and which output, or element of it, it shows.
struct PlannedColumn {
   std::string column;
   std::size_t output = 0, element = nothing;
   bool is_largest = false;
};

/// What a model calls its inputs, features, outputs and classes.
class ModelNames : protected ModelShapes {
protected:
   using Features = std::map<std::string, FeatureList>; ///< By input.

   using ModelShapes::ModelShapes;

   std::vector<std::pair<std::string, std::string>> masks_; ///< Each mask, and the input whose objects it counts.

   // Inputs ----------------------------------------------------------------------------------------

   bool is_mask(const std::string &input) const
   {
      return std::any_of(masks_.begin(), masks_.end(), [&](const auto &mask) { return mask.first == input; });
   }
   /// The inputs that get columns.
   Strings open_inputs() const
   {
      Strings found;
      for (const StoredPort &input : model_.inputs)
         if (!is_mask(input.name))
            found.push_back(input.name);
      return found;
   }
   const Strings &known(const std::string &input) const
   {
      const auto found = model_.features.find(input);
      if (found == model_.features.end())
         fail("does not say what the features of its input '" + input + "' are called",
              "Give a list of columns in its order, or save model.named(features=[...])");
      return found->second;
   }
   std::set<std::string> every_feature() const
   {
      std::set<std::string> found;
      for (const std::string &input : open_inputs())
         if (model_.features.count(input))
            found.insert(known(input).begin(), known(input).end());
      return found;
   }
   static FeatureList features(const Strings &names) { return FeatureList(names); }

   /// Columns with the names of the input's features, in the order of these.
   FeatureList in_order(const std::string &input, const FeatureList &listed) const
   {
      if (!model_.features.count(input))
         return listed;
      const Strings &names = known(input);
      const std::set<std::string> all(names.begin(), names.end());
      if (all.size() != names.size())
         return listed;
      std::set<std::string> said;
      for (const Feature &feature : listed)
         said.insert(feature.is_number ? "" : feature.said);
      if (listed.size() == names.size() && said == all)
         return features(names);
      for (std::size_t i = 0; i < listed.size(); ++i)
         if (!listed[i].is_number && all.count(listed[i].said) && (i >= names.size() || names[i] != listed[i].said))
            fail("column '" + listed[i].said + "' is given for feature " + std::to_string(i) + " of input '" + input +
                    "', and " + (i < names.size() ? "that is '" + names[i] + "'" : "it has fewer"),
                 "Give the columns by feature: {{\"FEATURE\", \"COLUMN\"}, ...}");
      return listed;
   }
   /// Columns by feature as lists by input.
   Features by_feature(const std::map<std::string, Feature> &given) const
   {
      Features found;
      for (const std::string &input : open_inputs())
         for (const std::string &name : known(input)) {
            const auto column = given.find(name);
            if (column == given.end())
               fail("no column is given for feature '" + name + "'");
            found[input].push_back(column->second);
         }
      return found;
   }
   Features by_name(const std::vector<InputColumns::Entry> &entries) const
   {
      const std::set<std::string> every = every_feature();
      const bool are_features = std::any_of(entries.begin(), entries.end(), [&](const auto &entry) {
         return !model_.input(entry.name) && every.count(entry.name);
      });
      Features found;
      std::map<std::string, Feature> given;
      for (const InputColumns::Entry &entry : entries) {
         if (are_features && (model_.input(entry.name) || !every.count(entry.name) || entry.features.size() != 1))
            fail("has no feature '" + entry.name + "', or not one column is given for it",
                 "Its features are " + joined(Strings(every.begin(), every.end()), "'"));
         if (are_features)
            given.emplace(entry.name, entry.features[0]);
         else if (!model_.input(entry.name))
            fail("has no input '" + entry.name + "'", "It has " + joined(input_names(), "'"));
         else
            found[entry.name] = in_order(entry.name, entry.features);
      }
      return are_features ? by_feature(given) : found;
   }
   /// One list for several inputs: their features, one after the other, in the model's order.
   Features one_after_the_other(const FeatureList &listed) const
   {
      const Strings inputs = open_inputs();
      Features found;
      std::size_t next = 0;
      for (const std::string &name : inputs) {
         const std::size_t count = elements_of(rest_of(*model_.input(name)));
         for (std::size_t k = 0; k < count && next < listed.size(); ++k)
            found[name].push_back(listed[next++]);
         if (count == 0 || found[name].size() != count)
            next = nothing;
      }
      if (next != listed.size()) {
         const std::string mask = likely_mask(inputs);
         fail("it has " + std::to_string(inputs.size()) + " inputs, so columns must say which",
              "Give {{\"" + inputs[0] + "\", {...}}, ...} for " + joined(inputs, "'") +
                 (mask.empty() ? "" : ". If '" + mask + "' is a mask: mask = \"" + mask + "\""));
      }
      for (auto &input : found)
         input.second = in_order(input.first, input.second);
      return found;
   }
   /// The columns of each input.
   Features by_input(const InputColumns &columns) const
   {
      const Strings inputs = open_inputs();
      Features found;
      if (columns.are_by_name())
         return by_name(columns.entries());
      if (columns.are_default()) {
         require_names();
         for (const std::string &input : inputs)
            found[input] = features(known(input));
         return found;
      }
      if (inputs.size() == 1)
         return {{inputs[0], in_order(inputs[0], columns.listed())}};
      std::map<std::string, Feature> given;
      for (const Feature &feature : columns.listed())
         if (!feature.is_number)
            given.emplace(feature.said, feature);
      const std::set<std::string> every = every_feature();
      const bool are_features =
         given.size() == columns.listed().size() && given.size() == every.size() &&
         std::all_of(given.begin(), given.end(), [&](const auto &one) { return every.count(one.first) > 0; });
      return are_features && !every.empty() ? by_feature(given) : one_after_the_other(columns.listed());
   }

   // Outputs ---------------------------------------------------------------------------------------

   Strings output_names() const
   {
      Strings found;
      for (const StoredPort &output : model_.outputs)
         found.push_back(output.name);
      return found;
   }
   /// The text before [ and the one in the brackets at the end; none where it ends otherwise.
   static bool bracketed(const std::string &said, std::string &name, std::string &inside)
   {
      const std::size_t open = said.rfind('[');
      if (open == std::string::npos || open == 0 || said.back() != ']' || said.size() < open + 3)
         return false;
      name = said.substr(0, open);
      inside = said.substr(open + 1, said.size() - open - 2);
      return true;
   }
   static bool is_number(const std::string &text)
   {
      return !text.empty() && text.size() < 10 && text.find_first_not_of("0123456789") == std::string::npos;
   }
   static std::string at(const std::string &name, const Strings &labels, const std::string &label)
   {
      const auto found = std::find(labels.begin(), labels.end(), label);
      return name + "[" + std::to_string(found - labels.begin()) + "]";
   }
   /// An output that is said by a label, as "name[2]".
   std::string without_label(const std::string &text) const
   {
      const Strings names = output_names();
      if (is_one_of(names, text))
         return text;
      Strings having;
      for (const std::string &output : names) {
         const auto its = model_.labels.find(output);
         if (its != model_.labels.end() && is_one_of(its->second, text))
            having.push_back(output);
      }
      if (having.size() > 1)
         fail("more than one output has a '" + text + "'", "Say '" + having[0] + "[" + text + "]'");
      if (having.size() == 1)
         return at(having[0], model_.labels.at(having[0]), text);
      std::string name, label;
      if (!bracketed(text, name, label) || is_number(label) || !model_.labels.count(name))
         return text;
      const Strings &labels = model_.labels.at(name);
      if (!is_one_of(labels, label))
         fail("output '" + name + "' has no class '" + label + "'", "It has " + joined(labels));
      return at(name, labels, label);
   }
   std::size_t output_of(const std::string &name, const std::string &text) const
   {
      const Strings names = output_names();
      const auto found = std::find(names.begin(), names.end(), name);
      if (found == names.end())
         fail(text.empty() ? "it has several outputs" : "has no output '" + name + "'; it has " + joined(names),
              text.empty() ? "Choose one with output: " + joined(names) : "");
      return static_cast<std::size_t>(found - names.begin());
   }
   /// What a text means: a name, "name[2]", "name[label]", a label, or "argmax(name)"; "" is the first one.
   PlannedColumn column_of(const std::string &column, const std::string &text) const
   {
      PlannedColumn one;
      one.column = column;
      const std::string said = without_label(text.empty() ? model_.outputs[0].name : text);
      std::string name, element;
      const std::string largest = "argmax(";
      if (is_one_of(output_names(), said)) {
         one.output = output_of(said, said);
      } else if (bracketed(said, name, element) && is_number(element)) {
         one.output = output_of(name, said);
         one.element = std::stoul(element);
         const std::size_t row = elements_of(rest_of(model_.outputs[one.output]));
         if (one.element >= row)
            fail("output '" + name + "' has " + (row ? std::to_string(row) : "an open number of") +
                 " numbers, and none of number " + element);
      } else if (said.compare(0, largest.size(), largest) == 0 && said.back() == ')') {
         one.is_largest = true;
         one.output = output_of(said.substr(largest.size(), said.size() - largest.size() - 1), said);
      } else {
         output_of(said, said);
      }
      const StoredPort &port = model_.outputs[one.output];
      if (port.owned)
         fail("the data decide the size of output '" + port.name + "', which no column can have");
      return one;
   }
};

} // namespace sofie

#endif
