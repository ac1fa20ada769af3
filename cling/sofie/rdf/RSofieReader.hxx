/// \file
/// RSofieReader: a model in a .root file, for macros and programs without Python.
///
///     #include "sofie/rdf/RSofieReader.hxx"
///     RSofieReader model("models.root", "higgs");
///     std::vector<float> y = model.Compute({0.1, 0.2, ...});
///     auto scored = model.Define(df, "dnn", {"m_jj", "m_jjj", ...});
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
#include "sofie/rdf/columns.hxx"
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

/// An element type that C++ has, and its elements as doubles.
struct StoredType {
   const char *name, *cxx;
   std::size_t bytes;
   void (*to_doubles)(const void *elements, std::size_t count, double *numbers);
   void (*from_doubles)(const double *numbers, std::size_t count, void *elements);

   template <class T>
   static void widen(const void *elements, std::size_t count, double *numbers)
   {
      for (std::size_t i = 0; i < count; ++i)
         numbers[i] = static_cast<double>(static_cast<const T *>(elements)[i]);
   }
   template <class T>
   static void narrow(const double *numbers, std::size_t count, void *elements)
   {
      for (std::size_t i = 0; i < count; ++i)
         static_cast<T *>(elements)[i] = static_cast<T>(numbers[i]);
   }

   /// std::runtime_error for float16 and others that C++ has not.
   static const StoredType &of(const std::string &name)
   {
      static const StoredType known[] = {
         {"float32", "float", 4, &widen<float>, &narrow<float>},
         {"float64", "double", 8, &widen<double>, &narrow<double>},
         {"bool", "bool", 1, &widen<bool>, &narrow<bool>},
         {"int8", "std::int8_t", 1, &widen<std::int8_t>, &narrow<std::int8_t>},
         {"int16", "std::int16_t", 2, &widen<std::int16_t>, &narrow<std::int16_t>},
         {"int32", "std::int32_t", 4, &widen<std::int32_t>, &narrow<std::int32_t>},
         {"int64", "std::int64_t", 8, &widen<std::int64_t>, &narrow<std::int64_t>},
         {"uint8", "std::uint8_t", 1, &widen<std::uint8_t>, &narrow<std::uint8_t>},
         {"uint16", "std::uint16_t", 2, &widen<std::uint16_t>, &narrow<std::uint16_t>},
         {"uint32", "std::uint32_t", 4, &widen<std::uint32_t>, &narrow<std::uint32_t>},
         {"uint64", "std::uint64_t", 8, &widen<std::uint64_t>, &narrow<std::uint64_t>},
      };
      for (const StoredType &type : known)
         if (name == type.name)
            return type;
      throw std::runtime_error("an input or output is " + name + ", which C++ has no type for");
   }
};

/// An input or an output of a stored model.
struct StoredPort {
   std::string name;
   const StoredType *type;
   std::size_t rank;
   bool owned; ///< The data decide its size.
};

/// Memory for elements of any type.
struct Elements {
   std::vector<std::uint64_t> words;
   explicit Elements(std::size_t bytes) : words(bytes / 8 + 1) {}
   void *data() { return words.data(); }
};

/// A model in a .root file. Copies share code and weights; two threads need two of them.
class RSofieReader {
   using Counts = std::vector<std::size_t>;

   std::string place_, sha256_;
   std::vector<StoredPort> inputs_, outputs_;
   std::vector<std::string> sizes_;
   const Entries *entries_ = nullptr;
   std::shared_ptr<void> weights_;
   std::unique_ptr<Linked> code_;
   // Of a model that draws random numbers: its last input, and which events are next.
   bool draws_ = false;
   Events events_;

   [[noreturn]] void fail(const std::string &why) const { throw std::invalid_argument(place_ + ": " + why); }

