#ifndef TOKEN_BROKER_TESTS_TESTING_LOSSY_PROXY_H_
#define TOKEN_BROKER_TESTS_TESTING_LOSSY_PROXY_H_

#include <chrono>
#include <cstdint>
#include <deque>
#include <list>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "common/mutex.h"

namespace tokenbroker {

// A network between a client and a server on loopback that loses what the test says, when it says
// so: no test has to hit a moment. "Commands" are what the client sends in one piece, as all of
// Redis' clients do; TLS passes, but has no commands. Thread-safe.
class LossyProxy {
 public:
  // Forwards connections to 127.0.0.1:`server_port`. The test fails if there is no socket.
  explicit LossyProxy(uint16_t server_port);
  ~LossyProxy();

  uint16_t port() const { return port_; }
  // Connections that were accepted so far.
  int connections();
  // Where new connections lead from now on.
  void SetServer(uint16_t server_port);

  // Of the commands from now on that contain `command` the first `skipped` are let pass. The next
  // `count` are carried out, but only the first `delivered` bytes of their answers arrive; then
  // their connections are closed. Answers that are not longer than that pass.
  void LoseAnswersTo(std::string command, int count, size_t delivered = 0, int skipped = 0);
  // How many of these are still to come.
  int losses_left();
  // Answers that were lost or cut so, ever.
  int answers_lost();

  // Nothing passes, in either direction, but connections stay open; then everything that came in
  // between passes.
  void Hold();
  // The same, from now on, for connections whose client sends a command that contains `command`:
  // it is held itself.
  void HoldAt(std::string command);
  // How many connections HoldAt holds now.
  int held();
  // Ends Hold and HoldAt.
  void Release();

  // Closes all connections; returns when they are closed.
  void Cut();
  // Closes connections whose client sends a command that contains `command`; "": none.
  void Refuse(std::string command);
  // Closes all connections and, until SetDown(false), every new one at once.
  void SetDown(bool down);

  // Weather for many answers: each gets at most one of these, by chance.
  struct Weather {
    double delayed = 0;  // arrives late, whoever still waits for it
    absl::Duration delay;
    double sliced = 0;  // arrives in pieces of 1 to 16 bytes
    double cut = 0;     // one of its bytes is the last one of the connection
    uint64_t seed = 1;
  };
  void SetWeather(const Weather& weather);
  struct Damage {
    int64_t delayed = 0;
    int64_t sliced = 0;
    int64_t cut = 0;
    std::set<size_t> cut_after;  // bytes of the answers that arrived
  };
  Damage damage();

 private:
  using SteadyTime = std::chrono::steady_clock::time_point;
  // What is to be delivered to a client, and when.
  struct Piece {
    SteadyTime due;
    std::string bytes;
    bool last = false;  // the connection is closed afterwards
  };
  struct Link {
    int client = -1;
    int server = -1;
    bool held = false;
    bool lose_answer = false;
    size_t delivered = 0;  // of the answer that is lost, still to be delivered
    bool dead = false;
    std::deque<Piece> pieces;
  };

  void Run();
  void Accept();
  void FromClient(Link& link) ABSL_LOCKS_EXCLUDED(mutex_);
  void FromServer(Link& link) ABSL_LOCKS_EXCLUDED(mutex_);
  void Scatter(Link& link, std::string_view answer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static void Deliver(Link& link, SteadyTime now);
  void Wake();

  uint16_t port_ = 0;
  int listener_ = -1;
  int wake_fd_ = -1;
  std::list<Link> links_;  // of the thread
  Mutex mutex_;
  uint16_t server_port_ ABSL_GUARDED_BY(mutex_);
  int connections_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  bool hold_ ABSL_GUARDED_BY(mutex_) = false;
  bool cut_ ABSL_GUARDED_BY(mutex_) = false;
  bool down_ ABSL_GUARDED_BY(mutex_) = false;
  bool release_ ABSL_GUARDED_BY(mutex_) = false;
  CondVar cut_done_;
  std::string lossy_command_ ABSL_GUARDED_BY(mutex_);
  int losses_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t delivered_ ABSL_GUARDED_BY(mutex_) = 0;
  int skipped_ ABSL_GUARDED_BY(mutex_) = 0;
  int answers_lost_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string held_command_ ABSL_GUARDED_BY(mutex_);
  int held_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string refused_command_ ABSL_GUARDED_BY(mutex_);
  Weather weather_ ABSL_GUARDED_BY(mutex_);
  std::mt19937_64 random_ ABSL_GUARDED_BY(mutex_);
  size_t next_cut_ ABSL_GUARDED_BY(mutex_) = 0;
  Damage damage_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_TESTING_LOSSY_PROXY_H_
