/// \file
/// Which columns of a data frame fill which input of a stored model, and what its outputs become, as
/// sofie_rdf/runtime/rdataframe/columns.py decides it for Python. All that can be wrong without looking at
/// an event is found here.
#ifndef SOFIE_RDF_PLAN_HXX
#define SOFIE_RDF_PLAN_HXX

#include "sofie/rdf/filling.hxx"
#include "sofie/rdf/named.hxx"

namespace sofie {

/// A feature of an input: a column, or a number.
struct PlannedFeature {
   FrameColumn column;
   double number = 0;
   bool is_number = false;

   bool is_vector() const { return !is_number && column.is_vector(); }
   bool is_nested() const { return !is_number && column.type.depth > 1; }
   std::size_t array() const
   {
      return !is_number && column.type.depth == 1 && !column.is_element() ? column.type.array : 0;
   }
};
using PlannedFeatures = std::map<std::string, std::vector<PlannedFeature>>;

/// An input and its features; of a set, the axis of the objects, and how many there may be.
struct PlannedInput {
   const StoredPort *port = nullptr;
   std::vector<PlannedFeature> features;
   std::size_t axis = nothing, least = 0, most = nothing;
   std::vector<double> pads;
   bool is_ordered = false;
   FrameColumn order;
   std::string follows;

   bool is_set() const { return axis != nothing; }
   const StoredAxis &objects() const { return port->shape[axis]; }
   bool has_vectors() const
   {
      return is_ordered || std::any_of(features.begin(), features.end(),
                                       [](const PlannedFeature &feature) { return feature.is_vector(); });
   }
};

/// What the options, the model and the types of columns say together.
class Planner : ModelNames {
   DefineOptions options_;
   std::map<std::string, FrameColumn> orders_; ///< By input; "" is all.
   std::string batch_;

   // What the model says itself --------------------------------------------------------------------

   /// Whether the user gives columns for this input, or for one of its features.
   bool has_columns(const std::string &input) const
   {
      if (!options_.columns.are_by_name())
         return false;
      const auto names = model_.features.find(input);
      for (const InputColumns::Entry &entry : options_.columns.entries())
         if (entry.name == input || (names != model_.features.end() && is_one_of(names->second, entry.name)))
            return true;
      return false;
   }
   /// The input that a mask of the model's own counts: the one whose name begins alike.
   std::string counted_by_its_name(const std::string &mask) const
   {
      const std::string end = "mask";
      const bool ends = mask.size() >= end.size() && mask.compare(mask.size() - end.size(), end.size(), end) == 0;
      const std::string stem = ends ? mask.substr(0, mask.size() - end.size()) : mask;
      for (const StoredPort &input : model_.inputs) {
         const auto its = model_.sets.find(input.name);
         if (its != model_.sets.end() && !its->second.is_mask && input.name.compare(0, stem.size(), stem) == 0 &&
             share_axis(*model_.input(mask), input))
            return input.name;
      }
      return counted_by(*model_.input(mask), {mask});
   }
   void complete_masks()
   {
      std::vector<Texts::Pair> found;
      for (const StoredPort &input : model_.inputs) {
         const auto its = model_.sets.find(input.name);
         if (its != model_.sets.end() && its->second.is_mask && !has_columns(input.name))
            found.emplace_back(input.name, counted_by_its_name(input.name));
      }
      if (options_.mask.empty() && !found.empty())
         options_.mask = Texts(found);
   }
   void complete_pads()
   {
      std::vector<Pads::Entry> own = options_.pad.entries();
      const bool is_all = options_.pad.are_given() && !options_.pad.are_by_name();
      options_.truncate = options_.truncate || !options_.pad.are_given();
      for (const auto &entry : model_.sets)
         if (!entry.second.is_mask)
            own.push_back({entry.first, entry.second.pads});
      if (!is_all)
         options_.pad = Pads(own);
   }
   /// The options with what the model says itself of its sets, where nothing else is asked for.
   void complete()
   {
      if (model_.sets.empty())
         return;
      complete_masks();
      for (const StoredPort &input : model_.inputs) {
         const auto its = model_.sets.find(input.name);
         if (its == model_.sets.end() || !its->second.has_lengths)
            continue;
         for (std::size_t i = 1; i < input.shape.size(); ++i)
            if (!input.shape[i].name.empty())
               options_.lengths.emplace(input.shape[i].name, Lengths(static_cast<long>(its->second.least),
                                                                     static_cast<long>(its->second.most)));
      }
      complete_pads();
   }
   void read_masks()
   {
      std::vector<Texts::Pair> given = options_.mask.pairs();
      if (options_.mask.is_single() && !options_.mask.empty())
         given.emplace_back(options_.mask.single(), "");
      Strings names;
      for (const Texts::Pair &mask : given)
         names.push_back(mask.first);
      for (const Texts::Pair &mask : given) {
         const StoredPort *port = model_.input(mask.first);
         if (!port)
            fail("has no input '" + mask.first + "'", "It has " + joined(input_names(), "'"));
         masks_.emplace_back(mask.first, mask.second.empty() ? counted_by(*port, names) : mask.second);
      }
   }

