#include "tests/simulation/process.h"

#include <utility>

namespace tokenbroker::simulation {
namespace {

constexpr absl::Duration kDrainTimeout = absl::Seconds(25);  // grpc.drain_timeout's default
// Sooner than main.cc does it by default, so that somebody still waits; but no request begins then.
constexpr absl::Duration kWaitingEnds = absl::Seconds(8);

}  // namespace

bool SimulatedExecutor::Run(std::string_view lane, Task task) {
  if (stopping()) return false;
  auto found = lanes_.find(lane);
  if (found == lanes_.end()) found = lanes_.emplace(std::string(lane), Lane{}).first;
  Lane& chosen = found->second;
  if (chosen.busy < kThreadsPerLane) {
    Start(chosen, std::move(task));
  } else if (chosen.queue.size() < kQueuePerLane) {
    chosen.queue.push_back(std::move(task));
  } else {
    return false;
  }
  return true;
}

void SimulatedExecutor::Start(Lane& lane, Task task) {
  ++lane.busy;
  ++running_;
  seams_->context->scheduler.Spawn(
      seams_->gate,
      [this, task = std::move(task)]() mutable {
        // A task that never began is dropped with its process.
        if (!seams_->dead()) task();
        task = nullptr;
        const Strand& self = *seams_->context->scheduler.current();
        seams_->context->judge.OnEnd(self, seams_->process, !stopping());
      },
      [this, &lane] {
        --lane.busy;
        --running_;
        if (lane.queue.empty() || stopping()) return;
        Task next = std::move(lane.queue.front());
        lane.queue.pop_front();
        Start(lane, std::move(next));
      });
}

Executor::Timer SimulatedExecutor::RunAfter(absl::Duration delay, Task task) {
  if (stopping()) return {};
  const uint64_t order = ++last_timer_;
  timers_.insert(order);
  seams_->context->scheduler.Post(seams_->gate, seams_->ToWorld(delay),
                                  [this, order, task = std::move(task)] {
                                    if (timers_.erase(order) > 0 && !stopping()) task();
                                  });
  return {.order = order};
}

void SimulatedExecutor::Pause(absl::Duration duration) {
  if (stopping() || !seams_->Pass() || stopping()) return;
  Strand* self = seams_->context->scheduler.current();
  pausing_.push_back(self);
  seams_->context->scheduler.Block(seams_->ToWorld(duration));
  std::erase(pausing_, self);
}

void SimulatedExecutor::Stop() {
  seams_->stopping = true;
  for (Strand* strand : pausing_) seams_->context->scheduler.Wake(strand);
  // Dropping a task may answer a caller.
  for (auto& [name, lane] : lanes_) std::exchange(lane.queue, {}).clear();
}

Process::Code::Code(Process* process, const ZohoSetup* setup)
    : refresher(process->context_->limits, CircuitBreakers::Options(), setup, &process->store_,
                &process->accounts_, &process->executor_, process->seams_.clock(),
                &process->events_),
      issuer(TokenIssuer::Options{.cache_entries = 10'000}, &process->store_, &refresher,
             &process->executor_, process->seams_.clock()),
      registrar(&process->store_, &refresher, &process->executor_, process->seams_.clock(),
                &process->events_) {}

Process::Process(Context* context, int number, StoreServers* servers, SimulatedZoho* zoho,
                 const ZohoSetup* setup, std::function<void()> crash)
    : context_(context),
      gate_{.number = number},
      seams_{
          .context = context,
          .process = number,
          .gate = &gate_,
          .drift = context->profile.drift == 0
                       ? 0
                       : context->chance().Between(-context->profile.drift, context->profile.drift),
          .ahead = context->chance().Below(1'000) * kSecond,
          .crash = std::move(crash)},
      store_(&seams_, servers),
      accounts_(&seams_, zoho),
      executor_(&seams_),
      events_{.on_commit_pending = [this](int change) { commits_pending_ += change; }} {
  code_.emplace(this, setup);
  if (context_->profile.keep_warm) code_->issuer.StartKeepingWarm();
}

void Process::Crash() {
  if (!code_) return;
  context_->scheduler.Kill(gate_);
  End();
}

void Process::StopGracefully(std::function<void()> then) {
  draining_ = true;
  context_->scheduler.Spawn(
      &gate_,
      [this] {
        code_->refresher.FinishBy(seams_.clock().monotonic() + kDrainTimeout);
        executor_.RunAfter(kWaitingEnds, [this] {
          code_->issuer.StopWaiting();
          code_->registrar.StopWaiting();
        });
        code_->issuer.Drain(kDrainTimeout);
        code_->registrar.Drain(kDrainTimeout);
      },
      [this, then = std::move(then)]() mutable {
        if (gate_.dead) return;
        executor_.Stop();
        AwaitEnd(std::move(then));
      });
}

void Process::AwaitEnd(std::function<void()> then) {
  // Once more each time that something has ended: cheap enough, and rare.
  context_->scheduler.Post(&gate_, kMilli, [this, then = std::move(then)]() mutable {
    if (executor_.running() > 0) {
      AwaitEnd(std::move(then));
      return;
    }
    context_->scheduler.Kill(gate_);
    End();
    then();
  });
}

void Process::End() {
  executor_.Stop();
  store_.Close();
  code_.reset();
}

}  // namespace tokenbroker::simulation
