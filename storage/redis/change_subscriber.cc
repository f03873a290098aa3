#include "storage/redis/change_subscriber.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <random>
#include <system_error>
#include <utility>

#include "common/errors.h"
#include "common/status_macros.h"
#include "storage/redis/redis_errors.h"

namespace tokenbroker::redis {

absl::StatusOr<std::unique_ptr<ChangeSubscriber>> ChangeSubscriber::Create(Options options) {
  FileDescriptor wake_fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (wake_fd.get() < 0) return absl::ResourceExhaustedError("no file descriptor is left");
  std::unique_ptr<ChangeSubscriber> subscriber(
      new ChangeSubscriber(std::move(options), std::move(wake_fd)));
  try {
    subscriber->thread_ = std::thread(&ChangeSubscriber::Run, subscriber.get());
  } catch (const std::system_error&) {
    return absl::ResourceExhaustedError("no thread is left");
  }
  return subscriber;
}

ChangeSubscriber::ChangeSubscriber(Options options, FileDescriptor wake_fd)
    : options_(std::move(options)), wake_fd_(std::move(wake_fd)) {}

ChangeSubscriber::~ChangeSubscriber() {
  stop_ = true;
  const uint64_t one = 1;
  // Cannot fail: an eventfd takes 2^64 - 2 of them.
  [[maybe_unused]] const ssize_t written = write(wake_fd_.get(), &one, sizeof(one));
  if (thread_.joinable()) thread_.join();
}

void ChangeSubscriber::Run() {
  std::minstd_rand random(std::random_device{}());
  absl::Duration pause = options_.first_pause;
  while (!stop_) {
    bool subscribed = false;
    // Why it ended does not matter here: the store's operations meet the same reason and tell it.
    Listen(subscribed).IgnoreError();
    session_.store(0, std::memory_order_release);
    if (stop_) return;
    if (subscribed) pause = options_.first_pause;
    // Spread, so that all replicas do not come back at the same moment.
    Pause(pause * std::uniform_real_distribution<double>(0.75, 1.25)(random));
    pause = std::min(pause * 2, options_.longest_pause);
  }
}

absl::Status ChangeSubscriber::Listen(bool& subscribed) {
  const Deadline connect_deadline = Deadline::In(options_.connect_timeout);
  TB_ASSIGN_OR_RETURN(const Topology::Listening listening, options_.listen(connect_deadline));
  Connection& connection = *listening.connection;
  TB_RETURN_IF_ERROR(connection.Send({"SUBSCRIBE", options_.channel}, connect_deadline));
  bool pinged = false;
  Deadline patience = connect_deadline;
  Deadline check = Deadline::In(options_.check_interval);
  while (!stop_) {
    const absl::Duration wait =
        subscribed ? std::min(patience.Left(), check.Left()) : patience.Left();
    TB_ASSIGN_OR_RETURN(const std::optional<Reply> reply,
                        connection.Receive(Deadline::In(wait), wake_fd_.get()));
    if (stop_) break;
    if (reply) {
      TB_RETURN_IF_ERROR(Take(reply->view(), subscribed));
      pinged = false;
      patience = Deadline::In(options_.ping_interval);
    } else if (patience.Passed()) {
      if (pinged || !subscribed) return StoreUnavailableError("the subscription is silent");
      patience = Deadline::In(options_.ping_timeout);
      TB_RETURN_IF_ERROR(connection.Send({"PING"}, patience));
      pinged = true;
    }
    if (subscribed && check.Passed()) {
      if (!options_.still_hears(listening.endpoint, Deadline::In(options_.connect_timeout))) {
        return StoreUnavailableError("the server of the subscription no longer hears everything");
      }
      check = Deadline::In(options_.check_interval);
    }
  }
  return absl::OkStatus();
}

absl::Status ChangeSubscriber::Take(ReplyView reply, bool& subscribed) {
  if (reply.is_error()) return ServerError(reply.text(), options_.username).status;
  const std::string_view kind = reply.size() > 0 ? reply[0].text() : std::string_view();
  if (kind == "subscribe") {
    subscribed = true;
    session_.store(++sessions_, std::memory_order_release);
    options_.on_subscribed();
  } else if (kind == "message" && reply.size() == 3) {
    options_.on_message(reply[2].text());
  }
  return absl::OkStatus();
}

void ChangeSubscriber::Pause(absl::Duration pause) {
  pollfd waiting = {.fd = wake_fd_.get(), .events = POLLIN, .revents = 0};
  poll(&waiting, 1, Deadline::In(pause).PollMilliseconds());
}

}  // namespace tokenbroker::redis