   // Inputs ----------------------------------------------------------------------------------------

   std::string per_of(const PlannedFeatures &given) const
   {
      bool has_vectors = false, are_rows = true;
      for (const auto &input : given) {
         for (const PlannedFeature &feature : input.second)
            has_vectors = has_vectors || feature.is_vector();
         are_rows = are_rows && elements_of(rest_of(*model_.input(input.first))) == input.second.size();
      }
      return !has_vectors ? "event" : are_rows && !model_.batch().empty() ? "object" : "set";
   }
   static std::string said(const PlannedFeature &feature)
   {
      return feature.is_number ? std::to_string(feature.number) : "'" + feature.column.said + "'";
   }
   /// Nothing, if these features are a row of the input.
   void require_row(const PlannedInput &input, const std::string &per) const
   {
      const StoredShape rest = rest_of(*input.port);
      const std::string name = "input '" + input.port->name + "'";
      for (const StoredAxis &axis : rest)
         if (!axis.is_fixed)
            fail(name + " has axes of varying size (" + axis.said + "), which columns of single numbers cannot fill",
                 "Give columns of RVecs, or read the model with numbers for them");
      const std::size_t wanted = elements_of(rest);
      if (wanted != input.features.size()) {
         std::string listed;
         for (const PlannedFeature &feature : input.features)
            listed += (listed.empty() ? ": " : ", ") + said(feature);
         fail(name + " takes " + std::to_string(wanted) + " columns, not " + std::to_string(input.features.size()) +
              listed);
      }
      for (const PlannedFeature &feature : input.features)
         if (per == "event" && feature.is_vector())
            fail("column '" + feature.column.said + "' is " + feature.column.type.name +
                    "; one number for each event is needed",
                 "Give an expression: \"" + feature.column.said + "[0]\"");
      if (per == "object" && model_.batch().empty())
         fail("it takes one row only, and cannot be called per object", how_to_open());
   }
   /// The least and the largest number of objects.
   void bound(PlannedInput &input) const
   {
      const StoredAxis &axis = input.objects();
      if (axis.is_fixed) {
         if (!options_.pad.are_given())
            fail("input '" + input.port->name + "' takes exactly " + axis.said + " objects",
                 "Say what stands for those that an event lacks: pad = 0; and truncate = true if others may be left "
                 "out");
         input.least = input.most = axis.extent;
         return;
      }
      const auto found = options_.lengths.find(axis.name);
      if (axis.name.empty() || found == options_.lengths.end())
         return;
      const Lengths &given = found->second;
      if (given.most >= 0 && given.least > given.most)
         fail("lengths gives '" + axis.name + "' what is no range of sizes");
      input.least = given.least < 0 ? 0 : static_cast<std::size_t>(given.least);
      input.most = given.most < 0 ? nothing : static_cast<std::size_t>(given.most);
   }
   std::vector<double> pads_of(const PlannedInput &input) const
   {
      std::vector<double> pads = options_.pad.of(input.port->name);
      const std::size_t count = input.features.size();
      if (pads.size() < 2)
         return std::vector<double>(count, pads.empty() ? 0. : pads[0]);
      if (pads.size() != count)
         fail("pad has " + std::to_string(pads.size()) + " numbers for the " + std::to_string(count) +
              " features of input '" + input.port->name + "'");
      return pads;
   }
   /// The input with the axis of its objects, and how many there may be.
   void plan_set(PlannedInput &input) const
   {
      const StoredPort &port = *input.port;
      const std::size_t count = input.features.size();
      std::vector<std::size_t> axes;
      std::size_t first = 0;
      // If no other axis can be that of the objects, the first one may, and is no batch then.
      for (const StoredShape &rest : {rest_of(port), port.shape}) {
         if (!axes.empty())
            break;
         first = port.shape.size() - rest.size();
         axes = axes_beside(rest, count);
      }
      if (axes.size() != 1)
         fail("input '" + port.name + "' is " + port.described() + "; with " + std::to_string(count) + " columns " +
                 (axes.empty() ? "no axis is left to be" : "more than one axis can be") + " that of the objects",
              axes.empty() ? "Give as many columns as there are features" : "");
      input.axis = first + axes[0];
      bound(input);
      input.pads = pads_of(input);
      const auto own = orders_.find(port.name), all = orders_.find("");
      input.is_ordered = own != orders_.end() || all != orders_.end();
      if (input.is_ordered)
         input.order = own != orders_.end() ? own->second : all->second;
      if (input.is_ordered && !input.order.is_vector())
         fail("column '" + input.order.said + "' is " + input.order.type.name + "; order_by needs one with objects");
   }
   /// A mask: 1 for each object of the input that it follows, and 0 for what is padding.
   PlannedInput mask_of(const StoredPort &port, const std::string &follows, const PlannedFeatures &given) const
   {
      PlannedInput input;
      input.port = &port;
      input.axis = axis_of_mask(port);
      input.follows = follows;
      input.pads = {0};
      if (input.axis == nothing || !given.count(follows))
         fail("mask '" + port.name + "' is " + port.described() + ", which is no mask of the objects of one input" +
                 (follows.empty() ? "" : " '" + follows + "'"),
              "mask = {{\"MASK\", \"INPUT\"}} says of which");
      bound(input);
      return input;
   }
   PlannedInput plan_input(const StoredPort &port, const PlannedFeatures &given, const std::string &per) const
   {
      for (const auto &mask : masks_)
         if (mask.first == port.name)
            return mask_of(port, mask.second, given);
      PlannedInput input;
      input.port = &port;
      const auto features = given.find(port.name);
      if (features != given.end())
         input.features = features->second;
      if (input.features.empty() && could_be_mask(port))
         fail("no columns are given for input '" + port.name + "', which is " + port.described(),
              "If it is a mask of objects, say so: mask = \"" + port.name + "\"");
      if (per == "set" && input.has_vectors())
         plan_set(input);
      else
         require_row(input, per);
      return input;
   }

