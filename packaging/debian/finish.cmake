# cpack runs this when its packages are made. It gives the one with the library a script that calls ldconfig; dpkg's own way is
# a trigger, which needs no shell, works in other roots, and runs once however many libraries are installed.
foreach(package IN LISTS CPACK_PACKAGE_FILES)
  execute_process(COMMAND dpkg-deb --raw-extract ${package} ${package}.d COMMAND_ERROR_IS_FATAL ANY)
  if(EXISTS ${package}.d/DEBIAN/postinst)
    file(REMOVE ${package}.d/DEBIAN/postinst ${package}.d/DEBIAN/postrm)
    file(WRITE ${package}.d/DEBIAN/triggers "activate-noawait ldconfig\n")
    execute_process(COMMAND dpkg-deb --root-owner-group -Zxz --build ${package}.d ${package}
      OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
  endif()
  file(REMOVE_RECURSE ${package}.d)
endforeach()
