// Records that cannot be read, among others that can.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "tests/storage/token_store_contract.h"

namespace tokenbroker {
namespace {

// "readable org …" and "-org" for those that were left out, page by page.
std::string Walk(TokenStore& store, std::string_view prefix, int limit) {
  std::string all;
  std::string after;
  for (int pages = 0; pages < 1000; ++pages) {
    const absl::StatusOr<GrantPage> page = store.ListPage(prefix, after, limit);
    if (!page.ok()) return page.status().ToString();
    EXPECT_LE(page->records.size() + page->unreadable.size(), static_cast<size_t>(limit));
    for (const GrantRecord& record : page->records) absl::StrAppend(&all, record.key.org_id, " ");
    for (const UnreadableRecord& record : page->unreadable) {
      absl::StrAppend(&all, "-", record.key ? record.key->org_id : "?", " ");
      if (record.key) {
        EXPECT_EQ(record.encoded, EncodeGrantKey(*record.key));
      }
    }
    if (page->next.empty()) return all;
    EXPECT_GT(page->next, after) << "no progress";
    after = page->next;
  }
  return "the list does not end";
}

TEST_P(TokenStoreContract, UnreadableRecordsAreNamedAndHideNoOther) {
  std::string expected;
  for (int way = 0; way < fixture().damages(); ++way) {
    const std::string org = absl::StrCat("org-", absl::Dec(way, absl::kZeroPad2));
    RegisterOrg(Key(org));
    RegisterOrg(Key(org + "-sound"));
    fixture().Damage(Key(org), way);
    EXPECT_EQ(ErrorReason(store().Load(Key(org)).status()), "RECORD_UNREADABLE") << way;
    EXPECT_TRUE(store().Load(Key(org + "-sound")).ok());
    absl::StrAppend(&expected, "-", org, " ", org, "-sound ");
  }
  EXPECT_EQ(Walk(store(), "", 1), expected);
  EXPECT_EQ(Walk(store(), EncodeOrgPrefix("org-00"), 10), "-org-00 ");
  // On one page, the readable ones come first.
  const absl::StatusOr<GrantPage> page = store().ListPage("", "", 1000);
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_EQ(page->records.size(), static_cast<size_t>(fixture().damages()));
  EXPECT_EQ(page->unreadable.size(), static_cast<size_t>(fixture().damages()));
  EXPECT_EQ(page->next, "");
}

TEST_P(TokenStoreContract, KeysThatCannotBeDecodedAreNamedAndHideNoOther) {
  using namespace std::string_literals;
  RegisterOrg(Key("a"));
  RegisterOrg(Key("c"));
  fixture().AddStrayKey("b");
  fixture().AddStrayKey("z\0\x02\xff"s);
  EXPECT_EQ(Walk(store(), "", 1), "a -? c -? ");
  const absl::StatusOr<GrantPage> page = store().ListPage("", "", 1000);
  ASSERT_TRUE(page.ok()) << page.status();
  ASSERT_EQ(page->unreadable.size(), 2u);
  EXPECT_EQ(page->unreadable[0].encoded, "b");
  EXPECT_EQ(page->unreadable[1].encoded, "z\0\x02\xff"s);
}

// Who had registered it and whether it was revoked can no longer be told, and bars nobody.
TEST_P(TokenStoreContract, RegisteringMendsWhicheverConsentWasFound) {
  for (int way = 0; way < fixture().damages(); ++way) {
    for (const bool revoked : {false, true}) {
      SCOPED_TRACE(absl::StrCat(way, revoked ? " after" : " before", " the revocation"));
      const GrantKey key = Key(absl::StrCat("org-", way, "-", revoked));
      Register(Registration(key));
      Revoke(key);
      RegisterRequest request = Registration(key, "register-2");
      request.replaces = Consent{"register-1", revoked};
      fixture().Damage(key, way);
      EXPECT_EQ(Register(request).outcome, RegisterResult::Outcome::kReplaced);
      EXPECT_EQ(Load(key).state, GrantState::kActive);
    }
  }
}

TEST_P(TokenStoreContract, RegisteringMendsAnUnreadableRecord) {
  for (int way = 0; way < fixture().damages(); ++way) {
    SCOPED_TRACE(way);
    const GrantKey key = Key(absl::StrCat("org-", way));
    const GrantKey neighbour = Key(absl::StrCat("org-", way, "-neighbour"));
    RegisterOrg(key);
    RegisterOrg(neighbour);
    const int64_t epoch = AcquireAndSend(key, "a");
    fixture().Damage(key, way);
    // The attempt that had registered it, too: there is nothing left to answer with.
    const RegisterResult mended = Register(Registration(key));
    EXPECT_EQ(mended.outcome, RegisterResult::Outcome::kReplaced);
    // Beyond everything that was before.
    EXPECT_GT(mended.record.generation, 1);
    EXPECT_GT(mended.record.epoch, epoch);
    const GrantRecord record = Load(key);
    EXPECT_EQ(record.generation, mended.record.generation);
    EXPECT_EQ(record.state, GrantState::kActive);
    EXPECT_TRUE(record.refresh_token == Secret("refresh-1"));
    EXPECT_EQ(record.info.scopes, Registration(key).info.scopes);
    EXPECT_LE(record.created, record.store_now);
    // What was in flight is superseded.
    EXPECT_EQ(MarkSent(key, "a", epoch), MarkSentOutcome::kLost);
    EXPECT_EQ(Commit(key, "a", 1).outcome, CommitResult::Outcome::kSuperseded);
    EXPECT_EQ(Fail(key, "a", epoch, 1, FailureKind::kNeedsConsent).outcome,
              FailResult::Outcome::kStale);
    // From here on it is a record like any other.
    EXPECT_EQ(Register(Registration(key)).outcome, RegisterResult::Outcome::kDuplicate);
    AcquireAndSend(key, "b", mended.record.generation);
    EXPECT_EQ(Commit(key, "b", mended.record.generation).outcome,
              CommitResult::Outcome::kCommitted);
    EXPECT_EQ(Load(neighbour).generation, 1);
  }
}

// Zoho goes on counting, whatever becomes of our records.
TEST_P(TokenStoreContract, MendingKeepsTheSendsAndTheThrottle) {
  int spared = 0;
  for (int way = 0; way < fixture().damages(); ++way) {
    if (!fixture().DamageSparesLimits(way)) continue;
    SCOPED_TRACE(way);
    ++spared;
    const GrantKey key = Key(absl::StrCat("org-", way));
    RegisterWithSends(key, 2);
    Advance(absl::Seconds(60));
    CountSends(key, 1);
    Fail(key, "code", /*epoch=*/0, /*generation=*/0, FailureKind::kThrottled);
    const GrantRecord before = Load(key);
    ASSERT_EQ(before.sends.size(), 3u);
    ASSERT_GT(before.throttled_until, before.store_now);
    fixture().Damage(key, way);
    Register(Registration(key, "register-2"));
    const GrantRecord mended = Load(key);
    EXPECT_EQ(mended.sends, before.sends);
    EXPECT_EQ(mended.throttled_until, before.throttled_until);
    EXPECT_EQ(CountSend(key, "code-2").outcome, CountSendResult::Outcome::kThrottled);
  }
  EXPECT_GT(spared, 0);
}

// Nothing vouches for them there.
TEST_P(TokenStoreContract, MendingDropsSendsOfTheFuture) {
  const GrantRecord before = RegisterWithSends(Key(), 2);
  Advance(absl::Hours(1));
  CountSends(Key(), 1);
  EXPECT_EQ(Load(Key()).sends.size(), 3u);
  Advance(-absl::Hours(1));
  // All at once: registering replaces some damaged fields as if they were sound.
  for (int way = 0; way < fixture().damages(); ++way) {
    if (fixture().DamageSparesLimits(way)) fixture().Damage(Key(), way);
  }
  Register(Registration(Key(), "register-2"));
  EXPECT_EQ(Load(Key()).sends, before.sends);
}

}  // namespace
}  // namespace tokenbroker
