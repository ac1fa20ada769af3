# Which versions find_package(sofie_rdf VERSION) accepts: this one and older ones of the same minor version, as
# anything may change while the major version is 0.

# The version stands in the Python package, of which this folder is a part, or beside which it lies in a checkout.
foreach(_sofie_rdf_file "${CMAKE_CURRENT_LIST_DIR}/../../__init__.py" "${CMAKE_CURRENT_LIST_DIR}/../../sofie_rdf/__init__.py")
   if(EXISTS "${_sofie_rdf_file}")
      file(STRINGS "${_sofie_rdf_file}" _sofie_rdf_line REGEX "^__version__ = ")
      if(_sofie_rdf_line MATCHES "\"([0-9.]+)")
         set(PACKAGE_VERSION "${CMAKE_MATCH_1}")
      endif()
   endif()
endforeach()

set(PACKAGE_VERSION_COMPATIBLE FALSE)
set(PACKAGE_VERSION_EXACT FALSE)
if(PACKAGE_VERSION MATCHES "^([0-9]+\\.[0-9]+)" AND NOT PACKAGE_VERSION VERSION_LESS PACKAGE_FIND_VERSION)
   set(_sofie_rdf_minor "${CMAKE_MATCH_1}")
   if("${PACKAGE_FIND_VERSION_MAJOR}.${PACKAGE_FIND_VERSION_MINOR}" VERSION_EQUAL _sofie_rdf_minor)
      set(PACKAGE_VERSION_COMPATIBLE TRUE)
   endif()
   if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
      set(PACKAGE_VERSION_EXACT TRUE)
   endif()
endif()
