# find_package(sofie_rdf): headers that sofie_rdf emits, in programs that CMake builds.
#
#   cmake -Dsofie_rdf_DIR="$(sofie-rdf --cmake-dir)" ...
#
#   find_package(sofie_rdf REQUIRED)
#   add_executable(analysis analysis.cpp)
#   sofie_rdf_add_model(analysis higgs.onnx)     # higgs.hxx and higgs.dat, made anew when the model changes
#
# Targets:
#   sofie_rdf::headers   the folder of the kernels, and C++17: all that an emitted header needs
#   sofie_rdf::root      the same with ROOT, for sofie/rdf/functor.hxx and RSofieReader.hxx: after find_package(ROOT
#                        COMPONENTS ROOTDataFrame), or with -DSOFIE_RDF_ROOT=FOLDER where ROOT has no working CMake
#                        package, as in its wheel: FOLDER="$(python -c 'import ROOT, os; print(os.path.dirname(ROOT.__file__))')"
#
# Code for the CPU on which it is built needs its flag, -march=native, as in any program.

get_filename_component(_sofie_rdf_include "${CMAKE_CURRENT_LIST_DIR}/.." ABSOLUTE)

if(NOT TARGET sofie_rdf::headers)
   add_library(sofie_rdf::headers INTERFACE IMPORTED)
   set_target_properties(sofie_rdf::headers PROPERTIES
      INTERFACE_INCLUDE_DIRECTORIES "${_sofie_rdf_include}"
      INTERFACE_COMPILE_FEATURES cxx_std_17)
endif()

if(NOT TARGET sofie_rdf::root AND SOFIE_RDF_ROOT)
   add_library(sofie_rdf::root INTERFACE IMPORTED)
   set(_sofie_rdf_libraries "")
   foreach(library Core RIO Tree ROOTDataFrame ROOTVecOps Hist MathCore)
      list(APPEND _sofie_rdf_libraries "${SOFIE_RDF_ROOT}/lib/lib${library}.so")
   endforeach()
   set_target_properties(sofie_rdf::root PROPERTIES
      INTERFACE_INCLUDE_DIRECTORIES "${_sofie_rdf_include};${SOFIE_RDF_ROOT}/include"
      INTERFACE_COMPILE_FEATURES cxx_std_17
      INTERFACE_LINK_LIBRARIES "${_sofie_rdf_libraries}"
      # What the libraries of the wheel need themselves lies in another folder.
      INTERFACE_LINK_OPTIONS "-Wl,-rpath-link,${SOFIE_RDF_ROOT}/../root.libs")
elseif(NOT TARGET sofie_rdf::root AND TARGET ROOT::ROOTDataFrame)
   add_library(sofie_rdf::root INTERFACE IMPORTED)
   set_target_properties(sofie_rdf::root PROPERTIES
      INTERFACE_LINK_LIBRARIES "sofie_rdf::headers;ROOT::Core;ROOT::RIO;ROOT::ROOTDataFrame")
endif()

find_program(SOFIE_RDF_EXECUTABLE sofie-rdf DOC "The command of the Python package, which emits models")

# The headers and weight files of models, for a target: NAME.hxx is found by #include, NAME.dat lies in
# SOFIE_RDF_WEIGHTS, a string that the target's code has as a macro.
function(sofie_rdf_add_model target)
   if(NOT SOFIE_RDF_EXECUTABLE)
      message(FATAL_ERROR "sofie_rdf_add_model needs the command sofie-rdf: pip install sofie_rdf, or set SOFIE_RDF_EXECUTABLE")
   endif()
   set(folder "${CMAKE_CURRENT_BINARY_DIR}/${target}_models")
   foreach(model IN LISTS ARGN)
      get_filename_component(source "${model}" ABSOLUTE)
      get_filename_component(name "${model}" NAME_WE)
      add_custom_command(
         OUTPUT "${folder}/${name}.hxx" "${folder}/${name}.dat"
         COMMAND "${SOFIE_RDF_EXECUTABLE}" emit "${source}" -o "${folder}"
         DEPENDS "${source}"
         COMMENT "Emitting ${name}.hxx"
         VERBATIM)
      target_sources(${target} PRIVATE "${folder}/${name}.hxx")
   endforeach()
   target_include_directories(${target} PRIVATE "${folder}")
   target_compile_definitions(${target} PRIVATE "SOFIE_RDF_WEIGHTS=\"${folder}\"")
   target_link_libraries(${target} PRIVATE sofie_rdf::headers)
endfunction()

set(sofie_rdf_FOUND TRUE)
