// Where answers come from: memory, the store, a refresh.
#include "server/issuing/token_issuer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/errors.h"
#include "tests/server/issuing/world.h"

namespace tokenbroker {
namespace {

using Op = testing::FakeTokenStore::Op;
using ::testing::ElementsAre;
using testing::ScriptedReply;

TEST(TokenIssuer, RefreshesOnceAndThenAnswersFromMemory) {
  World world;
  world.Add({});
  EXPECT_EQ(Brief(world.Get()), "REFRESHED at-1");
  EXPECT_EQ(world.zoho().sends(), 1);
  world.store().ResetCounts();
  for (int i = 0; i < 100; ++i) EXPECT_EQ(Brief(world.Get()), "CACHE at-1");
  EXPECT_EQ(world.store().operations(), 0);
  EXPECT_EQ(world.zoho().sends(), 1);
}

TEST(TokenIssuer, AnswersFromTheStoreWhileItsTokenLives) {
  World world;
  world.Add({.lifetime = absl::Seconds(1000)});
  const absl::StatusOr<TokenAnswer> answer = world.Get();
  EXPECT_EQ(Brief(answer), "STORE at-old");
  EXPECT_EQ(answer->expires_in, absl::Seconds(1000));
  EXPECT_EQ(Brief(world.Get()), "CACHE at-old");
}

TEST(TokenIssuer, GivesAllThatACallerNeeds) {
  World world;
  world.Add({.dc = "eu", .scopes = {"ZOHOPEOPLE.forms.READ"}});
  const absl::StatusOr<TokenAnswer> answer = world.Get();
  ASSERT_TRUE(answer.ok()) << answer.status();
  const IssuedToken& token = *answer->token;
  EXPECT_EQ(token.authorization_header.Reveal(), "Zoho-oauthtoken at-1");
  EXPECT_EQ(token.api_domain, "https://www.zohoapis.eu");
  EXPECT_EQ(token.people_host, "people.zoho.eu");
  EXPECT_EQ(token.dc, "eu");
  EXPECT_THAT(token.scopes, ElementsAre("ZOHOPEOPLE.forms.READ"));
  EXPECT_EQ(token.version, 2);
  EXPECT_EQ(answer->expires_in, absl::Seconds(3600));
  EXPECT_EQ(token.expires_at, world.executor().now() + absl::Seconds(3600));
}

TEST(TokenIssuer, CountsALifetimeFromWhenTheRecordWasRead) {
  World world({.executor = {.threads_per_lane = 1}, .breaker = {.failures = 1}});
  world.Add({.lifetime = absl::Seconds(100)});
  world.Add({.key = {"other", Environment::kProduction, "web"}, .refresh_token = "rt-other"});
  // The DC's only thread is busy for 9 s, then its breaker opens; the flight of "acme" has read its
  // record, and waits for the lane meanwhile.
  world.distance().SetLatency(absl::Seconds(9));
  world.zoho().Script("rt-other", ScriptedReply::Transient());
  const auto other = world.Start({.org_id = "other"});
  const auto call = world.Start();
  world.Advance(absl::Seconds(9));
  EXPECT_EQ(Brief(other), "ZOHO_UNAVAILABLE");
  ASSERT_EQ(Brief(call), "STALE at-old");
  EXPECT_EQ((*call->answer)->expires_in, absl::Seconds(91));
}

TEST(TokenIssuer, TokensOfOthersAreNeverMixedUp) {
  World world;
  int expected = 0;
  for (const char* org : {"acme", "bolt"}) {
    for (const Environment environment : {Environment::kProduction, Environment::kSandbox}) {
      for (const char* client : {"web", "narrow"}) {
        const GrantKey key{org, environment, client};
        world.Add({.key = key, .refresh_token = EncodeGrantKey(key)});
        for (int i = 0; i < 2; ++i) {
          const auto answer =
              world.Get({.org_id = org, .environment = environment, .oauth_client = client});
          ASSERT_TRUE(answer.ok());
          EXPECT_EQ(answer->token->key, key);
        }
        ++expected;
        EXPECT_EQ(world.zoho().sends(EncodeGrantKey(key)), 1);
      }
    }
  }
  EXPECT_EQ(world.zoho().sends(), expected);
}

TEST(TokenIssuer, MintsForWhoWantsALongerLife) {
  World world;
  world.Add({.lifetime = absl::Seconds(1000)});
  EXPECT_EQ(Brief(world.Get({.min_lifetime = absl::Seconds(1000)})), "STORE at-old");
  EXPECT_EQ(Brief(world.Get({.min_lifetime = absl::Seconds(1001)})), "REFRESHED at-1");
  // What was minted just now is as good as it gets, even if it is too little.
  world.zoho().SetLifetime(absl::Seconds(500));
  EXPECT_EQ(Brief(world.Get({.min_lifetime = absl::Seconds(3700)})), "REFRESHED at-2");
}

TEST(TokenIssuer, RefreshesByForceAtTwoMinutes) {
  World world;
  world.Add({.lifetime = absl::Seconds(300)});
  EXPECT_EQ(Brief(world.Get()), "STORE at-old");
  // The refreshes ahead fail, so that only force is left.
  world.zoho().ScriptAll(ScriptedReply::Transient());
  world.Advance(absl::Seconds(180));
  EXPECT_EQ(Brief(world.Get()), "CACHE at-old");
  world.zoho().ClearScripts();
  world.Advance(absl::Seconds(1));
  world.store().Edit(Grant().key, [](GrantRecord& record) {
    record.not_before = absl::InfinitePast();
    record.sends.clear();
  });
  EXPECT_EQ(Brief(world.Get()), "REFRESHED at-1");
}

TEST(TokenIssuer, NothingUnderAMinuteIsGivenOut) {
  World world;
  world.Add({.lifetime = absl::Seconds(70)});
  world.zoho().ScriptAll(ScriptedReply::Throttled());
  EXPECT_EQ(Brief(world.Get()), "STALE at-old");
  world.Advance(absl::Seconds(10));
  EXPECT_EQ(Brief(world.Get()), "STALE at-old");
  world.Advance(absl::Milliseconds(1));
  EXPECT_EQ(Brief(world.Get()), "ZOHO_THROTTLED");
  // Unless it is asked for, and then as long as it lives.
  EXPECT_EQ(Brief(world.Get({.min_lifetime = absl::ZeroDuration()})), "STALE at-old");
  world.Advance(absl::Seconds(61));
  EXPECT_EQ(Brief(world.Get({.min_lifetime = absl::ZeroDuration()})), "ZOHO_THROTTLED");
}

TEST(TokenIssuer, NeverGivesATokenWithoutTheScopesAskedFor) {
  World world;
  world.Add({.scopes = {"ZOHOPEOPLE.forms.READ"}});
  const Query wrong{.scopes = {"ZOHOPEOPLE.leave.READ"}};
  const Query right{.scopes = {"zohopeople.FORMS.read"}};
  EXPECT_EQ(Brief(world.Get(wrong)), "SCOPE_NOT_GRANTED");
  // It is no reason to refresh.
  EXPECT_EQ(world.zoho().sends(), 0);
  EXPECT_EQ(Brief(world.Get(right)), "REFRESHED at-1");
  EXPECT_EQ(Brief(world.Get(wrong)), "SCOPE_NOT_GRANTED");
  EXPECT_EQ(GetErrorDetail(world.Get(wrong).status())->metadata["missing_scopes"],
            "ZOHOPEOPLE.leave.READ");
  EXPECT_EQ(Brief(world.Get(right)), "CACHE at-1");
}

TEST(TokenIssuer, ScopesOfTheReplyCount) {
  World world;
  world.Add({.scopes = {"A.b.READ", "A.c.READ"}});
  world.zoho().SetScopes({"A.b.READ"});
  const auto lucky = world.Start({.scopes = {"A.b.READ"}});
  const auto unlucky = world.Start({.scopes = {"A.c.READ"}});
  world.executor().RunUntilIdle();
  EXPECT_EQ(Brief(lucky), "REFRESHED at-1");
  EXPECT_EQ(Brief(unlucky), "SCOPE_NOT_GRANTED");
}

TEST(TokenIssuer, UnknownOrgsAreRememberedForAWhile) {
  World world;
  EXPECT_EQ(Brief(world.Get()), "ORG_NOT_FOUND");
  EXPECT_EQ(Brief(world.Get({.oauth_client = ""})), "ORG_NOT_FOUND");
  world.store().ResetCounts();
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(Brief(world.Get()), "ORG_NOT_FOUND");
    EXPECT_EQ(Brief(world.Get({.oauth_client = ""})), "ORG_NOT_FOUND");
  }
  EXPECT_EQ(world.store().operations(), 0);
  // But not longer than until they are known.
  world.Add({.lifetime = absl::Hours(1)});
  EXPECT_EQ(Brief(world.Get()), "STORE at-old");
  EXPECT_EQ(Brief(world.Get({.oauth_client = ""})), "CACHE at-old");
}

TEST(TokenIssuer, GrantsThatTheStoreHasLostAreTold) {
  World world;
  world.Add({.lifetime = absl::Seconds(1000)});
  EXPECT_EQ(Brief(world.Get()), "STORE at-old");
  for (int i = 0; i < 2; ++i) {
    world.store().FailNext(Op::kLoad, OrgNotFoundError());
    EXPECT_EQ(Brief(world.Get({.min_lifetime = absl::Seconds(2000)})), "ORG_NOT_FOUND");
    EXPECT_EQ(world.replica().grants_missing(), 1);
    world.Advance(absl::Seconds(10));  // the refusal is forgotten
  }
  EXPECT_EQ(world.zoho().sends(), 0);
}

TEST(TokenIssuer, TheConfigurationIsTheOperators) {
  World world;
  world.Add({.key = {"acme", Environment::kProduction, "self"}, .dc = "eu"});
  world.Add({.key = {"acme", Environment::kProduction, "lost"}});
  world.Add({.key = {"acme", Environment::kProduction, "gone"}});
  world.Add({.key = {"acme", Environment::kProduction, "web"}, .dc = "mars"});
  EXPECT_EQ(Brief(world.Get({.oauth_client = "self"})), "CLIENT_SECRET_MISSING");
  EXPECT_EQ(Brief(world.Get({.oauth_client = "lost"})), "CLIENT_SECRET_MISSING");
  EXPECT_EQ(Brief(world.Get({.oauth_client = "gone"})), "OAUTH_CLIENT_NOT_CONFIGURED");
  EXPECT_EQ(Brief(world.Get({.oauth_client = "web"})), "DC_NOT_CONFIGURED");
  EXPECT_EQ(world.zoho().checks(), 0);
}

TEST(TokenIssuer, ARecordWithoutARefreshTokenMintsByItsSoid) {
  World world;
  const GrantKey key{"acme", Environment::kProduction, "self"};
  world.Add({.key = key, .refresh_token = "", .scopes = {"A.b.READ", "A.c.READ"}});
  world.store().Edit(key, [](GrantRecord& record) {
    record.info.type = GrantType::kClientCredentials;
    record.info.soid = "Service.1";
  });
  EXPECT_EQ(Brief(world.Get({.oauth_client = "self"})), "REFRESHED at-1");
  const TokenRequest request = world.zoho().requests().at(0);
  EXPECT_EQ(request.grant_type, TokenRequest::GrantType::kClientCredentials);
  EXPECT_EQ(request.soid, "Service.1");
  EXPECT_EQ(request.scope, "A.b.READ,A.c.READ");
  EXPECT_EQ(request.client_secret.Reveal(), "secret-self");
}

TEST(TokenIssuer, BelievesNoForeignApiDomain) {
  World world;
  ScriptedReply evil = ScriptedReply::Success(absl::Hours(1));
  evil.reply.api_domain = "https://evil.example.com";
  ScriptedReply sandbox = ScriptedReply::Success(absl::Hours(1));
  sandbox.reply.api_domain = "https://sandbox.zohoapis.com";
  world.zoho().Script("rt-acme", evil);
  world.zoho().Script("rt-sandbox", sandbox);
  world.Add({});
  world.Add({.key = {"acme", Environment::kSandbox, "web"}, .refresh_token = "rt-sandbox"});
  EXPECT_EQ(world.Get()->token->api_domain, "https://www.zohoapis.com");
  EXPECT_EQ(world.Get({.environment = Environment::kSandbox})->token->api_domain,
            "https://sandbox.zohoapis.com");
}

TEST(TokenIssuer, AnotherGrantsRecordIsNotTaken) {
  World world;
  world.Add({.lifetime = absl::Hours(1)});
  world.store().Edit(Grant().key, [](GrantRecord& record) { record.key.org_id = "bolt"; });
  EXPECT_EQ(Brief(world.Get()), "INTERNAL");
  EXPECT_EQ(world.replica().issuer().cached(), 0u);
}

TEST(TokenIssuer, WhoJoinsALookThatNeededNoRefreshStillGetsTwoMinutes) {
  World world;
  world.Add({.scopes = {"A.b.READ"}, .lifetime = absl::Seconds(100)});
  // Its flight reads the record and ends: what it lacks, no refresh brings.
  const auto lacking = world.Start({.scopes = {"A.x.READ"}});
  std::shared_ptr<Call> joined;
  world.executor().WithinRunAfter([&] { joined = world.Start(); });
  world.executor().RunUntilIdle();
  EXPECT_EQ(Brief(lacking), "SCOPE_NOT_GRANTED");
  ASSERT_NE(joined, nullptr);
  EXPECT_EQ(Brief(joined), "REFRESHED at-1");
}

}  // namespace
}  // namespace tokenbroker
