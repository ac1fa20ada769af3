/// \file
/// From the columns of an event to a stored model's inputs, and from its outputs to new columns. RSofieReader makes a
/// plan of the columns (plan.hxx), and a function object whose text has their types alone (define.hxx).
///
/// sofie_rdf/runtime/rdataframe/functors.py writes for Python what `StoredWork` does here, with the same functions of
/// columns.hxx.
#ifndef SOFIE_RDF_FILLING_HXX
#define SOFIE_RDF_FILLING_HXX

#include "sofie/session/linked.hxx"
#include "sofie/rdf/columns.hxx"
#include "sofie/rdf/ports.hxx"

SOFIE_BEGIN

namespace sofie {

/// A column of an event as a feature of an input. What made it knows the types of both.
struct Given {
   /// What can be done with it.
   struct Kind {
      std::size_t (*size)(const Given &given);
      void (*fill)(const Given &given, void *to, std::size_t step, const Objects &objects, const Told &told);
      void (*sort)(const Given &given, std::vector<std::size_t> &order);
      Given (*of_object)(const Given &given, std::size_t object);
   };
   const Kind *kind = nullptr;
   const void *column = nullptr;
   std::size_t name = 0;          ///< Its place in Told::names.
   std::size_t element = nothing; ///< The only one of an array that is meant.

   std::size_t size() const { return kind->size(*this); }
   void fill(void *to, std::size_t step, const Objects &objects, const Told &told) const
   {
      kind->fill(*this, to, step, objects, told);
   }
   void sort(std::vector<std::size_t> &order) const { kind->sort(*this, order); }
   /// What one object of the event has of it: its set, its number, or the number that all have.
   Given of_object(std::size_t object) const { return kind->of_object(*this, object); }
};

/// What `nan` says of a column: the first number that was told, or its name.
template <class Nan>
inline Nan nan_of(const Told &told, std::size_t name)
{
   if constexpr (std::is_same<Nan, RefuseNan>::value)
      return RefuseNan{told.names[name]};
   else if constexpr (std::is_same<Nan, ReplaceNan>::value)
      return ReplaceNan{told.numbers[0]};
   else
      return Nan{};
}

/// A number of an event for elements To of an input.
template <class To, class Nan, class Column>
struct GivenNumber {
   static std::size_t size(const Given &) { return 0; }
   static void fill(const Given &given, void *to, std::size_t step, const Objects &objects, const Told &told)
   {
      const Column number = *static_cast<const Column *>(given.column);
      fill_number(static_cast<To *>(to), step, static_cast<To>(nan_of<Nan>(told, given.name)(number)), objects.count);
   }
   static void sort(const Given &, std::vector<std::size_t> &order) { order.clear(); }
   static Given of_object(const Given &given, std::size_t) { return given; }
   static const Given::Kind *kind()
   {
      static const Given::Kind its = {&size, &fill, &sort, &of_object};
      return &its;
   }
};

/// An element of an array as a number.
template <class To, class Nan, class Column>
struct GivenElement : GivenNumber<To, Nan, typename Column::value_type> {
   static void fill(const Given &given, void *to, std::size_t step, const Objects &objects, const Told &told)
   {
      const typename Column::value_type number = (*static_cast<const Column *>(given.column))[given.element];
      fill_number(static_cast<To *>(to), step, static_cast<To>(nan_of<Nan>(told, given.name)(number)), objects.count);
   }
   static const Given::Kind *kind()
   {
      using Number = GivenNumber<To, Nan, typename Column::value_type>;
      static const Given::Kind its = {&Number::size, &fill, &Number::sort, &Number::of_object};
      return &its;
   }
};

template <class To, class Nan, class Column>
Given given(const Column &column, std::size_t name, std::size_t element = nothing);

/// An RVec, vector or array, of numbers or of such.
template <class To, class Nan, class Column>
struct GivenVector {
   static constexpr bool has_numbers = std::is_arithmetic<typename Column::value_type>::value;
   static const Column &of(const Given &given) { return *static_cast<const Column *>(given.column); }

