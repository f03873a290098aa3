#include "tests/testing/redis_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace tokenbroker {
namespace {

using SteadyTime = std::chrono::steady_clock::time_point;

constexpr std::chrono::seconds kStartTimeout(20);  // a busy machine, an AOF to read
constexpr std::chrono::seconds kCommandTimeout(5);
constexpr int kPortTries = 10;
// Whom Command logs in as.
constexpr char kFixtureUser[] = "test-fixture";
constexpr char kFixturePassword[] = "test-fixture-password";

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

// redis-server cannot choose a port itself. Somebody else may take this one before it does; then it
// ends, and the next one is tried. Below the ports that the system gives to connections, so that
// none of them takes it while the server is down.
uint16_t FreePort() {
  static std::minstd_rand random(std::random_device{}());
  for (int i = 0; i < 1000; ++i) {
    const uint16_t port = std::uniform_int_distribution<uint16_t>(12'000, 31'999)(random);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in address = Loopback(port);
    const bool free = bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
    close(fd);
    if (free) return port;
  }
  return 0;
}

// A blocking socket with timeouts that speaks just enough RESP for a test's own commands.
class PlainConnection {
 public:
  explicit PlainConnection(uint16_t port) {
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in address = Loopback(port);
    ok_ = connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  }
  explicit PlainConnection(const std::string& unix_socket) {
    fd_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    ok_ = unix_socket.size() < sizeof(address.sun_path);
    if (!ok_) return;
    unix_socket.copy(address.sun_path, unix_socket.size());
    ok_ = connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~PlainConnection() { close(fd_); }
  PlainConnection(const PlainConnection&) = delete;
  PlainConnection& operator=(const PlainConnection&) = delete;

  absl::StatusOr<std::string> Call(const std::vector<std::string>& words) {
    std::string request = absl::StrCat("*", words.size(), "\r\n");
    for (const std::string& word : words) {
      absl::StrAppend(&request, "$", word.size(), "\r\n", word, "\r\n");
    }
    for (size_t sent = 0; ok_ && sent < request.size();) {
      const ssize_t n = send(fd_, request.data() + sent, request.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) ok_ = false;
      sent += n > 0 ? n : 0;
    }
    return ReadReply();
  }

 private:
  absl::StatusOr<std::string> ReadReply() {
    const std::optional<std::string> line = ReadLine();
    if (!line || line->empty()) return absl::UnavailableError("no reply");
    const std::string rest = line->substr(1);
    int64_t number = 0;
    switch (line->front()) {
      case '+':
      case ':':
        return rest;
      case '-':
        return absl::UnknownError(rest);
      case '$': {
        if (!absl::SimpleAtoi(rest, &number)) return absl::UnavailableError("no RESP");
        if (number < 0) return std::string();
        std::optional<std::string> bytes = Read(static_cast<size_t>(number) + 2);
        if (!bytes) return absl::UnavailableError("no reply");
        bytes->resize(number);
        return *std::move(bytes);
      }
      case '*': {
        if (!absl::SimpleAtoi(rest, &number)) return absl::UnavailableError("no RESP");
        std::vector<std::string> items;
        for (int64_t i = 0; i < number; ++i) {
          absl::StatusOr<std::string> item = ReadReply();
          if (!item.ok()) return item;
          items.push_back(*std::move(item));
        }
        return absl::StrJoin(items, "\n");
      }
      default:
        return absl::UnavailableError("no RESP");
    }
  }

  std::optional<std::string> ReadLine() {
    while (buffer_.find("\r\n") == std::string::npos) {
      if (!Fill()) return std::nullopt;
    }
    const size_t end = buffer_.find("\r\n");
    std::string line = buffer_.substr(0, end);
    buffer_.erase(0, end + 2);
    return line;
  }

  std::optional<std::string> Read(size_t size) {
    while (buffer_.size() < size) {
      if (!Fill()) return std::nullopt;
    }
    std::string bytes = buffer_.substr(0, size);
    buffer_.erase(0, size);
    return bytes;
  }

  bool Fill() {
    if (!ok_) return false;
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline_ - std::chrono::steady_clock::now());
    pollfd waiting = {.fd = fd_, .events = POLLIN, .revents = 0};
    char chunk[4096];
    ssize_t n = -1;
    if (left.count() > 0 && poll(&waiting, 1, static_cast<int>(left.count())) == 1) {
      n = recv(fd_, chunk, sizeof(chunk), 0);
    }
    if (n <= 0) return ok_ = false;
    buffer_.append(chunk, static_cast<size_t>(n));
    return true;
  }

