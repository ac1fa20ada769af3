# find_package(sofie_rdf): headers that sofie_rdf emits, in programs that CMake builds.
#
#   cmake -Dsofie_rdf_DIR="$(sofie-rdf --cmake-dir)" ...
#
#   find_package(sofie_rdf REQUIRED)
#   add_executable(analysis analysis.cpp)
#   sofie_rdf_add_model(analysis higgs.onnx)     # higgs.hxx and higgs.dat, made anew when the model changes
#
# find_package(sofie_rdf 0.1) accepts 0.1 and its later patches.
#
# Targets:
#   sofie_rdf::headers   the folder of the kernels, and C++17: all that an emitted header needs
#   sofie_rdf::root      the same with ROOT, for sofie/rdf/functor.hxx and RSofieReader.hxx: after find_package(ROOT
#                        COMPONENTS ROOTDataFrame), or with -DSOFIE_RDF_ROOT=FOLDER where ROOT has no working CMake
#                        package, as in its wheel: FOLDER="$(python -c 'import ROOT, os; print(os.path.dirname(ROOT.__file__))')"
#
# Code for the CPU on which it is built needs its flag, -march=native, as in any program.

if(POLICY CMP0116)
   cmake_policy(SET CMP0116 NEW) # Depfiles have whole paths.
endif()

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

# sofie_rdf_add_model(TARGET MODEL... [NAME name] [SHAPES input=N,7 ...] [PRECISION bfloat16] [WEIGHTS file|header|root]
#                     [TARGET alpaka|sycl] [GRADIENT] [OF output ...] [WRT input ...])
#
# The headers and weight files of models, for a target: NAME.hxx is found by #include; NAME.dat (or NAME.root) lies in
# SOFIE_RDF_WEIGHTS, a string that the target's code has as a macro. NAME is by default the file's name without its
# ending, with _ for what no identifier may have; it is for one model, and chooses one of a .root file. SHAPES, PRECISION
# and WEIGHTS are those of `sofie-rdf emit`. A model is emitted anew when its file, files that hold its weights, headers
# of operators or the package change: from CMake 3.20 on, and with Ninja, which read what the emission has read.
#
# TARGET is a kind of device: the files are NAME_alpaka.hxx and NAME_alpaka.dat, or NAME_sycl.hxx and NAME_sycl.dat, for
# C++20. They were never run on a GPU. Link alpaka::alpaka, or the target of your SYCL, yourself.
#
# With GRADIENT the Session has session.gradient(x): outputs, and their derivatives, of OF by WRT (all: none is named).
function(sofie_rdf_add_model target)
   cmake_parse_arguments(PARSE_ARGV 1 given "GRADIENT" "NAME;PRECISION;WEIGHTS;TARGET" "SHAPES;OF;WRT")
   if(NOT SOFIE_RDF_EXECUTABLE)
      message(FATAL_ERROR "sofie_rdf_add_model needs the command sofie-rdf: pip install sofie_rdf, or set SOFIE_RDF_EXECUTABLE")
   endif()
   list(LENGTH given_UNPARSED_ARGUMENTS count)
   if(count EQUAL 0 OR (given_NAME AND count GREATER 1))
      message(FATAL_ERROR "sofie_rdf_add_model takes a target and the files of models; NAME is for one of them")
   endif()
   set(options "")
   foreach(shape IN LISTS given_SHAPES)
      list(APPEND options --shape "${shape}")
   endforeach()
   if(given_GRADIENT)
      list(APPEND options --gradient)
   endif()
   foreach(name IN LISTS given_OF)
      list(APPEND options --of "${name}")
   endforeach()
   foreach(name IN LISTS given_WRT)
      list(APPEND options --wrt "${name}")
   endforeach()
   if(given_PRECISION)
      list(APPEND options --precision "${given_PRECISION}")
   endif()
   if(given_WEIGHTS)
      list(APPEND options --weights "${given_WEIGHTS}")
   endif()
   set(suffix "")
   if(given_TARGET)
      if(NOT given_TARGET MATCHES "^(alpaka|sycl)$")
         message(FATAL_ERROR "sofie_rdf_add_model: TARGET is alpaka or sycl, not ${given_TARGET}")
      endif()
      list(APPEND options --target "${given_TARGET}")
      set(suffix "_${given_TARGET}")
      target_compile_features(${target} PRIVATE cxx_std_20)
   endif()
   set(endings_file .hxx .dat)
   set(endings_header .hxx)
   set(endings_root .hxx .root)
   set(weights "file")
   if(given_WEIGHTS)
      set(weights "${given_WEIGHTS}")
   endif()
   if(NOT DEFINED endings_${weights})
      message(FATAL_ERROR "sofie_rdf_add_model: WEIGHTS is file, header or root, not ${weights}")
   endif()
   set(folder "${CMAKE_CURRENT_BINARY_DIR}/${target}_models")
   foreach(model IN LISTS given_UNPARSED_ARGUMENTS)
      get_filename_component(source "${model}" ABSOLUTE)
      get_filename_component(name "${model}" NAME_WLE)
      set(named "")
      if(given_NAME)
         set(name "${given_NAME}")
      endif()
      if(given_NAME OR NOT model MATCHES "\\.root$")
         set(named --name "${name}")
      endif()
      string(MAKE_C_IDENTIFIER "${name}" identifier)
      if(named AND NOT model MATCHES "\\.root$")
         set(named --name "${identifier}")
      endif()
      set(outputs "")
      foreach(ending IN LISTS endings_${weights})
         list(APPEND outputs "${folder}/${identifier}${suffix}${ending}")
      endforeach()
      set(depfile "")
      if(CMAKE_GENERATOR MATCHES "Ninja" OR NOT CMAKE_VERSION VERSION_LESS 3.20)
         set(depfile DEPFILE "${folder}/${identifier}.d")
         list(APPEND named --depfile "${folder}/${identifier}.d")
      endif()
      add_custom_command(
         OUTPUT ${outputs}
         COMMAND "${SOFIE_RDF_EXECUTABLE}" emit "${source}" -o "${folder}" ${options} ${named}
         DEPENDS "${source}"
         ${depfile}
         COMMENT "Emitting ${identifier}${suffix}.hxx"
         VERBATIM)
      target_sources(${target} PRIVATE ${outputs})
   endforeach()
   target_include_directories(${target} PRIVATE "${folder}")
   target_compile_definitions(${target} PRIVATE "SOFIE_RDF_WEIGHTS=\"${folder}\"")
   target_link_libraries(${target} PRIVATE sofie_rdf::headers)
endfunction()

set(sofie_rdf_FOUND TRUE)