   static std::size_t size(const Given &given) { return of(given).size(); }
   static void fill([[maybe_unused]] const Given &given, [[maybe_unused]] void *to, [[maybe_unused]] std::size_t step,
                    [[maybe_unused]] const Objects &objects, [[maybe_unused]] const Told &told)
   {
      if constexpr (has_numbers)
         fill_column(static_cast<To *>(to), step, of(given), objects, nan_of<Nan>(told, given.name));
   }
   static void sort([[maybe_unused]] const Given &given, std::vector<std::size_t> &order)
   {
      order.clear();
      if constexpr (has_numbers)
         sort_objects(order, of(given));
   }
   static Given of_object(const Given &all, std::size_t object)
   {
      if constexpr (has_numbers)
         return {GivenElement<To, Nan, Column>::kind(), all.column, all.name, object};
      else
         return given<To, Nan>(of(all)[object], all.name);
   }
   static const Given::Kind *kind()
   {
      static const Given::Kind its = {&size, &fill, &sort, &of_object};
      return &its;
   }
};

/// A column of an event, or an element of it, as elements To.
template <class To, class Nan, class Column>
Given given(const Column &column, std::size_t name, [[maybe_unused]] std::size_t element)
{
   if constexpr (std::is_arithmetic<Column>::value)
      return {GivenNumber<To, Nan, Column>::kind(), &column, name, nothing};
   else if constexpr (!std::is_arithmetic<typename Column::value_type>::value)
      return {GivenVector<To, Nan, Column>::kind(), &column, name, nothing};
   else if (element == nothing)
      return {GivenVector<To, Nan, Column>::kind(), &column, name, nothing};
   else
      return {GivenElement<To, Nan, Column>::kind(), &column, name, element};
}

/// An input, and what fills it: `Filled` of sofie_rdf/runtime/rdataframe/columns.py.
struct FilledInput {
   /// One of the columns that are given, or a number.
   struct Source {
      std::size_t column = nothing;
      double number = 0;
   };
   std::string name;
   const StoredType *type = nullptr;
   std::vector<Source> sources;
   std::vector<std::size_t> vectors; ///< Which columns have an element for each object.
   // Of a set: how many elements are behind the axis of objects, and how many objects there may be.
   bool is_set = false, is_open = false, truncates = false;
   std::size_t behind = 1, least = 0, most = nothing;
   std::vector<double> pads;
   std::size_t order = nothing;   ///< The column that sorts objects.
   std::size_t follows = nothing; ///< The input whose objects this mask counts.
   std::size_t shares = nothing;  ///< The first input with as many objects.
};

/// A new column: an output, or one of its elements.
struct ShownOutput {
   std::size_t output = 0, element = 0;
   std::size_t row = 0; ///< How many numbers an event has, 0 where that is open.
};

/// How a model becomes columns.
struct StoredPlan {
   std::vector<FilledInput> inputs;
   std::vector<const StoredType *> outputs;
   std::vector<ShownOutput> shown;
   std::vector<std::size_t> sizes; ///< For each size the input whose objects it counts; else it is that of the batch.
   bool per_object = false;        ///< A row for each object, in one call.
   std::vector<std::size_t> outer; ///< Columns with an element for each object, each of which has a set of its own.
   bool draws = false;
   std::uint64_t seed = 0;
   double otherwise = 0;
};

/// What each slot has to fill the inputs and to run.
class StoredWork {
   const Entries *entries_;
   Linked code_;
   std::vector<Elements> in_, out_;
   std::vector<std::vector<std::size_t>> orders_;
   std::vector<std::size_t> counts_, lengths_, sizes_, in_count_, out_count_;
   std::vector<std::uint64_t> rows_;
   // What the code is called with; a null pointer ends each.
   std::vector<const void *> inputs_;
   std::vector<void *> results_;
   std::size_t objects_ = 1;

   const std::string &name(const Given &given) const { return told.names[given.name]; }