   // What may be wrong in all of them --------------------------------------------------------------

   void require_sizes() const
   {
      for (const std::string &size : model_.sizes) {
         const bool is_known = size == batch_ || std::any_of(inputs.begin(), inputs.end(), [&](const auto &input) {
                                  return input.is_set() && input.objects().name == size;
                               });
         if (!is_known)
            fail("no column says what " + size + " is", "Read the model with a number for it");
      }
   }
   void require_constants(const PlannedInput &input) const
   {
      const StoredType &type = *input.port->type;
      std::vector<double> numbers = input.pads;
      for (const PlannedFeature &feature : input.features)
         if (feature.is_number)
            numbers.push_back(feature.number);
         else if (!type.takes_floats() && feature.column.type.is_float())
            fail("column '" + feature.column.said + "' is " + feature.column.type.name + ", and input '" +
                    input.port->name + "' takes " + type.name,
                 std::string("Say how it is to be converted: \"") + (feature.is_vector() ? "ROOT::RVecI(" : "int(") +
                    feature.column.said + ")\"");
      for (const double number : numbers)
         if (!type.has(number))
            fail("input '" + input.port->name + "' takes " + type.name + ", and " + std::to_string(number) +
                 " is none");
   }
   void require_default() const
   {
      for (const PlannedColumn &one : shown) {
         const StoredType &type = one.is_largest ? StoredType::of("int32") : *model_.outputs[one.output].type;
         if (!options_.where.empty() && per != "object" && !is_nested && !type.has(options_.otherwise))
            fail("column '" + one.column + "' is " + type.name + ", and " + std::to_string(options_.otherwise) +
                    " is none",
                 "Say what it is where the model does not run: otherwise = -1");
      }
   }
   bool leads(const StoredPort &port) const { return !port.shape.empty() && port.shape[0].name == batch_; }
   void require_objects() const
   {
      if (per != "object")
         return;
      if (!std::any_of(inputs.begin(), inputs.end(), [](const auto &input) { return input.has_vectors(); }))
         fail("per = \"object\" needs a column with objects, an RVec");
      for (const PlannedInput &input : inputs)
         if (!leads(*input.port))
            fail("input '" + input.port->name + "' is " + input.port->described() + ", and has no row for each object");
      for (const PlannedColumn &one : shown)
         if (!leads(model_.outputs[one.output]))
            fail("output '" + model_.outputs[one.output].name + "' is " + model_.outputs[one.output].described() +
                    ", and has no row for each object",
                 "per = \"set\" has all objects of an event as one input");
   }
   const PlannedInput &planned(const std::string &name) const
   {
      for (const PlannedInput &input : inputs)
         if (input.port->name == name)
            return input;
      fail("has no input '" + name + "'");
   }
   void require_sets() const
   {
      std::map<std::string, const PlannedInput *> first;
      for (const PlannedInput &input : inputs) {
         if (!input.is_set())
            continue;
         const StoredAxis &axis = input.objects();
         if (!input.follows.empty()) {
            const PlannedInput &other = planned(input.follows);
            const bool is_same = other.is_set() && axis == other.objects();
            if (!other.is_set() || (!is_same && (axis.is_fixed || other.objects().is_fixed)))
               fail("mask '" + input.port->name + "' is " + input.port->described() + "; input '" + other.port->name +
                    "', which it should count, is " + other.port->described());
         } else if (!axis.name.empty()) {
            const PlannedInput &same = *first.emplace(axis.name, &input).first->second;
            if (same.is_ordered != input.is_ordered || same.order.name != input.order.name)
               fail("inputs '" + same.port->name + "' and '" + input.port->name +
                       "' have the same objects, in another order",
                    "order_by = \"COLUMN\" is for all of them");
         }
      }
   }
   void require_options() const
   {
      Strings sizes;
      bool has_sets = false;
      for (const PlannedInput &input : inputs) {
         has_sets = has_sets || input.is_set();
         if (input.is_set() && !input.objects().name.empty())
            sizes.push_back(input.objects().name);
      }
      for (const auto &length : options_.lengths)
         if (!is_one_of(sizes, length.first))
            fail("lengths names '" + length.first + "', which is no open number of objects; these are " +
                 (sizes.empty() ? "none" : joined(sizes, "'")));
      if (!has_sets && (options_.pad.are_given() || options_.truncate || !options_.mask.empty() || !orders_.empty()))
         fail("pad, truncate, mask and order_by are for models per set of objects");
   }

