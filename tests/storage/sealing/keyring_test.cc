#include "storage/sealing/keyring.h"

#include <set>
#include <string>
#include <vector>

#include "common/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tokenbroker {
namespace {

using testing::HasSubstr;
using testing::Not;

Secret KeyOf(char c) { return Secret(std::string(32, c)); }

Keyring Ring(std::vector<SealingKey> keys = {{"key-1", KeyOf('1')}}) {
  absl::StatusOr<Keyring> ring = Keyring::Create(std::move(keys));
  EXPECT_TRUE(ring.ok()) << ring.status();
  return *std::move(ring);
}

std::string Seal(const Keyring& ring, std::string_view plaintext, std::string_view data) {
  absl::StatusOr<std::string> sealed = ring.Seal(plaintext, data);
  EXPECT_TRUE(sealed.ok()) << sealed.status();
  return *std::move(sealed);
}

void ExpectUnreadable(const absl::StatusOr<Secret>& opened) {
  EXPECT_EQ(opened.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(ErrorReason(opened.status()), "RECORD_UNREADABLE");
}

TEST(KeyringTest, OpensWhatItSealed) {
  const Keyring ring = Ring();
  std::string every_byte;
  for (int i = 0; i < 256; ++i) every_byte.push_back(static_cast<char>(i));
  for (const std::string& value : {std::string(), std::string(1, '\0'), std::string("token"),
                                   every_byte, std::string(100'000, 'x')}) {
    for (const std::string& data : {std::string(), std::string("grant"), every_byte}) {
      const std::string sealed = Seal(ring, value, data);
      const absl::StatusOr<Secret> opened = ring.Open(sealed, data);
      ASSERT_TRUE(opened.ok()) << opened.status();
      EXPECT_TRUE(*opened == Secret(value));
      // Version, id's length, "key-1", nonce, ciphertext, tag.
      EXPECT_EQ(sealed.size(), 1 + 1 + 5 + 12 + value.size() + 16);
    }
  }
}

// The format is stored for years: this value must open forever. Made when the format was defined,
// and opened by another implementation of AES-GCM and HMAC (Python's cryptography and hmac).
constexpr char kGolden[] =
    "\x01\x05\x6b\x65\x79\x2d\x31\x36\x4f\x8f\x0f\x1b\x8b\xb1\x7c\xd0\xda\xb8\x80\xcf"
    "\x6c\xb7\x1e\xca\x8e\xdb\x97\xcf\x26\x16\x9d\x10\xf1\xb0\x02\x28\x31\x1a\x45\x05";

TEST(KeyringTest, FormatStaysReadable) {
  const std::string sealed(kGolden, sizeof(kGolden) - 1);
  const absl::StatusOr<Secret> opened = Ring().Open(sealed, "grant");
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_TRUE(*opened == Secret("token"));
}

TEST(KeyringTest, SealedValueShowsNothingOfTheValue) {
  const std::string value = "1000.0123456789abcdef";
  const std::string sealed = Seal(Ring(), value, "grant");
  EXPECT_THAT(sealed, Not(HasSubstr(value.substr(0, 6))));
}

TEST(KeyringTest, SealingTwiceGivesTwoValues) {
  const Keyring ring = Ring();
  std::set<std::string> sealed;
  for (int i = 0; i < 100; ++i) sealed.insert(Seal(ring, "token", "grant"));
  EXPECT_EQ(sealed.size(), 100u);
}

TEST(KeyringTest, ValueDoesNotOpenElsewhere) {
  const Keyring ring = Ring();
  const std::string sealed = Seal(ring, "token", "grant 1");
  for (const char* data : {"grant 2", "grant 1 ", "grant ", ""}) {
    ExpectUnreadable(ring.Open(sealed, data));
  }
}

TEST(KeyringTest, EveryFlippedBitIsNoticed) {
  const Keyring ring = Ring();
  const std::string sealed = Seal(ring, "token", "grant");
  for (size_t i = 0; i < sealed.size() * 8; ++i) {
    std::string changed = sealed;
    changed[i / 8] = static_cast<char>(changed[i / 8] ^ (1 << (i % 8)));
    ExpectUnreadable(ring.Open(changed, "grant"));
  }
}

TEST(KeyringTest, EveryMissingOrExtraByteIsNoticed) {
  const Keyring ring = Ring();
  const std::string sealed = Seal(ring, "token", "grant");
  for (size_t size = 0; size < sealed.size(); ++size) {
    ExpectUnreadable(ring.Open(sealed.substr(0, size), "grant"));
    ExpectUnreadable(ring.Open(sealed.substr(sealed.size() - size), "grant"));
  }
  ExpectUnreadable(ring.Open(sealed + 'x', "grant"));
  ExpectUnreadable(ring.Open("1000.not.sealed", "grant"));
  ExpectUnreadable(ring.Open(std::string("\x01\xff", 2), "grant"));
}

TEST(KeyringTest, OldKeysOpenAndTheFirstSeals) {
  const std::string sealed = Seal(Ring({{"old", KeyOf('o')}}), "token", "grant");
  const Keyring rotated = Ring({{"new", KeyOf('n')}, {"old", KeyOf('o')}});
  const absl::StatusOr<Secret> opened = rotated.Open(sealed, "grant");
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_TRUE(*opened == Secret("token"));
  EXPECT_EQ(Seal(rotated, "token", "grant").substr(2, 3), "new");
}

TEST(KeyringTest, UnknownKeyIsNamed) {
  const std::string sealed = Seal(Ring({{"of \x01 2025", KeyOf('o')}}), "token", "grant");
  const absl::Status status = Ring().Open(sealed, "grant").status();
  ExpectUnreadable(status);
  EXPECT_THAT(std::string(status.message()), HasSubstr("'of \\001 2025'"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("not in the keyring"));
}

TEST(KeyringTest, AnotherKeyOfTheSameNameDoesNotOpen) {
  const std::string sealed = Seal(Ring({{"key-1", KeyOf('x')}}), "token", "grant");
  const absl::Status status = Ring().Open(sealed, "grant").status();
  ExpectUnreadable(status);
  EXPECT_THAT(std::string(status.message()), HasSubstr("'key-1'"));
}

TEST(KeyringTest, ErrorsShowNeitherKeyNorValue) {
  const std::string sealed = Seal(Ring(), "canary", "grant");
  for (const absl::Status& status :
       {Ring().Open(sealed, "elsewhere").status(), Ring().Open("canary", "grant").status(),
        Ring({{"b", KeyOf('b')}}).Open(sealed, "grant").status(),
        Keyring::Create({{"a", Secret("canary")}}).status()}) {
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(status.ToString(), Not(HasSubstr("canary")));
    EXPECT_THAT(status.ToString(), Not(HasSubstr("1111")));
  }
}

TEST(KeyringTest, BadKeysAreRefused) {
  const auto refused = [](std::vector<SealingKey> keys) {
    const absl::Status status = Keyring::Create(std::move(keys)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_THAT(refused({}), HasSubstr("no key"));
  EXPECT_THAT(refused({{"", KeyOf('a')}}), HasSubstr("id"));
  EXPECT_THAT(refused({{std::string(256, 'i'), KeyOf('a')}}), HasSubstr("id"));
  EXPECT_THAT(refused({{"short", Secret(std::string(31, 'a'))}}), HasSubstr("'short'"));
  EXPECT_THAT(refused({{"long", Secret(std::string(33, 'a'))}}), HasSubstr("'long'"));
  EXPECT_THAT(refused({{"same", KeyOf('a')}, {"same", KeyOf('b')}}), HasSubstr("'same'"));
  EXPECT_TRUE(Keyring::Create({{std::string(255, 'i'), KeyOf('a')}}).ok());
}

TEST(KeyringTest, LongestIdWorks) {
  const Keyring ring = Ring({{std::string(255, '\xff'), KeyOf('a')}});
  const absl::StatusOr<Secret> opened = ring.Open(Seal(ring, "token", "grant"), "grant");
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_TRUE(*opened == Secret("token"));
}

}  // namespace
}  // namespace tokenbroker
