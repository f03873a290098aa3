// Three replicas of the real code, one store, one Zoho, and chance: it decides who goes on at every
// seam, what fails and what callers do. What the broker promises has to hold in every history; a
// failure names the seed that repeats it.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "tests/server/issuing/world.h"

namespace tokenbroker {
namespace {

using Op = testing::FakeTokenStore::Op;
using testing::ScriptedReply;

constexpr int kReplicas = 3;
constexpr int kOrgs = 4;

class History {
 public:
  // `harsh`: Zoho also fails, and grants are revoked and registered anew.
  History(uint64_t seed, bool harsh)
      : world_({.replicas = kReplicas, .seed = seed, .executor = {.threads_per_lane = 4}}),
        random_(seed),
        harsh_(harsh) {
    world_.zoho().SetRotates(true);
    world_.distance().SetLatency(absl::Milliseconds(200));
    for (int org = 0; org < kOrgs; ++org) Consent(org);
  }

  void Run(int steps) {
    for (int i = 0; i < steps; ++i) {
      Step();
      world_.Advance(absl::Milliseconds(Pick(2) == 0 ? Pick(10) : Pick(3000)));
      if (Pick(40) == 0) world_.Advance(absl::Minutes(Pick(20)));
      CheckGenerations();
    }
    // Everything heals, and time goes by.
    for (int i = 0; i < kReplicas; ++i) {
      world_.replica(i).store().SetUnavailable(false);
      world_.replica(i).store().SetSession(1000 + i);
      for (const Op op : {Op::kCommit, Op::kFail, Op::kMarkSent, Op::kAcquire, Op::kRegister}) {
        world_.replica(i).store().LoseReplies(op, 0);
      }
    }
    world_.zoho().ClearScripts();
    world_.Advance(absl::Minutes(70));
    CheckEnd();
  }

 private:
  uint64_t Pick(uint64_t below) { return random_() % below; }
  static GrantKey KeyOf(int org) {
    return {absl::StrCat("org", org), Environment::kProduction, "web"};
  }

  void Consent(int org) {
    world_.Add({.key = KeyOf(org),
                .dc = org % 2 == 0 ? "us" : "eu",
                .refresh_token = absl::StrCat("rt-org", org, "-", ++consents_)});
  }

  void Step() {
    Replica& replica = world_.replica(static_cast<int>(Pick(kReplicas)));
    const int org = static_cast<int>(Pick(kOrgs));
    switch (Pick(harsh_ ? 20 : 14)) {
      case 0:
        replica.store().SetUnavailable(true);
        break;
      case 1:
      case 2:
        for (int i = 0; i < kReplicas; ++i) world_.replica(i).store().SetUnavailable(false);
        break;
      case 3: {
        constexpr Op kOps[] = {Op::kCommit, Op::kFail, Op::kMarkSent, Op::kAcquire, Op::kRegister};
        replica.store().LoseReplies(kOps[Pick(5)], 1 + static_cast<int>(Pick(3)));
        break;
      }
      case 4:
        replica.store().SetSession(Pick(2) == 0 ? 0 : ++sessions_);
        break;
      case 14:
        world_.zoho().Script(
            TokenRequest::GrantType::kRefreshToken,
            Pick(2) == 0 ? ScriptedReply::Transient() : ScriptedReply::Unreachable());
        break;
      case 15:
        world_.zoho().Script(TokenRequest::GrantType::kRefreshToken, ScriptedReply::Throttled());
        break;
      case 16:
        replica.registrar().Revoke(KeyOf(org), absl::Seconds(10), [](auto) {});
        break;
      case 17:
      case 18: {
        Registration registration;
        registration.key = KeyOf(org);
        registration.dc = org % 2 == 0 ? "us" : "eu";
        registration.credential =
            CodeCredential{Secret(absl::StrCat("code-", ++consents_)), "https://x.example", {}};
        replica.registrar().Register(registration, absl::Seconds(10), [](auto) {});
        break;
      }
      default:
        for (uint64_t i = 0; i <= Pick(20); ++i) Ask(replica, org);
    }
  }

