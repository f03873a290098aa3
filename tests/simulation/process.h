#ifndef TOKEN_BROKER_TESTS_SIMULATION_PROCESS_H_
#define TOKEN_BROKER_TESTS_SIMULATION_PROCESS_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "server/issuing/executor.h"
#include "server/issuing/grant_registrar.h"
#include "server/issuing/refresher.h"
#include "server/issuing/token_issuer.h"
#include "tests/simulation/accounts.h"
#include "tests/simulation/seams.h"
#include "tests/simulation/store_client.h"

namespace tokenbroker::simulation {

// The executor of one process: tasks are strands of the schedule.
class SimulatedExecutor final : public Executor {
 public:
  explicit SimulatedExecutor(Seams* seams) : seams_(seams) {}

  bool Run(std::string_view lane, Task task) override;
  Timer RunAfter(absl::Duration delay, Task task) override;
  void Cancel(const Timer& timer) override { timers_.erase(timer.order); }
  void Pause(absl::Duration duration) override;
  bool stopping() const override { return seams_->stopping || seams_->dead(); }

  // As ThreadExecutor's Shutdown begins: pauses end, waiting tasks are dropped.
  void Stop();
  int running() const { return running_; }

 private:
  static constexpr int kThreadsPerLane = 6;
  static constexpr size_t kQueuePerLane = 64;
  struct Lane {
    int busy = 0;
    std::deque<Task> queue;
  };

  void Start(Lane& lane, Task task);

  Seams* const seams_;
  std::map<std::string, Lane, std::less<>> lanes_;
  std::vector<Strand*> pausing_;
  std::set<uint64_t> timers_;  // to come, and not cancelled
  uint64_t last_timer_ = 0;
  int running_ = 0;
};

// One process of the broker, from its start to its end: the real code of server/issuing/ on
// simulated seams.
class Process {
 public:
  Process(Context* context, int number, StoreServers* servers, SimulatedZoho* zoho,
          const ZohoSetup* setup, std::function<void()> crash);
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  Seams& seams() { return seams_; }
  Gate& gate() { return gate_; }
  SimulatedStore& store() { return store_; }
  TokenIssuer& issuer() { return code_->issuer; }
  GrantRegistrar& registrar() { return code_->registrar; }
  bool running() const { return code_.has_value() && !draining_; }
  bool frozen() const { return gate_.frozen; }
  int commits_pending() const { return commits_pending_; }

  // At once; what it has sent is under way all the same.
  void Crash();
  // Drains, stops, and calls `then` when it has ended.
  void StopGracefully(std::function<void()> then);

 private:
  struct Code {
    Code(Process* process, const ZohoSetup* setup);
    Refresher refresher;
    TokenIssuer issuer;
    GrantRegistrar registrar;
  };

  void AwaitEnd(std::function<void()> then);
  void End();

  Context* const context_;
  Gate gate_;
  Seams seams_;
  SimulatedStore store_;
  SimulatedAccounts accounts_;
  SimulatedExecutor executor_;
  IssuingEvents events_;
  int commits_pending_ = 0;
  bool draining_ = false;
  std::optional<Code> code_;
};

}  // namespace tokenbroker::simulation

#endif  // TOKEN_BROKER_TESTS_SIMULATION_PROCESS_H_
