#include "server/issuing/grant_registrar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/errors.h"
#include "tests/server/issuing/registrations.h"
#include "tests/server/issuing/world.h"

namespace tokenbroker {
namespace {

using Op = testing::FakeTokenStore::Op;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Pair;
using testing::ScriptedReply;

TEST(GrantRegistrar, ACodeBecomesAGrantWithAToken) {
  World world;
  Registration registration = ByCode("code-1");
  std::get<CodeCredential>(registration.credential).code_verifier = Secret("verifier");
  registration.scopes = {"A.b.READ"};
  registration.display_name = "Acme";
  registration.labels = {{"team", "x"}};
  registration.keep_warm = true;
  world.zoho().SetScopes({"A.b.READ", "A.c.READ"});
  const auto registered = world.replica().Register(registration);
  ASSERT_TRUE(registered.ok()) << registered.status();
  EXPECT_FALSE(registered->replaced);
  EXPECT_TRUE(registered->record.refresh_token.empty());
  EXPECT_TRUE(registered->record.access_token.empty());

  const GrantRecord record = world.record();
  EXPECT_EQ(record.refresh_token.Reveal(), "rt-1");
  EXPECT_EQ(record.access_token.Reveal(), "at-1");
  // Zoho's own word wins.
  EXPECT_THAT(record.info.scopes, ElementsAre("A.b.READ", "A.c.READ"));
  EXPECT_EQ(record.info.display_name, "Acme");
  EXPECT_THAT(record.info.labels, ElementsAre(Pair("team", "x")));
  EXPECT_TRUE(record.info.keep_warm);
  EXPECT_EQ(record.sends.size(), 1u);
  const TokenRequest request = world.zoho().requests().at(0);
  EXPECT_EQ(request.grant_type, TokenRequest::GrantType::kAuthorizationCode);
  EXPECT_EQ(request.redirect_uri, "https://broker.example.com/cb");
  EXPECT_EQ(request.code_verifier->Reveal(), "verifier");
  // And is good at once.
  EXPECT_EQ(Brief(world.Get()), "STORE at-1");
}

TEST(GrantRegistrar, ACodeReplacesALivingGrant) {
  World world({.replicas = 2});
  world.Add({.lifetime = absl::Hours(1)});
  ASSERT_TRUE(world.replica(1).Get().ok());
  EXPECT_EQ(Reason(world.replica().Register(ByCode("code-1"))), "replaced");
  EXPECT_EQ(Brief(world.replica(1).Get()), "STORE at-1");
}

TEST(GrantRegistrar, WhatZohoSaysOfACode) {
  World world;
  world.Add({.lifetime = absl::Hours(10)});
  const auto with = [&](const ScriptedReply& reply) {
    world.Advance(absl::Minutes(20));  // for the budget and the throttle
    world.zoho().Script("code", reply);
    return Reason(world.replica().Register(ByCode("code")));
  };
  EXPECT_EQ(with(ScriptedReply::Dead()), "AUTHORIZATION_CODE_REJECTED");
  EXPECT_EQ(with(ScriptedReply::ClientRejected()), "CLIENT_REJECTED");
  EXPECT_EQ(with(ScriptedReply::Throttled()), "ZOHO_THROTTLED");
  EXPECT_EQ(with(ScriptedReply::Transient()), "ZOHO_UNAVAILABLE");
  EXPECT_EQ(with(ScriptedReply::Ambiguous()), "ZOHO_UNAVAILABLE");
  EXPECT_EQ(with(ScriptedReply::Unreachable()), "ZOHO_UNAVAILABLE");
  EXPECT_EQ(with(ScriptedReply::Success(absl::Hours(1))), "REFRESH_TOKEN_MISSING");
  // The living grant is what it was.
  EXPECT_EQ(world.record().generation, 1);
  EXPECT_EQ(Brief(world.Get()), "STORE at-old");
}

TEST(GrantRegistrar, ReplacesARecordThatCannotBeRead) {
  World world;
  world.Add({.lifetime = absl::Hours(1)});
  world.store().Damage({"acme", Environment::kProduction, "web"});
  ASSERT_EQ(Brief(world.Get()), "RECORD_UNREADABLE");
  EXPECT_EQ(Reason(world.replica().Register(ByCode("code-1"))), "replaced");
  EXPECT_GT(world.record().generation, 1);
  // At once, not when the refusal would have been forgotten.
  EXPECT_TRUE(world.Get().ok());
}

TEST(GrantRegistrar, OverAnUnreadableRecordTheBudgetIsKeptTooAndNothingIsReplacedInVain) {
  World world;
  world.Add({.lifetime = absl::Hours(1)});
  world.store().Damage({"acme", Environment::kProduction, "web"});
  world.zoho().ScriptAll(ScriptedReply::Dead());
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(Reason(world.replica().Register(Import("dead"))),
              i < 5 ? "REFRESH_TOKEN_REJECTED" : "MINT_BUDGET_EXHAUSTED");
  }
  EXPECT_EQ(world.zoho().sends(), 5);
  EXPECT_EQ(Brief(world.Get()), "RECORD_UNREADABLE");
}

TEST(GrantRegistrar, NothingIsSpentThatCouldNotBeStored) {
  World world;
  world.store().SetUnavailable(Op::kCheckWritable, true);
  EXPECT_EQ(Reason(world.replica().Register(ByCode("code-1"))), "STORE_UNAVAILABLE");
  world.store().SetUnavailable(Op::kCheckWritable, false);
  Registration lost = ByCode("code-1");
  lost.key.oauth_client = "lost";
  EXPECT_EQ(Reason(world.replica().Register(lost)), "CLIENT_SECRET_MISSING");
  EXPECT_EQ(world.zoho().checks(), 0);
  EXPECT_EQ(Reason(world.replica().Register(ByCode("code-1"))), "created");
}

TEST(GrantRegistrar, WhatWasSpentIsStoredHoweverLongItTakes) {
  World world;
  world.store().SetUnavailable(Op::kRegister, true);
  const MonotonicTime start = world.executor().now();
  EXPECT_EQ(Reason(world.replica().Register(ByCode("code-1", "id"), absl::Seconds(30))),
            "STORE_UNAVAILABLE");
  EXPECT_LT(world.executor().now() - start, absl::Seconds(7));
  EXPECT_EQ(world.replica().commits_pending(), 1);
  // Trying again joins the first try.
  Pending pending;
  pending.Start(world, 0, ByCode("code-1", "id"), absl::Hours(1));
  world.Advance(absl::Minutes(10));
  world.store().SetUnavailable(Op::kRegister, false);
  world.Advance(absl::Seconds(1));
  EXPECT_EQ(world.replica().commits_pending(), 0);
  EXPECT_EQ(world.record().refresh_token.Reveal(), "rt-1");
  // Its access token has aged meanwhile.
  EXPECT_LE(world.record().AccessLifetime(), absl::Minutes(50));
  EXPECT_EQ(world.zoho().sends(), 1);
  EXPECT_EQ(Reason(world.replica().Register(ByCode("code-1", "id"))), "created");
  EXPECT_EQ(world.zoho().sends(), 1);
}

TEST(GrantRegistrar, ALostReplyOfTheStoreRegistersOnce) {
  World world;
  world.store().LoseReplies(Op::kRegister, 2);
  EXPECT_TRUE(world.replica().Register(ByCode("code-1")).ok());
  EXPECT_EQ(world.record().generation, 1);
  EXPECT_EQ(world.record().sends.size(), 1u);
}

TEST(GrantRegistrar, ARequestIdIsOneRegistration) {
  World world;
  EXPECT_EQ(Reason(world.replica().Register(ByCode("code-1", "id"))), "created");
  EXPECT_EQ(Reason(world.replica().Register(ByCode("code-1", "id"))), "created");
  EXPECT_EQ(world.zoho().sends(), 1);
  EXPECT_EQ(world.record().generation, 1);
  EXPECT_EQ(Reason(world.replica().Register(ByCode("code-2", "id-2"))), "replaced");
  // Another key is another registration.
  Registration other = ByCode("code-3", "id-2");
  other.key.org_id = "bolt";
  EXPECT_EQ(Reason(world.replica().Register(other)), "created");
}

TEST(GrantRegistrar, ARequestIdIsOneRegistrationAlsoAtTheSameTime) {
  World world;
  world.distance().SetLatency(absl::Seconds(1));
  Pending pending;
  for (int i = 0; i < 50; ++i) pending.Start(world, 0, ByCode("code-1", "id"));
  world.Advance(absl::Milliseconds(500));
  for (int i = 0; i < 50; ++i) pending.Start(world, 0, ByCode("code-1", "id"));
  pending.Start(world, 0, ByCode("code-1", "id"), absl::Milliseconds(100));
  world.Advance(absl::Seconds(1));
  std::vector<std::string> expected(100, "created");
  expected.push_back("DEADLINE_EXCEEDED");
  EXPECT_EQ(pending.results(), expected);
  EXPECT_EQ(world.zoho().sends(), 1);
}

TEST(GrantRegistrar, ARequestIdIsOneRegistrationAlsoAtTwoReplicas) {
  World world({.replicas = 2});
  world.distance().SetLatency(absl::Milliseconds(500));
  Pending pending;
  pending.Start(world, 0, ByCode("code-1", "id"));
  pending.Start(world, 1, ByCode("code-1", "id"));
  // The second one's code is dead, and the first one's grant not stored yet.
  world.zoho().Script("code-1", ScriptedReply::SuccessWithRefreshToken("rt-new"));
  world.zoho().Script("code-1", ScriptedReply::Dead());
  world.store().SetUnavailable(Op::kRegister, true);
  world.Advance(absl::Milliseconds(800));
  world.store().SetUnavailable(Op::kRegister, false);
  world.Advance(absl::Seconds(2));
  EXPECT_THAT(pending.results(), ElementsAre("created", "created"));
  EXPECT_EQ(world.record().refresh_token.Reveal(), "rt-new");
}

TEST(GrantRegistrar, TheDeadlineIsTheCallersAndTheWorkGoesOn) {
  World world;
  world.distance().SetLatency(absl::Seconds(5));
  const MonotonicTime start = world.executor().now();
  EXPECT_EQ(Reason(world.replica().Register(ByCode("code-1"), absl::Seconds(1))),
            "DEADLINE_EXCEEDED");
  EXPECT_EQ(world.executor().now() - start, absl::Seconds(1));
  world.Advance(absl::Seconds(5));
  EXPECT_EQ(world.record().refresh_token.Reveal(), "rt-1");
}

TEST(GrantRegistrar, AnImportIsProvenBeforeItIsStored) {
  World world;
  EXPECT_EQ(Reason(world.replica().Register(Import("rt-mine"))), "created");
  EXPECT_EQ(world.record().refresh_token.Reveal(), "rt-mine");
  EXPECT_EQ(world.record().access_token.Reveal(), "at-1");
  EXPECT_EQ(world.record().sends.size(), 1u);
  world.zoho().Script("rt-dead", ScriptedReply::Dead());
  EXPECT_EQ(Reason(world.replica().Register(Import("rt-dead"))), "REFRESH_TOKEN_REJECTED");
  EXPECT_EQ(world.record().refresh_token.Reveal(), "rt-mine");
  EXPECT_EQ(world.record().state, GrantState::kActive);
  EXPECT_EQ(world.record().phase, LeasePhase::kNone);
  EXPECT_EQ(world.record().not_before, absl::InfinitePast());
}

TEST(GrantRegistrar, AnImportKeepsARotatedToken) {
  World world;
  world.zoho().SetRotates(true);
  EXPECT_EQ(Reason(world.replica().Register(Import("rt-mine"))), "created");
  EXPECT_EQ(world.record().refresh_token.Reveal(), "rt-1");
}

// The very token that the grant has: one request at a time, one budget.
TEST(GrantRegistrar, AnImportOfTheGrantsOwnTokenGoesThroughItsLease) {
  World world({.replicas = 2});
  world.distance().SetLatency(absl::Milliseconds(500));
  world.Add({});
  const auto call = world.replica(0).Start({});
  world.executor().RunUntilIdle();
  Pending pending;
  pending.Start(world, 1, Import("rt-acme"));
  world.Advance(absl::Seconds(3));
  EXPECT_EQ(Brief(call), "REFRESHED at-1");
  EXPECT_THAT(pending.results(), ElementsAre("replaced"));
  EXPECT_EQ(world.distance().max_in_flight(), 1);
  EXPECT_EQ(world.zoho().sends(), 2);
  EXPECT_EQ(world.record().sends.size(), 2u);

  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Reason(world.replica().Register(Import("rt-acme"))), "replaced");
  }
  EXPECT_EQ(Reason(world.replica().Register(Import("rt-acme"))), "MINT_BUDGET_EXHAUSTED");
  EXPECT_EQ(world.zoho().sends(), 5);
}

