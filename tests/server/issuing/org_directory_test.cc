#include "server/issuing/org_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "common/errors.h"
#include "tests/server/issuing/world.h"

namespace tokenbroker {
namespace {

using Op = testing::FakeTokenStore::Op;
using ::testing::ElementsAre;

constexpr absl::Duration kDeadline = absl::Seconds(10);

class OrgDirectoryTest : public ::testing::Test {
 protected:
  void Add(const std::string& org, Environment environment, const std::string& client,
           const std::string& dc = "us") {
    world_.Add({.key = {org, environment, client}, .dc = dc});
  }
  absl::StatusOr<OrgPage> List(const GrantFilter& filter, const std::string& after, int size) {
    absl::StatusOr<OrgPage> result = absl::InternalError("not called");
    world_.replica().directory().List(filter, after, size, kDeadline,
                                      [&](absl::StatusOr<OrgPage> page) { result = page; });
    world_.executor().RunUntilIdle();
    return result;
  }
  // "org:grants org:grants |" per page.
  std::string Walk(const GrantFilter& filter, int size) {
    std::string all;
    std::string after;
    do {
      const absl::StatusOr<OrgPage> page = List(filter, after, size);
      if (!page.ok()) return page.status().ToString();
      for (const OrgEntry& org : page->orgs) {
        absl::StrAppend(&all, org.org_id, ":", org.grants.size(), " ");
      }
      absl::StrAppend(&all, "|");
      after = page->next;
    } while (!after.empty());
    return all;
  }
  World world_;
};

TEST_F(OrgDirectoryTest, ListsOrgsPageByPageAndSplitsNone) {
  for (const char* org : {"a", "b", "c", "d", "e"}) {
    Add(org, Environment::kProduction, "web");
    Add(org, Environment::kSandbox, "web");
    Add(org, Environment::kProduction, "narrow");
  }
  EXPECT_EQ(Walk({}, 2), "a:3 b:3 |c:3 d:3 |e:3 |");
  EXPECT_EQ(Walk({}, 5), "a:3 b:3 c:3 d:3 e:3 |");
  EXPECT_EQ(Walk({}, 1), "a:3 |b:3 |c:3 |d:3 |e:3 |");
}

TEST_F(OrgDirectoryTest, AnEmptyStoreIsOneEmptyPage) { EXPECT_EQ(Walk({}, 10), "|"); }

TEST_F(OrgDirectoryTest, OrgsThatCrossTheStoresPagesStayWhole) {
  // 3 grants each: every page boundary of the store cuts an org sooner or later.
  std::string expected;
  for (int i = 0; i < 400; ++i) {
    const std::string org = absl::StrCat("org", 1000 + i);
    for (const char* client : {"web", "narrow", "self"}) {
      Add(org, Environment::kProduction, client);
    }
    absl::StrAppend(&expected, org, ":3 ", i % 100 == 99 ? "|" : "");
  }
  EXPECT_EQ(Walk({}, 100), expected);
}

TEST_F(OrgDirectoryTest, ReadsNoMoreThanItsShare) {
  for (int i = 0; i < 6000; ++i) {
    Add(absl::StrCat("org", 10000 + i), Environment::kProduction, "web", i == 5999 ? "eu" : "us");
  }
  world_.store().ResetCounts();
  const absl::StatusOr<OrgPage> first = List({.dc = "eu"}, "", 10);
  ASSERT_TRUE(first.ok());
  EXPECT_TRUE(first->orgs.empty());
  EXPECT_NE(first->next, "");
  EXPECT_LE(world_.store().count(Op::kListPage), 11);
  const absl::StatusOr<OrgPage> second = List({.dc = "eu"}, first->next, 10);
  ASSERT_EQ(second->orgs.size(), 1u);
  EXPECT_EQ(second->orgs[0].org_id, "org15999");
  EXPECT_EQ(second->next, "");
}

TEST_F(OrgDirectoryTest, FiltersGrants) {
  Add("a", Environment::kProduction, "web", "us");
  Add("a", Environment::kSandbox, "web", "us");
  Add("b", Environment::kProduction, "narrow", "eu");
  Add("c", Environment::kProduction, "web", "eu");
  world_.store().Edit({"c", Environment::kProduction, "web"}, [](GrantRecord& record) {
    record.info.labels = {{"team", "x"}, {"tier", "1"}};
    record.state = GrantState::kNeedsConsent;
  });
  EXPECT_EQ(Walk({.dc = "eu"}, 10), "b:1 c:1 |");
  EXPECT_EQ(Walk({.environment = Environment::kSandbox}, 10), "a:1 |");
  EXPECT_EQ(Walk({.state = GrantState::kActive}, 10), "a:2 b:1 |");
  EXPECT_EQ(Walk({.labels = {{"team", "x"}}}, 10), "c:1 |");
  EXPECT_EQ(Walk({.labels = {{"team", "x"}, {"tier", "2"}}}, 10), "|");
  EXPECT_EQ(Walk({.oauth_client = "narrow"}, 10), "b:1 |");
  EXPECT_EQ(Walk({.dc = "eu", .oauth_client = "web"}, 10), "c:1 |");
  // A page is full only with orgs that pass.
  EXPECT_EQ(Walk({.dc = "eu"}, 1), "b:1 |c:1 |");
}

TEST_F(OrgDirectoryTest, GivesAllGrantsOfOneOrgAndNoTokens) {
  Add("acme", Environment::kProduction, "web");
  Add("acme", Environment::kSandbox, "narrow");
  Add("acme2", Environment::kProduction, "web");
  absl::StatusOr<OrgEntry> org = absl::InternalError("not called");
  world_.replica().directory().Get("acme", kDeadline,
                                   [&](absl::StatusOr<OrgEntry> entry) { org = entry; });
  world_.executor().RunUntilIdle();
  ASSERT_TRUE(org.ok()) << org.status();
  EXPECT_EQ(org->org_id, "acme");
  ASSERT_EQ(org->grants.size(), 2u);
  EXPECT_EQ(org->grants[0].key.oauth_client, "web");
  EXPECT_EQ(org->grants[1].key.oauth_client, "narrow");
  EXPECT_TRUE(org->grants[0].refresh_token.empty());
  world_.replica().directory().Get("acm", kDeadline,
                                   [&](absl::StatusOr<OrgEntry> entry) { org = entry; });
  world_.executor().RunUntilIdle();
  EXPECT_EQ(ErrorReason(org.status()), "ORG_NOT_FOUND");
}

TEST_F(OrgDirectoryTest, WhatCannotBeReadIsToldOnceAndHidesNoOther) {
  using namespace std::string_literals;
  for (const char* org : {"a", "b", "c", "d"}) {
    Add(org, Environment::kProduction, "web");
    Add(org, Environment::kSandbox, "web");
  }
  world_.store().Damage({"a", Environment::kSandbox, "web"});
  for (const Environment environment : {Environment::kProduction, Environment::kSandbox}) {
    world_.store().Damage({"c", environment, "web"});
  }
  world_.store().AddStrayKey("d\0\x01\x01x"s);
  for (const int size : {1, 2, 3, 10}) {
    std::string all;
    std::string after;
    do {
      const absl::StatusOr<OrgPage> page = List({}, after, size);
      ASSERT_TRUE(page.ok()) << page.status();
      for (const OrgEntry& org : page->orgs) {
        absl::StrAppend(&all, org.org_id, ":", org.grants.size(), " ");
      }
      for (const UnreadableRecord& record : page->unreadable) {
        absl::StrAppend(&all, "-", record.key ? record.key->org_id : "?", " ");
      }
      after = page->next;
    } while (!after.empty());
    // Each once, whatever the page's size; within a page the orgs come first.
    std::vector<std::string> words = absl::StrSplit(all, ' ');
    std::sort(words.begin(), words.end());
    EXPECT_EQ(absl::StrJoin(words, " "), " -? -a -c -c a:1 b:2 d:2") << size;
    if (size == 1) {
      EXPECT_EQ(all, "a:1 -a b:2 d:2 -c -c -? ");
    }
  }
}

TEST_F(OrgDirectoryTest, ManyUnreadableRecordsAreReadPageByPageToo) {
  for (int i = 0; i < 6000; ++i) {
    Add(absl::StrCat("org", 10000 + i), Environment::kProduction, "web");
    if (i < 5999) {
      world_.store().Damage({absl::StrCat("org", 10000 + i), Environment::kProduction, "web"});
    }
  }
  const absl::StatusOr<OrgPage> first = List({}, "", 10);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_TRUE(first->orgs.empty());
  EXPECT_EQ(first->unreadable.size(), size_t{OrgDirectory::kMaxRecordsRead});
  const absl::StatusOr<OrgPage> second = List({}, first->next, 10);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->unreadable.size(), 5999u - OrgDirectory::kMaxRecordsRead);
  ASSERT_EQ(second->orgs.size(), 1u);
  EXPECT_EQ(second->next, "");
}

TEST_F(OrgDirectoryTest, GetTellsWhatCannotBeReadOrUnsealed) {
  Add("acme", Environment::kProduction, "web");
  Add("acme", Environment::kProduction, "narrow");
  Add("acme", Environment::kSandbox, "web");
  const GrantKey damaged{"acme", Environment::kSandbox, "web"};
  world_.store().Damage(damaged);
  // Of the first active grant that is loaded: the keyring does not open its tokens.
  world_.store().FailNext(Op::kLoad, RecordUnreadableError("keyring"));
  absl::StatusOr<OrgEntry> org = absl::InternalError("not called");
  world_.replica().directory().Get("acme", kDeadline,
                                   [&](absl::StatusOr<OrgEntry> entry) { org = entry; });
  world_.executor().RunUntilIdle();
  ASSERT_TRUE(org.ok()) << org.status();
  ASSERT_EQ(org->grants.size(), 1u);
  EXPECT_EQ(org->grants[0].key.oauth_client, "web");
  ASSERT_EQ(org->unreadable.size(), 2u);
  EXPECT_EQ(org->unreadable[0].key, damaged);
  EXPECT_EQ(org->unreadable[1].key->oauth_client, "narrow");
}

TEST_F(OrgDirectoryTest, ErrorsAreTheStores) {
  world_.store().SetUnavailable(true);
  EXPECT_EQ(ErrorReason(List({}, "", 10).status()), "STORE_UNAVAILABLE");
}

TEST_F(OrgDirectoryTest, IsAnsweredAlsoWhenTheExecutorStops) {
  std::vector<std::string> reasons;
  const auto note = [&](const absl::StatusOr<OrgPage>& page) {
    reasons.push_back(ErrorReason(page.status()));
  };
  world_.replica().directory().List({}, "", 10, kDeadline, note);
  world_.executor().Shutdown();
  world_.replica().directory().List({}, "", 10, kDeadline, note);
  EXPECT_THAT(reasons, ElementsAre("SHUTTING_DOWN", "SHUTTING_DOWN"));
}

// Of a store that does not answer; one thread for each lane.
class HangingStore : public ::testing::Test {
 protected:
  HangingStore() {
    world_.Add({.lifetime = absl::Seconds(3000)});
    world_.store().Before(Op::kListPage, [this] { world_.executor().Pause(absl::Minutes(1)); });
    Get(absl::Seconds(30));
    world_.executor().RunUntilIdle();
  }
  void Get(absl::Duration deadline) {
    const MonotonicTime start = world_.executor().now();
    world_.replica().directory().Get(
        "acme", deadline, [this, start](const absl::StatusOr<OrgEntry>& org) {
          answers_.push_back(absl::StrCat(org.ok() ? "OK" : ErrorReason(org.status()), " ",
                                          absl::FormatDuration(world_.executor().now() - start)));
        });
  }
  std::vector<std::string> answers_;  // before the world, whose end answers who still waits
  World world_{{.executor = {.threads_per_lane = 1}}};
};

TEST_F(HangingStore, EverybodyIsAnsweredAtTheDeadlineAndOnce) {
  Get(absl::Seconds(1));
  world_.replica().directory().List({}, "", 10, absl::Seconds(2),
                                    [this](const absl::StatusOr<OrgPage>& page) {
                                      answers_.push_back(ErrorReason(page.status()));
                                    });
  Get(absl::ZeroDuration());
  EXPECT_THAT(answers_, ElementsAre("DEADLINE_EXCEEDED 0"));
  world_.Advance(absl::Minutes(2));
  EXPECT_THAT(answers_, ElementsAre("DEADLINE_EXCEEDED 0", "DEADLINE_EXCEEDED 1s",
                                    "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED 30s"));
}

TEST_F(HangingStore, WhatNobodyWaitsForIsNotRead) {
  for (int i = 0; i < 1000; ++i) Get(absl::Seconds(1));
  Get(absl::Seconds(90));
  world_.Advance(absl::Minutes(1));
  EXPECT_EQ(answers_.back(), "OK 1m");
  EXPECT_EQ(world_.store().count(Op::kListPage), 2) << "that which hung, and the last";
}

TEST_F(HangingStore, OrgsTakeNoThreadFromTokens) {
  for (int i = 0; i < 1000; ++i) Get(absl::Seconds(30));
  const auto token = world_.Start();
  world_.executor().RunUntilIdle();
  EXPECT_EQ(Brief(token), "STORE at-old");
}

}  // namespace
}  // namespace tokenbroker