   void require_same(const Given &column, const Given &first) const
   {
      if (column.column != first.column)
         require_length(name(column), column.size(), name(first), first.size());
   }
   void count_rows(const Given *given)
   {
      const Given *first = nullptr;
      for (const FilledInput &input : plan.inputs)
         for (const std::size_t column : input.vectors) {
            first = first ? first : &given[column];
            require_same(given[column], *first);
         }
      objects_ = first->size();
   }
   /// How many objects an input has, in which order, and how long it is with its padding.
   void count_set(std::size_t i, const Given *given)
   {
      const FilledInput &input = plan.inputs[i];
      const Given &first = given[input.vectors[0]];
      for (const std::size_t column : input.vectors)
         require_same(given[column], first);
      if (input.shares != i)
         require_same(first, given[plan.inputs[input.shares].vectors[0]]);
      counts_[i] = kept_objects(name(first), first.size(), input.most, input.truncates || input.is_open);
      lengths_[i] = counts_[i] < input.least ? input.least : counts_[i];
      if (input.order != nothing)
         given[input.order].sort(orders_[i]);
   }
   void count_mask(std::size_t i)
   {
      const FilledInput &input = plan.inputs[i];
      counts_[i] = counts_[input.follows];
      lengths_[i] = input.is_open ? lengths_[input.follows] : input.most;
   }
   void count_all(const Given *given)
   {
      objects_ = 1;
      if (plan.per_object)
         count_rows(given);
      for (std::size_t i = 0; i < plan.inputs.size(); ++i)
         if (plan.inputs[i].is_set && plan.inputs[i].follows == nothing)
            count_set(i, given);
      for (std::size_t i = 0; i < plan.inputs.size(); ++i)
         if (plan.inputs[i].follows != nothing)
            count_mask(i);
      for (std::size_t i = 0; i < plan.sizes.size(); ++i)
         sizes_[i] = plan.sizes[i] == nothing ? objects_ : lengths_[plan.sizes[i]];
      entries_->elements(sizes_.data(), in_count_.data(), out_count_.data());
   }
   /// A feature as elements with `step` between them, of these objects.
   void fill(const FilledInput &input, const FilledInput::Source &source, char *to, std::size_t step,
             const Objects &objects, const Given *given) const
   {
      if (source.column == nothing)
         input.type->repeat(to, step, source.number, objects.count);
      else
         given[source.column].fill(to, step, objects, told);
   }
   /// Feature k of object j is element (k / behind, j, k % behind) of a set, and (j, k) of rows.
   void fill_input(std::size_t i, const Given *given)
   {
      const FilledInput &input = plan.inputs[i];
      const std::size_t bytes = input.type->bytes, features = input.sources.size();
      if (in_count_[i] != features * (input.is_set ? lengths_[i] : objects_))
         throw std::runtime_error("input '" + input.name + "' has a shape that is not that of its code");
      in_[i].resize(in_count_[i] * bytes);
      char *const start = static_cast<char *>(in_[i].data());
      const std::size_t *const order = input.order == nothing ? nullptr : orders_[i].data();
      for (std::size_t k = 0; k < features; ++k) {
         if (!input.is_set) {
            fill(input, input.sources[k], start + k * bytes, features, Objects{objects_, nullptr}, given);
            continue;
         }
         const std::size_t first = k / input.behind * lengths_[i] * input.behind + k % input.behind;
         fill(input, input.sources[k], start + first * bytes, input.behind, Objects{counts_[i], order}, given);
         input.type->repeat(start + (first + counts_[i] * input.behind) * bytes, input.behind, input.pads[k],
                            lengths_[i] - counts_[i]);
      }
   }

public:
   StoredPlan plan;
   Told told;

   StoredWork(const Entries &entries, const Linked &code, const StoredPlan &columns, const Told &all)
      : entries_(&entries), code_(code), in_(columns.inputs.size()), out_(columns.outputs.size()),
        orders_(columns.inputs.size()), counts_(columns.inputs.size()), lengths_(columns.inputs.size()),
        sizes_(columns.sizes.size() + 1), in_count_(columns.inputs.size() + 2), out_count_(columns.outputs.size() + 1),
        inputs_(columns.inputs.size() + 2), results_(columns.outputs.size() + 1), plan(columns), told(all)
   {
   }

   /// Fills the inputs with these columns, and computes the outputs for the event.
   void run(const Given *given, std::uint64_t event)
   {
      count_all(given);
      for (std::size_t i = 0; i < plan.inputs.size(); ++i) {
         fill_input(i, given);
         inputs_[i] = in_[i].data();
      }
      if (plan.draws)
         inputs_[plan.inputs.size()] = rows_of_event(rows_, plan.seed, event, in_count_[plan.inputs.size()] / 3);
      for (std::size_t i = 0; i < plan.outputs.size(); ++i) {
         out_[i].resize(out_count_[i] * plan.outputs[i]->bytes);
         results_[i] = out_[i].data();
      }
      code_.call(sizes_.data(), inputs_.data(), results_.data());
   }