TEST(GrantRegistrar, WhatAnImportLearnsOfTheGrantsOwnTokenIsKept) {
  World world;
  world.Add({});
  world.zoho().Script("rt-acme", ScriptedReply::Throttled());
  EXPECT_EQ(Reason(world.replica().Register(Import("rt-acme"))), "ZOHO_THROTTLED");
  EXPECT_EQ(world.record().last_failure, FailureKind::kThrottled);
  EXPECT_EQ(world.record().sends.size(), 1u);
  // Zoho is left alone meanwhile, whoever asks.
  EXPECT_EQ(Reason(world.replica().Register(Import("rt-acme"))), "ZOHO_THROTTLED");
  EXPECT_EQ(Brief(world.Get()), "ZOHO_THROTTLED");
  EXPECT_EQ(world.zoho().sends(), 1);

  world.Advance(absl::Seconds(600));
  world.zoho().Script("rt-acme", ScriptedReply::Dead());
  EXPECT_EQ(Reason(world.replica().Register(Import("rt-acme"))), "REFRESH_TOKEN_REJECTED");
  EXPECT_EQ(world.record().state, GrantState::kNeedsConsent);
  EXPECT_EQ(Reason(world.replica().Register(Import("rt-new"))), "replaced");
  EXPECT_EQ(world.record().state, GrantState::kActive);
}

