# cpack runs this between installing into its own folder and making packages of that: Debian's manual pages are compressed.
file(GLOB_RECURSE pages ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/*)
list(FILTER pages INCLUDE REGEX "/man/man[1-9]/.*[1-9]$")
if(pages)
  execute_process(COMMAND gzip -9nf ${pages} COMMAND_ERROR_IS_FATAL ANY)
endif()
