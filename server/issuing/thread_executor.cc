#include "server/issuing/thread_executor.h"

#include <algorithm>
#include <system_error>
#include <utility>

namespace tokenbroker {

ThreadExecutor::ThreadExecutor(Options options, Clock clock)
    : options_(options), clock_(std::move(clock)), timer_([this] { Watch(); }) {}

ThreadExecutor::~ThreadExecutor() { Shutdown(); }

bool ThreadExecutor::Run(std::string_view name, Task task) {
  Lane* lane = nullptr;
  {
    MutexLock lock(lanes_mutex_);
    if (stopping()) return false;
    auto found = lanes_.find(name);
    if (found == lanes_.end()) {
      found = lanes_.emplace(std::string(name), std::make_unique<Lane>()).first;
    }
    lane = found->second.get();
  }
  MutexLock lock(lane->mutex);
  if (stopping() || lane->queue.size() >= static_cast<size_t>(options_.queue_per_lane)) {
    return false;
  }
  const bool wants_thread = lane->idle <= static_cast<int>(lane->queue.size()) &&
                            lane->threads.size() < static_cast<size_t>(options_.threads_per_lane);
  // Without a new thread those that are there do it; a lane that has none takes nothing on.
  if (!(wants_thread && StartThread(*lane)) && lane->threads.empty()) return false;
  lane->queue.push_back(std::move(task));
  lane->wake.NotifyOne();
  return true;
}

bool ThreadExecutor::StartThread(Lane& lane) {
  try {
    lane.threads.emplace_back([this, &lane] { Work(lane); });
    return true;
  } catch (const std::system_error&) {
    return false;  // the machine or the container has no more to give
  }
}

void ThreadExecutor::Work(Lane& lane) {
  while (true) {
    Task task;
    {
      MutexLock lock(lane.mutex);
      ++lane.idle;
      while (lane.queue.empty() && !stopping()) lane.wake.Wait(lane.mutex);
      --lane.idle;
      if (stopping()) return;
      task = std::move(lane.queue.front());
      lane.queue.pop_front();
    }
    task();
  }
}

Executor::Timer ThreadExecutor::RunAfter(absl::Duration delay, Task task) {
  const MonotonicTime when = clock_.monotonic() + std::max(delay, absl::ZeroDuration());
  MutexLock lock(timer_mutex_);
  if (stopping()) return {};
  const bool first = due_.empty() || when < due_.begin()->first.first;
  const Timer timer{when, ++last_order_};
  due_.emplace(std::pair(timer.when, timer.order), std::move(task));
  if (first) timer_wake_.NotifyOne();
  return timer;
}

void ThreadExecutor::Cancel(const Timer& timer) {
  decltype(due_)::node_type dropped;  // after the lock
  MutexLock lock(timer_mutex_);
  dropped = due_.extract(std::pair(timer.when, timer.order));
}

void ThreadExecutor::Watch() {
  while (true) {
    std::vector<Task> ready;
    {
      MutexLock lock(timer_mutex_);
      while (ready.empty()) {
        if (stopping()) return;
        const MonotonicTime now = clock_.monotonic();
        while (!due_.empty() && due_.begin()->first.first <= now) {
          ready.push_back(std::move(due_.extract(due_.begin()).mapped()));
        }
        if (!ready.empty()) break;
        timer_wake_.WaitFor(timer_mutex_, due_.empty() ? absl::InfiniteDuration()
                                                       : due_.begin()->first.first - now);
      }
    }
    for (const Task& task : ready) task();
  }
}

void ThreadExecutor::Pause(absl::Duration duration) {
  const MonotonicTime until = clock_.monotonic() + duration;
  MutexLock lock(pause_mutex_);
  while (!stopping()) {
    const absl::Duration left = until - clock_.monotonic();
    if (left <= absl::ZeroDuration()) return;
    pause_wake_.WaitFor(pause_mutex_, left);
  }
}

void ThreadExecutor::Shutdown() {
  std::vector<Lane*> lanes;
  {
    MutexLock lock(lanes_mutex_);
    stopping_.store(true);
    for (auto& [name, lane] : lanes_) lanes.push_back(lane.get());
  }
  {
    MutexLock lock(pause_mutex_);
    pause_wake_.NotifyAll();
  }
  {
    MutexLock lock(timer_mutex_);
    timer_wake_.NotifyAll();
  }
  if (timer_.joinable()) timer_.join();
  // Dropping a task may answer a caller, who may want to run another one: not under a lock.
  std::vector<std::deque<Task>> dropped;
  std::vector<std::thread> threads;
  for (Lane* lane : lanes) {
    MutexLock lock(lane->mutex);
    lane->wake.NotifyAll();
    for (std::thread& thread : lane->threads) threads.push_back(std::move(thread));
    lane->threads.clear();
    dropped.push_back(std::exchange(lane->queue, {}));
  }
  for (std::thread& thread : threads) thread.join();
  dropped.clear();
  decltype(due_) never;
  {
    MutexLock lock(timer_mutex_);
    std::swap(never, due_);
  }
}

std::map<std::string, int> ThreadExecutor::queue_lengths() const {
  std::map<std::string, int> lengths;
  MutexLock lock(lanes_mutex_);
  for (const auto& [name, lane] : lanes_) {
    MutexLock lane_lock(lane->mutex);
    lengths[name] = static_cast<int>(lane->queue.size());
  }
  return lengths;
}

}  // namespace tokenbroker