TEST(GrantRegistrar, AnImportDoubtsTheDeathOfATokenWhoseFateIsUnknown) {
  World world;
  world.Add({});
  world.zoho().Script("rt-acme", ScriptedReply::Ambiguous());
  world.zoho().Script("rt-acme", ScriptedReply::Dead());
  ASSERT_FALSE(world.Get().ok());
  world.Advance(absl::Seconds(5));
  EXPECT_EQ(Reason(world.replica().Register(Import("rt-acme"))), "REFRESH_TOKEN_REJECTED");
  EXPECT_EQ(world.record().state, GrantState::kActive);
}

TEST(GrantRegistrar, ClientCredentialsNeedNoRefreshToken) {
  World world;
  const auto registered = world.replica().Register(ByClientCredentials());
  ASSERT_TRUE(registered.ok()) << registered.status();
  EXPECT_EQ(registered->record.info.type, GrantType::kClientCredentials);
  EXPECT_EQ(registered->record.info.soid, "Service.1");
  const TokenRequest request = world.zoho().requests().at(0);
  EXPECT_EQ(request.scope, "A.b.READ,A.c.READ");
  EXPECT_EQ(request.soid, "Service.1");
  EXPECT_EQ(Brief(world.Get({.oauth_client = "self"})), "STORE at-1");
  Registration elsewhere = ByClientCredentials();
  elsewhere.dc = "eu";
  EXPECT_EQ(Reason(world.replica().Register(elsewhere)), "CLIENT_SECRET_MISSING");
}

