/// \file
/// RSofieReader: a model in a .root file, for macros and programs without Python.
///
///     #include "sofie/rdf/RSofieReader.hxx"
///     RSofieReader model("models.root", "higgs");
///     std::vector<float> y = model.Compute({0.1, 0.2, ...});
///     auto scored = model.Define(df, "dnn", {"m_jj", "m_jjj", ...});
///
///     sofie::DefineOptions how;                             // rdf/options.hxx has all of them
///     how.columns = {{"jets", {"Jet_pt", "abs(Jet_eta)"}}, {"event", "met"}};
///     how.pad = 0;
///     how.truncate = true;
///     how.mask = "mask";
///     auto tagged = tagger.Define(df, {{"p_b", "softmax[1]"}, {"flavour", "argmax(softmax)"}}, how);
///
/// The stored header is compiled by ROOT's interpreter for the CPU that it runs on, with the kernels that
/// are stored with it, so that it does not matter which version of sofie_rdf is installed.
///
/// Its name is sofie::RSofieReader. Where SOFIE's words are (`import sofie_rdf.tmva`), the short name means SOFIE's.
#ifndef SOFIE_RDF_RSOFIEREADER_HXX
#define SOFIE_RDF_RSOFIEREADER_HXX

#include "sofie/session/checksum.hxx"
#include "sofie/session/events.hxx"
#include "sofie/session/linked.hxx"
#include "sofie/rdf/define.hxx"
#include "sofie/rdf/native.hxx"
#include "sofie/rdf/stored.hxx"

#if !defined(SOFIE_CLING) || defined(__ROOTCLING__)
#include <ROOT/RDataFrame.hxx>
#include <TROOT.h>
#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <iostream>
#include <map>
#include <set>
#endif

namespace sofie {

/// The code of a stored model, compiled by the interpreter; once in a process.
class StoredCode {
   /// The macros that a text defines, and those that decide what it becomes.
   static std::set<std::string> macros_of(const std::string &text)
   {
      std::set<std::string> names = {"SOFIE_CLING",  "SOFIE_LINKED", "SOFIE_ENTRIES", "SOFIE_NATIVE",
                                     "SOFIE_TARGET", "SOFIE_CHOSEN", "sofie"};
      std::istringstream lines(text);
      for (std::string line; std::getline(lines, line);) {
         std::istringstream words(line);
         std::string first, name;
         if (words >> first >> name && first == "#define")
            names.insert(name.substr(0, name.find('(')));
      }
      return names;
   }

   /// The header in namespaces of its own, and without a trace in the macros of others.
   static std::string isolated(const StoredModel &model, const std::string &space, const std::string &key)
   {
      const InstructionSet set = instruction_set();
      std::set<std::string> macros = macros_of(model.header);
      macros.insert(space);
      std::string text = "#ifndef SOFIE_STORED_" + key + "\n#define SOFIE_STORED_" + key + "\n";
      for (const std::string &name : macros)
         text += "#pragma push_macro(\"" + name + "\")\n#undef " + name + "\n";
      text += "#define sofie sofie_" + key + "\n#define " + space + " " + space + "_" + key + "\n";
      text += "#define SOFIE_CLING\n#define SOFIE_ENTRIES\n";
      text += "#define SOFIE_SIMD_BYTES " + std::to_string(set.simd_bytes) + "\n";
      if (*set.target)
         text += std::string("#define SOFIE_TARGET \"") + set.target + "\"\n";
      text += model.header;
      for (const std::string &name : macros)
         text += "#undef " + name + "\n#pragma pop_macro(\"" + name + "\")\n";
      return text + "#endif\n";
   }

