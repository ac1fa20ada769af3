// A model as a function of RooFit's: one number of its output, of variables.
#ifndef SOFIE_RDF_ROOFIT_HXX
#define SOFIE_RDF_ROOFIT_HXX

#include "sofie/session/linked.hxx"

#include <RVersion.h>
#include <RooAbsReal.h>
#include <RooListProxy.h>
#if ROOT_VERSION_CODE >= ROOT_VERSION(6, 32, 0)
#include <RooFit/EvalContext.h>
#endif

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace sofie {

/// An input of float64: so many numbers, for each event or for all of them.
struct RooPort {
   std::size_t size = 1;
   bool is_of_events = true;
};

/// What a model needs to be called: code, weights, inputs in their order, and its one output.
struct RooCode {
   std::uintptr_t table = 0;
   std::uintptr_t weights = 0;
   std::vector<RooPort> ports;
   std::size_t row = 1;     ///< numbers of the output for an event
   std::size_t element = 0; ///< which of them
   std::size_t step = 1;    ///< events at once
};

/// The value of a model for variables, which stand in the order of the numbers in its inputs.
class RooModel : public RooAbsReal {
   RooCode code_;
   RooListProxy variables_;
   mutable Linked session_;

public:
   RooModel(const char *name, const char *title, const RooCode &code, const RooArgList &variables)
      : RooAbsReal(name, title), code_(code), variables_("variables", "what the model reads", this),
        session_(*reinterpret_cast<const Entries *>(code.table), reinterpret_cast<void *>(code.weights))
   {
      variables_.add(variables);
   }
   RooModel(const RooModel &other, const char *name = nullptr)
      : RooAbsReal(other, name), code_(other.code_), variables_("variables", this, other.variables_),
        session_(other.session_)
   {
   }
   TObject *clone(const char *name) const override { return new RooModel(*this, name); }

protected:
   double evaluate() const override
   {
      std::vector<double> numbers;
      for (std::size_t i = 0; i < variables_.size(); ++i)
         numbers.push_back(static_cast<const RooAbsReal &>(variables_[i]).getVal());
      std::vector<Column> columns;
      for (const double &number : numbers)
         columns.push_back({&number, 1});
      double value = 0;
      call(columns, 0, 1, &value);
      return value;
   }

#if ROOT_VERSION_CODE >= ROOT_VERSION(6, 32, 0)
   void doEval(RooFit::EvalContext &context) const override
   {
      std::vector<Column> columns;
      for (std::size_t i = 0; i < variables_.size(); ++i) {
         const auto span = context.at(&variables_[i]);
         columns.push_back({span.data(), span.size()});
      }
      const auto output = context.output();
      for (std::size_t begin = 0; begin < output.size(); begin += code_.step)
         call(columns, begin, std::min(output.size(), begin + code_.step), output.data() + begin);
   }
#endif

private:
   /// A variable, for all events or the same for all.
   struct Column {
      const double *data;
      std::size_t size;

      double at(std::size_t event) const { return size == 1 ? *data : data[event]; }
   };

   void call(const std::vector<Column> &columns, std::size_t begin, std::size_t end, double *values) const
   {
      const std::size_t count = end - begin;
      std::vector<std::vector<double>> inputs;
      std::vector<const void *> in;
      auto column = columns.begin();
      for (const RooPort &port : code_.ports) {
         inputs.push_back(filled(port, column, begin, end));
         column += static_cast<std::ptrdiff_t>(port.size);
      }
      for (const std::vector<double> &input : inputs)
         in.push_back(input.data());
      std::vector<double> output(count * code_.row);
      void *const out[] = {output.data()};
      session_.call(&count, in.data(), out);
      for (std::size_t i = 0; i < count; ++i)
         values[i] = output[i * code_.row + code_.element];
   }

   std::vector<double> filled(const RooPort &port, std::vector<Column>::const_iterator column, std::size_t begin,
                              std::size_t end) const
   {
      std::vector<double> input;
      for (std::size_t event = begin; event < (port.is_of_events ? end : begin + 1); ++event)
         for (std::size_t i = 0; i < port.size; ++i) {
            const Column &one = column[static_cast<std::ptrdiff_t>(i)];
            if (!port.is_of_events && one.size != 1)
               throw std::invalid_argument(std::string(GetName()) +
                                           ": a variable differs from event to event, and the model has one of it");
            input.push_back(one.at(event));
         }
      return input;
   }
};

} // namespace sofie

#endif
