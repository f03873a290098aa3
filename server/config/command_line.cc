#include "server/config/command_line.h"

#include <unistd.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/config/config_file.h"

namespace tokenbroker {
namespace {

using Action = CommandLine::Action;

constexpr std::string_view kEnvironmentPrefix = "TOKENBROKER_";
constexpr std::string_view kConfigVariable = "TOKENBROKER_CONFIG";

struct Flag {
  std::string_view name;
  std::string_view argument;  // its name in the help; "": a switch
  std::string_view path;      // of the option it overrides; "": none
  std::string_view help;
};

constexpr Flag kFlags[] = {
    {"config", "FILE", "", "the configuration file (also TOKENBROKER_CONFIG)"},
    {"listen", "HOST:PORT", "grpc.listen", "where callers connect (grpc.listen)"},
    {"ops-listen", "HOST:PORT", "ops.listen", "metrics, probes, consent page (ops.listen)"},
    {"log-level", "LEVEL", "log.level", "DEBUG, INFO, WARNING or ERROR (log.level)"},
    {"set", "KEY.PATH=VALUE", "", "any other option, e.g. store.redis.pool_size=64; repeatable"},
    {"file-root", "DIR", "", "put DIR before every file that a *_file key names"},
    {"insecure", "", "", "allow gRPC without TLS on addresses that are not loopback"},
    {"validate-config", "", "", "check the configuration and all its files, then end"},
    {"print-config", "", "", "print the effective configuration without secrets, then end"},
    {"version", "", "", "print the version, then end"},
    {"help", "", "", "print this, then end"},
};

// Whether Kubernetes makes such a variable for a Service whose name begins with "tokenbroker"
// (its documentation, "Accessing the Service": Docker-link variables).
bool IsServiceLink(std::string_view name) {
  if (name.ends_with("_SERVICE_HOST") || name.find("_SERVICE_PORT") != std::string_view::npos) {
    return true;
  }
  const size_t port = name.find("_PORT");
  if (port == std::string_view::npos) return false;
  const std::string_view rest = name.substr(port + 5);
  return rest.empty() || (rest.size() > 1 && rest[0] == '_' && rest[1] >= '0' && rest[1] <= '9');
}

class Parser {
 public:
  CommandLine Parse(const std::vector<std::string>& arguments,
                    const std::map<std::string, std::string>& environment) && {
    ReadEnvironment(environment);
    for (size_t i = 0; i < arguments.size(); ++i) {
      std::optional<std::string> next;
      if (i + 1 < arguments.size()) next = arguments[i + 1];
      if (ReadArgument(arguments[i], next)) ++i;
    }
    const bool needs_file =
        line_.action != Action::kPrintHelp && line_.action != Action::kPrintVersion;
    if (needs_file && line_.config_file.empty()) {
      line_.problems.push_back("no configuration: give --config FILE or set TOKENBROKER_CONFIG");
    }
    // Help is wanted most by those whose other arguments are wrong.
    if (line_.action == Action::kPrintHelp) line_.problems.clear();
    return std::move(line_);
  }

 private:
  void ReadEnvironment(const std::map<std::string, std::string>& environment) {
    const std::vector<EnvironmentKey> keys = EnvironmentKeys();
    for (const auto& [name, value] : environment) {
      if (!name.starts_with(kEnvironmentPrefix)) continue;
      if (name == kConfigVariable) {
        line_.config_file = value;
        continue;
      }
      const auto key =
          std::find_if(keys.begin(), keys.end(),
                       [&name = name](const EnvironmentKey& k) { return k.variable == name; });
      if (key != keys.end()) {
        line_.overrides.push_back({name, key->path, value});
      } else if (!IsServiceLink(name)) {
        line_.problems.push_back(absl::StrCat(
            name, ": names no option; options are written like TOKENBROKER_GRPC_LISTEN"));
      }
    }
  }

