#include "server/issuing/thread_executor.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <cstddef>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "common/mutex.h"

namespace tokenbroker {
namespace {

// While it lives no thread can be started: none gets a stack.
class NoMoreThreads {
 public:
  NoMoreThreads() {
    EXPECT_EQ(pthread_getattr_default_np(&before_), 0);
    pthread_attr_t none = before_;
    EXPECT_EQ(pthread_attr_setstacksize(&none, size_t{1} << 56), 0);
    EXPECT_EQ(pthread_setattr_default_np(&none), 0);
  }
  ~NoMoreThreads() { EXPECT_EQ(pthread_setattr_default_np(&before_), 0); }

 private:
  pthread_attr_t before_;
};

// Counts up, and is waited for. No healthy test waits for long.
class Counter {
 public:
  void Add() {
    MutexLock lock(mutex_);
    ++count_;
    changed_.NotifyAll();
  }
  bool WaitFor(int count) {
    const absl::Time give_up = absl::Now() + absl::Seconds(20);
    MutexLock lock(mutex_);
    while (count_ < count) {
      if (absl::Now() > give_up) return false;
      changed_.WaitFor(mutex_, absl::Seconds(1));
    }
    return true;
  }
  int count() {
    MutexLock lock(mutex_);
    return count_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int count_ ABSL_GUARDED_BY(mutex_) = 0;
};

// An executor that no test shuts down itself is made last: its tasks end before what they use.
TEST(ThreadExecutor, RunsWhatItIsGivenOnce) {
  Counter done;
  ThreadExecutor executor({.threads_per_lane = 4}, Clock::System());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) {
        ASSERT_TRUE(executor.Run(i % 2 == 0 ? "a" : "b", [&] { done.Add(); }));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(done.WaitFor(4000));
  executor.Shutdown();
  EXPECT_EQ(done.count(), 4000);
}

TEST(ThreadExecutor, ALaneThatIsStuckDelaysNoOther) {
  Counter stuck;
  Counter release;
  Counter done;
  ThreadExecutor executor({.threads_per_lane = 2, .queue_per_lane = 3}, Clock::System());
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(executor.Run("stuck", [&] {
      stuck.Add();
      release.WaitFor(1);
    }));
  }
  ASSERT_TRUE(stuck.WaitFor(2));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(executor.Run("stuck", [&] { done.Add(); }));
  EXPECT_FALSE(executor.Run("stuck", [&] { done.Add(); }));
  EXPECT_EQ(executor.queue_lengths().at("stuck"), 3);
  ASSERT_TRUE(executor.Run("free", [&] { done.Add(); }));
  ASSERT_TRUE(done.WaitFor(1));
  release.Add();
  ASSERT_TRUE(done.WaitFor(4));
}

TEST(ThreadExecutor, TasksOfALaneRunAtTheSameTime) {
  Counter here;
  Counter done;
  ThreadExecutor executor({.threads_per_lane = 8}, Clock::System());
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(executor.Run("lane", [&] {
      here.Add();
      // Only if all eight have a thread.
      if (here.WaitFor(8)) done.Add();
    }));
  }
  EXPECT_TRUE(done.WaitFor(8));
}

TEST(ThreadExecutor, WhereNoThreadCanBeHadThoseThatThereAreDoTheWork) {
  Counter running;
  Counter release;
  Counter done;
  ThreadExecutor executor({.threads_per_lane = 8}, Clock::System());
  ASSERT_TRUE(executor.Run("old", [&] {
    running.Add();
    release.WaitFor(1);
  }));
  ASSERT_TRUE(running.WaitFor(1));
  {
    const NoMoreThreads no_more;
    EXPECT_FALSE(executor.Run("new", [&] { done.Add(); })) << "nobody would ever do it";
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(executor.Run("old", [&] { done.Add(); }));
    EXPECT_EQ(executor.queue_lengths(), (std::map<std::string, int>{{"new", 0}, {"old", 3}}));
    release.Add();
    EXPECT_TRUE(done.WaitFor(3));
  }
  EXPECT_TRUE(executor.Run("new", [&] { done.Add(); }));
  EXPECT_TRUE(done.WaitFor(4));
  executor.Shutdown();
  EXPECT_EQ(done.count(), 4);
}

TEST(ThreadExecutor, RunsLaterWhatIsDueLaterInOrder) {
  Counter done;
  Mutex mutex;
  std::vector<int> order;
  ThreadExecutor executor({}, Clock::System());
  for (const int delay : {30, 10, 20, 0}) {
    executor.RunAfter(absl::Milliseconds(delay), [&, delay] {
      {
        MutexLock lock(mutex);
        order.push_back(delay);
      }
      done.Add();
    });
  }
  executor.RunAfter(absl::InfiniteDuration(), [&] { done.Add(); });
  ASSERT_TRUE(done.WaitFor(4));
  MutexLock lock(mutex);
  EXPECT_EQ(order, (std::vector<int>{0, 10, 20, 30}));
}

TEST(ThreadExecutor, WhatIsCancelledIsDropped) {
  Counter done;
  ThreadExecutor executor({}, Clock::System());
  auto held = std::make_shared<int>(0);
  const std::weak_ptr<int> watch = held;
  const Executor::Timer far = executor.RunAfter(absl::Hours(1), [held] { FAIL(); });
  {
    const ScopedTimer scoped(&executor, executor.RunAfter(absl::Hours(2), [held] { FAIL(); }));
    ScopedTimer moved = ScopedTimer(&executor, executor.RunAfter(absl::Hours(3), [] { FAIL(); }));
    moved = ScopedTimer(&executor, executor.RunAfter(absl::Hours(1), [held] { FAIL(); }));
  }
  held = nullptr;
  EXPECT_FALSE(watch.expired());
  executor.Cancel(far);
  EXPECT_TRUE(watch.expired());
  // What has run, was cancelled or never was is not there to be cancelled.
  const Executor::Timer near = executor.RunAfter(absl::ZeroDuration(), [&] { done.Add(); });
  ASSERT_TRUE(done.WaitFor(1));
  for (const Executor::Timer& timer : {near, far, Executor::Timer{}}) executor.Cancel(timer);
  executor.RunAfter(absl::ZeroDuration(), [&] { done.Add(); });
  EXPECT_TRUE(done.WaitFor(2));
}

TEST(ThreadExecutor, ShutdownEndsPausesDropsWhatWaitsAndLetsWhatRunsEnd) {
  auto dropped = std::make_shared<int>(0);
  const std::weak_ptr<int> watch = dropped;
  ThreadExecutor executor({.threads_per_lane = 1}, Clock::System());
  Counter running;
  std::atomic<bool> ended{false};
  ASSERT_TRUE(executor.Run("lane", [&] {
    running.Add();
    executor.Pause(absl::Hours(1));
    EXPECT_TRUE(executor.stopping());
    ended = true;
  }));
  ASSERT_TRUE(executor.Run("lane", [dropped] { FAIL(); }));
  executor.RunAfter(absl::Hours(1), [dropped] { FAIL(); });
  dropped = nullptr;
  ASSERT_TRUE(running.WaitFor(1));
  executor.Shutdown();
  EXPECT_TRUE(ended);
  EXPECT_TRUE(watch.expired());
  EXPECT_FALSE(executor.Run("lane", [] { FAIL(); }));
  executor.RunAfter(absl::ZeroDuration(), [] { FAIL(); });
  executor.Pause(absl::Hours(1));
  executor.Shutdown();
}

// A dropped task may hold somebody's callback, who then asks for something else.
TEST(ThreadExecutor, WhatIsDroppedMayCallBack) {
  ThreadExecutor executor({.threads_per_lane = 1}, Clock::System());
  Counter running;
  std::atomic<int> refused{0};
  struct AsksWhenDropped {
    AsksWhenDropped(ThreadExecutor* executor, std::atomic<int>* refused)
        : executor(executor), refused(refused) {}
    ThreadExecutor* executor;
    std::atomic<int>* refused;
    ~AsksWhenDropped() {
      executor->RunAfter(absl::ZeroDuration(), [] {});
      executor->queue_lengths();
      if (!executor->Run("lane", [] {})) ++*refused;
    }
  };
  ASSERT_TRUE(executor.Run("lane", [&] {
    running.Add();
    executor.Pause(absl::Hours(1));
  }));
  ASSERT_TRUE(executor.Run(
      "lane", [held = std::make_shared<AsksWhenDropped>(&executor, &refused)] { FAIL(); }));
  executor.RunAfter(absl::Hours(1),
                    [held = std::make_shared<AsksWhenDropped>(&executor, &refused)] { FAIL(); });
  ASSERT_TRUE(running.WaitFor(1));
  executor.Shutdown();
  EXPECT_EQ(refused, 2);
}

TEST(ThreadExecutor, ShutdownWhileOthersStillCome) {
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> accepted{0};
    std::atomic<int> ran{0};
    auto executor = std::make_unique<ThreadExecutor>(ThreadExecutor::Options{.threads_per_lane = 2},
                                                     Clock::System());
    Counter some;
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 500; ++i) {
          if (executor->Run(std::to_string((i + t) % 5), [&] { ++ran; })) ++accepted;
          executor->RunAfter(absl::Microseconds(i), [&] { ++ran; });
          some.Add();
        }
      });
    }
    ASSERT_TRUE(some.WaitFor(100 * (round % 5)));
    executor->Shutdown();
    const int after = ran;
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(ran, after);
  }
}

}  // namespace
}  // namespace tokenbroker
