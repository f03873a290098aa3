#ifndef TOKEN_BROKER_STORAGE_REDIS_CHANGE_SUBSCRIBER_H_
#define TOKEN_BROKER_STORAGE_REDIS_CHANGE_SUBSCRIBER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/redis/connection.h"
#include "storage/redis/deadline.h"
#include "storage/redis/socket.h"
#include "storage/redis/topology.h"

namespace tokenbroker::redis {

// Listens to a channel on a thread and a connection of its own, for as long as it lives: connects
// again, with growing pauses, whenever the connection is lost or the server falls silent.
class ChangeSubscriber {
 public:
  struct Options {
    // Connects to a server that hears what is published.
    std::function<absl::StatusOr<Topology::Listening>(Deadline)> listen;
    // Whether it still does. Asked every `check_interval`: a primary that was replaced, or a node
    // that was cut off, answers PINGs and hears nothing.
    std::function<bool(const Endpoint&, Deadline)> still_hears;
    absl::Duration check_interval = absl::Seconds(2);
    std::string username;  // whom errors name
    absl::Duration connect_timeout = absl::Milliseconds(500);
    std::string channel;
    // A subscription is given up when the server does not answer a PING, sent after
    // `ping_interval` of silence, within `ping_timeout`. Their sum is how old "current" can be
    // while the network loses everything without saying so.
    absl::Duration ping_interval = absl::Seconds(1);
    absl::Duration ping_timeout = absl::Seconds(1);
    // Pauses between attempts to connect, doubling from the first to the second, ±25 %.
    absl::Duration first_pause = absl::Milliseconds(50);
    absl::Duration longest_pause = absl::Milliseconds(1500);
    // Called on the thread of this object.
    std::function<void(std::string_view payload)> on_message;
    std::function<void()> on_subscribed;  // what was published before may have been missed
  };

  // Starts the thread. RESOURCE_EXHAUSTED: the system gives none.
  static absl::StatusOr<std::unique_ptr<ChangeSubscriber>> Create(Options options);
  // Stops it; no callback is under way afterwards. Takes `connect_timeout` at most.
  ~ChangeSubscriber();

  // 0 while there is no subscription, else a number that is new with every one. Thread-safe.
  int64_t session() const { return session_.load(std::memory_order_acquire); }

 private:
  ChangeSubscriber(Options options, FileDescriptor wake_fd);
  void Run();
  // Subscribes and listens until something goes wrong or `stop_`.
  absl::Status Listen(bool& subscribed);
  absl::Status Take(ReplyView reply, bool& subscribed);
  // Waits for `pause`, or less if woken.
  void Pause(absl::Duration pause);

  const Options options_;
  const FileDescriptor wake_fd_;  // an eventfd: readable from the destructor on
  std::atomic<bool> stop_{false};
  std::atomic<int64_t> session_{0};
  int64_t sessions_ = 0;  // of the thread
  std::thread thread_;
};

}  // namespace tokenbroker::redis

#endif  // TOKEN_BROKER_STORAGE_REDIS_CHANGE_SUBSCRIBER_H_
