#include "server/config/settings.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "server/config/config_file.h"
#include "server/config/print_config.h"
#include "server/config/referenced_files.h"
#include "server/config/settings_sections.h"

namespace tokenbroker {
namespace {

// Two listeners on one address fail only after the first has opened its port.
void CheckListenersDiffer(LoadContext& context) {
  const auto& config = context.config();
  const std::string& grpc = config.grpc().listen();
  const std::string& ops = config.ops().listen();
  const std::string& callback = config.ops().callback_listen();
  const auto same = [](const std::string& a, const std::string& b) {
    const std::optional<HostPort> address = ParseHostPort(a);
    return a == b && address && address->port != 0;
  };
  if (same(ops, grpc)) context.Refuse("ops.listen", "is the same address as grpc.listen");
  if (callback.empty()) return;
  if (same(callback, grpc)) {
    context.Refuse("ops.callback_listen", "is the same address as grpc.listen");
  }
  if (same(callback, ops)) {
    context.Refuse("ops.callback_listen",
                   "is the same address as ops.listen; without it the page is served there");
  }
}

}  // namespace

absl::Duration ToAbslDuration(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

bool LoadContext::Require(const std::string& path, const std::string& value,
                          std::string_view what) {
  if (!value.empty()) return true;
  if (!problems.Has(path)) {
    Refuse(path, absl::StrCat("is required: ", absl::string_view(what.data(), what.size())));
  }
  return false;
}

std::optional<HostPort> ParseHostPort(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return std::nullopt;
  std::string_view host = text.substr(0, colon);
  const std::string_view digits = text.substr(colon + 1);
  HostPort result;
  if (digits.empty() || digits.find_first_not_of("0123456789") != std::string_view::npos ||
      !absl::SimpleAtoi(absl::string_view(digits.data(), digits.size()), &result.port) ||
      result.port > 65535) {
    return std::nullopt;
  }
  constexpr std::string_view kName =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
  constexpr std::string_view kIpv6 = "0123456789abcdefABCDEF:.%";
  if (host.starts_with('[')) {
    if (host.size() < 4 || !host.ends_with(']')) return std::nullopt;
    host = host.substr(1, host.size() - 2);
    if (host.find_first_not_of(kIpv6) != std::string_view::npos) return std::nullopt;
  } else if (host.find_first_not_of(kName) != std::string_view::npos) {
    return std::nullopt;
  }
  result.host = std::string(host);
  return result;
}

bool IsLoopbackHost(std::string_view host) {
  if (host == "localhost" || host == "::1") return true;
  // Names like 127.example.com are not addresses.
  return host.starts_with("127.") && std::count(host.begin(), host.end(), '.') == 3 &&
         host.find_first_not_of("0123456789.") == std::string_view::npos;
}

namespace {

// Of everything but the command line's own problems.
absl::StatusOr<Settings> LoadFile(const CommandLine& line, const FileReader& read_file) {
  Problems problems;
  const absl::StatusOr<std::string> text = read_file(line.config_file, kMaxConfigBytes);
  if (!text.ok()) {
    problems.Add({line.config_file, 0}, "",
                 absl::StrCat("cannot be read: ", text.status().message()));
    return problems.ToStatus();
  }
  ConfigDocument document = ReadConfig(line.config_file, *text, &problems);
  // Without a single key, everything else that could be said would follow from that.
  if (!problems.empty() && document.sources.empty()) return problems.ToStatus();
  for (const ConfigOverride& override : line.overrides) {
    ApplyOverride(override, &document, &problems);
  }
  FillDefaults(&document);

  ReferencedFiles files(&document, line.file_root, &read_file, &problems);
  LoadContext context{document, line, files, problems};
  Settings settings;
  settings.grpc = LoadGrpc(context);
  settings.ops = LoadOps(context);
  CheckListenersDiffer(context);
  settings.store = LoadStore(context);
  settings.data_centers = LoadDataCenters(context);
  settings.oauth_clients = LoadOAuthClients(context);
  settings.zoho = LoadZoho(context);
  settings.issuing = LoadIssuing(context);
  settings.consent = LoadConsent(context);
  settings.log = LoadLog(context);
  settings.protocol = LoadProtocol(context);
  settings.effective_yaml = PrintConfig(document.config);
  if (!problems.empty()) return problems.ToStatus();
  return settings;
}

}  // namespace

absl::StatusOr<Settings> LoadSettings(const CommandLine& line, const FileReader& read_file) {
  std::vector<std::string> lines;
  absl::StatusOr<Settings> settings = absl::InvalidArgumentError("");
  if (!line.config_file.empty()) {
    settings = LoadFile(line, read_file);
    if (line.problems.empty()) return settings;
    if (!settings.ok()) lines.push_back(std::string(settings.status().message()));
  }
  lines.insert(lines.end(), line.problems.begin(), line.problems.end());
  return absl::InvalidArgumentError(absl::StrJoin(lines, "\n"));
}

}  // namespace tokenbroker