   /// The text, which becomes code, if it is a name.
   static const std::string &identifier(const std::string &text)
   {
      bool is_name = !text.empty() && (text[0] < '0' || text[0] > '9');
      for (const char c : text)
         is_name = is_name && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_');
      if (!is_name)
         throw std::runtime_error("its namespace is no name");
      return text;
   }

public:
   static const Entries &entries(const StoredModel &model)
   {
      static std::map<std::string, const Entries *> known;
      const Entries *&found = known[model.sha256];
      if (found)
         return *found;
      const std::string space = identifier(model.about["interface"]["namespace"].text());
      const std::string key = model.sha256.substr(0, 16);
      TInterpreter &cling = *TInterpreter::Instance();
      TInterpreter::EErrorCode failed = TInterpreter::kNoError;
      Longptr_t address = 0;
      if (cling.Declare(isolated(model, space, key).c_str()))
         address = cling.Calc(("reinterpret_cast<long>(" + space + "_" + key + "::entries())").c_str(), &failed);
      if (!address || failed != TInterpreter::kNoError)
         throw std::runtime_error(model.place + ": ROOT's interpreter refused its header; its message says why");
      return *(found = reinterpret_cast<const Entries *>(address));
   }
};

/// A model in a .root file. Copies share code and weights; two threads need two of them.
class RSofieReader {
   using Counts = std::vector<std::size_t>;

   std::string place_, sha256_;
   StoredInterface model_;
   const Entries *entries_ = nullptr;
   std::shared_ptr<void> weights_;
   std::unique_ptr<Linked> code_;
   // Of a model that draws random numbers: its last input, and which events are next.
   bool draws_ = false;
   Events events_;

   [[noreturn]] void fail(const std::string &why) const { throw std::invalid_argument(place_ + ": " + why); }

   /// Where a tensor is in the weights of the file.
   static const char *stored_at(const StoredModel &model, std::size_t offset, std::size_t size)
   {
      if (offset > model.weights.size() || size > model.weights.size() - offset)
         throw std::runtime_error("its description names weights that are not there");
      return model.weights.data() + offset;
   }

   /// The bytes of a weight file (session/weights.hxx) with the tensors that the description lists.
   static std::vector<std::uint64_t> weight_file(const StoredModel &model)
   {
      const std::vector<Json> &tensors = model.about["program"].items();
      std::vector<std::uint64_t> table;
      std::size_t position = (32 + 16 * tensors.size() + 63) / 64 * 64;
      for (const Json &tensor : tensors) {
         table.push_back(position);
         table.push_back(tensor[1].size());
         stored_at(model, tensor[0].size(), tensor[1].size());
         position = (position + tensor[1].size() + 63) / 64 * 64;
      }
      std::vector<std::uint64_t> file(position / 8);
      char *const bytes = reinterpret_cast<char *>(file.data());
      __builtin_memcpy(bytes, "SOFIEDAT", 8);
      file[1] = 2;
      file[2] = tensors.size();
      for (std::size_t i = 0; i < table.size(); ++i)
         file[4 + i] = table[i];
      for (std::size_t i = 0; i < tensors.size(); ++i)
         __builtin_memcpy(bytes + table[2 * i], stored_at(model, tensors[i][0].size(), table[2 * i + 1]),
                          table[2 * i + 1]);
      file[3] = checksum_of_file(bytes, 8 * file.size());
      return file;
   }

   /// How many elements the inputs and outputs have for these sizes.
   void count(Counts sizes, Counts &in, Counts &out) const
   {
      sizes.push_back(0);
      in.assign(model_.inputs.size() + 2, 0);
      out.assign(model_.outputs.size() + 1, 0);
      entries_->elements(sizes.data(), in.data(), out.data());
   }

