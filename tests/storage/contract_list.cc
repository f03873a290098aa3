// Listing, page by page.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/ids.h"
#include "tests/storage/token_store_contract.h"

namespace tokenbroker {
namespace {

// All encoded keys under `prefix`, in pages of `limit`; `between` runs after every page.
std::vector<std::string> ListAll(
    TokenStore& store, std::string_view prefix, int limit,
    const std::function<void(const GrantPage&)>& between = [](const GrantPage&) {}) {
  std::vector<std::string> keys;
  std::string after;
  for (int pages = 0; pages < 10'000; ++pages) {
    absl::StatusOr<GrantPage> page = store.ListPage(prefix, after, limit);
    if (!page.ok()) {
      ADD_FAILURE() << page.status();
      return keys;
    }
    EXPECT_LE(page->records.size(), static_cast<size_t>(limit));
    for (const GrantRecord& record : page->records) keys.push_back(EncodeGrantKey(record.key));
    if (page->next.empty()) return keys;
    EXPECT_GT(page->next, after) << "no progress";
    after = page->next;
    between(*page);
  }
  ADD_FAILURE() << "the list does not end";
  return keys;
}

std::vector<std::string> Encoded(const std::vector<GrantKey>& keys) {
  std::vector<std::string> encoded;
  for (const GrantKey& key : keys) encoded.push_back(EncodeGrantKey(key));
  std::sort(encoded.begin(), encoded.end());
  return encoded;
}

TEST_P(TokenStoreContract, EmptyStoreHasOneEmptyPage) {
  const absl::StatusOr<GrantPage> page = store().ListPage("", "", 10);
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_TRUE(page->records.empty());
  EXPECT_EQ(page->next, "");
}

TEST_P(TokenStoreContract, PagesCoverAllGrantsInOrder) {
  std::vector<GrantKey> keys;
  for (int i = 0; i < 23; ++i) {
    keys.push_back(Key(absl::StrFormat("org-%02d", (i * 7) % 23)));
    RegisterOrg(keys.back());
  }
  for (int limit : {1, 2, 7, 22, 23, 24, 1000}) {
    EXPECT_EQ(ListAll(store(), "", limit), Encoded(keys)) << limit;
  }
}

TEST_P(TokenStoreContract, ListShowsEverythingButTokens) {
  RegisterRequest request = Registration(Key());
  request.info.display_name = "Zylker";
  request.info.labels = {{"tier", "gold"}};
  request.tokens = Tokens("access-1");
  Register(request);
  FailOnce(Key(), "a", FailureKind::kTransient);
  const absl::StatusOr<GrantPage> page = store().ListPage("", "", 10);
  ASSERT_TRUE(page.ok()) << page.status();
  ASSERT_EQ(page->records.size(), 1u);
  const GrantRecord& record = page->records[0];
  EXPECT_EQ(record.key, Key());
  EXPECT_EQ(record.info.display_name, "Zylker");
  EXPECT_EQ(record.info.labels, request.info.labels);
  EXPECT_EQ(record.info.dc, "eu");
  EXPECT_EQ(record.state, GrantState::kActive);
  EXPECT_EQ(record.generation, 1);
  EXPECT_EQ(record.last_failure, FailureKind::kTransient);
  EXPECT_EQ(record.last_error, "connection reset");
  EXPECT_TRUE(record.refresh_token.empty());
  EXPECT_TRUE(record.access_token.empty());
  // When the token runs out is no secret.
  EXPECT_TRUE(About(record.access_expiry - record.store_now, absl::Hours(1)));
}

TEST_P(TokenStoreContract, ListShowsDeadAndRevokedGrants) {
  RegisterOrg(Key("org-1"));
  RegisterOrg(Key("org-2"));
  FailOnce(Key("org-1"), "a", FailureKind::kNeedsConsent);
  Revoke(Key("org-2"));
  const absl::StatusOr<GrantPage> page = store().ListPage("", "", 10);
  ASSERT_TRUE(page.ok()) << page.status();
  ASSERT_EQ(page->records.size(), 2u);
  EXPECT_EQ(page->records[0].state, GrantState::kNeedsConsent);
  EXPECT_EQ(page->records[1].state, GrantState::kRevoked);
}

TEST_P(TokenStoreContract, PrefixSelectsOneOrgOrOneEnvironmentOfIt) {
  using namespace std::string_literals;
  std::vector<GrantKey> mine;
  for (Environment environment : {Environment::kProduction, Environment::kSandbox}) {
    for (const char* client : {"crm-app", "people-app"}) {
      mine.push_back({"org", environment, client});
    }
  }
  const std::vector<GrantKey> others = {{"org-2", Environment::kProduction, "people-app"},
                                        {"or", Environment::kProduction, "people-app"},
                                        {"org\0"s, Environment::kProduction, "people-app"},
                                        {"org\xff", Environment::kProduction, "people-app"},
                                        {"\xff\xff", Environment::kProduction, "people-app"}};
  for (const GrantKey& key : mine) RegisterOrg(key);
  for (const GrantKey& key : others) RegisterOrg(key);

  for (int limit : {1, 3, 4, 100}) {
    EXPECT_EQ(ListAll(store(), EncodeOrgPrefix("org"), limit), Encoded(mine)) << limit;
    EXPECT_EQ(ListAll(store(), EncodeOrgEnvironmentPrefix("org", Environment::kSandbox), limit),
              Encoded({mine[2], mine[3]}))
        << limit;
  }
  EXPECT_EQ(ListAll(store(), EncodeOrgPrefix("\xff\xff"), 1), Encoded({others[4]}));
  EXPECT_TRUE(ListAll(store(), EncodeOrgPrefix("nobody"), 10).empty());
  // Prefixes are bytes: one that no carry can follow, too.
  EXPECT_EQ(ListAll(store(), "\xff", 10), Encoded({others[4]}));
}

TEST_P(TokenStoreContract, AfterNeedNotExistNorLieUnderThePrefix) {
  for (const char* org : {"org-1", "org-3", "org-5"}) RegisterOrg(Key(org));
  const auto list = [&](std::string_view prefix, std::string_view after) {
    const absl::StatusOr<GrantPage> page = store().ListPage(prefix, after, 10);
    EXPECT_TRUE(page.ok()) << page.status();
    std::string orgs;
    if (page.ok()) {
      for (const GrantRecord& record : page->records)
        absl::StrAppend(&orgs, record.key.org_id, " ");
    }
    return orgs;
  };
  EXPECT_EQ(list("", EncodeGrantKey(Key("org-2"))), "org-3 org-5 ");
  EXPECT_EQ(list("", EncodeGrantKey(Key("org-3"))), "org-5 ");
  EXPECT_EQ(list("", EncodeGrantKey(Key("org-5"))), "");
  EXPECT_EQ(list(EncodeOrgPrefix("org-3"), EncodeGrantKey(Key("org-1"))), "org-3 ");
  EXPECT_EQ(list(EncodeOrgPrefix("org-3"), EncodeGrantKey(Key("org-5"))), "");
}

TEST_P(TokenStoreContract, PagesAreStableUnderChange) {
  std::vector<GrantKey> keys;
  for (int i = 0; i < 20; ++i) {
    keys.push_back(Key(absl::StrFormat("org-%02d", i)));
    RegisterOrg(keys.back());
  }
  int changes = 0;
  const std::vector<std::string> listed = ListAll(store(), "", 3, [&](const GrantPage& page) {
    // Before, behind and around the place where the next page starts.
    RegisterOrg(Key(absl::StrCat("new-", changes)));
    RegisterOrg(Key(absl::StrCat("zzz-", changes)));
    Revoke(page.records.back().key);
    Register(Registration(keys[changes], absl::StrCat("again-", changes)));
    Acquire(keys[19 - changes], "a");
    ++changes;
  });
  EXPECT_GT(changes, 5);
  std::vector<std::string> old;
  for (const std::string& key : listed) {
    if (DecodeGrantKey(key)->org_id.starts_with("org-")) old.push_back(key);
  }
  EXPECT_EQ(old, Encoded(keys));  // each exactly once
  EXPECT_TRUE(std::is_sorted(listed.begin(), listed.end()));
}

TEST_P(TokenStoreContract, ThousandOnAPage) {
  // More grants than the largest page has room for.
  for (int i = 0; i < 1001; ++i) {
    ASSERT_TRUE(store().Register(Registration(Key(absl::StrFormat("org-%04d", i)))).ok());
  }
  const absl::StatusOr<GrantPage> page = store().ListPage("", "", 1000);
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_EQ(page->records.size(), 1000u);
  EXPECT_EQ(page->next, EncodeGrantKey(page->records.back().key));
  const absl::StatusOr<GrantPage> last = store().ListPage("", page->next, 1000);
  ASSERT_TRUE(last.ok()) << last.status();
  ASSERT_EQ(last->records.size(), 1u);
  EXPECT_EQ(last->records[0].key.org_id, "org-1000");
  EXPECT_EQ(last->next, "");
}

}  // namespace
}  // namespace tokenbroker
