# Manual pages and shell completion, made by the program of its own tables (`carat describe`) and installed with it.
# A program that this machine cannot run describes nothing, and without scdoc there are no manual pages.
# The target is there in any case, so that the Makefile may name it.
add_custom_target(described ALL)
if(NOT TARGET carat OR CMAKE_CROSSCOMPILING)
  return()
endif()
find_program(CARAT_SCDOC scdoc)
if(NOT CARAT_SCDOC)
  message(STATUS "scdoc not found: no manual pages (scripts/deps build installs it)")
endif()
set(described ${CMAKE_CURRENT_BINARY_DIR}/described)
add_custom_command(OUTPUT ${described}/done
  COMMAND ${CMAKE_COMMAND} -DPROGRAM=$<TARGET_FILE:carat> "-DSCDOC=$<IF:$<BOOL:${CARAT_SCDOC}>,${CARAT_SCDOC},>"
    -DFOLDER=${described} -P ${CMAKE_CURRENT_SOURCE_DIR}/describe.cmake
  DEPENDS carat ${CMAKE_CURRENT_SOURCE_DIR}/describe.cmake
  COMMENT "Describing the program for man, bash, zsh and fish" VERBATIM)
add_custom_target(describe DEPENDS ${described}/done)
add_dependencies(described describe)

if(CARAT_SCDOC)
  install(DIRECTORY ${described}/man1 DESTINATION ${CMAKE_INSTALL_MANDIR} COMPONENT program)
endif()
set(zsh_folder zsh/site-functions)
if(CARAT_DEBIAN)
  set(zsh_folder zsh/vendor-completions)
endif()
install(FILES ${described}/bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME carat COMPONENT program)
install(FILES ${described}/zsh DESTINATION ${CMAKE_INSTALL_DATADIR}/${zsh_folder} RENAME _carat COMPONENT program)
install(FILES ${described}/fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d RENAME carat.fish
  COMPONENT program)