  void Ask(Replica& replica, int org) {
    Query query{.org_id = KeyOf(org).org_id};
    if (Pick(3) == 0) query.oauth_client = "";
    if (Pick(6) == 0) query.rejected_version = world_.record(KeyOf(org)).generation;
    if (Pick(8) == 0) query.min_lifetime = absl::Seconds(3000);
    query.deadline = absl::Milliseconds(1 + Pick(10'000));
    const auto call = replica.Start(query);
    calls_.push_back({query, call, world_.executor().now()});
    if (Pick(10) == 0) replica.issuer().Cancel(call->ticket);
  }

  // G3: the store never goes back.
  void CheckGenerations() {
    for (int org = 0; org < kOrgs; ++org) {
      const int64_t generation = world_.record(KeyOf(org)).generation;
      ASSERT_GE(generation, generations_[org]);
      generations_[org] = generation;
    }
  }

  void CheckEnd() {
    for (const auto& [query, call, asked_at] : calls_) {
      ASSERT_EQ(call->answers, 1);
      ASSERT_LE(call->answered_at - asked_at, query.deadline + absl::Milliseconds(1));
      if (!call->answer->ok()) continue;
      const TokenAnswer& answer = **call->answer;
      ASSERT_EQ(answer.token->key.org_id, query.org_id);
      ASSERT_NE(answer.token->version, query.rejected_version);
      ASSERT_GT(answer.expires_in, absl::ZeroDuration());
    }
    // G2: at most one request in flight per grant.
    ASSERT_LE(world_.distance().max_in_flight(), 1);
    for (int i = 0; i < kReplicas; ++i) {
      // G4: nothing that Zoho gave was dropped.
      ASSERT_EQ(world_.replica(i).commits_pending(), 0);
      ASSERT_EQ(world_.replica(i).issuer().flights(), 0u);
    }
    for (int org = 0; org < kOrgs; ++org) {
      const GrantState state = world_.record(KeyOf(org)).state;
      // With G4 and strict rotation no grant can have died: the only valid refresh token was always
      // the stored one. G5 where Zoho also failed.
      ASSERT_NE(state, GrantState::kNeedsConsent) << org;
      for (int i = 0; i < kReplicas; ++i) {
        const auto answer = world_.replica(i).Get({.org_id = KeyOf(org).org_id});
        if (state == GrantState::kRevoked) {
          ASSERT_EQ(Brief(answer), "CONSENT_REQUIRED");
        } else {
          ASSERT_TRUE(answer.ok()) << answer.status();
          ASSERT_EQ(answer->token->access_token, world_.record(KeyOf(org)).access_token);
        }
      }
    }
  }

  struct Asked {
    Query query;
    std::shared_ptr<Call> call;
    MonotonicTime at;
  };

  World world_;
  std::mt19937_64 random_;
  const bool harsh_;
  int consents_ = 0;
  int64_t sessions_ = 1;
  std::vector<Asked> calls_;
  std::map<int, int64_t> generations_;
};

// More of them with TB_SIMULATION_HISTORIES.
uint64_t Histories() {
#ifdef TB_SANITIZED
  uint64_t histories = 15;
#else
  uint64_t histories = 60;
#endif
  if (const char* more = std::getenv("TB_SIMULATION_HISTORIES"); more != nullptr) {
    histories = std::strtoull(more, nullptr, 10);
  }
  return histories;
}

class Simulation : public ::testing::TestWithParam<bool> {};

TEST_P(Simulation, KeepsThePromisesInEveryHistory) {
  for (uint64_t seed = 1; seed <= Histories(); ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    History(seed, GetParam()).Run(200);
    if (::testing::Test::HasFatalFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Simulation, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Harsh" : "StoreOnly"; });

// G1: without faults one refresh per token generation, whoever asks, whenever.
TEST(FaultlessSimulation, OneRefreshPerGeneration) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    World world({.replicas = 3, .seed = seed});
    world.distance().SetLatency(absl::Milliseconds(200));
    world.Add({});
    std::vector<std::shared_ptr<Call>> calls;
    for (int i = 0; i < 300; ++i) {
      calls.push_back(world.replica(i % 3).Start({}));
      if (i % 10 == 0) world.Advance(absl::Milliseconds(10));
    }
    world.Advance(absl::Seconds(1));
    for (const auto& call : calls) ASSERT_EQ((*call->answer)->token->version, 2);
    ASSERT_EQ(world.zoho().sends(), 1);
    // The next generations, refreshed ahead while all replicas use it.
    for (int i = 0; i < 100; ++i) {
      world.Advance(absl::Minutes(3));
      for (int r = 0; r < 3; ++r) ASSERT_TRUE(world.replica(r).Get({}).ok());
    }
    ASSERT_EQ(world.zoho().sends(), world.record().generation - 1);
    ASSERT_LE(world.zoho().sends(), 8);
  }
}

}  // namespace
}  // namespace tokenbroker
