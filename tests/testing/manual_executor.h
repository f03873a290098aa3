#ifndef TOKEN_BROKER_TESTS_TESTING_MANUAL_EXECUTOR_H_
#define TOKEN_BROKER_TESTS_TESTING_MANUAL_EXECUTOR_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "server/issuing/executor.h"

namespace tokenbroker::testing {

// An executor with a clock of its own that runs one thread at a time, so that the real code of
// issuing/ runs deterministically and hours go by in no time. Tasks may block (in Pause, or in
// whatever calls BlockUntil); the baton then goes to another one, and the clock moves only when the
// test says so. With a seed, chance decides who goes on: many seeds try many interleavings.
//
//   ManualExecutor executor({});
//   TokenIssuer issuer(…, &executor, executor.clock());
//   issuer.GetAccessToken(…);
//   executor.RunUntilIdle();          // all that can happen now has happened
//   executor.Advance(absl::Hours(1));
//
// Called by one thread only, the test's, and by the tasks themselves.
class ManualExecutor final : public Executor {
 public:
  struct Options {
    int threads_per_lane = 32;
    int queue_per_lane = 20'000;
    uint64_t seed = 0;  // 0: first come, first served
  };

  explicit ManualExecutor(Options options);
  // Shuts down.
  ~ManualExecutor() override;

  // As in Executor. A Pause of the test's own thread runs tasks meanwhile, and moves the clock.
  bool Run(std::string_view lane, Task task) override;
  Timer RunAfter(absl::Duration delay, Task task) override;
  void Cancel(const Timer& timer) override;
  void Pause(absl::Duration duration) override;
  bool stopping() const override { return stopping_; }

  // Blocks the calling task, or the test, until `ready` or for `timeout` on this clock. `ready` is
  // called by other threads, one at a time, and must not call the executor.
  void BlockUntil(const std::function<bool()>& ready, absl::Duration timeout);

  // Runs once, within the next RunAfter: what another thread may do at that point.
  void WithinRunAfter(std::function<void()> what) { within_run_after_ = std::move(what); }

  // Wall and monotonic time move together.
  Clock clock();
  MonotonicTime now() const { return now_; }

  // Runs what can run without the clock moving on.
  void RunUntilIdle();
  // Moves the clock, stopping wherever something becomes due.
  void Advance(absl::Duration duration);
  // Runs until `done`, moving the clock by at most `at_most`. False: it is still not so.
  bool RunUntil(const std::function<bool()>& done, absl::Duration at_most);

  // As ThreadExecutor does: running tasks end, waiting ones are dropped. Idempotent.
  void Shutdown();

  size_t queue_length(std::string_view lane) const;
  size_t timers() const { return timers_.size(); }  // that are still to come

 private:
  struct Lane {
    std::deque<std::pair<uint64_t, Task>> queue;
    int busy = 0;
  };
  struct Worker {
    Task task;
    Lane* lane = nullptr;
    bool blocked = false;
    const std::function<bool()>* ready = nullptr;  // may be null: only the time counts
    MonotonicTime wake_at;
    uint64_t order = 0;
    bool quit = false;
    CondVar turn;
    std::thread thread;
  };
  // Runs one thing that can run now. False: nothing can.
  bool Step();
  // The next point in time at which something will be able to run.
  MonotonicTime NextDue() const;
  void SwitchTo(Worker& worker);
  void Work(Worker& worker);
  void Block(const std::function<bool()>* ready, absl::Duration timeout);

  const Options options_;
  std::mt19937_64 random_;
  bool stopping_ = false;
  bool in_timer_ = false;
  std::function<void()> within_run_after_;
  MonotonicTime now_ = absl::Hours(1000);
  uint64_t next_order_ = 1;
  std::map<std::string, Lane, std::less<>> lanes_;
  std::map<std::pair<MonotonicTime, uint64_t>, Task> timers_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Worker*> idle_;

  // The baton: null is the test's thread.
  Mutex mutex_;
  CondVar own_turn_;
  Worker* current_ ABSL_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace tokenbroker::testing

#endif  // TOKEN_BROKER_TESTS_TESTING_MANUAL_EXECUTOR_H_