   // Outputs ---------------------------------------------------------------------------------------

   void require_single() const
   {
      for (const PlannedColumn &one : shown)
         if ((per == "object" || is_nested) && row_of(one) != 1 && one.element == nothing && !one.is_largest) {
            const std::string name = model_.outputs[one.output].name;
            fail("output '" + name + "' has more than one number for each object",
                 "Choose one, '" + name + "[0]', or 'argmax(" + name + ")'");
         }
   }

   // Columns ---------------------------------------------------------------------------------------

   /// The features of an input; the elements of arrays where the input has a number for each.
   std::vector<PlannedFeature> with_elements(const std::string &input, const std::vector<PlannedFeature> &given) const
   {
      std::size_t count = 0;
      bool has_arrays = false;
      for (const PlannedFeature &feature : given) {
         if (feature.is_vector() && !feature.array())
            return given;
         has_arrays = has_arrays || feature.array();
         count += std::max<std::size_t>(feature.array(), 1);
      }
      const std::size_t wanted = has_arrays ? elements_of(rest_of(*model_.input(input))) : given.size();
      if (wanted == given.size() || wanted != count)
         return given;
      std::vector<PlannedFeature> found;
      for (const PlannedFeature &feature : given)
         for (std::size_t k = 0; k < std::max<std::size_t>(feature.array(), 1); ++k) {
            found.push_back(feature);
            if (feature.array())
               found.back().column.element = k;
         }
      return found;
   }
   PlannedFeatures columns_of(ColumnFrame &frame) const
   {
      PlannedFeatures found;
      for (const std::string &input : open_inputs())
         found[input];
      for (const auto &input : by_input(options_.columns)) {
         if (!found.count(input.first))
            fail("input '" + input.first + "' is a mask, and columns are given for it");
         std::vector<PlannedFeature> features;
         for (const Feature &feature : input.second) {
            PlannedFeature made;
            made.is_number = feature.is_number;
            made.number = feature.number;
            if (!feature.is_number)
               made.column = frame.column(feature.said);
            features.push_back(made);
         }
         found[input.first] = with_elements(input.first, features);
      }
      return found;
   }
   void read_orders(ColumnFrame &frame)
   {
      if (options_.order_by.is_single() && !options_.order_by.empty())
         orders_[""] = frame.column(options_.order_by.single());
      for (const Texts::Pair &one : options_.order_by.pairs())
         orders_[one.first] = frame.column(one.second);
   }
   /// The features of one object, where an event has a set for each; a column of vectors has a number for it then.
   void go_inside(PlannedFeatures &given)
   {
      if (!options_.per.empty() && options_.per != "object")
         fail("a column has a set for each object of an event",
              "per = \"object\", or no per, gives a score for each object");
      for (auto &input : given)
         for (PlannedFeature &feature : input.second)
            feature.column = feature.column.of_object();
      for (auto &order : orders_)
         order.second = order.second.of_object();
   }
   bool has_nested(const PlannedFeatures &given, const ColumnFrame &frame) const
   {
      bool found = false;
      for (const auto &input : given)
         for (const PlannedFeature &feature : input.second) {
            if (feature.is_nested() && elements_of(rest_of(*model_.input(input.first))) == input.second.size())
               frame.refuse_type(feature.column);
            found = found || feature.is_nested();
         }
      for (const auto &order : orders_)
         found = found || order.second.type.depth > 1;
      return found;
   }
   void require_options_that_are() const
   {
      if (!is_one_of({"", "event", "object", "set"}, options_.per))
         fail("per = \"" + options_.per + "\" is none of 'event', 'object', 'set'");
      if (!is_one_of({"", "propagate", "error"}, options_.nan.text))
         fail("nan = \"" + options_.nan.text + "\" is neither a number nor \"propagate\" nor \"error\"");
   }

public:
   std::string per;
   bool is_nested = false; ///< Each object of an event has a set of its own.
   std::vector<PlannedInput> inputs;
   std::vector<PlannedColumn> shown;