   /// How many objects the event has, each of which has a set of its own.
   std::size_t objects_of(const Given *given) const
   {
      const Given &first = given[plan.outer[0]];
      for (const std::size_t column : plan.outer)
         require_same(given[column], first);
      return first.size();
   }

   template <class T>
   const T *output(std::size_t i) const
   {
      return static_cast<const T *>(out_[plan.shown[i].output].data());
   }
   std::size_t count(std::size_t i) const { return out_count_[plan.shown[i].output]; }
   std::size_t rows() const { return objects_; }
   std::size_t row(std::size_t i) const { return objects_ ? count(i) / objects_ : 1; }
};

/// What a new column is: a number of an output with elements T,
template <class T>
struct OneNumber {
   using Column = ColumnOf<T>;
   static Column of(const StoredWork &work, std::size_t i)
   {
      return static_cast<Column>(work.output<T>(i)[work.plan.shown[i].element]);
   }
   static Column absent(const StoredWork &work, std::size_t) { return static_cast<Column>(work.plan.otherwise); }
};
/// all of them,
template <class T>
struct AllNumbers {
   using Column = ROOT::RVec<ColumnOf<T>>;
   static Column of(const StoredWork &work, std::size_t i)
   {
      return as_rvec<ColumnOf<T>>(work.output<T>(i), work.count(i));
   }
   static Column absent(const StoredWork &work, std::size_t i)
   {
      return Column(work.plan.shown[i].row, static_cast<ColumnOf<T>>(work.plan.otherwise));
   }
};
/// which is the largest,
template <class T>
struct LargestNumber {
   using Column = int;
   static int of(const StoredWork &work, std::size_t i) { return largest_of(work.output<T>(i), work.count(i)); }
   static int absent(const StoredWork &work, std::size_t) { return static_cast<int>(work.plan.otherwise); }
};
/// or the same of each object.
template <class T>
struct NumberOfEach {
   using Column = ROOT::RVec<ColumnOf<T>>;
   static Column of(const StoredWork &work, std::size_t i)
   {
      return as_rvec<ColumnOf<T>>(work.output<T>(i) + work.plan.shown[i].element, work.rows(), work.row(i));
   }
   static Column absent(const StoredWork &, std::size_t) { return {}; }
};
template <class T>
struct LargestOfEach {
   using Column = ROOT::RVec<int>;
   static Column of(const StoredWork &work, std::size_t i)
   {
      return largest_of_rows(work.output<T>(i), work.rows(), work.row(i));
   }
   static Column absent(const StoredWork &, std::size_t) { return {}; }
};

/// The new columns of one call: the only one, or a tuple of all.
template <class Numbers, class... Columns>
class NewColumns {
   template <std::size_t... I>
   static auto made(const StoredWork &work, std::index_sequence<I...>)
   {
      return std::make_tuple(Columns::of(work, I)...);
   }
   template <std::size_t... I>
   static auto absent(const StoredWork &work, std::index_sequence<I...>)
   {
      return std::make_tuple(Columns::absent(work, I)...);
   }

public:
   static auto of(StoredWork &work, const Given *given, std::uint64_t event)
   {
      work.run(given, event);
      return made(work, Numbers());
   }
   static auto absent(const StoredWork &work) { return absent(work, Numbers()); }
};

/// The same where each object of an event has a set: RVecs with what each gives.
template <class Numbers, class... Columns>
class NewColumnsOfEach {
   using All = std::tuple<ROOT::RVec<typename Columns::Column>...>;

   template <std::size_t... I>
   static void put(All &all, const StoredWork &work, std::size_t object, std::index_sequence<I...>)
   {
      (void(std::get<I>(all)[object] = Columns::of(work, I)), ...);
   }
   template <std::size_t... I>
   static void resize(All &all, std::size_t objects, std::index_sequence<I...>)
   {
      (std::get<I>(all).resize(objects), ...);
   }

public:
   static All of(StoredWork &work, const Given *given, std::uint64_t event)
   {
      All all;
      const std::size_t objects = work.objects_of(given);
      resize(all, objects, Numbers());
      std::vector<Given> its;
      for_each_object(objects, [&](std::size_t object) {
         its.clear();
         for (const Given *one = given; one->kind; ++one)
            its.push_back(one->of_object(object));
         work.run(its.data(), event);
         put(all, work, object, Numbers());
      });
      return all;
   }
   static All absent(const StoredWork &) { return {}; }
};

} // namespace sofie

SOFIE_END

#endif
