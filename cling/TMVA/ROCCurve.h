/// \file
/// ROOT's own header of this name, or SOFIE's words by sofie_rdf where ROOT has none.
#if __has_include_next("TMVA/ROCCurve.h")
#include_next "TMVA/ROCCurve.h"
#else
#include "sofie/rdf/words/roc.hxx"
#endif
