#include "common/secret.h"

#include <iostream>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace tokenbroker {
namespace {

// That a secret cannot be printed is a property of the type, so it is proven by the compiler. Each
// check stands beside the same check of std::string, or a typo in it would pass for proof.
template <typename T>
concept Streamable = requires(std::ostream& out, const T& value) {
  out << value;  // a stream
};
static_assert(!Streamable<Secret>);
static_assert(Streamable<std::string>);

template <typename T>
concept Concatenable = requires(const T& value) {
  absl::StrCat("a", value);  // behind a text
};
static_assert(!Concatenable<Secret>);
static_assert(Concatenable<std::string>);

template <typename T>
concept Addable = requires(const T& value) {
  std::string("a") + value;  // as a part of one
};
static_assert(!Addable<Secret>);
static_assert(Addable<std::string>);

static_assert(!std::is_convertible_v<Secret, std::string>);
static_assert(!std::is_convertible_v<Secret, std::string_view>);
static_assert(!std::is_convertible_v<Secret, absl::string_view>);
static_assert(!std::is_convertible_v<Secret, const char*>);
static_assert(!std::is_convertible_v<Secret, bool>);
static_assert(!std::is_constructible_v<std::string, Secret>);
static_assert(!std::is_constructible_v<std::string_view, Secret>);
// Nor does a string become a secret without anybody noticing.
static_assert(!std::is_convertible_v<std::string, Secret>);
static_assert(!std::is_convertible_v<const char*, Secret>);
// Statuses and containers move values around.
static_assert(std::is_nothrow_move_constructible_v<Secret>);
static_assert(std::is_nothrow_move_assignable_v<Secret>);

std::string AnyBytes() { return std::string("a\0b\xff\n", 5); }

TEST(SecretTest, GivesItsBytesOnlyWhenAsked) {
  const Secret secret(AnyBytes());
  EXPECT_EQ(secret.Reveal(), AnyBytes());
  EXPECT_EQ(secret.size(), 5u);
  EXPECT_FALSE(secret.empty());
  EXPECT_TRUE(Secret().empty());
  EXPECT_EQ(Secret().Reveal(), "");
}

TEST(SecretTest, ComparesByValue) {
  EXPECT_TRUE(Secret("token") == Secret("token"));
  EXPECT_TRUE(Secret("token") != Secret("tokem"));
  EXPECT_TRUE(Secret("token") != Secret("uoken"));
  EXPECT_TRUE(Secret("token") != Secret("token "));
  EXPECT_TRUE(Secret("token") != Secret());
  EXPECT_TRUE(Secret() == Secret(""));
  EXPECT_TRUE(Secret(std::string("a\0b", 3)) != Secret(std::string("a\0c", 3)));
}

TEST(SecretTest, CopiesAreIndependent) {
  Secret first("first value, longer than any small string");
  Secret second = first;
  first = Secret("other");
  EXPECT_EQ(second.Reveal(), "first value, longer than any small string");
  second = first;
  EXPECT_EQ(second.Reveal(), "other");
  Secret& self = second;
  second = self;
  EXPECT_EQ(second.Reveal(), "other");
}

TEST(SecretTest, MovingLeavesNothingBehind) {
  for (const std::string& value : {std::string("short"), std::string(1000, 'l')}) {
    Secret from(value);
    Secret to(std::move(from));
    EXPECT_EQ(to.Reveal(), value);
    EXPECT_TRUE(from.empty());  // NOLINT: what a moved-from secret holds is the point
    Secret assigned("old");
    assigned = std::move(to);
    EXPECT_EQ(assigned.Reveal(), value);
    EXPECT_TRUE(to.empty());  // NOLINT
  }
}

TEST(SecretTest, OverwritesItsBytesWhenTheyAreReplaced) {
  Secret secret("canary");  // short: its bytes are inside the object
  const char* const bytes = secret.Reveal().data();
  secret = Secret();
  EXPECT_EQ(std::string(bytes, 6), std::string(6, '\0'));
}

}  // namespace
}  // namespace tokenbroker
