#ifndef TOKEN_BROKER_SERVER_ISSUING_EXECUTOR_H_
#define TOKEN_BROKER_SERVER_ISSUING_EXECUTOR_H_

#include <cstdint>
#include <functional>
#include <string_view>
#include <utility>

#include "absl/time/time.h"
#include "common/clock.h"

namespace tokenbroker {

// Where issuing's work runs and how it waits: issuing/ starts no thread, never sleeps and reads no
// clock by itself, so that a simulation can decide about all of it. Thread-safe.
class Executor {
 public:
  using Task = std::function<void()>;
  // Names a task that is due later. Whoever does not want to cancel it may forget it.
  struct Timer {
    MonotonicTime when;
    uint64_t order = 0;  // grows with every one; 0: none
  };

  virtual ~Executor() = default;

  // Runs `task` on a thread of the lane. A lane is a bounded queue with threads of its own, so that
  // blocking in one starves no other; it is made on first use. False: its queue is full or the
  // executor is shutting down; `task` was dropped.
  virtual bool Run(std::string_view lane, Task task) = 0;

  // Runs `task`, which must not block, about `delay` from now. Dropped at shutdown.
  virtual Timer RunAfter(absl::Duration delay, Task task) = 0;
  // Drops the task, unless it is due already. Waits for nothing: callers may hold a lock, if
  // dropping the task needs none.
  virtual void Cancel(const Timer& timer) = 0;

  // Blocks the calling task. Returns at once while stopping.
  virtual void Pause(absl::Duration duration) = 0;

  // The process is about to end: loops that would go on until something works give up.
  virtual bool stopping() const = 0;
};

// A timer that is cancelled when this ends. The executor must outlive it.
class ScopedTimer {
 public:
  ScopedTimer() = default;
  ScopedTimer(Executor* executor, const Executor::Timer& timer)
      : executor_(executor), timer_(timer) {}
  ScopedTimer(ScopedTimer&& other) noexcept
      : executor_(std::exchange(other.executor_, nullptr)), timer_(other.timer_) {}
  ScopedTimer& operator=(ScopedTimer&& other) noexcept {
    std::swap(executor_, other.executor_);
    std::swap(timer_, other.timer_);
    return *this;
  }
  ~ScopedTimer() {
    if (executor_ != nullptr) executor_->Cancel(timer_);
  }

  uint64_t order() const { return timer_.order; }

 private:
  Executor* executor_ = nullptr;
  Executor::Timer timer_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_ISSUING_EXECUTOR_H_
