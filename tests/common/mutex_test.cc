#include "common/mutex.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace tokenbroker {
namespace {

// A queue of one, as the wrapper's users write it.
class Slot {
 public:
  void Put(int value) {
    MutexLock lock(mutex_);
    while (full_) emptied_.Wait(mutex_);
    value_ = value;
    full_ = true;
    filled_.NotifyOne();
  }
  int Take() {
    MutexLock lock(mutex_);
    while (!full_) filled_.Wait(mutex_);
    full_ = false;
    emptied_.NotifyOne();
    return value_;
  }

 private:
  Mutex mutex_;
  CondVar filled_;
  CondVar emptied_;
  int value_ ABSL_GUARDED_BY(mutex_) = 0;
  bool full_ ABSL_GUARDED_BY(mutex_) = false;
};

TEST(MutexTest, ExcludesOthers) {
  Mutex mutex;
  int counter = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 10'000; ++j) {
        MutexLock lock(mutex);
        ++counter;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counter, 40'000);
}

TEST(CondVarTest, HandsValuesOver) {
  Slot slot;
  std::thread producer([&] {
    for (int i = 0; i < 1000; ++i) slot.Put(i);
  });
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(slot.Take(), i);
  producer.join();
}

TEST(CondVarTest, NotifyAllWakesAll) {
  Mutex mutex;
  CondVar changed;
  bool go = false;
  std::atomic<int> woken = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      MutexLock lock(mutex);
      while (!go) changed.Wait(mutex);
      ++woken;
    });
  }
  {
    MutexLock lock(mutex);
    go = true;
  }
  changed.NotifyAll();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(woken, 4);
}

TEST(CondVarTest, WaitForEndsWithItsTimeout) {
  Mutex mutex;
  CondVar never;
  const auto start = std::chrono::steady_clock::now();
  MutexLock lock(mutex);
  // It may wake early without reason, but in the end it says that the time is over.
  while (never.WaitFor(mutex, absl::Milliseconds(10))) {
  }
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(10));
}

TEST(CondVarTest, WaitForOfNothingOrLessReturns) {
  Mutex mutex;
  CondVar never;
  MutexLock lock(mutex);
  EXPECT_FALSE(never.WaitFor(mutex, absl::ZeroDuration()));
  EXPECT_FALSE(never.WaitFor(mutex, -absl::Hours(1)));
}

TEST(CondVarTest, InfiniteWaitIsEndedByANotification) {
  Mutex mutex;
  CondVar changed;
  bool go = false;
  std::thread notifier([&] {
    MutexLock lock(mutex);
    go = true;
    changed.NotifyOne();
  });
  {
    MutexLock lock(mutex);
    while (!go) EXPECT_TRUE(changed.WaitFor(mutex, absl::InfiniteDuration()));
  }
  notifier.join();
}

}  // namespace
}  // namespace tokenbroker
