# Compiler, warnings, sanitizers, ccache.
find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
endif()

add_library(tb_options INTERFACE)
target_compile_options(tb_options INTERFACE -Wall -Wextra -Wno-missing-field-initializers -Wnon-virtual-dtor -Woverloaded-virtual)
if(TB_WERROR)
  target_compile_options(tb_options INTERFACE -Werror)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_compile_options(tb_options INTERFACE -Wthread-safety -Werror=thread-safety)
else()
  # GCC 12's optimiser sees restrict violations in libstdc++'s own std::string (GCC bug 105651).
  target_compile_options(tb_options INTERFACE -Wno-restrict)
endif()
target_include_directories(tb_options INTERFACE ${PROJECT_SOURCE_DIR})

if(TB_SANITIZE)
  add_compile_options(-fsanitize=${TB_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${TB_SANITIZE})
  # Debian's libraries are not instrumented: without this, containers that cross into them look
  # overflowed to AddressSanitizer.
  add_compile_definitions(TB_SANITIZED=1)
endif()

find_package(Threads REQUIRED)
