#include "server/rpc/convert.h"

#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tokenbroker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

// The store's clock is an hour behind ours.
const absl::Time kStoreNow = absl::FromUnixSeconds(1'700'000'000);
const absl::Time kWallNow = kStoreNow + absl::Hours(1);
const ProtocolLimits kLimits;
const GrantView kView{.limits = kLimits, .wall_now = kWallNow, .refresh_ahead = absl::Seconds(600)};

absl::Time TimeOf(const google::protobuf::Timestamp& timestamp) {
  return absl::FromUnixSeconds(timestamp.seconds()) + absl::Nanoseconds(timestamp.nanos());
}

GrantRecord SomeRecord() {
  GrantRecord record;
  record.key = {"acme", Environment::kSandbox, "web"};
  record.info = {.type = GrantType::kRefreshToken,
                 .dc = "eu",
                 .scopes = {"A.b.READ", "A.c.ALL"},
                 .display_name = "Acme",
                 .labels = {{"team", "a"}},
                 .keep_warm = true};
  record.generation = 7;
  record.refresh_token = Secret("canary-refresh");
  record.access_token = Secret("canary-access");
  record.access_expiry = kStoreNow + absl::Seconds(1800);
  record.created = kStoreNow - absl::Hours(48);
  record.updated = kStoreNow - absl::Seconds(1800);
  record.sends = {kStoreNow - absl::Minutes(90), kStoreNow - absl::Minutes(30)};
  record.store_now = kStoreNow;
  return record;
}

v1::Grant Filled(const GrantRecord& record) {
  v1::Grant grant;
  FillGrant(record, kView, grant);
  return grant;
}

TEST(FillGrant, ShowsWhatIsStored) {
  const v1::Grant grant = Filled(SomeRecord());
  EXPECT_EQ(grant.org_id(), "acme");
  EXPECT_EQ(grant.environment(), v1::ENVIRONMENT_SANDBOX);
  EXPECT_EQ(grant.oauth_client(), "web");
  EXPECT_EQ(grant.dc(), "eu");
  EXPECT_THAT(grant.scopes(), ElementsAre("A.b.READ", "A.c.ALL"));
  EXPECT_EQ(grant.state(), v1::GRANT_STATE_ACTIVE);
  EXPECT_EQ(grant.type(), v1::GRANT_TYPE_REFRESH_TOKEN);
  EXPECT_EQ(grant.display_name(), "Acme");
  EXPECT_THAT(grant.labels(), UnorderedElementsAre(Pair("team", "a")));
  EXPECT_TRUE(grant.keep_warm());
  EXPECT_EQ(grant.version(), 7);
  EXPECT_EQ(grant.recent_sends(), 1);
  EXPECT_FALSE(grant.has_last_failure());
  EXPECT_THAT(grant.DebugString(), Not(HasSubstr("canary")));
}

TEST(FillGrant, ShowsTimesOnTheCallersClock) {
  const v1::Grant grant = Filled(SomeRecord());
  EXPECT_EQ(TimeOf(grant.access_token_expire_time()), kWallNow + absl::Seconds(1800));
  EXPECT_EQ(TimeOf(grant.create_time()), kWallNow - absl::Hours(48));
  EXPECT_EQ(TimeOf(grant.update_time()), kWallNow - absl::Seconds(1800));
}

// Between the store's answer and ours lies another time at every read.
TEST(FillGrant, ShowsAnUnchangedGrantAsBefore) {
  GrantRecord record = SomeRecord();
  record.last_failure = FailureKind::kTransient;
  record.last_failure_time = kStoreNow - absl::Milliseconds(4'250);
  const v1::Grant before = Filled(record);
  for (const int milliseconds : {-400, -1, 3, 400}) {
    record.store_now = kStoreNow + absl::Milliseconds(milliseconds);
    const v1::Grant grant = Filled(record);
    EXPECT_EQ(grant.DebugString(), before.DebugString()) << milliseconds;
    EXPECT_EQ(TimeOf(grant.last_failure().fail_time()), kWallNow - absl::Milliseconds(4'250));
  }
}

TEST(FillGrant, LeavesOutTimesThatAreNotKnown) {
  GrantRecord record = SomeRecord();
  record.access_expiry = absl::InfinitePast();
  record.created = absl::InfinitePast();
  const v1::Grant grant = Filled(record);
  EXPECT_FALSE(grant.has_access_token_expire_time());
  EXPECT_FALSE(grant.has_create_time());
}

TEST(FillGrant, NamesEveryFailure) {
  const std::pair<FailureKind, std::string> rows[] = {
      {FailureKind::kUnreachable, "UNREACHABLE"},
      {FailureKind::kTransient, "TRANSIENT"},
      {FailureKind::kAmbiguous, "AMBIGUOUS"},
      {FailureKind::kThrottled, "THROTTLED"},
      {FailureKind::kClientRejected, "CLIENT_REJECTED"},
      {FailureKind::kDoubtedInvalid, "DOUBTED_INVALID"},
      {FailureKind::kNeedsConsent, "NEEDS_CONSENT"}};
  for (const auto& [kind, name] : rows) {
    GrantRecord record = SomeRecord();
    record.last_failure = kind;
    record.last_error = "http_502";
    record.last_failure_time = kStoreNow - absl::Seconds(4);
    record.consecutive_failures = 3;
    const v1::Grant grant = Filled(record);
    EXPECT_EQ(grant.last_failure().kind(), name);
    EXPECT_EQ(grant.last_failure().error(), "http_502");
    EXPECT_EQ(TimeOf(grant.last_failure().fail_time()), kWallNow - absl::Seconds(4));
    EXPECT_EQ(grant.last_failure().consecutive_count(), 3);
  }
  for (FailureKind none : {FailureKind::kNone, FailureKind::kNotSent}) {
    GrantRecord record = SomeRecord();
    record.last_failure = none;
    EXPECT_FALSE(Filled(record).has_last_failure());
  }
}

TEST(FillGrant, SaysWhatHappensNext) {
  GrantRecord record = SomeRecord();
  v1::Grant grant = Filled(record);
  EXPECT_EQ(grant.next_action(), v1::NEXT_ACTION_REFRESH_AHEAD);
  EXPECT_EQ(TimeOf(grant.next_action_time()), kWallNow + absl::Seconds(1200));

  record.access_expiry = kStoreNow + absl::Seconds(300);  // due already
  EXPECT_EQ(TimeOf(Filled(record).next_action_time()), kWallNow);

  record.access_expiry = kStoreNow - absl::Seconds(1);
  grant = Filled(record);
  EXPECT_EQ(grant.next_action(), v1::NEXT_ACTION_ON_DEMAND);
  EXPECT_FALSE(grant.has_next_action_time());

  record.sends.assign(5, kStoreNow - absl::Seconds(100));  // all that 600 s allow
  grant = Filled(record);
  EXPECT_EQ(grant.next_action(), v1::NEXT_ACTION_AWAIT_BUDGET);
  EXPECT_EQ(TimeOf(grant.next_action_time()), kWallNow + absl::Seconds(500));
  record.access_expiry = kStoreNow + absl::Seconds(1800);  // by then there is room
  EXPECT_EQ(Filled(record).next_action(), v1::NEXT_ACTION_REFRESH_AHEAD);
  record.access_expiry = kStoreNow - absl::Seconds(1);

  record.not_before = kStoreNow + absl::Seconds(15);
  grant = Filled(record);
  EXPECT_EQ(grant.next_action(), v1::NEXT_ACTION_COOLDOWN);
  EXPECT_EQ(TimeOf(grant.next_action_time()), kWallNow + absl::Seconds(15));

  record.phase = LeasePhase::kSent;
  record.lease_end = kStoreNow + absl::Seconds(5);
  EXPECT_EQ(Filled(record).next_action(), v1::NEXT_ACTION_REFRESHING);
  record.lease_end = kStoreNow;  // its holder has died
  EXPECT_EQ(Filled(record).next_action(), v1::NEXT_ACTION_COOLDOWN);

  record.state = GrantState::kNeedsConsent;
  EXPECT_EQ(Filled(record).next_action(), v1::NEXT_ACTION_AWAIT_CONSENT);
  EXPECT_EQ(Filled(record).state(), v1::GRANT_STATE_NEEDS_CONSENT);
  record.state = GrantState::kRevoked;
  EXPECT_EQ(Filled(record).next_action(), v1::NEXT_ACTION_NONE);
  EXPECT_EQ(Filled(record).state(), v1::GRANT_STATE_REVOKED);
}

// The store's clock jumped: leases and cooldowns that no broker can have set bind nobody there.
TEST(FillGrant, WaitsForNothingThatTheStoreDoesNotWaitFor) {
  GrantRecord record = SomeRecord();
  record.not_before = kStoreNow + absl::Hours(24);
  EXPECT_EQ(Filled(record).next_action(), v1::NEXT_ACTION_REFRESH_AHEAD);
  record.phase = LeasePhase::kSent;
  record.lease_end = kStoreNow + absl::Hours(24);
  EXPECT_EQ(Filled(record).next_action(), v1::NEXT_ACTION_REFRESH_AHEAD);

  record.access_stored = kStoreNow + absl::Hours(24);
  EXPECT_EQ(Filled(record).next_action(), v1::NEXT_ACTION_ON_DEMAND);
  EXPECT_FALSE(Filled(record).has_access_token_expire_time());
}

TEST(FillToken, GivesAllThatACallerNeeds) {
  auto token = std::make_shared<IssuedToken>();
  token->key = {"acme", Environment::kProduction, "web"};
  token->access_token = Secret("1000.a.b");
  token->authorization_header = Secret("Zoho-oauthtoken 1000.a.b");
  token->api_domain = "https://www.zohoapis.eu";
  token->people_host = "people.zoho.eu";
  token->dc = "eu";
  token->scopes = {"A.b.READ"};
  token->version = 7;
  v1::GetAccessTokenResponse response;
  FillToken({token, TokenSource::kStale, absl::Milliseconds(90'250)}, kWallNow, response);
  EXPECT_EQ(response.access_token(), "1000.a.b");
  EXPECT_EQ(response.token_type(), "Bearer");
  EXPECT_EQ(response.authorization_header(), "Zoho-oauthtoken 1000.a.b");
  EXPECT_EQ(TimeOf(response.expire_time()), kWallNow + absl::Milliseconds(90'250));
  EXPECT_EQ(response.expires_in().seconds(), 90);
  EXPECT_EQ(response.expires_in().nanos(), 250'000'000);
  EXPECT_EQ(response.api_domain(), "https://www.zohoapis.eu");
  EXPECT_EQ(response.people_host(), "people.zoho.eu");
  EXPECT_EQ(response.dc(), "eu");
  EXPECT_THAT(response.scopes(), ElementsAre("A.b.READ"));
  EXPECT_EQ(response.version(), 7);
  EXPECT_EQ(response.source(), v1::TOKEN_SOURCE_STALE);
  EXPECT_EQ(response.oauth_client(), "web");
}

TEST(FillToken, NamesEverySource) {
  const std::pair<TokenSource, v1::TokenSource> rows[] = {
      {TokenSource::kCache, v1::TOKEN_SOURCE_CACHE},
      {TokenSource::kStore, v1::TOKEN_SOURCE_STORE},
      {TokenSource::kRefreshed, v1::TOKEN_SOURCE_REFRESHED},
      {TokenSource::kJoined, v1::TOKEN_SOURCE_JOINED},
      {TokenSource::kStale, v1::TOKEN_SOURCE_STALE}};
  for (const auto& [source, expected] : rows) {
    v1::GetAccessTokenResponse response;
    FillToken({std::make_shared<IssuedToken>(), source, absl::Seconds(1)}, kWallNow, response);
    EXPECT_EQ(response.source(), expected);
  }
}

TEST(SetTimestamp, CountsNanosForward) {
  google::protobuf::Timestamp timestamp;
  SetTimestamp(absl::FromUnixMillis(-1500), timestamp);
  EXPECT_EQ(timestamp.seconds(), -2);
  EXPECT_EQ(timestamp.nanos(), 500'000'000);
}

}  // namespace
}  // namespace tokenbroker
