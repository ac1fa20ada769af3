/// \file
/// What the shapes of a stored model's inputs say: the batch, the axis of objects, and which inputs could be masks.
#ifndef SOFIE_RDF_SHAPES_HXX
#define SOFIE_RDF_SHAPES_HXX

#include "sofie/rdf/frame.hxx"
#include "sofie/rdf/ports.hxx"

namespace sofie {

/// The shapes of a model; `place` names it in messages.
class ModelShapes {
protected:
   using Strings = std::vector<std::string>;

   const StoredInterface &model_;
   const std::string place_;

   ModelShapes(const StoredInterface &model, const std::string &place) : model_(model), place_(place) {}

   [[noreturn]] void fail(const std::string &thing, const std::string &remedy = "") const
   {
      refuse(place_, thing, remedy);
   }
   Strings input_names() const
   {
      Strings found;
      for (const StoredPort &input : model_.inputs)
         found.push_back(input.name);
      return found;
   }
   /// A file of a version that did not store names and sets has columns of numbers, in order.
   void require_names() const
   {
      if (!model_.is_complete)
         fail("was saved by a version of sofie_rdf that did not store what features are called and how sets are filled",
              "Save it again: model.save(...) of Python, or `sofie-rdf convert`");
   }

   /// The axes behind that of the batch; all of them where there is none.
   StoredShape rest_of(const StoredPort &port) const
   {
      const std::string batch = model_.batch();
      const StoredShape &shape = port.shape;
      if (shape.empty())
         return {};
      if (!batch.empty() && shape[0].name == batch)
         return StoredShape(shape.begin() + 1, shape.end());
      if (shape.size() == 1 || !shape[0].is_fixed)
         return shape;
      if (shape[0].extent != 1)
         fail("it has a fixed batch of " + shape[0].said + "; an RDataFrame gives one event at a time", how_to_open());
      return StoredShape(shape.begin() + 1, shape.end());
   }
   static std::string how_to_open()
   {
      return "Read the model with an open first axis, shapes={'INPUT': ('N', ...)}, and save it again";
   }
   /// The axes beside which `count` elements are left; of these, open ones if there are any.
   static std::vector<std::size_t> axes_beside(const StoredShape &shape, std::size_t count)
   {
      std::vector<std::size_t> all, open;
      for (std::size_t i = 0; i < shape.size(); ++i) {
         StoredShape others = shape;
         others.erase(others.begin() + static_cast<std::ptrdiff_t>(i));
         if (elements_of(others) != count)
            continue;
         all.push_back(i);
         if (!shape[i].is_fixed)
            open.push_back(i);
      }
      return open.empty() ? all : open;
   }
   /// The axis that a mask has beside the batch, and no other of more than one element; `nothing` if it has none.
   std::size_t axis_of_mask(const StoredPort &port) const
   {
      const StoredShape rest = rest_of(port);
      std::vector<std::size_t> axes;
      for (const std::size_t axis : axes_beside(rest, 1))
         if (!rest[axis].is_fixed || rest[axis].extent != 1)
            axes.push_back(axis);
      return axes.size() == 1 ? port.shape.size() - rest.size() + axes[0] : nothing;
   }
   /// Whether the two have an axis behind the first that is said alike, and is not 1.
   static bool share_axis(const StoredPort &one, const StoredPort &other)
   {
      for (std::size_t i = 1; i < one.shape.size(); ++i)
         for (std::size_t k = 1; k < other.shape.size(); ++k)
            if (one.shape[i] == other.shape[k] && one.shape[i].said != "1")
               return true;
      return false;
   }
   /// The input whose objects a mask counts: one whose axis has the same size.
   std::string counted_by(const StoredPort &mask, const Strings &masks) const
   {
      for (const StoredPort &input : model_.inputs)
         if (!is_one_of(masks, input.name) && share_axis(mask, input))
            return input.name;
      return "";
   }
   bool could_be_mask(const StoredPort &port) const
   {
      const bool is_row = port.shape.empty() || (port.shape[0].is_fixed && port.shape[0].extent != 1);
      return !is_row && !counted_by(port, {port.name}).empty() && axis_of_mask(port) != nothing;
   }
   /// Which of these could be a mask: one of truth values, or called so, before others.
   std::string likely_mask(const Strings &inputs) const
   {
      std::string best;
      int rank = 0;
      for (const std::string &name : inputs) {
         const StoredPort &port = *model_.input(name);
         const int its = std::string(port.type->name) == "bool" ? 3 : name.find("mask") != std::string::npos ? 2 : 1;
         if (its > rank && could_be_mask(port)) {
            best = name;
            rank = its;
         }
      }
      return best;
   }
};

} // namespace sofie

#endif
