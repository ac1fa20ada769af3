// A function of parameters for ROOT's minimizers, which somebody else computes.
#ifndef SOFIE_RDF_FIT_HXX
#define SOFIE_RDF_FIT_HXX

#include <Math/IFunction.h>

#include <cstdint>
#include <stdexcept>
#include <vector>

namespace sofie {

/// Calls a function of C with the parameters. Copies call the same one.
class FitFunction : public ROOT::Math::IMultiGradFunction {
public:
   /// Fills what is not null; the text of an error, or null.
   using Call = const char *(*)(const double *theta, double *value, double *gradient);

   FitFunction(unsigned int size, std::uintptr_t call) : size_(size), call_(reinterpret_cast<Call>(call)) {}
   ROOT::Math::IMultiGenFunction *Clone() const override { return new FitFunction(*this); }
   unsigned int NDim() const override { return size_; }
   void Gradient(const double *theta, double *gradient) const override { require(call_(theta, nullptr, gradient)); }
   void FdF(const double *theta, double &value, double *gradient) const override
   {
      require(call_(theta, &value, gradient));
   }

private:
   unsigned int size_;
   Call call_;

   static void require(const char *error)
   {
      if (error)
         throw std::runtime_error(error);
   }
   double DoEval(const double *theta) const override
   {
      double value = 0;
      require(call_(theta, &value, nullptr));
      return value;
   }
   double DoDerivative(const double *theta, unsigned int index) const override
   {
      std::vector<double> gradient(size_);
      Gradient(theta, gradient.data());
      return gradient[index];
   }
};

} // namespace sofie

#endif
