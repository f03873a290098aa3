#include "common/ids.h"

#include <algorithm>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "absl/hash/hash_testing.h"
#include "gtest/gtest.h"

namespace tokenbroker {
namespace {

using namespace std::string_literals;

// Ids that end, continue or imitate each other's encodings.
std::vector<std::string> HostileIds() {
  return {"",
          "\0"s,
          "\0\0"s,
          "\0\x01"s,
          "\0\xff"s,
          "\0\xff\0\x01"s,
          "\x01",
          "\x01\0"s,
          "a",
          "a\0"s,
          "a\0\x01"s,
          "a\0\x01\x01"s,
          "a\0\x01\x01\0\x01"s,
          "a\0b"s,
          "a\x01",
          "ab",
          "a:b",
          "{a}",
          "{}",
          "*",
          "\xF0\x9F\x98\x80",
          "\x7f",
          "\x80",
          "\xfe",
          "\xff",
          "\xff\0"s,
          "\xff\xff",
          std::string(kMaxOrgIdBytes, 'x'),
          std::string(kMaxOrgIdBytes, '\0'),
          std::string(kMaxOrgIdBytes, '\xff')};
}

std::vector<GrantKey> HostileKeys() {
  std::vector<GrantKey> keys;
  for (const std::string& org : HostileIds()) {
    for (Environment environment :
         {Environment::kProduction, Environment::kSandbox, Environment::kDeveloper}) {
      for (const std::string& client : {""s, "\0"s, "\0\x01"s, "a"s, "a\0"s, "\xff"s}) {
        keys.push_back({org, environment, client});
      }
    }
  }
  return keys;
}

bool Before(const GrantKey& a, const GrantKey& b) {
  return std::tie(a.org_id, a.environment, a.oauth_client) <
         std::tie(b.org_id, b.environment, b.oauth_client);
}

TEST(GrantKeyTest, DecodesToWhatWasEncoded) {
  for (const GrantKey& key : HostileKeys()) {
    const std::optional<GrantKey> decoded = DecodeGrantKey(EncodeGrantKey(key));
    ASSERT_TRUE(decoded.has_value());
    EXPECT_TRUE(*decoded == key);
  }
}

TEST(GrantKeyTest, EncodingKeepsOrderAndIsInjective) {
  std::vector<GrantKey> keys = HostileKeys();
  std::sort(keys.begin(), keys.end(), Before);
  for (size_t i = 1; i < keys.size(); ++i) {
    EXPECT_LT(EncodeGrantKey(keys[i - 1]), EncodeGrantKey(keys[i])) << i;
  }
}

TEST(GrantKeyTest, NoEncodingIsAPrefixOfAnother) {
  std::vector<std::string> encoded;
  for (const GrantKey& key : HostileKeys()) encoded.push_back(EncodeGrantKey(key));
  std::sort(encoded.begin(), encoded.end());
  // Sorted, a prefix would stand right before one that it begins.
  for (size_t i = 1; i < encoded.size(); ++i) {
    EXPECT_FALSE(encoded[i].starts_with(encoded[i - 1])) << i;
  }
}

TEST(GrantKeyTest, PrefixesSelectExactlyTheirGrants) {
  const std::vector<GrantKey> keys = HostileKeys();
  for (const std::string& org : HostileIds()) {
    const std::string org_prefix = EncodeOrgPrefix(org);
    for (const GrantKey& key : keys) {
      EXPECT_EQ(EncodeGrantKey(key).starts_with(org_prefix), key.org_id == org);
      EXPECT_EQ(
          EncodeGrantKey(key).starts_with(EncodeOrgEnvironmentPrefix(org, Environment::kSandbox)),
          key.org_id == org && key.environment == Environment::kSandbox);
    }
  }
}

TEST(GrantKeyTest, OnlyEncodingsAreDecoded) {
  const std::string encoded = EncodeGrantKey({"a\0b"s, Environment::kSandbox, "c\0"s});
  ASSERT_TRUE(DecodeGrantKey(encoded).has_value());
  for (size_t size = 0; size < encoded.size(); ++size) {
    EXPECT_FALSE(DecodeGrantKey(encoded.substr(0, size)).has_value()) << size;
  }
  EXPECT_FALSE(DecodeGrantKey(encoded + "x").has_value());
  EXPECT_FALSE(DecodeGrantKey(encoded + "\0"s).has_value());
  EXPECT_FALSE(DecodeGrantKey("a\0\x02\x01"s).has_value());       // no such escape
  EXPECT_FALSE(DecodeGrantKey("a\0\x01\0c\0\x01"s).has_value());  // environment 0
  EXPECT_FALSE(DecodeGrantKey("a\0\x01\x04"s
                              "c\0\x01"s)
                   .has_value());  // environment 4
  EXPECT_TRUE(DecodeGrantKey("a\0\x01\x03"s
                             "c\0\x01"s)
                  .has_value());
}

TEST(GrantKeyTest, HashAgreesWithEquality) {
  EXPECT_TRUE(absl::VerifyTypeImplementsAbslHashCorrectly(
      {GrantKey{"a", Environment::kProduction, "b"}, GrantKey{"a", Environment::kSandbox, "b"},
       GrantKey{"a", Environment::kProduction, ""}, GrantKey{"", Environment::kProduction, "a"},
       GrantKey{"ab", Environment::kProduction, ""}, GrantKey{}}));
}

TEST(EnvironmentTest, NamesAreParsedExactly) {
  for (Environment environment :
       {Environment::kProduction, Environment::kSandbox, Environment::kDeveloper}) {
    EXPECT_EQ(ParseEnvironment(EnvironmentName(environment)), environment);
  }
  EXPECT_EQ(EnvironmentName(Environment::kProduction), "PRODUCTION");
  for (const char* name : {"", "production", "PRODUCTION ", "UNKNOWN", "PROD"}) {
    EXPECT_EQ(ParseEnvironment(name), std::nullopt) << name;
  }
}

TEST(AttemptIdTest, IdsAreHexAndNeverRepeat) {
  constexpr int kThreads = 4;
  constexpr int kIds = 2000;
  std::vector<std::vector<std::string>> made(kThreads);
  std::vector<std::thread> threads;
  for (std::vector<std::string>& mine : made) {
    threads.emplace_back([&mine] {
      for (int i = 0; i < kIds; ++i) mine.push_back(NewAttemptId());
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<std::string> all;
  for (const std::vector<std::string>& mine : made) {
    for (const std::string& id : mine) {
      EXPECT_EQ(id.size(), 32u);
      EXPECT_EQ(id.find_first_not_of("0123456789abcdef"), std::string::npos);
      all.insert(id);
    }
  }
  EXPECT_EQ(all.size(), static_cast<size_t>(kThreads * kIds));
}

TEST(NewAttemptIdTest, RepeatsOnlyWhereItIsSeeded) {
  SeedAttemptIds(7);
  const std::string first = NewAttemptId();
  EXPECT_NE(NewAttemptId(), first);
  SeedAttemptIds(7);
  EXPECT_EQ(NewAttemptId(), first);
  // Other threads' ids stay what they are: unique.
  std::string elsewhere;
  std::thread([&] { elsewhere = NewAttemptId(); }).join();
  SeedAttemptIds(7);
  EXPECT_NE(elsewhere, NewAttemptId());
}

}  // namespace
}  // namespace tokenbroker