   static std::vector<StoredPort> ports(const Json &list)
   {
      std::vector<StoredPort> found;
      for (const Json &port : list.items())
         found.push_back({port["name"].text(), &StoredType::of(port["dtype"].text()), port["rank"].size(),
                          port["owned"].size() != 0});
      return found;
   }

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

   /// A whole number of 64 bits, of which the description has the digits.
   static std::uint64_t number_of(const std::string &digits)
   {
      std::uint64_t number = 0;
      for (const char digit : digits) {
         if (digit < '0' || digit > '9')
            throw std::runtime_error("its description has a seed that is no number");
         number = 10 * number + static_cast<std::uint64_t>(digit - '0');
      }
      return number;
   }

   /// How many elements the inputs and outputs have for these sizes.
   void count(Counts sizes, Counts &in, Counts &out) const
   {
      sizes.push_back(0);
      in.assign(inputs_.size() + 2, 0);
      out.assign(outputs_.size() + 1, 0);
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
      for (std::size_t i = 0; i < inputs_.size(); ++i) {
         if (inputs[i].size() != in_count[i])
            fail("input '" + inputs_[i].name + "' takes " + std::to_string(in_count[i]) + " numbers, not " +
                 std::to_string(inputs[i].size()));
         memory.emplace_back(in_count[i] * inputs_[i].type->bytes);
         inputs_[i].type->from_doubles(inputs[i].data(), in_count[i], memory.back().data());
         in.insert(in.end() - 1, memory.back().data());
      }
      if (draws_)
         in.insert(in.end() - 1, rows);
      for (std::size_t i = 0; i < outputs_.size(); ++i) {
         memory.emplace_back(out_count[i] * outputs_[i].type->bytes);
         out.insert(out.end() - 1, memory.back().data());
      }
      sizes.push_back(0);
      code_->call(sizes.data(), in.data(), out.data());
      std::vector<std::vector<double>> results;
      std::size_t owned = 0;
      for (std::size_t i = 0; i < outputs_.size(); ++i) {
         const void *data = out[i];
         if (outputs_[i].owned)
            data = code_->result(owned++, outputs_[i].rank, out_count[i]);
         results.emplace_back(out_count[i]);
         outputs_[i].type->to_doubles(data, out_count[i], results.back().data());
      }
      return results;
   }

   /// The same for the next events.
   std::vector<std::vector<double>> run(const std::vector<std::vector<double>> &inputs, const Counts &sizes)
   {
      Counts in, out;
      count(sizes, in, out);
      return run(inputs, sizes, events_.next(draws_ ? in[inputs_.size()] / 3 : 0));
   }

   /// The sizes for which the first input has so many elements.
   Counts sizes_for(std::size_t elements) const
   {
      if (sizes_.empty() || inputs_.empty())
         return {};
      if (sizes_.size() > 1)
         fail("it has " + std::to_string(sizes_.size()) + " sizes: ComputeAll(inputs, {" + joined(sizes_) + "})");
      Counts one, two, out;
      count({1}, one, out);
      count({2}, two, out);
      const std::size_t step = two[0] - one[0], rest = one[0] - step;
      const bool fits = step ? elements >= rest && (elements - rest) % step == 0 : elements == one[0];
      if (!fits)
         fail("input '" + inputs_[0].name + "' takes " + std::to_string(step ? step : one[0]) +
              (step ? " numbers for each event, not " : " numbers, not ") + std::to_string(elements));
      return {step ? (elements - rest) / step : 1};
   }

