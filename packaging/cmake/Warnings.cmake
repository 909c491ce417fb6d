# supervisor_warnings: what our own code is compiled with. Generated code and libraries are not.
add_library(supervisor_warnings INTERFACE)
target_compile_options(supervisor_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wold-style-cast -Wcast-qual
  -Wformat=2 -Wimplicit-fallthrough -Wnull-dereference -Wundef -Wvla -Wswitch -Wunused -Werror=switch
  $<$<BOOL:${SUPERVISOR_WERROR}>:-Werror>)
if(SUPERVISOR_SANITIZE)
  # gcc's flow analysis sees the sanitizers' own branches and warns of what cannot be.
  target_compile_options(supervisor_warnings INTERFACE -Wno-maybe-uninitialized -Wno-null-dereference)
  add_compile_options(-fsanitize=${SUPERVISOR_SANITIZE} -fno-omit-frame-pointer -g1 -O1)
  add_link_options(-fsanitize=${SUPERVISOR_SANITIZE})
  if(SUPERVISOR_SANITIZE MATCHES "undefined")
    add_compile_options(-fno-sanitize-recover=all)
  endif()
endif()
