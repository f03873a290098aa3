#ifndef TOKEN_BROKER_TESTS_TESTING_REDIS_SERVER_H_
#define TOKEN_BROKER_TESTS_TESTING_REDIS_SERVER_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace tokenbroker {

// A real redis-server of its own: loopback only, on a port that was free, with its files in a
// temporary folder that goes when it goes. The child ends with the thread that started it, so make
// it on the test's main thread.
//
//   absl::StatusOr<std::unique_ptr<RedisServer>> server = RedisServer::Start({});
//   ASSERT_TRUE(server.ok()) << server.status();
//   options.port = (*server)->port();
class RedisServer {
 public:
  struct Options {
    bool append_only = false;            // appendonly yes, appendfsync always
    std::string password;                // requirepass; "": none
    std::vector<std::string> arguments;  // more of redis-server's, e.g. {"--maxmemory", "2mb"}
  };

  // Returns once the server answers. UNAVAILABLE: no redis-server in PATH, or it does not come up;
  // the message has the end of its log.
  static absl::StatusOr<std::unique_ptr<RedisServer>> Start(Options options);
  ~RedisServer();

  uint16_t port() const { return port_; }
  pid_t pid() const { return pid_; }
  const std::string& directory() const { return directory_; }

  // SIGTERM and SIGKILL; return when the process is gone. Nothing happens if it is not running.
  void Stop();
  void Kill();
  // The process stands still (SIGSTOP) and goes on (SIGCONT): a server that does not answer.
  void Freeze();
  void Thaw();
  // Starts it again on the same port and folder. It must not be running.
  absl::Status Restart();

  // RedisCommand to this server, with its password.
  absl::StatusOr<std::string> Command(const std::vector<std::string>& words) const;

 private:
  RedisServer(Options options, std::string directory)
      : options_(std::move(options)), directory_(std::move(directory)) {}
  absl::Status Spawn();
  absl::Status WaitUntilReady();
  void End(int signal);
  std::string LogTail() const;

  const Options options_;
  const std::string directory_;
  uint16_t port_ = 0;
  pid_t pid_ = -1;
};

// Sends one command to 127.0.0.1:`port`, on a connection of its own, and returns the reply as text:
// a string or an integer as it is, an array as its items joined by newlines, "" for nil. Errors of
// the server are UNKNOWN with their text. Waits 5 s at most.
absl::StatusOr<std::string> RedisCommand(uint16_t port, const std::vector<std::string>& words,
                                         const std::string& password = "");

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_TESTING_REDIS_SERVER_H_
