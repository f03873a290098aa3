# Writes OUTPUT, a C++ file with the scripts as string literals.
# cmake -DOUTPUT=file -DDIRECTORY=folder -DNAMES=a,b -P embed_scripts.cmake
string(REPLACE "," ";" names "${NAMES}")
set(text "#include \"storage/redis/scripts.h\"\n\nnamespace tokenbroker::redis {\n\n")
file(READ "${DIRECTORY}/prelude.lua" prelude)
string(APPEND text "const char kPrelude[] = R\"lua(${prelude})lua\";\n\n")
string(APPEND text "const EmbeddedScript kEmbeddedScripts[kScriptCount] = {\n")
foreach(name IN LISTS names)
  file(READ "${DIRECTORY}/${name}.lua" source)
  string(APPEND text "    {\"${name}\", R\"lua(${source})lua\"},\n")
endforeach()
string(APPEND text "};\n\n}  // namespace tokenbroker::redis\n")
file(WRITE "${OUTPUT}" "${text}")
