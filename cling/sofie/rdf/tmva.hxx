/// \file
/// SOFIE's words for ROOT's macros: `#include "sofie/rdf/tmva.hxx"`, and what was written for SOFIE runs.
///
/// Each name that this ROOT has itself stays ROOT's. Models are read and compiled by the Python package sofie_rdf
/// (command.hxx).
#ifndef SOFIE_RDF_TMVA_HXX
#define SOFIE_RDF_TMVA_HXX

#include "TMVA/ROCCurve.h"
#include "TMVA/RModel.hxx"
#include "TMVA/RModelParser_ONNX.hxx"
#include "TMVA/RModelParser_Keras.h"
#include "TMVA/RModelParser_PyTorch.h"
#include "TMVA/RSofieReader.hxx"
#include "TMVA/RTensor.hxx"
#include "TMVA/SOFIEHelpers.hxx"
#include "TMVA/SOFIE_common.hxx"

#endif