   static std::string joined(const std::vector<std::string> &names)
   {
      std::string text;
      for (const std::string &name : names)
         text += (text.empty() ? "" : ", ") + name;
      return text;
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
      for (const std::string &name : sizes_)
         sizes.push_back(reference["sizes"][name].size());
      if (inputs.size() != inputs_.size() + (draws_ ? 1 : 0))
         throw std::runtime_error("its reference is damaged");
      std::vector<std::uint64_t> rows;
      if (draws_) {
         Counts in, out;
         count(sizes, in, out);
         for (const double number : inputs.back())
            rows.push_back(static_cast<std::uint64_t>(number));
         if (rows.size() != in[inputs_.size()])
            throw std::runtime_error("its reference is damaged");
         inputs.pop_back();
      }
      const std::vector<std::vector<double>> found = run(inputs, sizes, rows.data());
      for (std::size_t i = 0; i < outputs_.size(); ++i) {
         const std::vector<double> wanted = tensor(model, reference["outputs"][i]);
         const std::vector<double> bound = tensor(model, reference["bounds"][i]);
         bool right = found[i].size() == wanted.size() && bound.size() == wanted.size();
         // No bound: rounding decides what this one is.
         for (std::size_t k = 0; right && k < wanted.size(); ++k)
            right = bound[k] < 0 || std::abs(found[i][k] - wanted[k]) <= bound[k];
         if (!right)
            throw std::runtime_error("output '" + outputs_[i].name +
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
         inputs_ = ports(interface["inputs"]);
         draws_ = !inputs_.empty() && inputs_.back().name == "random.rows" && interface.has("seed");
         if (draws_) {
            inputs_.pop_back();
            events_.seed = number_of(interface["seed"].text());
         }
         outputs_ = ports(interface["outputs"]);
         for (const Json &size : interface["sizes"].items())
            sizes_.push_back(size.text());
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
      : place_(other.place_), sha256_(other.sha256_), inputs_(other.inputs_), outputs_(other.outputs_),
        sizes_(other.sizes_), entries_(other.entries_), weights_(other.weights_), code_(new Linked(*other.code_)),
        draws_(other.draws_), events_(other.events_)
   {
   }
   RSofieReader(RSofieReader &&) = default;
   RSofieReader &operator=(RSofieReader other)
   {
      place_ = other.place_;
      sha256_ = other.sha256_;
      inputs_ = other.inputs_;
      outputs_ = other.outputs_;
      sizes_ = other.sizes_;
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
      if (inputs_.size() != 1)
         fail("it has " + std::to_string(inputs_.size()) + " inputs: use ComputeAll");
      const std::vector<std::vector<double>> results =
         run({std::vector<double>(x.begin(), x.end())}, sizes_for(x.size()));
      return std::vector<float>(results[0].begin(), results[0].end());
   }
   /// The derivatives of an output (the first one: "") by the model's only input, of one event or of several: of a
   /// model that Model.gradient or Model.jacobian of Python has made, whose outputs they are, as d_OUTPUT/d_INPUT.
   std::vector<float> Gradient(const std::vector<float> &x, const std::string &output = "")
   {
      if (inputs_.size() != 1)
         fail("it has " + std::to_string(inputs_.size()) + " inputs: use ComputeAll");
      const std::string name = "d_" + (output.empty() ? outputs_[0].name : output) + "/d_" + inputs_[0].name;
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
      if (inputs.size() != inputs_.size())
         fail("it has " + std::to_string(inputs_.size()) + " inputs, not " + std::to_string(inputs.size()));
      if (!sizes.empty() && sizes.size() != sizes_.size())
         fail("its sizes are: " + joined(sizes_));
      return run(inputs, sizes.empty() && !inputs.empty() ? sizes_for(inputs[0].size()) : sizes);
   }

   /// Random numbers are those of this seed (by default the file's), and, of Compute and ComputeAll, of the events from
   /// this one on (0): each row of a call is the next event. A copy goes on with the same events.
   void Seed(std::uint64_t seed) { events_.seed = seed; }
   void Entry(std::uint64_t first) { events_.entry = first; }

   /// The data frame with an output (the first one: "") as a new column, in all slots and on all threads. `columns`
   /// are numbers of any type: the features of all inputs, one after the other, in the model's order. Random numbers
   /// are those of the event that the column `event` numbers, by default ROOT. On threads ROOT does not number those of
   /// a TTree alike each time: std::invalid_argument.
   ROOT::RDF::RNode Define(ROOT::RDF::RNode df, const std::string &column, const std::vector<std::string> &columns,
                           const std::string &output = "", const std::string &event = "");

   /// The names of the inputs, of the outputs, and of the dynamic sizes, in the model's order.
   std::vector<std::string> Inputs() const { return names(inputs_); }
   std::vector<std::string> Outputs() const { return names(outputs_); }
   std::vector<std::string> Sizes() const { return sizes_; }
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
   std::string functor(ROOT::RDF::RNode &df, const std::vector<std::string> &columns, std::size_t output,
                       const std::string &event) const;
   void require_numbered(const ROOT::RDF::RNode &df, const std::string &event) const;
};

/// The C++ of a function object for these columns.
inline std::string RSofieReader::functor(ROOT::RDF::RNode &df, const std::vector<std::string> &columns,
                                         std::size_t output, const std::string &event) const
{
   if (sizes_.size() > 1)
      fail("it has " + std::to_string(sizes_.size()) + " dynamic sizes, which columns of numbers cannot fill");
   Counts in, out;
   count(Counts(sizes_.size(), 1), in, out);
   std::size_t wanted = 0, next = 0;
   for (std::size_t i = 0; i < inputs_.size(); ++i)
      wanted += in[i];
   if (wanted != columns.size())
      fail("it takes " + std::to_string(wanted) + " columns, not " + std::to_string(columns.size()));
   std::string parameters, ins, outs, arrays;
   if (draws_) {
      require_numbered(df, event);
      parameters = event.empty() ? "" : ", " + df.GetColumnType(event) + " event";
   }
   for (const std::string &column : columns) {
      const std::vector<std::string> known = df.GetColumnNames();
      if (std::find(known.begin(), known.end(), column) == known.end())
         fail("the data frame has no column '" + column + "'");
      const std::string type = df.GetColumnType(column);
      if (!gROOT->GetType(type.c_str()))
         fail("column '" + column + "' is " + type + "; one number for each event is needed");
      parameters += ", " + type + " c" + std::to_string(next++);
   }
   next = 0;
   for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const std::string type = inputs_[i].type->cxx, name = "in" + std::to_string(i);
      arrays += "      const " + type + " " + name + "[] = {";
      for (std::size_t k = 0; k < in[i]; ++k)
         arrays += "static_cast<" + type + ">(c" + std::to_string(next++) + "), ";
      arrays += "};\n";
      ins += name + ", ";
   }
   if (draws_) {
      const std::string seed = std::to_string(events_.seed);
      arrays += "      const std::uint64_t rows[] = {" + seed + "u, static_cast<std::uint64_t>(" +
                (event.empty() ? "entry" : "event") + "), 0};\n";
      ins += "rows, ";
   }
   for (std::size_t i = 0; i < outputs_.size(); ++i) {
      if (outputs_[i].owned)
         fail("the data decide the size of output '" + outputs_[i].name + "', which no column can have");
      const std::string name = "out" + std::to_string(i);
      arrays += std::string("      ") + outputs_[i].type->cxx + " " + name + "[" + std::to_string(out[i] + 1) + "];\n";
      outs += name + ", ";
   }
   const std::string result = "out" + std::to_string(output);
   return "struct Functor {\n   sofie::Slots<sofie::Linked> slots;\n   sofie::Told told;\n"
          "   auto operator()(unsigned slot, ULong64_t entry" +
          parameters + ")\n   {\n" + arrays +
          "      const std::size_t sizes[] = {1};\n      const void *const in[] = {" + ins +
          "nullptr};\n      void *const out[] = {" + outs +
          "nullptr};\n      sofie::Linked &code = slots[slot];\n"
          "      try {\n         code.call(sizes, in, out);\n      } catch (...) {\n"
          "         sofie::throw_of_event(told, entry);\n      }\n" +
          (out[output] == 1 ? "      return " + result + "[0];\n"
                            : "      return ROOT::RVec<" + std::string(outputs_[output].type->cxx) + ">(" + result +
                                 ", " + result + " + " + std::to_string(out[output]) + ");\n") +
          "   }\n};\n";
}

/// Nothing, if this column tells events apart, and always in the same way; else std::invalid_argument.
inline void RSofieReader::require_numbered(const ROOT::RDF::RNode &df, const std::string &event) const
{
   ROOT::RDF::RNode node = df;
   const std::string source = ROOT::Internal::RDF::GetDataSourceLabel(node);
   const bool numbered = source == "EmptyDS" || source == "RVecDS" || source == "RNumpyDS" || source == "RNTupleDS";
   if (!event.empty()) {
      const std::vector<std::string> known = node.GetColumnNames();
      if (std::find(known.begin(), known.end(), event) == known.end())
         fail("the data frame has no column '" + event + "'");
      const std::string type = node.GetColumnType(event);
      if (!gROOT->GetType(type.c_str()) || type.find("loat") != std::string::npos ||
          type.find("ouble") != std::string::npos)
         fail("column '" + event + "' is " + type + "; a whole number for each event is needed");
   } else if (!numbered && node.GetNSlots() > 1)
      fail("it draws random numbers for each event, and ROOT numbers the entries of this source (" + source +
           ") anew on several threads, in another order each time: name a column that tells events apart");
}

inline ROOT::RDF::RNode RSofieReader::Define(ROOT::RDF::RNode df, const std::string &column,
                                             const std::vector<std::string> &columns, const std::string &output,
                                             const std::string &event)
{
   const std::vector<std::string> known = Outputs();
   const std::size_t chosen =
      static_cast<std::size_t>(output.empty() ? 0 : std::find(known.begin(), known.end(), output) - known.begin());
   if (chosen >= known.size())
      fail("has no output '" + output + "'; it has " + joined(known));
   const std::string code = functor(df, columns, chosen, event);
   std::vector<std::string> all = columns;
   if (draws_ && !event.empty())
      all.insert(all.begin(), event);
   // The same text makes the same functor, which is compiled once.
   const std::string space = "sofie_column_" + sha256(code).substr(0, 16);
   const std::string here = __FILE__;
   TInterpreter &cling = *TInterpreter::Instance();
   cling.AddIncludePath(here.substr(0, here.size() - std::string("sofie/rdf/RSofieReader.hxx").size()).c_str());
   const std::string text = "#include <sofie/rdf/columns.hxx>\n#include <sofie/session/linked.hxx>\n#ifndef IS_" +
                            space + "\n#define IS_" + space + "\nnamespace " + space + " {\n" + code +
                            "void define(ROOT::RDF::RNode &df, const std::string &column, "
                            "const std::vector<std::string> &columns, const sofie::Linked &code, const std::string "
                            "&model)\n{\n   sofie::Slots<sofie::Linked> slots(code, df.GetNSlots());\n"
                            "   df = df.DefineSlotEntry(column, Functor{slots, {{}, columns, model}}, columns);\n"
                            "}\n}\n#endif\n";
   TInterpreter::EErrorCode failed = TInterpreter::kNoError;
   Longptr_t address = 0;
   if (cling.Declare(text.c_str()))
      address = cling.Calc(("reinterpret_cast<long>(&" + space + "::define)").c_str(), &failed);
   if (!address || failed != TInterpreter::kNoError)
      fail("ROOT's interpreter refused the column '" + column + "'; its message says why");
   using Define = void (*)(ROOT::RDF::RNode &, const std::string &, const std::vector<std::string> &, const Linked &,
                           const std::string &);
   reinterpret_cast<Define>(address)(df, column, all, *code_, place_);
   return df;
}

} // namespace sofie

// SOFIE's words have an RSofieReader of their own in TMVA::Experimental.
#ifndef SOFIE_RDF_WORDS
using sofie::RSofieReader;
#endif

#endif
