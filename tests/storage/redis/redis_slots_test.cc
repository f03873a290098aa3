// What a Redis Cluster says about its slots, and how keys are spread over them.
#include <set>
#include <string>

#include "gtest/gtest.h"
#include "storage/redis/cluster_view.h"
#include "storage/redis/hash_slot.h"

namespace tokenbroker::redis {
namespace {

TEST(HashSlotTest, AgreesWithRedis) {
  // By CLUSTER KEYSLOT of Redis 7.0; the first is the check value of the specification.
  EXPECT_EQ(HashSlot("123456789"), 0x31c3);
  EXPECT_EQ(HashSlot("foo"), 12182);
  EXPECT_EQ(HashSlot(""), 0);
}

TEST(HashSlotTest, OnlyTheFirstTagCounts) {
  EXPECT_EQ(HashSlot("tb:{foo}"), HashSlot("foo"));
  EXPECT_EQ(HashSlot("{foo}{bar}"), HashSlot("foo"));
  EXPECT_EQ(HashSlot("a{{foo}}"), HashSlot("{foo"));
  // No tag: the whole key.
  EXPECT_NE(HashSlot("a{}foo"), HashSlot("foo"));
  EXPECT_EQ(HashSlot("{}"), HashSlot("{}"));
  EXPECT_NE(HashSlot("{foo"), HashSlot("foo"));
}

TEST(HashSlotTest, EverySlotHasATag) {
  std::set<std::string> tags;
  for (int slot = 0; slot < kSlotCount; ++slot) {
    const std::string tag = TagOfSlot(static_cast<uint16_t>(slot));
    ASSERT_EQ(HashSlot("tb:reign{" + tag + "}"), slot);
    EXPECT_LE(tag.size(), 6u);
    tags.insert(tag);
  }
  EXPECT_EQ(tags.size(), size_t{kSlotCount});
}

TEST(RedirectionTest, NamesSlotAndNode) {
  const auto moved = ParseRedirection("MOVED 3999 127.0.0.1:6381", "asked");
  ASSERT_TRUE(moved);
  EXPECT_FALSE(moved->ask);
  EXPECT_EQ(moved->slot, 3999);
  EXPECT_EQ(moved->endpoint, (Endpoint{"127.0.0.1", 6381}));
  const auto ask = ParseRedirection("ASK 0 redis-2.example:6380", "asked");
  ASSERT_TRUE(ask);
  EXPECT_TRUE(ask->ask);
  EXPECT_EQ(ask->endpoint, (Endpoint{"redis-2.example", 6380}));
  // IPv6 has no brackets here.
  EXPECT_EQ(ParseRedirection("MOVED 1 2001:db8::1:6381", "")->endpoint,
            (Endpoint{"2001:db8::1", 6381}));
  // A node that does not know its own address.
  EXPECT_EQ(ParseRedirection("MOVED 1 :6381", "asked")->endpoint, (Endpoint{"asked", 6381}));
}

TEST(RedirectionTest, NonsenseIsNone) {
  for (const char* error : {"", "MOVED", "MOVED ", "MOVED 1", "MOVED x 127.0.0.1:1",
                            "MOVED 1 127.0.0.1", "MOVED 16384 127.0.0.1:1", "MOVED -1 127.0.0.1:1",
                            "MOVED 1 127.0.0.1:0", "MOVED 1 127.0.0.1:65536", "MOVED 1 127.0.0.1:x",
                            "MOVED 1 ?:6379", "ASKING 1 a:1", "ERR MOVED 1 127.0.0.1:1"}) {
    EXPECT_FALSE(ParseRedirection(error, "asked")) << error;
  }
}

}  // namespace
}  // namespace tokenbroker::redis
