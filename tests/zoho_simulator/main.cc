// zoho-simulator: the simulator as a program.

#include <signal.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/status_macros.h"
#include "tests/zoho_simulator/control.h"
#include "tests/zoho_simulator/json_config.h"
#include "tests/zoho_simulator/simulator.h"

namespace tokenbroker::zoho_simulator {
namespace {

constexpr char kUsage[] =
    R"(Usage: zoho-simulator [--config FILE] [options]
Simulates Zoho's OAuth servers and People API. Prints one line of JSON with all URLs when it is
ready, and ends with status 0 on SIGTERM or SIGINT.

  --config FILE            JSON: dcs, clients, users, behaviour, ...; see the README
  --dcs us,eu,...          the data centres (default: us,eu); instead of the file's
  --https                  serve HTTPS too, with a certificate made at start
  --listen ADDRESS         default 127.0.0.1
  --control-port N         port of the control endpoint (default: chosen)
  --threads N              default 1
  --port-file PATH         write the line of JSON there too, in one step
  --certificate-file PATH  write the certificate (PEM, its own CA) there
  --help                   this text
)";

struct Arguments {
  Simulator::Options options;
  std::string port_file;
  std::string certificate_file;
  bool help = false;
};

absl::StatusOr<Simulator::Options> LoadConfig(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  std::ostringstream text;
  text << file.rdbuf();
  TB_ASSIGN_OR_RETURN(const nlohmann::json parsed, ParseJson(text.str()));
  return ParseOptions(parsed);
}

absl::StatusOr<Arguments> ParseArguments(const std::vector<std::string>& words) {
  Arguments arguments;
  // The file first, whatever the order: the other arguments change what it says.
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    if (words[i] != "--config") continue;
    TB_ASSIGN_OR_RETURN(arguments.options, LoadConfig(words[i + 1]));
  }
  Simulator::Options& options = arguments.options;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& name = words[i];
    if (name == "--help") {
      arguments.help = true;
      continue;
    }
    if (name == "--https") {
      options.https = true;
      continue;
    }
    if (i + 1 == words.size()) return absl::InvalidArgumentError(absl::StrCat("what is ", name));
    const std::string& value = words[++i];
    const absl::Status bad = absl::InvalidArgumentError(absl::StrCat(name, ": cannot be ", value));
    if (name == "--dcs") {
      options.dcs.clear();
      for (const absl::string_view dc : absl::StrSplit(value, ',', absl::SkipEmpty())) {
        options.dcs.push_back({.name = std::string(dc)});
      }
    } else if (name == "--listen") {
      options.listen_address = value;
    } else if (name == "--control-port") {
      int port = 0;
      if (!absl::SimpleAtoi(value, &port) || port < 0 || port > 65535) return bad;
      options.control_port = static_cast<uint16_t>(port);
    } else if (name == "--threads") {
      if (!absl::SimpleAtoi(value, &options.threads) || options.threads < 1) return bad;
    } else if (name == "--port-file") {
      arguments.port_file = value;
    } else if (name == "--certificate-file") {
      arguments.certificate_file = value;
    } else if (name != "--config") {
      return absl::InvalidArgumentError(absl::StrCat("what is ", name));
    }
  }
  return arguments;
}

// Whoever waits for the file sees nothing or all of it.
absl::Status WriteFile(const std::string& path, const std::string& text) {
  const std::string unfinished = path + ".new";
  {
    std::ofstream file(unfinished, std::ios::binary | std::ios::trunc);
    file << text;
    file.flush();
    if (!file) return absl::UnavailableError(absl::StrCat("cannot write ", path));
  }
  if (std::rename(unfinished.c_str(), path.c_str()) != 0) {
    return absl::UnavailableError(absl::StrCat("cannot write ", path));
  }
  return absl::OkStatus();
}

absl::Status Run(const std::vector<std::string>& words) {
  TB_ASSIGN_OR_RETURN(Arguments arguments, ParseArguments(words));
  if (arguments.help) {
    std::cout << kUsage;
    return absl::OkStatus();
  }
  // Before any thread, so that all inherit it.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  TB_ASSIGN_OR_RETURN(const std::unique_ptr<Simulator> simulator,
                      Simulator::Create(std::move(arguments.options)));
  const std::string line = UrlsAsJson(*simulator) + "\n";
  if (!arguments.certificate_file.empty()) {
    TB_RETURN_IF_ERROR(WriteFile(arguments.certificate_file, simulator->certificate_pem()));
  }
  if (!arguments.port_file.empty()) TB_RETURN_IF_ERROR(WriteFile(arguments.port_file, line));
  std::cout << line << std::flush;

  int received = 0;
  while (sigwait(&signals, &received) != 0) {
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace tokenbroker::zoho_simulator

int main(int argc, char** argv) {
  const absl::Status status =
      tokenbroker::zoho_simulator::Run(std::vector<std::string>(argv + 1, argv + argc));
  if (status.ok()) return 0;
  std::cerr << "zoho-simulator: " << status.message() << "\n";
  return status.code() == absl::StatusCode::kInvalidArgument ? 2 : 1;
}
