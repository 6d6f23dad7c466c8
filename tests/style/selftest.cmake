# SPDX-License-Identifier: ISC
# Shows that a check can fail: plants one fault at a time in a small tree that
# is otherwise right, and wants the check's word for it. Run as:
# cmake -DCHECK=... -DTOP=... -DSCRATCH=... -DNM=... -DCC=... -P selftest.cmake
cmake_minimum_required(VERSION 3.25)

set(here "${CMAKE_CURRENT_LIST_DIR}")
set(tree "${SCRATCH}/${CHECK} tree")
set(good "int\nanswer(void)\n{\n\treturn 42;\n}\n")

function(plant_good_tree)
  file(REMOVE_RECURSE "${tree}")
  configure_file("${TOP}/.clang-format" "${tree}/.clang-format" COPYONLY)
  file(WRITE "${tree}/proxy/base/base.c"
    "#include \"base/base.h\"\n\n#include <errno.h>\n\n${good}")
  file(WRITE "${tree}/proxy/base/base.h" "int answer(void);\n")
  file(WRITE "${tree}/proxy/base/addr.c" "\treturn htons(1);\n")
  file(WRITE "${tree}/proxy/base/log.c" "#include <unistd.h>\n")
  file(WRITE "${tree}/proxy/egress/outsock.c"
    "#include <unistd.h>\n\n#include \"base/base.h\"\n")
  file(WRITE "${tree}/proxy/main.c" "#include \"service/master.h\"\n")
  file(WRITE "${tree}/tests/unit/test_base.c" "#include \"base/base.h\"\n")
  if(CHECK STREQUAL "format")
    file(REMOVE "${tree}/proxy/base/addr.c")
  elseif(CHECK STREQUAL "variables")
    file(WRITE "${tree}/proxy/base/table.c" "#include <stdio.h>\n\
static const char *const names[] = { \"a\", \"b\" };\n\
int name(int i);\nint name(int i)\n{\n\treturn puts(names[i]);\n}\n")
  endif()
endfunction()

function(run_or_die)
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

function(run_variables result output)
  file(GLOB sources "${tree}/proxy/base/[bt]*.c")
  set(objects)
  foreach(source IN LISTS sources)
    run_or_die("${CC}" -fPIC -I "${tree}/proxy" -c "${source}"
      -o "${source}.o")
    list(APPEND objects "${source}.o")
  endforeach()
  run_or_die("${AR}" rc "${tree}/library.a" ${objects})
  execute_process(COMMAND sh "${here}/variables.sh" "${NM}"
    "${tree}/library.a" RESULT_VARIABLE status OUTPUT_VARIABLE text
    ERROR_VARIABLE text)
  set(${result} "${status}" PARENT_SCOPE)
  set(${output} "${text}" PARENT_SCOPE)
endfunction()

function(run_check result output)
  if(CHECK STREQUAL "variables")
    run_variables(status text)
  elseif(CHECK STREQUAL "layers")
    execute_process(COMMAND "${CMAKE_COMMAND}" "-DTREE=${tree}"
      -P "${here}/layers.cmake" RESULT_VARIABLE status
      OUTPUT_VARIABLE text ERROR_VARIABLE text)
  else()
    execute_process(COMMAND sh "${here}/${CHECK}.sh" "${tree}"
      RESULT_VARIABLE status OUTPUT_VARIABLE text ERROR_VARIABLE text)
  endif()
  set(${result} "${status}" PARENT_SCOPE)
  # CMake breaks the lines of its own messages.
  string(REGEX REPLACE "[ \n]+" " " text "${text}")
  set(${output} "${text}" PARENT_SCOPE)
endfunction()

# fault(FILE TEXT MESSAGE): with TEXT in FILE the check fails with MESSAGE.
function(fault file text message)
  plant_good_tree()
  file(WRITE "${tree}/${file}" "${text}")
  run_check(status output)
  if(status EQUAL 0)
    message(SEND_ERROR "${CHECK} passed ${file} with: ${text}")
  elseif(NOT output MATCHES "${message}")
    message(SEND_ERROR "${CHECK} does not say \"${message}\" but: ${output}")
  endif()
endfunction()

plant_good_tree()
run_check(status output)
if(NOT status EQUAL 0)
  message(SEND_ERROR "${CHECK} fails on a good tree: ${output}")
endif()

if(CHECK STREQUAL "format")
  fault("proxy/base/base.c" "int answer(void) { return 42; }\n"
    "base.c:1:.*clang-format")
  fault("tests/unit/test_base.c" "int  answer(void);\n"
    "test_base.c:1:.*clang-format")
  plant_good_tree()
  # Without clang-format the check fails: it does not pass unseen.
  execute_process(COMMAND "${CMAKE_COMMAND}" -E env "PATH=${tree}/empty"
    /bin/sh "${here}/format.sh" "${tree}" RESULT_VARIABLE status
    OUTPUT_VARIABLE output)
  if(status EQUAL 0 OR NOT output MATCHES "clang-format 14 is missing")
    message(SEND_ERROR "format passes without clang-format: ${output}")
  endif()
elseif(CHECK STREQUAL "layers")
  fault("proxy/base/base.c" "#include \"wire/socks5.h\"\n"
    "base/base.c includes \"wire/socks5.h\", from a layer above")
  fault("proxy/io/relay.c" "#include \"session/session.h\"\n"
    "io/relay.c includes \"session/session.h\", from a layer above")
  fault("proxy/egress/outsock.c" "#include \"main.h\"\n" "in no layer")
  fault("proxy/base/base.c" "#  include \"base.h\"\n" "in no layer")
  fault("proxy/service/master.c" "#include \"support/peer.h\"\n"
    "\"support/peer.h\", which is in no layer")
  fault("proxy/service/master.c" "#include \"service/../../tests/peer.h\"\n"
    "in no layer")
  fault("proxy/other/new.c" "int x;\n" "other/new.c is in no layer")
  fault("proxy/base/list.h" "#include <base/base.h>\n" "in quotes")
  fault("proxy/base/base.c" "#include <event2/event.h>\n" "to be pure")
  fault("proxy/egress/ledger_shard.c" "#include <unistd.h>\n" "to be pure")
  fault("proxy/egress/pool.h" "#include <sys/epoll.h>\n" "to be pure")
  fault("proxy/policy/auth.c" "#include <openssl/rand.h>\n" "to be pure")
elseif(CHECK STREQUAL "banned")
  foreach(name strcpy strcat sprintf strtok atoi gets alloca)
    fault("proxy/base/base.c" "int x = 1;\n\treturn ${name} (a);\n"
      "proxy/base/base.c:2:.*without bounds")
  endforeach()
  foreach(name htons ntohs htonl ntohl)
    fault("tests/unit/test_base.c" "x = (${name}(a));\n"
      "tests/unit/test_base.c:1:.*addr.c alone")
  endforeach()
elseif(CHECK STREQUAL "variables")
  fault("proxy/base/base.c" "int here;\n${good}" "base.c.o exports here")
  fault("proxy/base/base.c" "int here = 1;\n${good}" "exports here")
  fault("proxy/base/base.c" "const int here = 1;\n${good}" "exports here")
  fault("proxy/base/base.c" "static int here;\nint *f(void);\nint *\nf(void)\n\
{\n\treturn &here;\n}\n" "static variable, here")
  fault("proxy/base/base.c" "int f(void);\nint\nf(void)\n\
{\n\tstatic _Thread_local int here = 1;\n\treturn here++;\n}\n"
    "static variable, here")
else()
  message(SEND_ERROR "no such check: ${CHECK}")
endif()
file(REMOVE_RECURSE "${tree}")
