#include "server/issuing/grant_resolver.h"

#include <gtest/gtest.h>

#include "common/errors.h"
#include "tests/testing/fake_token_store.h"

namespace tokenbroker {
namespace {

using Age = GrantResolver::Age;
using Op = testing::FakeTokenStore::Op;

class GrantResolverTest : public ::testing::Test {
 protected:
  void Add(const std::string& client, std::vector<std::string> scopes,
           Environment environment = Environment::kProduction) {
    RegisterRequest request;
    request.key = {"acme", environment, client};
    request.attempt_id = NewAttemptId();
    request.info.scopes = std::move(scopes);
    ASSERT_TRUE(store_.Register(request).ok());
  }
  // The client, or the error's reason.
  std::string Resolve(const std::vector<std::string>& scopes) {
    const auto grants = resolver_.Load("acme", Environment::kProduction);
    if (!grants.ok()) return ErrorReason(grants.status());
    const auto client = resolver_.Choose(*grants, scopes, now_);
    return client.ok() ? *client : ErrorReason(client.status());
  }
  std::string Remembered(const std::vector<std::string>& scopes, Age age = Age::kFresh) {
    const auto client = resolver_.Remembered("acme", Environment::kProduction, scopes, now_, age);
    return client == nullptr ? "" : *client;
  }

  testing::FakeTokenStore store_;
  GrantResolver resolver_{&store_};
  MonotonicTime now_ = absl::Hours(1);
};

TEST_F(GrantResolverTest, TheFewestScopesThatCoverThoseAskedFor) {
  Add("wide", {"A.b.ALL", "A.c.READ", "A.d.READ"});
  Add("middle", {"A.b.READ", "A.c.READ"});
  Add("narrow", {"A.b.READ"});
  Add("sandbox", {}, Environment::kSandbox);
  EXPECT_EQ(Resolve({}), "narrow");
  EXPECT_EQ(Resolve({"A.b.READ"}), "narrow");
  EXPECT_EQ(Resolve({"A.b.READ", "a.C.read"}), "middle");
  EXPECT_EQ(Resolve({"A.b.UPDATE"}), "wide");
  EXPECT_EQ(Resolve({"A.x.READ"}), "SCOPE_NOT_GRANTED");
}

TEST_F(GrantResolverTest, ScopesThatZohoNeverNamedAreTakenAtTheirWordLast) {
  Add("unnamed", {});
  Add("wide", {"A.b.ALL", "A.c.READ"});
  EXPECT_EQ(Resolve({"A.b.READ"}), "wide");
  EXPECT_EQ(Resolve({}), "wide");
  EXPECT_EQ(Resolve({"A.x.READ"}), "unnamed");
}

TEST_F(GrantResolverTest, NamesTheLeastThatIsMissing) {
  Add("one", {"A.b.READ"});
  Add("two", {"A.b.READ", "A.c.READ"});
  const auto grants = resolver_.Load("acme", Environment::kProduction);
  const auto client = resolver_.Choose(*grants, {"A.b.READ", "A.c.READ", "A.x.READ"}, now_);
  EXPECT_EQ(GetErrorDetail(client.status())->metadata["missing_scopes"], "A.x.READ");
}

TEST_F(GrantResolverTest, UnknownOrgs) { EXPECT_EQ(Resolve({}), "ORG_NOT_FOUND"); }

TEST_F(GrantResolverTest, DeadGrantsOnlyWhereNoLivingOneServes) {
  Add("narrow", {"A.b.READ"});
  Add("wide", {"A.b.READ", "A.c.READ"});
  ASSERT_TRUE(store_.Revoke({{"acme", Environment::kProduction, "narrow"}}).ok());
  EXPECT_EQ(Resolve({"A.b.READ"}), "wide");
  ASSERT_TRUE(store_.Revoke({{"acme", Environment::kProduction, "wide"}}).ok());
  EXPECT_EQ(Resolve({"A.b.READ"}), "narrow");
}

TEST_F(GrantResolverTest, AnUnreadableGrantHidesNoOtherAndIsNotTakenForAMissingOne) {
  Add("narrow", {"A.b.READ"});
  Add("wide", {"A.b.ALL", "A.c.READ"});
  store_.Damage({"acme", Environment::kProduction, "wide"});
  EXPECT_EQ(Resolve({"A.b.READ"}), "narrow");
  // The unreadable one might cover it.
  EXPECT_EQ(Resolve({"A.c.READ"}), "RECORD_UNREADABLE");
  store_.Damage({"acme", Environment::kProduction, "narrow"});
  EXPECT_EQ(Resolve({"A.b.READ"}), "RECORD_UNREADABLE");
}

TEST_F(GrantResolverTest, RemembersForHalfAMinute) {
  Add("web", {"A.b.READ"});
  EXPECT_EQ(Remembered({}), "");
  EXPECT_EQ(Resolve({}), "web");
  EXPECT_EQ(Remembered({}), "web");
  EXPECT_EQ(Remembered({"A.b.READ"}), "");
  now_ += absl::Seconds(30);
  EXPECT_EQ(Remembered({}), "");
  EXPECT_EQ(Remembered({}, Age::kAny), "web");
}

TEST_F(GrantResolverTest, ForgetsWhatMayHaveChanged) {
  Add("web", {"A.b.READ"});
  Resolve({});
  // Its own refreshes change nothing; another grant may be a better one now.
  resolver_.NoteChange({"acme", Environment::kProduction, "web"}, true);
  resolver_.NoteChange({"acme", Environment::kSandbox, "other"}, true);
  EXPECT_EQ(Remembered({}), "web");
  resolver_.NoteChange({"acme", Environment::kProduction, "other"}, true);
  EXPECT_EQ(Remembered({}), "");
  Resolve({});
  resolver_.NoteChange({"acme", Environment::kProduction, "web"}, false);
  EXPECT_EQ(Remembered({}, Age::kAny), "");
}

TEST_F(GrantResolverTest, RemembersNothingThatChangedWhileItWasRead) {
  Add("web", {});
  const GrantKey web{"acme", Environment::kProduction, "web"};
  store_.After(Op::kListPage, [&] { resolver_.NoteChange(web, false); });
  EXPECT_EQ(Resolve({}), "web");
  EXPECT_EQ(Remembered({}), "");
}

}  // namespace
}  // namespace tokenbroker