  // True: `next` was used up.
  bool ReadArgument(const std::string& argument, const std::optional<std::string>& next) {
    if (!argument.starts_with("--") || argument.size() == 2) {
      // Not repeated: it may be something that was pasted.
      line_.problems.push_back("there is an argument that is no flag; see --help");
      return false;
    }
    const size_t equals = argument.find('=');
    const std::string name = argument.substr(2, equals == std::string::npos ? equals : equals - 2);
    const auto flag = std::find_if(std::begin(kFlags), std::end(kFlags),
                                   [&](const Flag& f) { return f.name == name; });
    if (flag == std::end(kFlags)) {
      line_.problems.push_back(
          absl::StrCat("--", absl::Utf8SafeCHexEscape(name), ": unknown flag; see --help"));
      return false;
    }
    if (flag->argument.empty()) {
      if (equals != std::string::npos) {
        line_.problems.push_back(absl::StrCat("--", name, ": takes no value"));
      } else {
        ApplySwitch(name);
      }
      return false;
    }
    std::string value;
    const bool separate = equals == std::string::npos;
    if (!separate) {
      value = argument.substr(equals + 1);
    } else if (next && !next->starts_with("--")) {
      value = *next;
    }
    if (value.empty()) {
      line_.problems.push_back(absl::StrCat(
          "--", name,
          ": needs a value: ", absl::string_view(flag->argument.data(), flag->argument.size())));
      return false;
    }
    ApplyValue(*flag, value);
    return separate;
  }

  void ApplySwitch(const std::string& name) {
    if (name == "insecure") {
      line_.insecure = true;
    } else if (name == "help") {
      line_.action = Action::kPrintHelp;
    } else if (line_.action == Action::kPrintHelp) {
      return;
    } else if (name == "version") {
      line_.action = Action::kPrintVersion;
    } else if (line_.action == Action::kPrintVersion) {
      return;
    } else {
      const Action action = name == "print-config" ? Action::kPrintConfig : Action::kValidateConfig;
      if (line_.action != Action::kServe && line_.action != action) {
        line_.problems.push_back("--validate-config and --print-config exclude each other");
      }
      line_.action = action;
    }
  }

  void ApplyValue(const Flag& flag, const std::string& value) {
    const std::string origin =
        absl::StrCat("--", absl::string_view(flag.name.data(), flag.name.size()));
    if (!flag.path.empty()) {
      line_.overrides.push_back({origin, std::string(flag.path), value});
    } else if (flag.name == "config") {
      line_.config_file = value;
    } else if (flag.name == "file-root") {
      line_.file_root = value;
    } else {
      const size_t equals = value.find('=');
      if (equals == std::string::npos || equals == 0) {
        line_.problems.push_back("--set: needs a value: KEY.PATH=VALUE");
        return;
      }
      line_.overrides.push_back({origin, value.substr(0, equals), value.substr(equals + 1)});
    }
  }

  CommandLine line_;
};

}  // namespace

std::string_view ProgramVersion() { return TB_VERSION; }

std::string HelpText() {
  std::string text =
      "token-broker issues Zoho access tokens over gRPC.\n"
      "\n"
      "Usage: token-broker --config FILE [flags]\n"
      "\n";
  for (const Flag& flag : kFlags) {
    std::string left = absl::StrCat("  --", absl::string_view(flag.name.data(), flag.name.size()));
    if (!flag.argument.empty()) {
      absl::StrAppend(&left, " ", absl::string_view(flag.argument.data(), flag.argument.size()));
    }
    left.resize(std::max<size_t>(left.size() + 2, 26), ' ');
    absl::StrAppend(&text, left, absl::string_view(flag.help.data(), flag.help.size()), "\n");
  }
  absl::StrAppend(
      &text,
      "\n"
      "Flags go before the environment, the environment goes before the file. Every option that "
      "is\n"
      "not inside a list can be set by the environment: grpc.listen is TOKENBROKER_GRPC_LISTEN.\n"
      "Secrets are read from the files that the configuration names, and are given in no other\n"
      "way. config/token-broker.yaml documents every option.\n");
  return text;
}

CommandLine ParseCommandLine(const std::vector<std::string>& arguments,
                             const std::map<std::string, std::string>& environment) {
  return Parser().Parse(arguments, environment);
}

std::map<std::string, std::string> ProcessEnvironment() {
  std::map<std::string, std::string> variables;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    variables.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return variables;
}

}  // namespace tokenbroker
