/// An ONNX model in a C++ macro: the header that sofie_rdf emits, without any Python.
///
/// The model is written as C++ once:
///
///     sofie-rdf emit data/higgs.onnx -o out
///
/// The macro includes the header, out/higgs.hxx, and finds it and the kernels through
/// ROOT_INCLUDE_PATH; its argument is the folder of the weights, out/higgs.dat:
///
///     export ROOT_INCLUDE_PATH="out:$(sofie-rdf --include-dir)"
///     root -l -b -q 'tutorials/01_onnx.C("out")'
///
/// A function name cannot start with a digit: ROOT looks for the name of the file with _ before it.
/// With a C++ compiler on the machine the macro can be compiled as well (ACLiC):
///
///     root -l -b -e '.L tutorials/01_onnx.C+O' -e '_01_onnx("out")' -e '.q'
#include <ROOT/RDataFrame.hxx>
#include <TROOT.h>

#include <iostream>
#include <string>
#include <vector>

#include "higgs.hxx"
#include "sofie/rdf/functor.hxx"

using TMVA_SOFIE_higgs::Session;

void _01_onnx(const std::string &folder = "out")
{
   const std::string weights = folder + "/higgs.dat";

   // One event. A Session reads the weights and belongs to one thread.
   Session session(weights);
   const std::vector<float> x(7, 1.f);
   std::cout << "score of one event: " << session.infer(x)[0] << "\n";

   // The HIGGS events of ROOT's tutorials, on all threads: one Session for each slot.
   ROOT::EnableImplicitMT();
   const std::string events = std::string(TROOT::GetTutorialDir()) + "/machine_learning/data/Higgs_data.root";
   const std::vector<std::string> features{"m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb"};
   for (const char *tree : {"sig_tree", "bkg_tree"}) {
      ROOT::RDataFrame df(tree, events);
      SofieFunctor<7, Session> dnn(df.GetNSlots(), weights);
      std::cout << tree << ": mean score " << df.DefineSlot("dnn", dnn, features).Mean<float>("dnn").GetValue() << "\n";
   }
}