TEST(GrantRegistrar, ClientCredentialsOverALivingGrantComeOutOfItsBudget) {
  World world;
  EXPECT_EQ(Reason(world.replica().Register(ByClientCredentials())), "created");
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(Reason(world.replica().Register(ByClientCredentials())), "replaced");
  }
  EXPECT_EQ(Reason(world.replica().Register(ByClientCredentials())), "MINT_BUDGET_EXHAUSTED");
  EXPECT_EQ(world.zoho().sends(), 5);
}

TEST(GrantRegistrar, ASoidThatZohoDoesNotKnowIsTheOperators) {
  World world;
  world.zoho().ScriptAll(ScriptedReply::Dead());
  EXPECT_EQ(Reason(world.replica().Register(ByClientCredentials())), "CLIENT_REJECTED");
}

TEST(GrantRegistrar, KeepsToTheBreaker) {
  World world({.breaker = {.failures = 1}});
  world.zoho().ScriptAll(ScriptedReply::Unreachable());
  EXPECT_EQ(Reason(world.replica().Register(ByCode("code-1"))), "ZOHO_UNAVAILABLE");
  world.zoho().ClearScripts();
  EXPECT_EQ(Reason(world.replica().Register(ByCode("code-1"))), "ZOHO_UNAVAILABLE");
  EXPECT_EQ(world.zoho().checks(), 0);
  world.Advance(absl::Seconds(10));
  EXPECT_EQ(Reason(world.replica().Register(ByCode("code-1"))), "created");
}

TEST(GrantRegistrar, DrainWaitsForWhatIsUnderWay) {
  World world;
  world.distance().SetLatency(absl::Seconds(2));
  Pending pending;
  pending.Start(world, 0, ByCode("code-1"));
  world.executor().RunUntilIdle();
  EXPECT_FALSE(world.replica().registrar().Drain(absl::Seconds(1)));
  pending.Start(world, 0, ByCode("code-2"));
  EXPECT_TRUE(world.replica().registrar().Drain(absl::Seconds(5)));
  EXPECT_THAT(pending.results(), ElementsAre("created", "SHUTTING_DOWN"));
}

