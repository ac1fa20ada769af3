/// \file
/// TMVA::Experimental::RSofieReader: a model file, read, compiled and evaluated.
#ifndef SOFIE_RDF_WORDS_READER_HXX
#define SOFIE_RDF_WORDS_READER_HXX

#include "sofie/rdf/command.hxx"
#include "sofie/rdf/native.hxx"

#if !defined(SOFIE_CLING) || defined(__ROOTCLING__)
#include <iostream>
#endif

namespace TMVA {
namespace Experimental {

/// Reads any model that the package sofie_rdf reads: .onnx, .keras, .h5, .pt, .root. May be used by several threads.
class RSofieReader {
   struct Code {
      sofie::Linked first;
      std::vector<std::size_t> inputs;
      std::vector<std::size_t> outputs;
      std::string name;
      std::mutex mutex;
      std::vector<sofie::Linked> idle;
      explicit Code(const sofie::Linked &session) : first(session) {}
   };
   std::shared_ptr<Code> code_;

   static std::vector<std::size_t> sizes(const sofie::Answer &answer, const std::string &key)
   {
      std::vector<std::size_t> found;
      for (const auto &entry : answer)
         if (entry.first == key)
            found.push_back(std::stoul(entry.second));
      return found;
   }

   sofie::Linked borrowed() const
   {
      const std::lock_guard<std::mutex> lock(code_->mutex);
      if (code_->idle.empty())
         return code_->first;
      sofie::Linked session = std::move(code_->idle.back());
      code_->idle.pop_back();
      return session;
   }

public:
   RSofieReader() = default;
   /// `shapes` are those of the inputs, for PyTorch; `name` is that of a model in a .root file.
   explicit RSofieReader(const std::string &path, const std::vector<std::vector<std::size_t>> &shapes = {},
                         int verbose = 0, const std::string &name = "")
   {
      Load(path, shapes, verbose, name);
   }

   void Load(const std::string &path, const std::vector<std::vector<std::size_t>> &shapes = {}, int verbose = 0,
             const std::string &name = "")
   {
      const sofie::TemporaryFolder folder({"model.hxx", "model.dat"});
      const std::string header = folder.file("model.hxx");
      std::vector<std::string> how = {"file=" + path, "name=" + name, "header=" + header};
      for (const auto &shape : shapes) {
         how.emplace_back("shape=");
         for (const std::size_t size : shape)
            how.back() += std::to_string(size) + ",";
      }
      const sofie::Answer answer = sofie::ask("reader", how);
      const sofie::Entries &entries = sofie::native_entries(sofie::value_of(answer, "namespace"), header);
      auto code = std::make_shared<Code>(sofie::Linked(entries, folder.file("model.dat")));
      code->inputs = sizes(answer, "input");
      code->outputs = sizes(answer, "output");
      code->name = path;
      code_ = std::move(code);
      if (verbose)
         std::cout << sofie::value_of(answer, "PrintSummary") << std::flush;
   }

   /// All outputs, one behind the other, for one event: all inputs, one behind the other in the model's order.
   std::vector<float> Compute(const std::vector<float> &x) const
   {
      if (!code_)
         throw std::runtime_error("RSofieReader: there is no model in it; Load reads one");
      std::size_t wanted = 0, given = 0;
      std::vector<const void *> in;
      for (const std::size_t size : code_->inputs) {
         in.push_back(x.data() + wanted);
         wanted += size;
      }
      if (x.size() != wanted)
         throw std::invalid_argument(code_->name + ": takes " + std::to_string(wanted) + " numbers, not " +
                                     std::to_string(x.size()));
      for (const std::size_t size : code_->outputs)
         given += size;
      std::vector<float> y(given);
      std::vector<void *> out;
      std::size_t at = 0;
      for (const std::size_t size : code_->outputs) {
         out.push_back(y.data() + at);
         at += size;
      }
      const std::size_t none[] = {0};
      sofie::Linked session = borrowed();
      session.call(none, in.data(), out.data());
      const std::lock_guard<std::mutex> lock(code_->mutex);
      code_->idle.push_back(std::move(session));
      return y;
   }
   /// The same for one vector for each input.
   std::vector<float> Compute(const std::vector<std::vector<float>> &inputs) const
   {
      std::vector<float> x;
      for (std::size_t i = 0; i < inputs.size(); ++i) {
         if (!code_ || i >= code_->inputs.size() || inputs[i].size() != code_->inputs[i])
            throw std::invalid_argument("RSofieReader: input " + std::to_string(i) +
                                        " has the wrong number of elements");
         x.insert(x.end(), inputs[i].begin(), inputs[i].end());
      }
      return Compute(x);
   }
};

template <class Numbers, class T>
class ComputeHelper;

/// N numbers to all outputs of a model, which several threads may ask for.
template <std::size_t... I, class T>
class ComputeHelper<std::index_sequence<I...>, T> {
   template <std::size_t>
   using Number = T;
   RSofieReader reader_;

public:
   explicit ComputeHelper(const RSofieReader &reader) : reader_(reader) {}
   std::vector<T> operator()(Number<I>... x) const
   {
      const std::vector<float> y = reader_.Compute(std::vector<float>{static_cast<float>(x)...});
      return std::vector<T>(y.begin(), y.end());
   }
};

/// df.Define("y", Compute<N, float>(reader), {N columns})
template <std::size_t N, class T>
ComputeHelper<std::make_index_sequence<N>, T> Compute(const RSofieReader &reader)
{
   return ComputeHelper<std::make_index_sequence<N>, T>(reader);
}

} // namespace Experimental
} // namespace TMVA

#endif
