#ifndef TOKEN_BROKER_TESTS_SIMULATION_WORLD_H_
#define TOKEN_BROKER_TESTS_SIMULATION_WORLD_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "server/issuing/grant_registrar.h"
#include "server/issuing/issued_token.h"
#include "tests/simulation/accounts.h"
#include "tests/simulation/context.h"
#include "tests/simulation/process.h"
#include "tests/simulation/schedule.h"
#include "tests/simulation/store_servers.h"

namespace tokenbroker::simulation {

// Everything of one schedule: processes, store, Zoho, and those who use, operate and disturb them.
class World {
 public:
  World(uint64_t seed, const RunOptions& options);
  ~World();

  void Run();
  Context& context() { return context_; }
  int64_t calls() const { return static_cast<int64_t>(calls_.size()); }

 private:
  // A caller's or operator's call.
  struct Call {
    int number = 0;
    Process* process = nullptr;
    GrantKey key;
    int64_t rejected_version = 0;
    int answers = 0;
    bool abandoned = false;  // its process died
    absl::Status status;
  };
  using CallPtr = std::shared_ptr<Call>;

  // world.cc: the beginning, processes, the end.
  void AddGrants();
  void StartProcess(int number);
  void CrashProcess(int number, const Process* process);
  void RestartProcess(int number);
  Process* AnyProcess();
  void Heal();
  void LookAtRest(int look);
  void CheckRest();
  void AskOnceMore(int round);
  void Conclude(int round);
  bool IsAsExpected(int grant) const;
  void CheckEveryCallWasAnswered();

  // actions.cc: what happens meanwhile.
  void Act();
  void AskSomebody();
  CallPtr Ask(Process& process, const TokenQuery& query, Nanos deadline);
  void DisturbProcess();
  void DisturbStore();
  void Operate();
  void Register(Process& process, const Registration& registration, int tries);
  void Revoke(Process& process, int grant);
  CallPtr NewCall(Process& process, const GrantKey& key, Nanos deadline);
  void CheckDeadline(const CallPtr& call, Nanos due);
  void OnAnswers();

  Context context_;
  StoreServers servers_;
  SimulatedZoho zoho_;
  std::vector<std::unique_ptr<Process>> processes_;  // null: it is not running
  std::vector<std::unique_ptr<Process>> ended_;
  std::vector<CallPtr> calls_;
  // Called back in this step. In the order of the calls, since that of the callbacks may depend on
  // addresses.
  std::vector<std::pair<CallPtr, absl::StatusOr<TokenAnswer>>> answers_;
  std::vector<int64_t> versions_;  // by grant: of the newest token that a caller was given
  std::vector<std::vector<CallPtr>> last_asked_;  // by grant, in the end
  int actions_left_ = 0;
  int requests_ = 0;
  bool done_ = false;
};

}  // namespace tokenbroker::simulation

#endif  // TOKEN_BROKER_TESTS_SIMULATION_WORLD_H_
