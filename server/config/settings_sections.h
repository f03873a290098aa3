#ifndef TOKEN_BROKER_SERVER_CONFIG_SETTINGS_SECTIONS_H_
#define TOKEN_BROKER_SERVER_CONFIG_SETTINGS_SECTIONS_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "google/protobuf/duration.pb.h"
#include "server/config/config_file.h"
#include "server/config/problems.h"
#include "server/config/referenced_files.h"
#include "server/config/settings.h"

// One function per section of the configuration, from the schema to Settings. Each adds what is
// wrong to the context's problems; its result counts only if there are none.
namespace tokenbroker {

struct LoadContext {
  const ConfigDocument& document;  // with defaults filled in
  const CommandLine& line;
  ReferencedFiles& files;
  Problems& problems;

  const config::v1::Config& config() const { return document.config; }
  void Refuse(const std::string& path, std::string_view text) {
    problems.Add(document.SourceOf(path), path, text);
  }
  // False: `value` is empty, which was added unless something else is wrong with it.
  bool Require(const std::string& path, const std::string& value, std::string_view what);
};

struct HostPort {
  std::string host;  // without brackets
  int port = 0;
};
// "127.0.0.1:8443", "[::1]:0", "redis:6379". nullopt: anything else.
std::optional<HostPort> ParseHostPort(std::string_view text);
// 127.0.0.0/8, ::1, localhost.
bool IsLoopbackHost(std::string_view host);

absl::Duration ToAbslDuration(const google::protobuf::Duration& duration);

GrpcSettings LoadGrpc(LoadContext& context);
OpsSettings LoadOps(LoadContext& context);
StoreSettings LoadStore(LoadContext& context);
DataCenterTable LoadDataCenters(LoadContext& context);
OAuthClientRegistry LoadOAuthClients(LoadContext& context);
ZohoSettings LoadZoho(LoadContext& context);
IssuingSettings LoadIssuing(LoadContext& context);
std::optional<ConsentSettings> LoadConsent(LoadContext& context);
LogSettings LoadLog(LoadContext& context);
ProtocolLimits LoadProtocol(LoadContext& context);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_CONFIG_SETTINGS_SECTIONS_H_