   /// All outputs for these inputs, of which there must be as many elements as the sizes say, and the rows of
   /// random numbers.
   std::vector<std::vector<double>> run(const std::vector<std::vector<double>> &inputs, Counts sizes,
                                        const std::uint64_t *rows) const
   {
      Counts in_count, out_count;
      count(sizes, in_count, out_count);
      std::vector<Elements> memory;
      std::vector<const void *> in(1);
      std::vector<void *> out(1);
      for (std::size_t i = 0; i < model_.inputs.size(); ++i) {
         if (inputs[i].size() != in_count[i])
            fail("input '" + model_.inputs[i].name + "' takes " + std::to_string(in_count[i]) + " numbers, not " +
                 std::to_string(inputs[i].size()));
         memory.emplace_back(in_count[i] * model_.inputs[i].type->bytes);
         model_.inputs[i].type->from_doubles(inputs[i].data(), in_count[i], memory.back().data());
         in.insert(in.end() - 1, memory.back().data());
      }
      if (draws_)
         in.insert(in.end() - 1, rows);
      for (std::size_t i = 0; i < model_.outputs.size(); ++i) {
         memory.emplace_back(out_count[i] * model_.outputs[i].type->bytes);
         out.insert(out.end() - 1, memory.back().data());
      }
      sizes.push_back(0);
      code_->call(sizes.data(), in.data(), out.data());
      std::vector<std::vector<double>> results;
      std::size_t owned = 0;
      for (std::size_t i = 0; i < model_.outputs.size(); ++i) {
         const void *data = out[i];
         if (model_.outputs[i].owned)
            data = code_->result(owned++, model_.outputs[i].rank, out_count[i]);
         results.emplace_back(out_count[i]);
         model_.outputs[i].type->to_doubles(data, out_count[i], results.back().data());
      }
      return results;
   }

   /// The same for the next events.
   std::vector<std::vector<double>> run(const std::vector<std::vector<double>> &inputs, const Counts &sizes)
   {
      Counts in, out;
      count(sizes, in, out);
      return run(inputs, sizes, events_.next(draws_ ? in[model_.inputs.size()] / 3 : 0));
   }

   /// The sizes for which the first input has so many elements.
   Counts sizes_for(std::size_t elements) const
   {
      if (model_.sizes.empty() || model_.inputs.empty())
         return {};
      if (model_.sizes.size() > 1)
         fail("it has " + std::to_string(model_.sizes.size()) + " sizes: ComputeAll(inputs, {" + joined(model_.sizes) +
              "})");
      Counts one, two, out;
      count({1}, one, out);
      count({2}, two, out);
      const std::size_t step = two[0] - one[0], rest = one[0] - step;
      const bool fits = step ? elements >= rest && (elements - rest) % step == 0 : elements == one[0];
      if (!fits)
         fail("input '" + model_.inputs[0].name + "' takes " + std::to_string(step ? step : one[0]) +
              (step ? " numbers for each event, not " : " numbers, not ") + std::to_string(elements));
      return {step ? (elements - rest) / step : 1};
   }

   static std::vector<double> tensor(const StoredModel &model, const Json &row)
   {
      const StoredType &type = StoredType::of(row["dtype"].text());
      std::size_t elements = 1;
      for (const Json &extent : row["shape"].items())
         if (__builtin_mul_overflow(elements, extent.size(), &elements))
            throw std::runtime_error("its description names weights that are not there");
      if (elements > model.weights.size())
         throw std::runtime_error("its description names weights that are not there");
      const char *const data = stored_at(model, row["offset"].size(), elements * type.bytes);
      std::vector<double> numbers(elements);
      type.to_doubles(data, elements, numbers.data());
      return numbers;
   }

   /// Runs the stored reference inputs: a symbol that is missing when code is compiled is no error in Cling,
   /// where the call then gives rubbish.
   void try_out(const StoredModel &model) const
   {
      const Json &reference = model.about["reference"];
      if (reference["outputs"].items().empty())
         return;
      std::vector<std::vector<double>> inputs;
      for (const Json &row : reference["inputs"].items())
         inputs.push_back(tensor(model, row));
      Counts sizes;
      for (const std::string &name : model_.sizes)
         sizes.push_back(reference["sizes"][name].size());
      if (inputs.size() != model_.inputs.size() + (draws_ ? 1 : 0))
         throw std::runtime_error("its reference is damaged");
      std::vector<std::uint64_t> rows;
      if (draws_) {
         Counts in, out;
         count(sizes, in, out);
         for (const double number : inputs.back())
            rows.push_back(static_cast<std::uint64_t>(number));
         if (rows.size() != in[model_.inputs.size()])
            throw std::runtime_error("its reference is damaged");
         inputs.pop_back();
      }
      const std::vector<std::vector<double>> found = run(inputs, sizes, rows.data());
      for (std::size_t i = 0; i < model_.outputs.size(); ++i) {
         const std::vector<double> wanted = tensor(model, reference["outputs"][i]);
         const std::vector<double> bound = tensor(model, reference["bounds"][i]);
         bool right = found[i].size() == wanted.size() && bound.size() == wanted.size();
         // No bound: rounding decides what this one is.
         for (std::size_t k = 0; right && k < wanted.size(); ++k)
            right = bound[k] < 0 || std::abs(found[i][k] - wanted[k]) <= bound[k];
         if (!right)
            throw std::runtime_error("output '" + model_.outputs[i].name +
                                     "' differs from the stored reference: please report this");
      }
   }

