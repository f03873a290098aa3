# tb_library(NAME name SOURCES a.cc… DEPS public… PRIVATE_DEPS hidden…)
# A room of the architecture: what others may see through it goes to DEPS, what only its own files
# include goes to PRIVATE_DEPS.
function(tb_library)
  cmake_parse_arguments(ARG "" "NAME" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(${ARG_NAME} STATIC ${ARG_SOURCES})
  target_link_libraries(${ARG_NAME} PUBLIC ${ARG_DEPS} PRIVATE tb_options ${ARG_PRIVATE_DEPS})
endfunction()

# What the sanitizer builds run.
add_custom_target(tb_sanitized_tests)

# tb_test(NAME name LABELS unit|integration|faults|e2e SOURCES a.cc… DEPS lib…
#         [TIMEOUT seconds] [ARGS …] [ENV K=V…] [NO_MAIN] [SERIAL])
# One GoogleTest program that is one ctest test.
function(tb_test)
  cmake_parse_arguments(ARG "NO_MAIN;SERIAL" "NAME;TIMEOUT" "LABELS;SOURCES;DEPS;ARGS;ENV" ${ARGN})
  add_executable(${ARG_NAME} ${ARG_SOURCES})
  target_link_libraries(${ARG_NAME} PRIVATE tb_options ${ARG_DEPS} GTest::gtest GTest::gmock)
  if(NOT ARG_NO_MAIN)
    target_link_libraries(${ARG_NAME} PRIVATE GTest::gtest_main)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_test(NAME ${ARG_NAME} COMMAND ${ARG_NAME} ${ARG_ARGS})
  set_tests_properties(${ARG_NAME} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT}
                       ENVIRONMENT "${ARG_ENV}")
  if("unit" IN_LIST ARG_LABELS OR "integration" IN_LIST ARG_LABELS)
    add_dependencies(tb_sanitized_tests ${ARG_NAME})
  endif()
  if(ARG_SERIAL)
    set_tests_properties(${ARG_NAME} PROPERTIES RUN_SERIAL TRUE)
  endif()
endfunction()
