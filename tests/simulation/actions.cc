// What happens in a schedule: callers, the operator, and faults.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "tests/simulation/world.h"

namespace tokenbroker::simulation {

void World::Act() {
  if (actions_left_-- == 0) {
    Heal();
    return;
  }
  Chance& chance = context_.chance();
  const Profile& profile = context_.profile;
  int64_t pick = chance.Below(profile.weight_ask + profile.weight_process + profile.weight_store +
                              profile.weight_operator);
  if ((pick -= profile.weight_ask) < 0) {
    AskSomebody();
  } else if ((pick -= profile.weight_process) < 0) {
    DisturbProcess();
  } else if ((pick -= profile.weight_store) < 0) {
    DisturbStore();
  } else {
    Operate();
  }
  const int64_t kind = chance.Below(100);
  Nanos pause = chance.Below(20'000) * kMicro;
  if (kind >= 97) {
    pause = chance.Between(60, 900) * kSecond;
  } else if (kind >= 80) {
    pause = chance.Between(3'000, 60'000) * kMilli;
  } else if (kind >= 40) {
    pause = chance.Below(3'000) * kMilli;
  }
  context_.scheduler.Post(nullptr, pause, [this] { Act(); });
}

void World::AskSomebody() {
  Chance& chance = context_.chance();
  const auto grant = static_cast<size_t>(chance.Below(context_.profile.grants));
  const GrantKey& key = context_.grants[grant];
  const int64_t calls = chance.Percent(20) ? chance.Between(3, 8) : chance.Between(1, 2);
  const int64_t rejected = chance.Percent(25) ? versions_[grant] : 0;
  for (int64_t i = 0; i < calls; ++i) {
    Process* process = AnyProcess();
    if (process == nullptr || process->frozen()) return;
    TokenQuery query{key.org_id, key.environment, key.oauth_client, {}};
    if (chance.Percent(25)) query.oauth_client = "";
    if (chance.Percent(15)) query.scopes = {"a.c.READ"};
    if (chance.Percent(10)) query.min_lifetime = absl::Seconds(chance.Between(1, 3'000));
    if (rejected != 0) {
      query.rejected_version = rejected;
      context_.Count(Fault::kRejected);
    }
    const Nanos deadline = chance.Percent(30) ? chance.Between(1, 10'000) * kMilli : 10 * kSecond;
    Ask(*process, query, deadline);
  }
}

World::CallPtr World::NewCall(Process& process, const GrantKey& key, Nanos deadline) {
  auto call = std::make_shared<Call>();
  call->number = static_cast<int>(calls_.size());
  call->process = &process;
  call->key = key;
  calls_.push_back(call);
  CheckDeadline(call, context_.now() + process.seams().ToWorld(absl::Nanoseconds(deadline)));
  return call;
}

void World::CheckDeadline(const CallPtr& call, Nanos due) {
  // What was due while the process was frozen comes when it goes on, in any order.
  Gate* const gate = &call->process->gate();
  context_.scheduler.Post(gate, due + kMilli - context_.now(), [this, call, due, gate] {
    // A process that has drained for long enough drops its timers; whoever waits is answered when
    // what runs has ended.
    if (call->answers != 0 || call->process->seams().stopping) return;
    const Nanos now = context_.now();
    const Nanos late = now - due - gate->FrozenBetween(due, now, now);
    if (late < kMilli) {
      CheckDeadline(call, now);
      return;
    }
    context_.judge.Break("answers",
                         absl::StrCat("call ", call->number, " has no answer at its deadline"));
  });
}

World::CallPtr World::Ask(Process& process, const TokenQuery& query, Nanos deadline) {
  const GrantKey key{std::string(query.org_id), query.environment, std::string(query.oauth_client)};
  CallPtr call = NewCall(process, key, deadline);
  call->rejected_version = query.rejected_version;
  context_.trace.Add("asked", process.seams().process, call->number, context_.GrantOf(key),
                     query.rejected_version);
  if (auto cached = process.issuer().TryCached(query)) {
    ++call->answers;
    answers_.emplace_back(call, *std::move(cached));
    return call;
  }
  const TokenIssuer::Ticket ticket = process.issuer().GetAccessToken(
      query, absl::Nanoseconds(deadline), [this, call](absl::StatusOr<TokenAnswer> answer) {
        ++call->answers;
        answers_.emplace_back(call, std::move(answer));
      });
  if (!context_.healed && context_.chance().Percent(8)) {
    context_.scheduler.Post(&process.gate(), context_.chance().Below(2'000) * kMilli,
                            [this, process = &process, ticket] {
                              if (!process->running()) return;
                              context_.Count(Fault::kCancelled);
                              process->issuer().Cancel(ticket);
                            });
  }
  return call;
}

void World::OnAnswers() {
  auto answers = std::move(answers_);
  answers_.clear();
  std::stable_sort(answers.begin(), answers.end(),
                   [](const auto& a, const auto& b) { return a.first->number < b.first->number; });
  for (const auto& [call, answer] : answers) {
    if (call->abandoned) continue;
    call->status = answer.status();
    const int process = call->process->seams().process;
    if (call->answers > 1) {
      context_.judge.Break("answers", absl::StrCat("call ", call->number, " is answered twice"));
    }
    if (!answer.ok()) {
      context_.trace.Add("refused", process, call->number,
                         static_cast<int64_t>(answer.status().code()));
      continue;
    }
    const IssuedToken& token = *answer->token;
    const int grant = context_.GrantOf(token.key);
    context_.judge.OnAnswer(process, grant, call->key, call->rejected_version, token.key,
                            token.access_token, token.version);
    if (grant >= 0) versions_[static_cast<size_t>(grant)] = token.version;
  }
}

void World::DisturbProcess() {
  Chance& chance = context_.chance();
  Process* process = AnyProcess();
  if (process == nullptr) return;
  const int number = process->seams().process;
  switch (chance.Below(4)) {
    case 0:
      context_.Count(Fault::kFreeze);
      process->seams().FreezeForAWhile();
      break;
    case 1:
      context_.Count(Fault::kCrash);
      context_.trace.Add("is killed", number);
      CrashProcess(number, process);
      break;
    case 2:
      context_.Count(Fault::kRestart);
      RestartProcess(number);
      break;
    default:
      context_.Count(Fault::kStoreCut);
      servers_.CutProcess(number, chance.Spread(200, 60'000) * kMilli);
  }
}

void World::DisturbStore() {
  Chance& chance = context_.chance();
  bool done = false;
  Fault fault = Fault::kCount;
  switch (chance.Below(6)) {
    case 0:
      fault = Fault::kPrimaryKilled;
      done = servers_.KillPrimary();
      break;
    case 1:
      fault = Fault::kPrimaryPartitioned;
      done = servers_.PartitionPrimary(
          static_cast<uint64_t>(chance.Below(int64_t{1} << context_.profile.processes)));
      break;
    case 2:
      fault = Fault::kPrimaryRestarted;
      done = servers_.RestartPrimary();
      break;
    case 3:
      fault = Fault::kReplicationStalled;
      done = servers_.StallReplication(chance.Spread(100, 30'000) * kMilli);
      if (done && chance.Percent(50)) {
        // What was written meanwhile is in danger.
        context_.scheduler.Post(nullptr, chance.Spread(100, 30'000) * kMilli, [this] {
          if (!context_.healed && servers_.KillPrimary()) context_.Count(Fault::kPrimaryKilled);
        });
      }
      break;
    default:
      if (Process* process = AnyProcess(); process != nullptr) {
        const bool silently = chance.Percent(50);
        fault = silently ? Fault::kSubscriptionSilent : Fault::kSubscriptionLost;
        process->store().LoseSubscription(silently);
        done = true;
      }
  }
  if (done) context_.Count(fault);
}

void World::Operate() {
  Chance& chance = context_.chance();
  Process* process = AnyProcess();
  if (process == nullptr || process->frozen()) return;
  auto grant = static_cast<int>(chance.Below(context_.profile.grants));
  // Best while something is under way for it.
  if (const int busy = context_.judge.GrantUnderWay(); busy >= 0 && chance.Percent(60))
    grant = busy;
  const GrantRecord* record = servers_.primary()->records[static_cast<size_t>(grant)].record.get();
  const int64_t kind = chance.Below(100);
  if (kind < 20) {
    context_.Count(Fault::kRevoke);
    Revoke(*process, grant);
    return;
  }
  if (kind < 28) {
    const int token = record == nullptr ? -1 : Judge::NumberOf(record->refresh_token);
    if (token < 0) return;
    context_.Count(Fault::kForeignRevoke);
    zoho_.RevokeConsent(context_.judge.refresh_token(token).consent);
    return;
  }
  Registration registration;
  registration.key = context_.grants[static_cast<size_t>(grant)];
  registration.dc = grant % 2 == 0 ? "us" : "eu";
  registration.scopes = {"a.b.READ"};
  if (registration.key.oauth_client == "web") registration.scopes.push_back("a.c.READ");
  registration.keep_warm = context_.profile.keep_warm;
  if (chance.Percent(80)) registration.request_id = absl::StrCat("request-", ++requests_);
  if (kind < 65) {
    context_.Count(Fault::kConsent);
    registration.credential =
        CodeCredential{Secret(zoho_.NewCode(grant)), "https://app.example/callback", {}};
  } else {
    context_.Count(Fault::kImport);
    // Now and then the very token that the grant refreshes with.
    const bool own = chance.Percent(40) && record != nullptr && !record->refresh_token.empty();
    registration.credential =
        ImportCredential{own ? record->refresh_token : Secret(zoho_.NewRefreshToken(grant))};
  }
  Register(*process, registration, 1);
}

void World::Register(Process& process, const Registration& registration, int tries) {
  const Nanos deadline = 10 * kSecond;
  CallPtr call = NewCall(process, registration.key, deadline);
  context_.trace.Add("registers", process.seams().process, call->number,
                     context_.GrantOf(registration.key));
  process.registrar().Register(
      registration, absl::Nanoseconds(deadline),
      [this, call, registration, tries](const absl::StatusOr<Registered>& result) {
        ++call->answers;
        call->status = result.status();
        if (call->abandoned || tries >= 3 || registration.request_id.empty() ||
            !absl::IsUnavailable(result.status())) {
          return;
        }
        // Once more, at whichever process, and not before it is said to help.
        const auto detail = GetErrorDetail(result.status());
        const Nanos at_least = absl::ToInt64Nanoseconds(
            detail && detail->retry_after ? *detail->retry_after : absl::ZeroDuration());
        const Nanos pause = context_.chance().Spread(100, 10'000) * kMilli;
        context_.scheduler.Post(nullptr, std::max(pause, at_least), [this, registration, tries] {
          Process* other = AnyProcess();
          if (other == nullptr || other->frozen()) return;
          Register(*other, registration, tries + 1);
        });
      });
}

void World::Revoke(Process& process, int grant) {
  const Nanos deadline = 10 * kSecond;
  CallPtr call = NewCall(process, context_.grants[static_cast<size_t>(grant)], deadline);
  context_.trace.Add("revokes", process.seams().process, call->number, grant);
  process.registrar().Revoke(call->key, absl::Nanoseconds(deadline),
                             [call](const absl::StatusOr<Revoked>& result) {
                               ++call->answers;
                               call->status = result.status();
                             });
}

}  // namespace tokenbroker::simulation