TEST(GrantRegistrar, WhenWaitingEndsAllAreAnsweredAndWhatWasSpentIsStored) {
  World world;
  world.distance().SetLatency(absl::Seconds(2));
  Pending pending;
  pending.Start(world, 0, ByCode("code-1"));
  pending.Start(world, 0, ByClientCredentials());
  Registration joined = Import("rt-joined", "id");
  joined.key.org_id = "joined";
  pending.Start(world, 0, joined);
  pending.Start(world, 0, joined);
  absl::Status told;
  world.replica().registrar().Register(joined, absl::Seconds(10),
                                       [&](const auto& result) { told = result.status(); });
  world.executor().RunUntilIdle();
  world.replica().registrar().StopWaiting();
  // Another replica is asked when this one's request has ended.
  EXPECT_EQ(RetryAfter(told), ProtocolLimits().LongestRequest());
  pending.Start(world, 0, ByCode("code-2"));
  EXPECT_THAT(pending.results(), Each("SHUTTING_DOWN"));
  EXPECT_TRUE(world.replica().registrar().Drain(absl::Seconds(5)));
  for (const GrantKey& key : {Grant().key, ByClientCredentials().key, joined.key}) {
    EXPECT_EQ(world.record(key).state, GrantState::kActive) << key.org_id;
  }
  EXPECT_EQ(world.zoho().sends(), 3);
  EXPECT_THAT(pending.results(), Each("SHUTTING_DOWN"));
}

TEST(GrantRegistrar, SpendsNothingThatMightNotBeStoredByTheEnd) {
  World world;
  world.Add({});
  const auto finish_by = [&](absl::Duration left) {
    world.replica().refresher().FinishBy(world.executor().now() + left);
  };
  // The store takes its time for the lease, which is given back.
  finish_by(absl::Seconds(19));
  world.store().After(Op::kAcquire, [&] { world.executor().Pause(absl::Seconds(2)); });
  EXPECT_EQ(Reason(world.replica().Register(Import("rt-new"))), "SHUTTING_DOWN");
  EXPECT_EQ(world.store().count(Op::kAcquire), 1);
  EXPECT_EQ(world.record().phase, LeasePhase::kNone);

  finish_by(absl::Seconds(17));
  EXPECT_EQ(Reason(world.replica().Register(Import("rt-new"))), "SHUTTING_DOWN");
  EXPECT_EQ(world.store().count(Op::kAcquire), 1);
  EXPECT_EQ(Reason(world.replica().Register(ByCode("code-1"))), "SHUTTING_DOWN");
  EXPECT_EQ(world.zoho().checks(), 0);
}

TEST(GrantRegistrar, WhoIsDroppedByTheExecutorIsAnsweredAllTheSame) {
  World world;
  Pending pending;
  pending.Start(world, 0, ByCode("code-1"));
  pending.Start(world, 0, ByCode("code-2", "id"));
  pending.Start(world, 0, ByCode("code-2", "id"));
  world.executor().Shutdown();
  pending.Start(world, 0, ByCode("code-3"));
  EXPECT_THAT(pending.results(),
              ElementsAre("SHUTTING_DOWN", "SHUTTING_DOWN", "SHUTTING_DOWN", "SHUTTING_DOWN"));
}

TEST(GrantRegistrar, AFullLaneRefuses) {
  World world({.executor = {.threads_per_lane = 1, .queue_per_lane = 1}});
  world.distance().SetLatency(absl::Seconds(5));
  Pending pending;
  pending.Start(world, 0, ByCode("code-1"));
  world.executor().RunUntilIdle();
  pending.Start(world, 0, ByCode("code-2", "id-2"));
  pending.Start(world, 0, ByCode("code-3", "id-3"));
  EXPECT_THAT(pending.results(), ElementsAre("waiting", "waiting", "OVERLOADED"));
  world.Advance(absl::Seconds(15));
  pending.Start(world, 0, ByCode("code-3", "id-3"));
  world.Advance(absl::Seconds(6));
  EXPECT_EQ(pending.results().back(), "replaced");
}

TEST(GrantRegistrar, AnImportAtTheWrongDcDoesNotHarmTheGrant) {
  World world;
  world.Add({});
  // The grant's own refresh token, which another DC does not know.
  world.zoho().Script("rt-acme", ScriptedReply::Dead());
  Registration wrong = Import("rt-acme");
  wrong.dc = "eu";
  EXPECT_EQ(Reason(world.replica().Register(wrong)), "REFRESH_TOKEN_REJECTED");
  EXPECT_EQ(world.record().state, GrantState::kActive);
  EXPECT_EQ(world.record().info.dc, "us");
  EXPECT_EQ(Brief(world.Get()), "REFRESHED at-1");
}

}  // namespace
}  // namespace tokenbroker
