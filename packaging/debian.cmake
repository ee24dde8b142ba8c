# The Debian packages, by cpack: `make deb` configures build/deb with CARAT_DEBIAN=ON and a prefix of /usr, builds, and
# leaves them there. docs/decisions/2026-11-23-library.md says why they are three. scripts/check_deb tries them.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME carat)
set(CPACK_PACKAGE_CONTACT "carat maintainers <carat@example.org>") # who makes packages for others puts themselves here
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL program library development)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "") # each package has a line of its own
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_SOURCE_DIR}/debian/manuals.cmake)
set(CPACK_POST_BUILD_SCRIPTS ${CMAKE_CURRENT_SOURCE_DIR}/debian/finish.cmake)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
# gcc and clang write what they were called with, folders included, into what is not stripped: libcarat.a.
add_compile_options(-ffile-prefix-map=${PROJECT_SOURCE_DIR}=.)

set(CPACK_DEBIAN_PROGRAM_PACKAGE_NAME carat)
set(CPACK_DEBIAN_PROGRAM_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PROGRAM_DESCRIPTION "run and measure Gemma 3 language models
carat runs the Gemma 3 models (270M to 27B) from GGUF files on a CPU, with
kernels of its own for AVX2, AVX-512 and Arm and a reference implementation
that checks them. It generates text, chats, measures speed as a share of what
the machine can do, and quality as perplexity and Kullback-Leibler
divergence. No weights are in this package.")
set(CPACK_DEBIAN_PROGRAM_PACKAGE_RECOMMENDS "libcurl4t64 | libcurl4, ca-certificates") # carat pull loads it
set(CPACK_DEBIAN_LIBRARY_PACKAGE_NAME libcarat${CARAT_SOVERSION})
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_LIBRARY_DESCRIPTION "Gemma 3 language models in process: shared library
libcarat opens Gemma 3 models (270M to 27B) from GGUF files and generates
text with them on a CPU. It returns errors as sentences, and never ends,
prints to or looks around in the process that uses it.

This package has the shared library.")
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libcarat-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS "libcarat${CARAT_SOVERSION} (= ${PROJECT_VERSION}-1), libc6-dev")
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SHLIBDEPS OFF)
set(CPACK_DEBIAN_DEVELOPMENT_DESCRIPTION "Gemma 3 language models in process: development files
libcarat opens Gemma 3 models (270M to 27B) from GGUF files and generates
text with them on a CPU. It returns errors as sentences, and never ends,
prints to or looks around in the process that uses it.

This package has the headers, the static library, what pkg-config and CMake
need to find them, and examples.")

# Each package has its own copyright and changelog; CHANGES.md is what upstream, and that is us, calls the latter.
find_program(GZIP gzip REQUIRED)
execute_process(COMMAND ${GZIP} -9nc ${CMAKE_CURRENT_SOURCE_DIR}/debian/changelog
  OUTPUT_FILE ${CMAKE_CURRENT_BINARY_DIR}/changelog.Debian.gz COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${GZIP} -9nc ${PROJECT_SOURCE_DIR}/CHANGES.md
  OUTPUT_FILE ${CMAKE_CURRENT_BINARY_DIR}/changelog.gz COMMAND_ERROR_IS_FATAL ANY)
foreach(component PROGRAM LIBRARY DEVELOPMENT)
  string(TOLOWER ${component} lower)
  install(FILES debian/copyright ${CMAKE_CURRENT_BINARY_DIR}/changelog.Debian.gz ${CMAKE_CURRENT_BINARY_DIR}/changelog.gz
    DESTINATION share/doc/${CPACK_DEBIAN_${component}_PACKAGE_NAME} COMPONENT ${lower})
endforeach()
install(FILES ${PROJECT_SOURCE_DIR}/README.md DESTINATION share/doc/carat COMPONENT program)
install(FILES ${examples} DESTINATION share/doc/libcarat-dev/examples COMPONENT development)
include(CPack)
