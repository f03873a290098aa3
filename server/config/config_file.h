#ifndef TOKEN_BROKER_SERVER_CONFIG_CONFIG_FILE_H_
#define TOKEN_BROKER_SERVER_CONFIG_CONFIG_FILE_H_

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "server/config/command_line.h"
#include "server/config/problems.h"
#include "tokenbroker/config/v1/config.pb.h"

namespace tokenbroker {

// The largest configuration file. A broker with a hundred OAuth clients needs a tenth of it.
inline constexpr size_t kMaxConfigBytes = 1024 * 1024;

// The configuration as it was written, with where each value came from. Keys are paths as they are
// written in overrides and problems: "grpc.tls.cert_file", "oauth_clients[0].redirect_uris[1]".
struct ConfigDocument {
  config::v1::Config config;
  std::string file;  // the configuration file's name
  // Of every key that was written, maps and lists included.
  std::map<std::string, ValueSource> sources;

  bool IsWritten(const std::string& path) const { return sources.contains(path); }
  // Of the key or the nearest written one that encloses it; else the file's first line.
  ValueSource SourceOf(std::string_view path) const;
};

// Reads YAML into the schema by reflection: every key must be a field, every value of its type and
// within its limits (field_rules.h). All that is wrong is added to `problems`; what is right is in
// the document all the same. Fills in no defaults and checks no rule that concerns two values.
ConfigDocument ReadConfig(const std::string& file, std::string_view text, Problems* problems);

// Sets one value. Lists and maps are given in YAML's flow style and replace the old ones; an index
// equal to a list's length appends to it.
void ApplyOverride(const ConfigOverride& override, ConfigDocument* document, Problems* problems);

// Gives every option that was not written its default; makes every optional message that has
// defaults, except those whose presence means something (grpc.tls, store.*, consent).
void FillDefaults(ConfigDocument* document);

// A key that the environment may set: TOKENBROKER_ and the path in upper case, "." as "_".
struct EnvironmentKey {
  std::string variable;
  std::string path;
};
// All options that are not inside a list.
std::vector<EnvironmentKey> EnvironmentKeys();

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_CONFIG_CONFIG_FILE_H_
