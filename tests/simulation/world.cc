#include "tests/simulation/world.h"

#include <algorithm>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "common/errors.h"

namespace tokenbroker::simulation {
namespace {

// No schedule comes near it.
constexpr int64_t kMostSteps = 5'000'000;
// After everything works again: until budgets, cooldowns and all old tokens have run out.
constexpr Nanos kRest = 3'800 * kSecond;
// How often what is being stored then is looked at again, and after how long.
constexpr int kLooks = 5;
constexpr Nanos kBetweenLooks = 7 * kSecond;
constexpr int kRounds = 3;

const ZohoSetup& Setup() {
  static const auto* const setup = [] {
    std::vector<OAuthClient> clients;
    for (const char* name : {"web", "narrow"}) {
      OAuthClient client;
      client.name = name;
      client.client_id = absl::StrCat("1000.", name);
      client.shared_secret = Secret(absl::StrCat("secret-", name));
      clients.push_back(std::move(client));
    }
    auto table = DataCenterTable::Create({}, false);
    auto registry = OAuthClientRegistry::Create(std::move(clients));
    if (!table.ok() || !registry.ok()) std::abort();
    return new ZohoSetup{*std::move(table), *std::move(registry)};
  }();
  return *setup;
}

}  // namespace

Outcome RunSchedule(uint64_t seed, const RunOptions& options) {
  SeedAttemptIds(seed);
  World world(seed, options);
  world.Run();
  Context& context = world.context();
  Outcome outcome;
  outcome.seed = seed;
  outcome.broken = context.judge.broken();
  outcome.how = context.judge.how();
  if (!outcome.broken.empty()) outcome.tail = context.trace.Tail();
  outcome.hash = context.trace.hash();
  outcome.steps = context.scheduler.steps();
  outcome.sends = context.judge.sends();
  outcome.excused = context.judge.excused();
  outcome.calls = world.calls();
  outcome.faults = context.faults;
  return outcome;
}

World::World(uint64_t seed, const RunOptions& options)
    : context_(seed, options.defect, options.print), servers_(&context_), zoho_(&context_) {
  AddGrants();
  processes_.resize(static_cast<size_t>(context_.profile.processes));
  for (int i = 0; i < context_.profile.processes; ++i) StartProcess(i);
  servers_.OnPrimaryChange([this] {
    for (const auto& process : processes_) {
      if (process != nullptr && !process->gate().dead) process->store().LookAgain();
    }
  });
}

World::~World() {
  for (const auto& process : processes_) {
    if (process != nullptr) process->Crash();
  }
}

void World::AddGrants() {
  const GrantKey keys[] = {{"org0", Environment::kProduction, "web"},
                           {"org1", Environment::kProduction, "web"},
                           {"org0", Environment::kProduction, "narrow"},
                           {"org0", Environment::kSandbox, "web"}};
  const auto grants = static_cast<size_t>(context_.profile.grants);
  context_.grants.assign(keys, keys + grants);
  context_.judge.SetGrants(context_.profile.grants);
  versions_.resize(grants);
  last_asked_.resize(grants);
  Chance& chance = context_.chance();
  for (size_t i = 0; i < grants; ++i) {
    if (!context_.profile.calm && chance.Percent(15)) continue;
    const int consent = context_.judge.AddConsent(static_cast<int>(i));
    GrantRecord record;
    record.key = context_.grants[i];
    record.info.dc = i % 2 == 0 ? "us" : "eu";
    record.info.scopes = {"a.b.READ"};
    if (record.key.oauth_client == "web") record.info.scopes.push_back("a.c.READ");
    record.info.keep_warm = context_.profile.keep_warm;
    record.generation = 1;
    record.last_register_attempt = "preset";
    record.created = record.updated = Epoch();
    record.refresh_token = Secret(absl::StrCat("rt-", context_.judge.AddRefreshToken(consent)));
    if (chance.Percent(50)) {
      record.access_token = Secret(absl::StrCat("at-", context_.judge.AddAccessToken(consent)));
      record.access_stored = Epoch();
      record.access_expiry = Epoch() + absl::Nanoseconds(context_.profile.token_lifetime);
    }
    servers_.Preset(static_cast<int>(i), record);
  }
}

void World::StartProcess(int number) {
  auto& place = processes_[static_cast<size_t>(number)];
  if (place != nullptr) return;
  context_.trace.Add("starts", number);
  // The pointer is only known later, when nothing has crashed yet.
  auto self = std::make_shared<const Process*>(nullptr);
  place = std::make_unique<Process>(&context_, number, &servers_, &zoho_, &Setup(),
                                    [this, number, self] { CrashProcess(number, *self); });
  *self = place.get();
}

void World::CrashProcess(int number, const Process* process) {
  auto& place = processes_[static_cast<size_t>(number)];
  if (place == nullptr || place.get() != process) return;
  for (const CallPtr& call : calls_) {
    if (call->process == process && call->answers == 0) call->abandoned = true;
  }
  place->Crash();
  ended_.push_back(std::move(place));
  context_.scheduler.Post(nullptr, context_.chance().Spread(50, 10'000) * kMilli,
                          [this, number] { StartProcess(number); });
}

void World::RestartProcess(int number) {
  auto& place = processes_[static_cast<size_t>(number)];
  if (place == nullptr || !place->running()) return;
  context_.trace.Add("stops", number);
  place->StopGracefully([this, number] {
    context_.trace.Add("has stopped", number);
    ended_.push_back(std::move(processes_[static_cast<size_t>(number)]));
    context_.scheduler.Post(nullptr, context_.chance().Spread(50, 3'000) * kMilli,
                            [this, number] { StartProcess(number); });
  });
}

Process* World::AnyProcess() {
  std::vector<Process*> running;
  for (const auto& process : processes_) {
    if (process != nullptr && process->running()) running.push_back(process.get());
  }
  if (running.empty()) return nullptr;
  return running[static_cast<size_t>(
      context_.chance().Below(static_cast<int64_t>(running.size())))];
}

void World::Run() {
  actions_left_ = context_.profile.actions;
  context_.scheduler.Post(nullptr, 0, [this] { Act(); });
  while (!done_ && context_.judge.broken().empty() && context_.scheduler.Step()) {
    if (!answers_.empty()) OnAnswers();
    if (context_.scheduler.steps() > kMostSteps) {
      context_.judge.Break("liveness", "the schedule does not end");
    }
  }
}

void World::Heal() {
  context_.trace.Add("everything heals", -1);
  context_.healed = true;
  servers_.Heal();
  context_.scheduler.Post(nullptr, kRest, [this] { LookAtRest(1); });
}

void World::LookAtRest(int look) {
  // A grant that is kept warm may be stored at this very moment, but not every time.
  const bool storing = std::any_of(processes_.begin(), processes_.end(), [](const auto& process) {
    return process != nullptr && process->running() && process->commits_pending() != 0;
  });
  if (storing && context_.profile.keep_warm && look < kLooks) {
    context_.scheduler.Post(nullptr, kBetweenLooks, [this, look] { LookAtRest(look + 1); });
    return;
  }
  CheckRest();
  if (context_.judge.broken().empty()) AskOnceMore(1);
}

// Nothing is under way any more, and nothing was left undone.
void World::CheckRest() {
  for (const auto& process : processes_) {
    if (process == nullptr || !process->running()) {
      context_.judge.Break("liveness", "a process has not come back");
    } else if (process->commits_pending() != 0) {
      context_.judge.Break("G4", "a token waits for the store long after everything healed");
    } else if (process->issuer().flights() != 0 && !context_.profile.keep_warm) {
      context_.judge.Break("liveness", "a flight has not ended");
    }
  }
  CheckEveryCallWasAnswered();
}

void World::CheckEveryCallWasAnswered() {
  for (const CallPtr& call : calls_) {
    if (call->abandoned || call->answers == 1) continue;
    context_.judge.Break(
        "answers", absl::StrCat("call ", call->number, " was answered ", call->answers, " times"));
  }
}

// Every process is asked for every grant whose answers are not known to be right.
void World::AskOnceMore(int round) {
  for (size_t grant = 0; grant < context_.grants.size(); ++grant) {
    if (round > 1 && IsAsExpected(static_cast<int>(grant))) continue;
    last_asked_[grant].clear();
    const GrantKey& key = context_.grants[grant];
    for (const auto& process : processes_) {
      last_asked_[grant].push_back(
          Ask(*process, {key.org_id, key.environment, key.oauth_client, {}}, 10 * kSecond));
    }
  }
  // Longer than the longest cooldown.
  context_.scheduler.Post(nullptr, 310 * kSecond, [this, round] {
    OnAnswers();
    Conclude(round);
  });
}

bool World::IsAsExpected(int grant) const {
  const GrantRecord* record = servers_.primary()->records[static_cast<size_t>(grant)].record.get();
  std::string expected;
  if (record == nullptr || record->state == GrantState::kReserved) {
    expected = "ORG_NOT_FOUND";
  } else if (record->state == GrantState::kRevoked ||
             !context_.judge.IsHonoured(Judge::NumberOf(record->refresh_token))) {
    expected = "CONSENT_REQUIRED";
  }
  for (const CallPtr& call : last_asked_[static_cast<size_t>(grant)]) {
    if (call->answers != 1 || ErrorReason(call->status) != expected) return false;
  }
  return true;
}

void World::Conclude(int round) {
  bool as_expected = true;
  int grant = 0;
  for (; grant < context_.profile.grants && as_expected; ++grant) as_expected = IsAsExpected(grant);
  if (!as_expected && round < kRounds) {
    AskOnceMore(round + 1);
    return;
  }
  if (!as_expected) {
    --grant;
    std::string answers;
    for (const CallPtr& call : last_asked_[static_cast<size_t>(grant)]) {
      absl::StrAppend(&answers, " ", call->status.ok() ? "OK" : ErrorReason(call->status));
    }
    context_.judge.Break(
        "liveness", absl::StrCat("grant ", grant, " answers", answers, " after everything healed"));
  }
  CheckEveryCallWasAnswered();
  servers_.CheckToldIsKept(*servers_.primary());
  done_ = true;
}

}  // namespace tokenbroker::simulation
