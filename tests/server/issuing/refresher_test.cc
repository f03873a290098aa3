// The refresh protocol from the holder's side.
#include "server/issuing/refresher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/errors.h"
#include "tests/server/issuing/world.h"

namespace tokenbroker {
namespace {

using Op = testing::FakeTokenStore::Op;
using ::testing::Contains;
using ::testing::ElementsAre;
using testing::ScriptedReply;

TEST(Refresher, CountsBeforeItSends) {
  World world;
  world.Add({});
  size_t counted = 0;
  LeasePhase phase = LeasePhase::kNone;
  world.distance().WhenSent([&] {
    counted = world.record().sends.size();
    phase = world.record().phase;
  });
  ASSERT_TRUE(world.Get().ok());
  EXPECT_EQ(counted, 1u);
  EXPECT_EQ(phase, LeasePhase::kSent);
  EXPECT_EQ(world.record().phase, LeasePhase::kNone);
}

TEST(Refresher, SpendsTheRefreshTokenOfTheRecordAtItsDc) {
  World world;
  world.Add({.dc = "in"});
  ASSERT_TRUE(world.Get().ok());
  const TokenRequest request = world.zoho().requests().at(0);
  EXPECT_EQ(request.dc.accounts_server, "https://accounts.zoho.in");
  EXPECT_EQ(request.refresh_token.Reveal(), "rt-acme");
  EXPECT_EQ(request.client_id, "1000.web");
  EXPECT_EQ(request.client_secret.Reveal(), "secret-web");
  EXPECT_EQ(request.connect_timeout, absl::Seconds(3));
  EXPECT_EQ(request.response_timeout, absl::Seconds(10));
}

TEST(Refresher, StoresARotatedRefreshToken) {
  World world;
  world.zoho().SetRotates(true);
  world.Add({});
  ASSERT_TRUE(world.Get().ok());
  EXPECT_EQ(world.record().refresh_token.Reveal(), "rt-1");
  EXPECT_EQ(Brief(world.Get({.rejected_version = 2})), "REFRESHED at-2");
  EXPECT_EQ(world.record().refresh_token.Reveal(), "rt-2");
}

TEST(Refresher, GivesUpTheLeaseBeforeItRunsOut) {
  World world;
  world.Add({});
  // Connecting takes longer than the pre-send lease less the drift.
  world.distance().SetConnectTime(absl::Milliseconds(5001));
  const auto call = world.Start({.deadline = absl::Seconds(30)});
  world.Advance(absl::Seconds(16));
  // Three times, and nothing was marked.
  EXPECT_EQ(Brief(call), "waiting");
  world.distance().SetConnectTime(absl::ZeroDuration());
  world.Advance(absl::Seconds(6));
  EXPECT_EQ(Brief(call).substr(Brief(call).size() - 4), "at-1");
  EXPECT_EQ(world.zoho().sends(), 1);
  EXPECT_EQ(world.store().count(Op::kMarkSent), 1);
}

TEST(Refresher, ALostLeaseSendsNothing) {
  World world({.replicas = 2});
  world.distance().SetConnectTime(absl::Seconds(1));
  world.Add({});
  // While the connection is made, somebody registers the grant anew.
  world.store().Before(Op::kMarkSent,
                       [&] { world.Add({.refresh_token = "rt-new", .lifetime = absl::Hours(1)}); });
  EXPECT_EQ(Brief(world.Get()), "JOINED at-old");
  EXPECT_EQ(world.zoho().sends(), 0);
  EXPECT_THAT(world.replica().outcomes(), ElementsAre("not_sent", "fresh"));
}

TEST(Refresher, WhenTheStoreDoesNotTakeTheMarkNothingIsSent) {
  World world;
  world.Add({});
  world.store().FailNext(Op::kMarkSent, StoreNotAcknowledgedError());
  const auto answer = world.Get();
  EXPECT_EQ(Brief(answer), "STORE_NOT_ACKNOWLEDGED");
  EXPECT_EQ(world.zoho().sends(), 0);
  EXPECT_TRUE(world.record().sends.empty());
  EXPECT_EQ(world.record().phase, LeasePhase::kNone);
  world.Advance(absl::Seconds(1));
  EXPECT_EQ(Brief(world.Get()), "REFRESHED at-1");
}

TEST(Refresher, ALostAnswerToTheMarkIsNoSend) {
  World world;
  world.Add({});
  world.store().LoseReplies(Op::kMarkSent);
  EXPECT_EQ(Brief(world.Get()), "STORE_UNAVAILABLE");
  EXPECT_EQ(world.zoho().sends(), 0);
  // It had been journalled, and was taken back.
  EXPECT_TRUE(world.record().sends.empty());
  EXPECT_FALSE(world.record().ambiguous);
}

TEST(Refresher, AMarkThatWasAnsweredTooLateSendsNothing) {
  const ProtocolLimits limits;
  const absl::Duration late = limits.sent_lease - limits.response_timeout - limits.clock_drift;
  World world;
  world.Add({});
  // Stored, and then this process stands still: of the lease there is less left than the request
  // may take.
  world.store().After(Op::kMarkSent, [&] { world.executor().Pause(late); });
  const auto call = world.Start({.deadline = absl::Seconds(30)});
  world.Advance(late);
  EXPECT_EQ(Brief(call), "REFRESHED at-1");
  EXPECT_EQ(world.zoho().sends(), 1);
  EXPECT_EQ(world.store().count(Op::kMarkSent), 2);
  EXPECT_THAT(world.replica().outcomes(), ElementsAre("not_sent", "refreshed"));
  // The one that did not leave is not counted.
  EXPECT_EQ(world.record().sends.size(), 1u);

  world.store().After(Op::kMarkSent, [&] { world.executor().Pause(late - absl::Milliseconds(1)); });
  const auto next = world.Start({.rejected_version = 2, .deadline = absl::Seconds(30)});
  world.Advance(late);
  EXPECT_EQ(Brief(next), "REFRESHED at-2");
  EXPECT_EQ(world.store().count(Op::kMarkSent), 3);
}

TEST(Refresher, ALostAnswerToTheCommitIsNoSecondCommit) {
  World world;
  world.Add({});
  world.store().LoseReplies(Op::kCommit, 3);
  const auto answer = world.Get();
  EXPECT_EQ(Brief(answer), "REFRESHED at-1");
  EXPECT_EQ(answer->token->version, 2);
  EXPECT_EQ(world.record().generation, 2);
  EXPECT_EQ(world.store().count(Op::kCommit), 4);
}

TEST(Refresher, CommitsUntilItIsStored) {
  World world;
  world.Add({.lifetime = absl::Seconds(100)});
  ASSERT_EQ(Brief(world.Get({.min_lifetime = absl::Seconds(60)})), "REFRESHED at-1");
  world.store().SetUnavailable(Op::kCommit, true);
  const MonotonicTime start = world.executor().now();
  const auto hungry = world.Start({.rejected_version = 2, .deadline = absl::Seconds(30)});
  const auto modest =
      world.Start({.min_lifetime = absl::Seconds(3601), .deadline = absl::Seconds(30)});
  world.Advance(absl::Seconds(3));
  EXPECT_EQ(world.replica().commits_pending(), 1);
  EXPECT_EQ(Brief(hungry), "waiting");
  world.Advance(absl::Seconds(4));
  // Nobody waits longer than the commit budget; the tokens are not dropped.
  EXPECT_EQ(Brief(hungry), "STORE_UNAVAILABLE");
  EXPECT_LT(hungry->answered_at - start, absl::Seconds(7));
  EXPECT_EQ(Brief(modest), "STORE_UNAVAILABLE");
  // Who comes now need not wait: the old token, or why not.
  EXPECT_EQ(Brief(world.Get({.rejected_version = 2})), "STORE_UNAVAILABLE");
  EXPECT_EQ(Brief(world.Get()), "CACHE at-1");
  EXPECT_EQ(world.zoho().sends(), 2);

  world.Advance(absl::Minutes(30));
  EXPECT_EQ(world.replica().commits_pending(), 1);
  world.store().SetUnavailable(Op::kCommit, false);
  world.Advance(absl::Seconds(1));
  EXPECT_EQ(world.replica().commits_pending(), 0);
  const auto answer = world.Get();
  EXPECT_EQ(Brief(answer), "CACHE at-2");
  // Its life is counted from when Zoho gave it.
  EXPECT_GT(answer->expires_in, absl::Minutes(29));
  EXPECT_LT(answer->expires_in, absl::Minutes(30));
  EXPECT_EQ(world.zoho().sends(), 2);
}

TEST(Refresher, ALateCommitServesTheOldTokenMeanwhile) {
  World world;
  world.Add({.lifetime = absl::Seconds(130)});
  ASSERT_EQ(Brief(world.Get()), "STORE at-old");
  world.store().SetUnavailable(Op::kCommit, true);
  world.Advance(absl::Seconds(11));
  const auto call = world.Start({.deadline = absl::Seconds(30)});
  world.Advance(absl::Seconds(7));
  EXPECT_EQ(Brief(call), "STALE at-old");
  EXPECT_EQ(Brief(world.Get()), "STALE at-old");
}

TEST(Refresher, TokensThatRanOutAreNoLoss) {
  World world;
  world.Add({});
  world.store().SetUnavailable(Op::kCommit, true);
  EXPECT_EQ(Brief(world.Get()), "STORE_UNAVAILABLE");
  world.Advance(absl::Minutes(61));
  EXPECT_EQ(world.replica().commits_pending(), 0);
  // A refresh token never runs out.
  world.zoho().SetRotates(true);
  EXPECT_EQ(Brief(world.Get()), "STORE_UNAVAILABLE");
  world.Advance(absl::Hours(5));
  EXPECT_EQ(world.replica().commits_pending(), 1);
  world.store().SetUnavailable(Op::kCommit, false);
  world.Advance(absl::Seconds(2));
  EXPECT_EQ(world.record().refresh_token.Reveal(), "rt-2");
}

// Until then an operator may have mended the record. It is not waited for without end: a thread of
// the lane waits with it.
TEST(Refresher, ADamagedRecordIsGivenUpWithTheAccessToken) {
  World world;
  world.zoho().SetRotates(true);
  world.Add({});
  world.store().FailNext(Op::kCommit, RecordUnreadableError("x"), 1'000'000);
  EXPECT_EQ(Brief(world.Get()), "RECORD_UNREADABLE");
  world.Advance(absl::Minutes(59));
  EXPECT_EQ(world.replica().commits_pending(), 1);
  world.Advance(absl::Minutes(2));
  EXPECT_EQ(world.replica().commits_pending(), 0);
}

TEST(Refresher, ADamagedRecordThatIsMendedInTimeGetsItsTokens) {
  World world;
  world.zoho().SetRotates(true);
  world.Add({});
  world.store().FailNext(Op::kCommit, RecordUnreadableError("x"), 1'000'000);
  EXPECT_EQ(Brief(world.Get()), "RECORD_UNREADABLE");
  world.Advance(absl::Minutes(30));
  world.store().FailNext(Op::kCommit, absl::OkStatus(), 0);
  world.Advance(absl::Seconds(2));
  EXPECT_EQ(world.record().refresh_token.Reveal(), "rt-1");
}

// Somebody emptied the store while Zoho answered. The org's consent is not to go with it.
TEST(Refresher, AGrantThatTheStoreLosesIsToldAndNotRevoked) {
  World world;
  world.zoho().SetRotates(true);
  world.Add({});
  world.distance().WhenSent([&] { world.store().Erase(Grant().key); });
  EXPECT_EQ(Brief(world.Get()), "ORG_NOT_FOUND");
  EXPECT_THAT(world.zoho().revoked(), ::testing::IsEmpty());
  EXPECT_EQ(world.replica().grants_missing(), 1);
  EXPECT_EQ(world.replica().CountOutcome("grant_missing"), 1);
  EXPECT_EQ(world.replica().commits_pending(), 0);
  // Nor is it made anew behind the operator's back.
  EXPECT_EQ(world.record().generation, 0);
}

TEST(Refresher, ACommitAfterTheLeaseIsStillStored) {
  World world({.replicas = 2});
  world.zoho().SetRotates(true);
  world.Add({});
  world.store().SetUnavailable(Op::kCommit, true);
  const auto call = world.Start();
  world.Advance(absl::Seconds(21));
  EXPECT_EQ(Brief(call), "STORE_UNAVAILABLE");
  // The lease has run out. The other replica's attempt finds the refresh token rotated away, and
  // doubts it.
  world.zoho().Script("rt-acme", ScriptedReply::Dead());
  EXPECT_EQ(Brief(world.replica(1).Get()), "ZOHO_UNAVAILABLE");
  EXPECT_EQ(world.record().state, GrantState::kActive);
  world.store().SetUnavailable(Op::kCommit, false);
  world.Advance(absl::Seconds(1));
  EXPECT_EQ(world.record().refresh_token.Reveal(), "rt-1");
  EXPECT_EQ(Brief(world.replica(1).Get()), "STORE at-1");
}

TEST(Refresher, AFailureThatTheStoreDidNotTakeIsRepeated) {
  World world;
  world.Add({});
  world.zoho().ScriptAll(ScriptedReply::Throttled());
  world.store().FailNext(Op::kFail, StoreUnavailableError("x"), 3);
  EXPECT_EQ(Brief(world.Get()), "ZOHO_THROTTLED");
  EXPECT_EQ(world.record().last_failure, FailureKind::kThrottled);
  EXPECT_EQ(world.store().count(Op::kFail), 4);
}

TEST(Refresher, ADeathThatTheStoreDidNotTakeIsNotBelieved) {
  World world;
  world.Add({.lifetime = absl::Seconds(100)});
  world.zoho().ScriptAll(ScriptedReply::Dead());
  world.store().SetUnavailable(Op::kFail, true);
  const auto call = world.Start({.rejected_version = 1, .deadline = absl::Seconds(30)});
  world.Advance(absl::Seconds(7));
  EXPECT_EQ(Brief(call), "STORE_UNAVAILABLE");
  EXPECT_EQ(Brief(world.Get()), "STALE at-old");
  EXPECT_EQ(world.record().state, GrantState::kActive);
}

TEST(Refresher, WaitsForAnotherReplicaAndThenTakesOver) {
  World world;
  world.Add({});
  // A process that died before sending.
  ASSERT_TRUE(world.store().Acquire({Grant().key, "dead", 1, Purpose::kCaller}).ok());
  const MonotonicTime start = world.executor().now();
  EXPECT_EQ(Brief(world.Get()), "REFRESHED at-1");
  EXPECT_EQ(world.executor().now() - start, absl::Seconds(6));
  EXPECT_FALSE(world.record().ambiguous);
}

TEST(Refresher, TellsWhatBecameOfEveryAttempt) {
  World world;
  world.Add({});
  for (const ScriptedReply& reply :
       {ScriptedReply::Transient(), ScriptedReply::Unreachable(), ScriptedReply::Throttled(),
        ScriptedReply::ClientRejected(), ScriptedReply::Ambiguous(), ScriptedReply::Dead()}) {
    world.store().Edit(Grant().key, [](GrantRecord& record) {
      record.not_before = absl::InfinitePast();
      record.throttled_until = absl::InfinitePast();
      record.sends.clear();
    });
    world.zoho().Script("rt-acme", reply);
    world.Advance(absl::Seconds(31));
    EXPECT_FALSE(world.Get().ok());
  }
  EXPECT_THAT(world.replica().outcomes(), ElementsAre("transient", "unreachable", "throttled",
                                                      "client_rejected", "ambiguous", "doubted"));
}

TEST(Refresher, StartsNothingWhenTheProcessEnds) {
  World world;
  world.Add({});
  ASSERT_TRUE(world.store().Acquire({Grant().key, "other", 1, Purpose::kCaller}).ok());
  const auto call = world.Start();
  world.Advance(absl::Seconds(1));
  world.executor().Shutdown();
  EXPECT_EQ(Brief(call), "SHUTTING_DOWN");
  EXPECT_EQ(world.zoho().checks(), 0);
}

TEST(Refresher, BeginsNothingThatMightNotEndWithTheProcess) {
  World world;
  world.Add({});
  world.Add({.key = {"old", Environment::kProduction, "web"}, .lifetime = absl::Seconds(100)});
  const ProtocolLimits limits;
  const absl::Duration longest =
      limits.connect_timeout + limits.response_timeout + limits.commit_budget;
  world.replica().refresher().FinishBy(world.executor().now() + longest);
  EXPECT_EQ(Brief(world.Get()), "REFRESHED at-1");
  world.Advance(absl::Milliseconds(1));
  EXPECT_EQ(Brief(world.Get({.rejected_version = 2})), "SHUTTING_DOWN");
  EXPECT_EQ(Brief(world.Get({.org_id = "old"})), "STALE at-old");
  EXPECT_EQ(world.store().count(Op::kAcquire), 1);
  EXPECT_EQ(world.zoho().checks(), 1);
}

TEST(Refresher, WaitsForNobodysLeaseBeyondTheEnd) {
  World world;
  world.Add({});
  world.store().Edit(Grant().key, [&](GrantRecord& record) {
    record.phase = LeasePhase::kSent;
    record.lease_owner = "nobody";
    record.lease_end = world.executor().clock().wall() + absl::Seconds(15);
  });
  const MonotonicTime start = world.executor().now();
  world.replica().refresher().FinishBy(start + absl::Seconds(25));
  const auto call = world.Start({.deadline = absl::Seconds(20)});
  world.Advance(absl::Seconds(20));
  EXPECT_EQ(Brief(call), "SHUTTING_DOWN");
  EXPECT_LE(call->answered_at - start, absl::Seconds(8));
  EXPECT_EQ(world.zoho().checks(), 0);
}

TEST(Refresher, CommitsAnOutdatedRefreshTokenAgain) {
  for (const bool outdated : {false, true}) {
    World world;
    world.Add({});
    world.store().Edit(Grant().key,
                       [&](GrantRecord& record) { record.refresh_token_outdated = outdated; });
    world.store().Before(testing::FakeTokenStore::Op::kCommit, [&] {
      world.store().Edit(Grant().key,
                         [](GrantRecord& record) { record.refresh_token = Secret("as it was"); });
    });
    ASSERT_EQ(Brief(world.Get()), "REFRESHED at-1");
    EXPECT_EQ(world.record().refresh_token == Secret("rt-acme"), outdated);
  }
}

TEST(Refresher, LetsEveryRequestGoOnlyOnce) {
  World world;
  world.distance().CheckTwice();
  world.Add({});
  EXPECT_EQ(Brief(world.Get()), "REFRESHED at-1");
  EXPECT_EQ(world.record().sends.size(), 1u);
  // A registration has no lease that could say no.
  EXPECT_TRUE(world.replica()
                  .Register({.key = {"bolt", Environment::kProduction, "web"},
                             .dc = "us",
                             .credential = CodeCredential{.code = Secret("code")}})
                  .ok());
  ASSERT_EQ(world.distance().second_checks().size(), 2u);
  for (const absl::Status& second : world.distance().second_checks()) EXPECT_FALSE(second.ok());
}

}  // namespace
}  // namespace tokenbroker
