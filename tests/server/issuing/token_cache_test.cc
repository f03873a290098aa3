#include "server/issuing/token_cache.h"

#include <gtest/gtest.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "tests/testing/manual_executor.h"

namespace tokenbroker {
namespace {

constexpr MonotonicTime kStart = absl::Hours(1);

GrantKey KeyOf(const std::string& org) { return {org, Environment::kProduction, "web"}; }

std::shared_ptr<const IssuedToken> Token(const std::string& org, int64_t version,
                                         bool keep_warm = false) {
  auto token = std::make_shared<IssuedToken>();
  token->key = KeyOf(org);
  token->version = version;
  token->keep_warm = keep_warm;
  return token;
}

bool Put(TokenCache& cache, const std::string& org, int64_t version, MonotonicTime read_at,
         MonotonicTime now, bool used = true) {
  return cache.Put(Token(org, version), 1, read_at, now, used);
}

TokenCache::Refusal Refusal(int64_t generation) {
  return {OrgNotFoundError(), generation, 1, kStart, kStart + absl::Seconds(5), kStart};
}

int64_t VersionOf(const TokenCache& cache, const std::string& org) {
  const auto entry = cache.Peek(KeyOf(org));
  if (!entry) return -1;
  return entry->token == nullptr ? 0 : entry->token->version;
}

TEST(TokenCache, KeepsWhatIsNewer) {
  TokenCache cache(100);
  EXPECT_TRUE(Put(cache, "a", 2, kStart, kStart));
  EXPECT_FALSE(Put(cache, "a", 2, kStart, kStart));
  // Read before version 2 was put here: late, not new.
  EXPECT_FALSE(Put(cache, "a", 1, kStart - absl::Seconds(1), kStart + absl::Seconds(1)));
  EXPECT_EQ(VersionOf(cache, "a"), 2);
  EXPECT_TRUE(Put(cache, "a", 3, kStart - absl::Seconds(1), kStart + absl::Seconds(1)));
  EXPECT_EQ(VersionOf(cache, "a"), 3);
  // Read after that: the store was set back.
  EXPECT_TRUE(Put(cache, "a", 1, kStart + absl::Seconds(2), kStart + absl::Seconds(2)));
  EXPECT_EQ(VersionOf(cache, "a"), 1);
}

TEST(TokenCache, HasOneTimerPerTokenTheLatestThatWasSet) {
  testing::ManualExecutor executor({});
  int ran = 0;
  const auto timer = [&] {
    return ScopedTimer(&executor, executor.RunAfter(absl::Hours(1), [&] { ++ran; }));
  };
  TokenCache cache(100);
  Put(cache, "a", 1, kStart, kStart);
  ScopedTimer earlier(&executor, executor.RunAfter(absl::Hours(1), [] { FAIL(); }));
  cache.KeepTimer(KeyOf("a"), 1, timer());
  cache.KeepTimer(KeyOf("a"), 1, std::move(earlier));
  cache.KeepTimer(KeyOf("a"), 2, timer());
  cache.KeepTimer(KeyOf("b"), 1, timer());
  EXPECT_EQ(executor.timers(), 1u);
  executor.Advance(absl::Hours(1));
  EXPECT_EQ(ran, 1);
  // It goes with the token.
  cache.KeepTimer(KeyOf("a"), 1, timer());
  cache.PutRefusal(KeyOf("a"), Refusal(1));
  EXPECT_EQ(executor.timers(), 1u);
  cache.Invalidate(KeyOf("a"), 1, /*alive=*/false);
  EXPECT_EQ(executor.timers(), 0u);
  Put(cache, "a", 2, kStart, kStart);
  cache.KeepTimer(KeyOf("a"), 2, timer());
  Put(cache, "a", 3, kStart, kStart);
  EXPECT_EQ(executor.timers(), 0u);
}

TEST(TokenCache, ChangesApplyToWhatIsOlder) {
  TokenCache cache(100);
  Put(cache, "a", 5, kStart, kStart);
  cache.Invalidate(KeyOf("a"), 5, true);
  EXPECT_FALSE(cache.Peek(KeyOf("a"))->outdated);
  cache.Invalidate(KeyOf("a"), 4, false);
  EXPECT_EQ(VersionOf(cache, "a"), 5);
  cache.Invalidate(KeyOf("a"), 6, true);
  EXPECT_TRUE(cache.Peek(KeyOf("a"))->outdated);
  // A dead grant keeps its generation: the failure is of the one that the token has.
  Put(cache, "b", 5, kStart, kStart);
  cache.Invalidate(KeyOf("b"), 5, false);
  EXPECT_EQ(VersionOf(cache, "b"), -1);
  cache.Invalidate(KeyOf("unknown"), 5, false);
  EXPECT_EQ(cache.size(), 1u);
}

TEST(TokenCache, RefusalsEndWithANewerGeneration) {
  TokenCache cache(100);
  cache.PutRefusal(KeyOf("a"), Refusal(5));
  cache.Invalidate(KeyOf("a"), 5, true);
  cache.Invalidate(KeyOf("a"), 5, false);
  ASSERT_NE(cache.Peek(KeyOf("a"))->refusal, nullptr);
  cache.Invalidate(KeyOf("a"), 6, true);
  EXPECT_EQ(cache.Peek(KeyOf("a"))->refusal, nullptr);

  cache.PutRefusal(KeyOf("b"), Refusal(5));
  Put(cache, "b", 5, kStart, kStart);
  EXPECT_NE(cache.Peek(KeyOf("b"))->refusal, nullptr);
  Put(cache, "b", 6, kStart, kStart);
  EXPECT_EQ(cache.Peek(KeyOf("b"))->refusal, nullptr);
}

TEST(TokenCache, KnowsWhatWasUsed) {
  using Due = TokenCache::Due;
  TokenCache cache(100);
  EXPECT_EQ(cache.CheckDue(KeyOf("a"), 1, kStart), Due::kGone);
  Put(cache, "a", 1, kStart, kStart, /*used=*/false);
  EXPECT_EQ(cache.CheckDue(KeyOf("a"), 2, kStart), Due::kGone);
  EXPECT_EQ(cache.CheckDue(KeyOf("a"), 1, kStart), Due::kIdle);
  // The next one to use it is told, once.
  EXPECT_TRUE(cache.Find(KeyOf("a"), kStart + absl::Seconds(1))->came_back);
  EXPECT_FALSE(cache.Find(KeyOf("a"), kStart + absl::Seconds(1))->came_back);
  EXPECT_EQ(cache.CheckDue(KeyOf("a"), 1, kStart + absl::Seconds(1)), Due::kUsed);
  cache.MarkUsed(KeyOf("a"), kStart + absl::Seconds(2));
  EXPECT_EQ(cache.CheckDue(KeyOf("a"), 1, kStart + absl::Seconds(2)), Due::kUsed);
  cache.Put(Token("b", 1, /*keep_warm=*/true), 1, kStart, kStart, /*used=*/false);
  EXPECT_EQ(cache.CheckDue(KeyOf("b"), 1, kStart), Due::kUsed);
}

TEST(TokenCache, AnIdleTokenThatDiesTellsNobody) {
  TokenCache cache(100);
  Put(cache, "a", 1, kStart, kStart, /*used=*/false);
  ASSERT_EQ(cache.CheckDue(KeyOf("a"), 1, kStart), TokenCache::Due::kIdle);
  cache.PutRefusal(KeyOf("a"), Refusal(1));
  cache.Invalidate(KeyOf("a"), 1, false);
  const auto entry = cache.Find(KeyOf("a"), kStart);
  ASSERT_TRUE(entry.has_value());
  EXPECT_EQ(entry->token, nullptr);
  EXPECT_FALSE(entry->came_back);
}

TEST(TokenCache, IsBoundedAndForgetsWhatIsLongUnused) {
  constexpr int kCapacity = 64 * 20;
  TokenCache cache(kCapacity);
  // In use all the time: a few hot orgs among many that come once.
  for (int i = 0; i < 20'000; ++i) {
    const MonotonicTime now = kStart + absl::Milliseconds(i);
    for (int hot = 0; hot < 10; ++hot) {
      const std::string org = absl::StrCat("hot", hot);
      if (!cache.Find(KeyOf(org), now)) Put(cache, org, 1 + i, now, now);
    }
    Put(cache, absl::StrCat("org", i), 1, now, now);
  }
  EXPECT_LE(cache.size(), static_cast<size_t>(kCapacity));
  EXPECT_GT(cache.size(), static_cast<size_t>(kCapacity / 2));
  int kept = 0;
  for (int hot = 0; hot < 10; ++hot) kept += VersionOf(cache, absl::StrCat("hot", hot)) == 1;
  EXPECT_EQ(kept, 10);
  // Refusals of orgs that do not exist push out nothing that is used.
  for (int i = 0; i < 20'000; ++i) cache.PutRefusal(KeyOf(absl::StrCat("no", i)), Refusal(0));
  EXPECT_LE(cache.size(), static_cast<size_t>(kCapacity));
}

}  // namespace
}  // namespace tokenbroker