   Planner(const StoredInterface &model, const std::string &place, const DefineOptions &options, const Texts &columns)
      : ModelNames(model, place), options_(options)
   {
      require_options_that_are();
      complete();
      read_masks();
      if (columns.is_single())
         shown.push_back(column_of(columns.single(), options_.output));
      else if (!options_.output.empty())
         fail("columns by name say themselves which output each is");
      for (const Texts::Pair &one : columns.pairs())
         shown.push_back(column_of(one.first, one.second));
   }

   /// Decides all of it for the columns of this data frame.
   void plan(ColumnFrame &frame)
   {
      PlannedFeatures given = columns_of(frame);
      read_orders(frame);
      is_nested = has_nested(given, frame);
      if (is_nested)
         go_inside(given);
      per = is_nested ? "set" : options_.per.empty() ? per_of(given) : options_.per;
      if (per != "event")
         require_names();
      batch_ = model_.batch();
      for (const StoredPort &port : model_.inputs)
         inputs.push_back(plan_input(port, given, per));
      for (const PlannedInput &input : inputs)
         if (input.axis == 0 && input.port->shape[0].name == batch_)
            batch_ = ""; // It is the number of objects of one event.
      require_sizes();
      require_objects();
      for (const PlannedInput &input : inputs)
         require_constants(input);
      require_default();
      require_options();
      require_sets();
      for (const PlannedColumn &one : shown)
         if (one.element != nothing && per != "object" && !row_of(one))
            fail("output '" + model_.outputs[one.output].name + "' has an open number of numbers, and none of number " +
                 std::to_string(one.element));
      require_single();
   }

   /// How many numbers an event, or an object, has of a column's output; 0 where that is open.
   std::size_t row_of(const PlannedColumn &one) const
   {
      const StoredPort &port = model_.outputs[one.output];
      const bool is_whole = batch_.empty() && !port.shape.empty() && !port.shape[0].name.empty();
      return elements_of(is_whole ? port.shape : rest_of(port));
   }
   const DefineOptions &options() const { return options_; }
   const std::string &batch() const { return batch_; }
};

} // namespace sofie

#endif
