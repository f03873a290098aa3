#ifndef TOKEN_BROKER_TESTS_STORAGE_REDIS_LOSSY_PROXY_H_
#define TOKEN_BROKER_TESTS_STORAGE_REDIS_LOSSY_PROXY_H_

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "common/mutex.h"

namespace tokenbroker {

// A network between a store and its server that loses what the test says, when it says so: no test
// has to hit a moment. Thread-safe.
class LossyProxy {
 public:
  // Forwards connections to 127.0.0.1:`server_port`. The test fails if there is no socket.
  explicit LossyProxy(uint16_t server_port);
  ~LossyProxy();

  uint16_t port() const { return port_; }

  // The next `count` commands that contain `command` are carried out, but their answers are thrown
  // away and their connections closed.
  void LoseAnswersTo(std::string command, int count);
  // How many of these are still to come.
  int losses_left();
  // Nothing passes, in either direction, but connections stay open; then everything that came in
  // between passes.
  void Hold();
  void Release();
  // Closes all connections; returns when they are closed.
  void Cut();

 private:
  struct Link {
    int client = -1;
    int server = -1;
    bool lose_answer = false;
    bool dead = false;
  };

  void Run();
  void Accept();
  // Moves what one side has sent to the other.
  void Pump(Link& link, bool from_client) ABSL_LOCKS_EXCLUDED(mutex_);
  void Wake();

  const uint16_t server_port_;
  uint16_t port_ = 0;
  int listener_ = -1;
  int wake_fd_ = -1;
  std::list<Link> links_;  // of the thread
  Mutex mutex_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  bool hold_ ABSL_GUARDED_BY(mutex_) = false;
  bool cut_ ABSL_GUARDED_BY(mutex_) = false;
  CondVar cut_done_;
  std::string lossy_command_ ABSL_GUARDED_BY(mutex_);
  int losses_ ABSL_GUARDED_BY(mutex_) = 0;
  std::thread thread_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_STORAGE_REDIS_LOSSY_PROXY_H_
