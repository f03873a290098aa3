#ifndef TOKEN_BROKER_TESTS_TESTING_REDIS_SERVER_H_
#define TOKEN_BROKER_TESTS_TESTING_REDIS_SERVER_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/testing/certificate_authority.h"

namespace tokenbroker {

// A real redis-server of its own: loopback only, on a port that was free, with its files in a
// temporary folder that goes when it goes. The child ends with the thread that started it, so make
// it on the test's main thread.
//
//   absl::StatusOr<std::unique_ptr<RedisServer>> server = RedisServer::Start({});
//   ASSERT_TRUE(server.ok()) << server.status();
//   options.port = (*server)->port();
//
// Whole topologies: tests/testing/sentinel_set.h and redis_cluster.h.
class RedisServer {
 public:
  struct Tls {
    IssuedCertificate certificate;     // the server's; also shown to its primary or cluster
    std::string ca_pem;                // whose certificates it trusts
    bool client_certificates = false;  // tls-auth-clients: none without one
  };
  struct Options {
    bool append_only = false;  // appendonly yes, appendfsync always
    std::string password;      // requirepass and primaryauth; "": none
    // ACL users, e.g. "app on >secret ~tb:* &tb:* +get", or "default off".
    std::vector<std::string> users;
    // Its one port speaks TLS then, and so do replication, Sentinel and the cluster bus.
    std::optional<Tls> tls;
    // Port of the server to be a replica of, on loopback, with the same password and TLS; 0: none.
    uint16_t replica_of = 0;
    bool sentinel = false;               // redis-server --sentinel
    bool cluster = false;                // cluster-enabled, with a bus port of its own
    std::vector<std::string> config;     // more lines of the configuration file
    std::vector<std::string> arguments;  // on the command line, e.g. {"--maxmemory", "2mb"}
    std::map<std::string, std::string> environment;  // added to the test's own
  };

  // Returns once the server answers. UNAVAILABLE: no redis-server in PATH, or it does not come up;
  // the message has the end of its log.
  static absl::StatusOr<std::unique_ptr<RedisServer>> Start(Options options);
  ~RedisServer();

  uint16_t port() const { return port_; }
  uint16_t bus_port() const { return bus_port_; }  // of a cluster node
  pid_t pid() const { return pid_; }
  const std::string& directory() const { return directory_; }

  // SIGTERM and SIGKILL; return when the process is gone. Nothing happens if it is not running.
  void Stop();
  void Kill();
  // The process stands still (SIGSTOP) and goes on (SIGCONT): a server that does not answer.
  void Freeze();
  void Thaw();
  // Starts it again on the same port and folder, with the configuration as CONFIG REWRITE or a
  // Sentinel left it, and returns once it answers. It must not be running.
  absl::Status Restart();
  // The same, and returns at once.
  absl::Status Spawn();

  // Like RedisCommand, by the server's Unix socket as a user of the fixture's own who may do
  // everything: TLS, passwords and ACLs do not matter.
  absl::StatusOr<std::string> Command(const std::vector<std::string>& words) const;
  // The value of one line "name:value" of INFO; "": there is none, or no answer.
  std::string Info(const std::string& section, const std::string& name) const;

 private:
  RedisServer(Options options, std::string directory)
      : options_(std::move(options)), directory_(std::move(directory)) {}
  absl::Status WriteFiles() const;
  absl::Status WaitUntilReady();
  void End(int signal);
  std::string LogTail() const;

  const Options options_;
  const std::string directory_;
  uint16_t port_ = 0;
  uint16_t bus_port_ = 0;
  pid_t pid_ = -1;
};

// Sends one command to 127.0.0.1:`port`, on a connection of its own, and returns the reply as text:
// a string or an integer as it is, an array as its items joined by newlines, "" for nil. Errors of
// the server are UNKNOWN with their text. Waits 5 s at most.
absl::StatusOr<std::string> RedisCommand(uint16_t port, const std::vector<std::string>& words,
                                         const std::string& password = "");

// Asks again every few milliseconds until `condition` holds. False: it did not within `timeout`.
bool WaitUntil(const std::function<bool()>& condition, absl::Duration timeout = absl::Seconds(30));

// Waits until all replicas have what the primary has. (WAIT does not: it waits for the writes of
// its own connection.) False: they did not within 30 s.
bool InStep(const RedisServer& primary, const std::vector<RedisServer*>& replicas);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_TESTING_REDIS_SERVER_H_
