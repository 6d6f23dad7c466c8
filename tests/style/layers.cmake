# SPDX-License-Identifier: ISC
# Fails when a file in proxy/ includes from a layer above its own, from outside
# proxy/, or, in a pure module, what reaches for the kernel, the clock, chance or
# the event loop. Run as: cmake -DTREE=<top folder> -P layers.cmake
cmake_minimum_required(VERSION 3.25)

# Lowest first: a file includes from its own folder and those before it.
set(layers base wire egress policy io session service main)

# Not one descriptor passes through these, and no time: both are arguments.
# log.c is where the log becomes bytes.
set(pure "^(base|wire|policy)/|^egress/(pool|ledger|alarm)")
set(not_pure "^base/log\\.c$")
set(impure_headers "^(event2/.*|ares\\.h|netdb\\.h|systemd/.*|unistd\\.h|\
fcntl\\.h|poll\\.h|signal\\.h|time\\.h|openssl/rand\\.h|\
sys/(epoll|eventfd|file|inotify|ioctl|mman|poll|prctl|random|select|sendfile|\
signalfd|stat|time|timerfd|uio|un|wait)\\.h)$")

function(fail)
  string(CONCAT text ${ARGN})
  message(SEND_ERROR "layers: ${text}")
endfunction()

# The height of the layer that `path` belongs to, or -1.
function(height_of path out)
  string(REGEX REPLACE "[/.].*" "" layer "${path}")
  list(FIND layers "${layer}" height)
  if(NOT path MATCHES "/" AND NOT path STREQUAL "main.c")
    set(height -1)
  endif()
  set(${out} ${height} PARENT_SCOPE)
endfunction()

function(check_own file used)
  height_of("${file}" from)
  height_of("${used}" to)
  if(to EQUAL -1 OR used MATCHES "\\.\\.")
    fail("${file} includes \"${used}\", which is in no layer")
  elseif(to GREATER from)
    fail("${file} includes \"${used}\", from a layer above its own")
  endif()
endfunction()

function(check_system file used)
  string(REGEX REPLACE "/.*" "" folder "${used}")
  if(folder IN_LIST layers AND used MATCHES "/")
    fail("${file} includes <${used}>: what is ours is in quotes")
  elseif(file MATCHES "${pure}" AND NOT file MATCHES "${not_pure}"
      AND used MATCHES "${impure_headers}")
    fail("${file} includes <${used}>, and is to be pure")
  endif()
endfunction()

file(GLOB_RECURSE files RELATIVE "${TREE}/proxy" "${TREE}/proxy/*.[ch]")
if(NOT files)
  fail("no C file in ${TREE}/proxy: nothing was checked")
endif()
foreach(file IN LISTS files)
  height_of("${file}" height)
  if(height EQUAL -1)
    fail("${file} is in no layer: give its folder a place in layers.cmake")
    continue()
  endif()
  file(STRINGS "${TREE}/proxy/${file}" lines
    REGEX "^[ \t]*#[ \t]*include[ \t]*[\"<]")
  foreach(line IN LISTS lines)
    string(REGEX REPLACE "^[^\"<]*[\"<]([^\">]*).*" "\\1" used "${line}")
    if(line MATCHES "^[^<]*\"")
      check_own("${file}" "${used}")
    else()
      check_system("${file}" "${used}")
    endif()
  endforeach()
endforeach()
list(LENGTH files count)
message(STATUS "layers: ${count} files were read")