   void require_trust(const StoredModel &model, const std::string &trusted) const
   {
      if (is_trusted(model.sha256, trusted))
         return;
      throw std::runtime_error(
         place_ +
         ": you have not said that you trust this model, whose header is code that will run. Either "
         "`sofie-rdf trust FILE`, which makes sure that the code is what sofie_rdf itself would write, or, if "
         "you know its author, SOFIE_RDF_TRUSTED or the third argument of RSofieReader: " +
         model.sha256);
   }

public:
   /// Reads the model of that name (the only one: ""), compiles its header, and loads its weights.
   /// `trusted` is the checksum of the model, of somebody who knows that its code is what it should be; for models
   /// that were saved here it is known. std::runtime_error if anything is wrong with the file.
   explicit RSofieReader(const std::string &path, const std::string &name = "", const std::string &trusted = "")
   {
      const StoredModel model = StoredModels(path).model(name);
      place_ = model.place;
      sha256_ = model.sha256;
      require_trust(model, trusted);
      try {
         const Json &interface = model.about["interface"];
         model_ = StoredInterface(interface);
         draws_ = !model_.inputs.empty() && model_.inputs.back().name == "random.rows" && interface.has("seed");
         if (draws_) {
            model_.inputs.pop_back();
            events_.seed = StoredInterface::number_of(interface["seed"].text());
         }
         entries_ = &StoredCode::entries(model);
         const std::vector<std::uint64_t> file = weight_file(model);
         weights_ = std::shared_ptr<void>(loaded(*entries_, file.data(), 8 * file.size()), entries_->unload);
         code_.reset(new Linked(*entries_, weights_.get()));
         try_out(model);
      } catch (const std::runtime_error &error) {
         throw std::runtime_error(place_ + ": " + error.what());
      }
   }
   RSofieReader(const RSofieReader &other)
      : place_(other.place_), sha256_(other.sha256_), model_(other.model_), entries_(other.entries_),
        weights_(other.weights_), code_(new Linked(*other.code_)), draws_(other.draws_), events_(other.events_)
   {
   }
   RSofieReader(RSofieReader &&) = default;
   RSofieReader &operator=(RSofieReader other)
   {
      place_ = other.place_;
      sha256_ = other.sha256_;
      model_ = other.model_;
      entries_ = other.entries_;
      weights_ = other.weights_;
      code_ = std::move(other.code_);
      draws_ = other.draws_;
      events_ = other.events_;
      return *this;
   }