  int fd_ = -1;
  bool ok_ = true;
  const SteadyTime deadline_ = std::chrono::steady_clock::now() + kCommandTimeout;
  std::string buffer_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RedisServer>> RedisServer::Start(Options options) {
  std::error_code error;
  std::string directory =
      (std::filesystem::temp_directory_path(error) / "tb-redis-XXXXXX").string();
  if (error || mkdtemp(directory.data()) == nullptr) {
    return absl::UnavailableError("no temporary folder");
  }
  std::unique_ptr<RedisServer> server(new RedisServer(std::move(options), directory));
  absl::Status status;
  for (int i = 0; i < kPortTries; ++i) {
    server->port_ = FreePort();
    server->bus_port_ = server->options_.cluster ? FreePort() : 0;
    status = server->WriteFiles();
    if (!status.ok()) return status;
    status = server->Restart();
    if (status.ok()) return server;
    // Any other reason than a taken port would only repeat itself.
    if (server->LogTail().find("Address already in use") == std::string::npos) break;
  }
  return status;
}

RedisServer::~RedisServer() {
  Kill();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

absl::Status RedisServer::Restart() {
  if (absl::Status status = Spawn(); !status.ok()) return status;
  return WaitUntilReady();
}

absl::Status RedisServer::WriteFiles() const {
  std::vector<std::string> lines = {
      "bind 127.0.0.1",
      "daemonize no",
      absl::StrCat("dir ", directory_),
      absl::StrCat("logfile ", directory_, "/log"),
      absl::StrCat("unixsocket ", directory_, "/socket"),
      absl::StrCat("user ", kFixtureUser, " on >", kFixturePassword, " ~* &* +@all"),
  };
  for (const std::string& user : options_.users) lines.push_back("user " + user);
  if (!options_.password.empty()) lines.push_back("requirepass " + options_.password);
  if (!options_.sentinel) {
    lines.insert(lines.end(), {"save \"\"", "enable-debug-command local",
                               "hash-max-listpack-value 1024", "repl-diskless-sync-delay 0"});
    if (!options_.password.empty()) lines.push_back("masterauth " + options_.password);
  }
  if (options_.append_only) lines.insert(lines.end(), {"appendonly yes", "appendfsync always"});
  if (options_.tls) {
    const auto write = [this](const std::string& name, const std::string& pem) {
      std::ofstream(directory_ + "/" + name) << pem;
    };
    write("tls.crt", options_.tls->certificate.certificate_pem);
    write("tls.key", options_.tls->certificate.private_key_pem);
    write("tls-ca.crt", options_.tls->ca_pem);
    lines.insert(lines.end(), {"port 0", absl::StrCat("tls-port ", port_),
                               absl::StrCat("tls-cert-file ", directory_, "/tls.crt"),
                               absl::StrCat("tls-key-file ", directory_, "/tls.key"),
                               absl::StrCat("tls-ca-cert-file ", directory_, "/tls-ca.crt"),
                               absl::StrCat("tls-auth-clients ",
                                            options_.tls->client_certificates ? "yes" : "no"),
                               "tls-replication yes", "tls-cluster yes"});
  } else {
    lines.push_back(absl::StrCat("port ", port_));
  }
  if (options_.cluster) {
    lines.insert(lines.end(), {"cluster-enabled yes", "cluster-config-file nodes.conf",
                               absl::StrCat("cluster-port ", bus_port_)});
  }
  if (options_.replica_of != 0) {
    lines.push_back(absl::StrCat("replicaof 127.0.0.1 ", options_.replica_of));
  }
  lines.insert(lines.end(), options_.config.begin(), options_.config.end());
  std::ofstream file(directory_ + "/redis.conf");
  file << absl::StrJoin(lines, "\n") << "\n";
  file.close();
  return file ? absl::OkStatus() : absl::UnavailableError("the configuration cannot be written");
}

absl::Status RedisServer::Spawn() {
  std::vector<std::string> arguments = {"redis-server", directory_ + "/redis.conf"};
  // env(1) adds to the environment; it becomes the server itself.
  if (!options_.environment.empty()) {
    arguments.insert(arguments.begin(), "env");
    for (const auto& [name, value] : options_.environment) {
      arguments.insert(arguments.begin() + 1, absl::StrCat(name, "=", value));
    }
  }
  if (options_.sentinel) arguments.push_back("--sentinel");
  arguments.insert(arguments.end(), options_.arguments.begin(), options_.arguments.end());
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);

  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child < 0) return absl::UnavailableError("fork failed");
  if (child == 0) {
    // Only async-signal-safe calls: the parent may have threads.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);  // it died before that
    const int null = open("/dev/null", O_RDWR);
    dup2(null, 0);
    dup2(null, 1);
    dup2(null, 2);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  pid_ = child;
  return absl::OkStatus();
}

absl::Status RedisServer::WaitUntilReady() {
  const SteadyTime deadline = std::chrono::steady_clock::now() + kStartTimeout;
  while (std::chrono::steady_clock::now() < deadline) {
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      return absl::UnavailableError(
          WIFEXITED(status) && WEXITSTATUS(status) == 127
              ? "redis-server is not in PATH"
              : absl::StrCat("redis-server ended while starting:\n", LogTail()));
    }
    // Refused until the data set is loaded.
    if (Command({"PING"}).ok()) return absl::OkStatus();
    // A foreign process tells nobody when it is ready; most need two or three of these.
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  Kill();
  return absl::UnavailableError(absl::StrCat("redis-server does not answer:\n", LogTail()));
}

void RedisServer::Stop() { End(SIGTERM); }
void RedisServer::Kill() { End(SIGKILL); }

void RedisServer::End(int signal) {
  if (pid_ < 0) return;
  kill(pid_, signal);
  if (signal != SIGKILL) kill(pid_, SIGCONT);  // a frozen process would not see it
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
}

void RedisServer::Freeze() {
  if (pid_ < 0) return;
  kill(pid_, SIGSTOP);
  int status = 0;
  while (waitpid(pid_, &status, WUNTRACED) < 0 && errno == EINTR) {
  }
}

void RedisServer::Thaw() {
  if (pid_ > 0) kill(pid_, SIGCONT);
}

absl::StatusOr<std::string> RedisServer::Command(const std::vector<std::string>& words) const {
  PlainConnection connection(directory_ + "/socket");
  absl::StatusOr<std::string> auth = connection.Call({"AUTH", kFixtureUser, kFixturePassword});
  if (!auth.ok()) return auth;
  return connection.Call(words);
}

std::string RedisServer::Info(const std::string& section, const std::string& name) const {
  const absl::StatusOr<std::string> info = Command({"INFO", section});
  if (!info.ok()) return "";
  for (const absl::string_view line : absl::StrSplit(*info, "\r\n")) {
    if (absl::StartsWith(line, absl::StrCat(name, ":"))) {
      return std::string(line.substr(name.size() + 1));
    }
  }
  return "";
}

std::string RedisServer::LogTail() const {
  std::ifstream log(directory_ + "/log");
  const std::string text((std::istreambuf_iterator<char>(log)), std::istreambuf_iterator<char>());
  return text.size() > 2000 ? text.substr(text.size() - 2000) : text;
}

absl::StatusOr<std::string> RedisCommand(uint16_t port, const std::vector<std::string>& words,
                                         const std::string& password) {
  PlainConnection connection(port);
  if (!password.empty()) {
    absl::StatusOr<std::string> auth = connection.Call({"AUTH", password});
    if (!auth.ok()) return auth;
  }
  return connection.Call(words);
}

bool WaitUntil(const std::function<bool()>& condition, absl::Duration timeout) {
  const SteadyTime deadline = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(timeout);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

bool InStep(const RedisServer& primary, const std::vector<RedisServer*>& replicas) {
  return WaitUntil([&] {
    const std::string offset = primary.Info("replication", "master_repl_offset");
    for (const RedisServer* replica : replicas) {
      if (offset.empty() || replica->Info("replication", "slave_repl_offset") != offset) {
        return false;
      }
    }
    return true;
  });
}

}  // namespace tokenbroker
