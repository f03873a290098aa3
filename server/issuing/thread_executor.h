#ifndef TOKEN_BROKER_SERVER_ISSUING_THREAD_EXECUTOR_H_
#define TOKEN_BROKER_SERVER_ISSUING_THREAD_EXECUTOR_H_

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "server/issuing/executor.h"

namespace tokenbroker {

// The executor of the running service: a pool of threads and a bounded queue per lane, and one
// thread for what is due later. Threads of a lane are started as they are needed; where no more can
// be had, those that there are do the work, and a lane that has none refuses it.
class ThreadExecutor final : public Executor {
 public:
  struct Options {
    int threads_per_lane = 32;
    int queue_per_lane = 20'000;
  };

  ThreadExecutor(Options options, Clock clock);
  // Shuts down.
  ~ThreadExecutor() override;

  bool Run(std::string_view lane, Task task) override;
  Timer RunAfter(absl::Duration delay, Task task) override;
  void Cancel(const Timer& timer) override;
  void Pause(absl::Duration duration) override;
  bool stopping() const override { return stopping_.load(std::memory_order_relaxed); }

  // Lets running tasks end, drops the waiting ones, joins all threads. Whatever tasks refer to may
  // be destroyed afterwards. Idempotent. Not from a task.
  void Shutdown();

  // Tasks that wait, per lane.
  std::map<std::string, int> queue_lengths() const;

 private:
  struct Lane {
    Mutex mutex;
    CondVar wake;
    std::deque<Task> queue ABSL_GUARDED_BY(mutex);
    int idle ABSL_GUARDED_BY(mutex) = 0;
    std::vector<std::thread> threads ABSL_GUARDED_BY(mutex);
  };
  // False: there is none to be had.
  bool StartThread(Lane& lane) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lane.mutex);
  void Work(Lane& lane);
  void Watch();

  const Options options_;
  const Clock clock_;
  std::atomic<bool> stopping_{false};

  mutable Mutex lanes_mutex_;
  std::map<std::string, std::unique_ptr<Lane>, std::less<>> lanes_ ABSL_GUARDED_BY(lanes_mutex_);

  Mutex timer_mutex_;
  CondVar timer_wake_;
  // By Timer::when and order.
  std::map<std::pair<MonotonicTime, uint64_t>, Task> due_ ABSL_GUARDED_BY(timer_mutex_);
  uint64_t last_order_ ABSL_GUARDED_BY(timer_mutex_) = 0;
  std::thread timer_;

  Mutex pause_mutex_;
  CondVar pause_wake_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_ISSUING_THREAD_EXECUTOR_H_
