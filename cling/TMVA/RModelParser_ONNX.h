/// \file
/// ROOT's own header of this name, or SOFIE's words by sofie_rdf where ROOT has none.
#if __has_include_next("TMVA/RModelParser_ONNX.h")
#include_next "TMVA/RModelParser_ONNX.h"
#else
#include "sofie/rdf/words/model.hxx"
#endif
