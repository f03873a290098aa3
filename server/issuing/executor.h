#ifndef TOKEN_BROKER_SERVER_ISSUING_EXECUTOR_H_
#define TOKEN_BROKER_SERVER_ISSUING_EXECUTOR_H_

#include <functional>
#include <string_view>

#include "absl/time/time.h"

namespace tokenbroker {

// Where issuing's work runs and how it waits: issuing/ starts no thread, never sleeps and reads no
// clock by itself, so that a simulation can decide about all of it. Thread-safe.
class Executor {
 public:
  using Task = std::function<void()>;

  virtual ~Executor() = default;

  // Runs `task` on a thread of the lane. A lane is a bounded queue with threads of its own, so that
  // blocking in one starves no other; it is made on first use. False: its queue is full or the
  // executor is shutting down; `task` was dropped.
  virtual bool Run(std::string_view lane, Task task) = 0;

  // Runs `task`, which must not block, about `delay` from now. Dropped at shutdown.
  virtual void RunAfter(absl::Duration delay, Task task) = 0;

  // Blocks the calling task. Returns at once while stopping.
  virtual void Pause(absl::Duration duration) = 0;

  // The process is about to end: loops that would go on until something works give up.
  virtual bool stopping() const = 0;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_ISSUING_EXECUTOR_H_
