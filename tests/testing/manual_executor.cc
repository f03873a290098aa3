#include "tests/testing/manual_executor.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace tokenbroker::testing {
namespace {

// The worker whose thread this is; null on the test's thread.
thread_local void* own_worker = nullptr;

}  // namespace

ManualExecutor::ManualExecutor(Options options) : options_(options), random_(options.seed) {}

ManualExecutor::~ManualExecutor() { Shutdown(); }

bool ManualExecutor::Run(std::string_view lane, Task task) {
  if (stopping_) return false;
  auto found = lanes_.find(lane);
  if (found == lanes_.end()) found = lanes_.emplace(std::string(lane), Lane{}).first;
  if (found->second.queue.size() >= static_cast<size_t>(options_.queue_per_lane)) return false;
  found->second.queue.emplace_back(next_order_++, std::move(task));
  return true;
}

Executor::Timer ManualExecutor::RunAfter(absl::Duration delay, Task task) {
  if (std::function<void()> what = std::exchange(within_run_after_, nullptr)) what();
  if (stopping_) return {};
  const Timer timer{now_ + std::max(delay, absl::ZeroDuration()), next_order_++};
  timers_.emplace(std::pair(timer.when, timer.order), std::move(task));
  return timer;
}

void ManualExecutor::Cancel(const Timer& timer) {
  timers_.erase(std::pair(timer.when, timer.order));
}

void ManualExecutor::Pause(absl::Duration duration) { Block(nullptr, duration); }

void ManualExecutor::BlockUntil(const std::function<bool()>& ready, absl::Duration timeout) {
  if (!ready()) Block(&ready, timeout);
}

void ManualExecutor::Block(const std::function<bool()>* ready, absl::Duration timeout) {
  if (stopping_) return;
  auto* self = static_cast<Worker*>(own_worker);
  if (self == nullptr) {
    if (in_timer_) std::abort();  // what a timer runs must not block
    const MonotonicTime until = now_ + timeout;
    RunUntil([&] { return (ready != nullptr && (*ready)()) || now_ >= until; }, timeout);
    return;
  }
  self->blocked = true;
  self->ready = ready;
  self->wake_at = now_ + timeout;
  self->order = next_order_++;
  MutexLock lock(mutex_);
  current_ = nullptr;
  own_turn_.NotifyOne();
  while (current_ != self) self->turn.Wait(mutex_);
}

Clock ManualExecutor::clock() {
  return {
      .wall = [this] { return absl::FromUnixSeconds(1'767'225'600) + (now_ - absl::Hours(1000)); },
      .monotonic = [this] { return now_; }};
}

void ManualExecutor::RunUntilIdle() {
  while (Step()) {
  }
}

void ManualExecutor::Advance(absl::Duration duration) {
  const MonotonicTime until = now_ + duration;
  while (true) {
    RunUntilIdle();
    const MonotonicTime next = NextDue();
    if (next > until) break;
    now_ = next;
  }
  now_ = until;
}

bool ManualExecutor::RunUntil(const std::function<bool()>& done, absl::Duration at_most) {
  const MonotonicTime until = now_ + at_most;
  while (!done()) {
    if (Step()) continue;
    if (now_ >= until) return false;
    now_ = std::min(NextDue(), until);
  }
  return true;
}

MonotonicTime ManualExecutor::NextDue() const {
  MonotonicTime next = absl::InfiniteDuration();
  if (!timers_.empty()) next = std::min(next, timers_.begin()->first.first);
  for (const auto& worker : workers_) {
    if (worker->blocked) next = std::min(next, worker->wake_at);
  }
  return next;
}

bool ManualExecutor::Step() {
  // (order, what)
  std::vector<std::pair<uint64_t, std::function<void()>>> able;
  for (const auto& worker : workers_) {
    if (!worker->blocked) continue;
    if (stopping_ || now_ >= worker->wake_at || (worker->ready != nullptr && (*worker->ready)())) {
      able.emplace_back(worker->order, [this, w = worker.get()] { SwitchTo(*w); });
    }
  }
  for (auto& [name, lane] : lanes_) {
    if (lane.queue.empty() || lane.busy >= options_.threads_per_lane || stopping_) continue;
    able.emplace_back(lane.queue.front().first, [this, l = &lane] {
      if (idle_.empty()) {
        workers_.push_back(std::make_unique<Worker>());
        Worker* made = workers_.back().get();
        made->thread = std::thread([this, made] { Work(*made); });
        idle_.push_back(made);
      }
      Worker& worker = *idle_.back();
      idle_.pop_back();
      worker.lane = l;
      worker.task = std::move(l->queue.front().second);
      l->queue.pop_front();
      ++l->busy;
      SwitchTo(worker);
    });
  }
  if (!timers_.empty() && timers_.begin()->first.first <= now_ && !stopping_) {
    able.emplace_back(timers_.begin()->first.second, [this] {
      const Task task = std::move(timers_.begin()->second);
      timers_.erase(timers_.begin());
      in_timer_ = true;
      task();
      in_timer_ = false;
    });
  }
  if (able.empty()) return false;
  const auto chosen =
      options_.seed == 0
          ? std::min_element(able.begin(), able.end(),
                             [](const auto& a, const auto& b) { return a.first < b.first; })
          : able.begin() + static_cast<std::ptrdiff_t>(random_() % able.size());
  chosen->second();
  return true;
}

void ManualExecutor::SwitchTo(Worker& worker) {
  worker.blocked = false;
  worker.ready = nullptr;
  MutexLock lock(mutex_);
  current_ = &worker;
  worker.turn.NotifyOne();
  while (current_ != nullptr) own_turn_.Wait(mutex_);
}

void ManualExecutor::Work(Worker& worker) {
  own_worker = &worker;
  while (true) {
    {
      MutexLock lock(mutex_);
      while (current_ != &worker) worker.turn.Wait(mutex_);
    }
    if (!worker.quit) {
      worker.task();
      worker.task = nullptr;
      --worker.lane->busy;
      idle_.push_back(&worker);
    }
    const bool quit = worker.quit;
    MutexLock lock(mutex_);
    current_ = nullptr;
    own_turn_.NotifyOne();
    if (quit) return;
  }
}

void ManualExecutor::Shutdown() {
  stopping_ = true;
  while (Step()) {
  }
  for (const auto& worker : workers_) {
    worker->quit = true;
    SwitchTo(*worker);
    worker->thread.join();
  }
  workers_.clear();
  idle_.clear();
  // Dropping a task may answer a caller.
  std::exchange(timers_, {}).clear();
  for (auto& [name, lane] : lanes_) std::exchange(lane.queue, {}).clear();
}

size_t ManualExecutor::queue_length(std::string_view lane) const {
  const auto found = lanes_.find(lane);
  return found == lanes_.end() ? 0 : found->second.queue.size();
}

}  // namespace tokenbroker::testing