   /// The first output for the model's only input: of one event, or of several, one after the other.
   std::vector<float> Compute(const std::vector<float> &x)
   {
      if (model_.inputs.size() != 1)
         fail("it has " + std::to_string(model_.inputs.size()) + " inputs: use ComputeAll");
      const std::vector<std::vector<double>> results =
         run({std::vector<double>(x.begin(), x.end())}, sizes_for(x.size()));
      return std::vector<float>(results[0].begin(), results[0].end());
   }
   /// The derivatives of an output (the first one: "") by the model's only input, of one event or of several: of a
   /// model that Model.gradient or Model.jacobian of Python has made, whose outputs they are, as d_OUTPUT/d_INPUT.
   std::vector<float> Gradient(const std::vector<float> &x, const std::string &output = "")
   {
      if (model_.inputs.size() != 1)
         fail("it has " + std::to_string(model_.inputs.size()) + " inputs: use ComputeAll");
      const std::string name =
         "d_" + (output.empty() ? model_.outputs[0].name : output) + "/d_" + model_.inputs[0].name;
      const std::vector<std::string> known = Outputs();
      const auto found = std::find(known.begin(), known.end(), name);
      if (found == known.end())
         fail("it has no output " + name + ": save model.gradient()");
      const std::vector<double> result = run({std::vector<double>(x.begin(), x.end())},
                                             sizes_for(x.size()))[static_cast<std::size_t>(found - known.begin())];
      return std::vector<float>(result.begin(), result.end());
   }
   /// All outputs for all inputs, in the model's order, each as its elements row by row. `sizes` are the
   /// model's (Print lists them); a single one is found from the first input. Whole numbers beyond 2^53 are rounded.
   std::vector<std::vector<double>> ComputeAll(const std::vector<std::vector<double>> &inputs,
                                               const std::vector<std::size_t> &sizes = {})
   {
      if (inputs.size() != model_.inputs.size())
         fail("it has " + std::to_string(model_.inputs.size()) + " inputs, not " + std::to_string(inputs.size()));
      if (!sizes.empty() && sizes.size() != model_.sizes.size())
         fail("its sizes are: " + joined(model_.sizes));
      return run(inputs, sizes.empty() && !inputs.empty() ? sizes_for(inputs[0].size()) : sizes);
   }

   /// Random numbers are those of this seed (by default the file's), and, of Compute and ComputeAll, of the events from
   /// this one on (0): each row of a call is the next event. A copy goes on with the same events.
   void Seed(std::uint64_t seed) { events_.seed = seed; }
   void Entry(std::uint64_t first) { events_.entry = first; }

   /// The data frame with a new column, or several, {{"p_b", "softmax[1]"}, {"flavour", "argmax(softmax)"}}, from one
   /// call of the model, in all slots and on all threads. What `columns` and options may be, rdf/options.hxx says:
   /// numbers, RVecs, vectors of vectors and arrays, expressions, sets, masks. Numbers are those of Python's define, to
   /// the last bit. Random numbers are those of the event that `event` numbers, by default ROOT. On threads ROOT does
   /// not number those of a TTree alike each time. std::invalid_argument for what cannot be.
   ROOT::RDF::RNode Define(const ROOT::RDF::RNode &df, const Texts &column, const DefineOptions &options = {}) const
   {
      return ColumnsOfModel(model_, place_, options).define(df, column, *entries_, *code_, draws_, events_.seed);
   }
   // (A template comes after the one for a list of names, which is as good for {"a", "b"}.)
   template <class = void>
   ROOT::RDF::RNode Define(const ROOT::RDF::RNode &df, const Texts &column, const InputColumns &columns,
                           DefineOptions options = {}) const
   {
      options.columns = columns;
      return Define(df, column, options);
   }
   ROOT::RDF::RNode Define(const ROOT::RDF::RNode &df, const std::string &column,
                           const std::vector<std::string> &columns, const std::string &output = "",
                           const std::string &event = "") const
   {
      DefineOptions options;
      options.columns = columns;
      options.output = output;
      options.event = event;
      return Define(df, Texts(column), options);
   }

   /// The names of the inputs, of the outputs, and of the dynamic sizes, in the model's order.
   std::vector<std::string> Inputs() const { return names(model_.inputs); }
   std::vector<std::string> Outputs() const { return names(model_.outputs); }
   std::vector<std::string> Sizes() const { return model_.sizes; }
   /// What stands for the model as it is stored, code and weights: the SHA-256 of its description.
   const std::string &Checksum() const { return sha256_; }

private:
   static std::vector<std::string> names(const std::vector<StoredPort> &ports)
   {
      std::vector<std::string> found;
      for (const StoredPort &port : ports)
         found.push_back(port.name);
      return found;
   }
};

} // namespace sofie

// SOFIE's words have an RSofieReader of their own in TMVA::Experimental.
#ifndef SOFIE_RDF_WORDS
using sofie::RSofieReader;
#endif

#endif
