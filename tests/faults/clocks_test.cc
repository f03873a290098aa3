#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/faults/fault_world.h"
#include "tests/testing/wall_clock.h"

// Clocks that jump: the wall clock of one process is set while it runs.
namespace tokenbroker::faults {
namespace {

class Clocks : public ::testing::TestWithParam<std::string> {
 protected:
  static Scale Patient() {
    Scale scale;
    scale.response_timeout = absl::Seconds(5);  // a broker is started in between
    scale.sent_lease = absl::Seconds(6);
    return scale;
  }
  // No lock may hold beyond twice the longest lease.
  absl::Duration Longest() const { return 2 * Patient().sent_lease; }
};

// Waits until Redis' clock is `offset` seconds off, give or take a few.
bool RedisIsOff(const RedisServer& redis, int64_t offset) {
  return WaitUntil([&] {
    const absl::StatusOr<std::string> time = redis.Command({"TIME"});
    if (!time.ok()) return false;
    const int64_t off = std::atoll(time->c_str()) - absl::ToUnixSeconds(absl::Now());
    return off > offset - 5 && off < offset + 5;
  });
}

int64_t SecondsOf(const std::string& offset) { return std::atoll(offset.c_str()); }

class RedisClock : public Clocks {};

// Promise: G2, at most one request in flight, and no lock beyond twice the longest lease. Fault:
// Redis' clock jumps while a refresh is at Zoho, and two other replicas ask, one of them started
// since. Asserted: they send nothing while the first request is awaited, 1 request in all,
// everybody gets its token, each of the two has noticed 1 jump.
TEST_P(RedisClock, JumpsDuringARefresh) {
  WallClock clock(absl::StrCat(::testing::TempDir(), "/redis-clock-", getpid()));
  World::Options options = RedisWorld(Patient());
  options.redis_server.environment = clock.Environment();
  World world(options);
  ASSERT_TRUE(RedisIsOff(world.redis(), 0));
  Broker& a = world.StartBroker();
  Broker& b = world.StartBroker();
  world.RegisterImported(b, "acme", "us");
  LetTokensLive(world);

  HoldReplies(world);
  std::future<Broker::Token> of_a = Ask(a, "acme");
  ASSERT_TRUE(WaitUntil([&] { return world.zoho().hung() == 1; }));
  clock.Set(GetParam());
  ASSERT_TRUE(RedisIsOff(world.redis(), SecondsOf(GetParam())));
  std::future<Broker::Token> of_b = Ask(b, "acme");
  Broker& c = world.StartBroker();
  std::future<Broker::Token> of_c = Ask(c, "acme");
  // Time to send, for those who would: they ask Redis and Zoho within milliseconds.
  LetPass(absl::Milliseconds(500));
  EXPECT_EQ(world.Refreshes(), 1);
  world.zoho().ReleaseHung();
  const Broker::Token first = of_a.get();
  ASSERT_TRUE(first.status.ok()) << first.status.error_message();
  for (std::future<Broker::Token>* other : {&of_b, &of_c}) {
    const Broker::Token token = other->get();
    ASSERT_TRUE(token.status.ok()) << token.status.error_message();
    EXPECT_EQ(token.token.access_token(), first.token.access_token());
  }
  EXPECT_EQ(world.Refreshes(), 1);
  EXPECT_EQ(world.log().MaxInFlightPerGrant(), 1);
  EXPECT_EQ(Metric(b, "tokenbroker_store_clock_jumps_total"), 1);
  EXPECT_EQ(Metric(c, "tokenbroker_store_clock_jumps_total"), 1);
}

// Promise: no lock beyond twice the longest lease. Fault: the holder dies with the lease, then
// Redis' clock jumps. Asserted: another replica has a token within twice the longest lease.
TEST_P(RedisClock, JumpsUnderADeadHoldersLease) {
  WallClock clock(absl::StrCat(::testing::TempDir(), "/redis-clock-", getpid()));
  World::Options options = RedisWorld(Patient());
  options.redis_server.environment = clock.Environment();
  World world(options);
  Broker& a = world.StartBroker();
  Broker& b = world.StartBroker();
  world.RegisterImported(b, "acme", "us");
  LetTokensLive(world);
  HoldReplies(world);
  std::future<Broker::Token> of_a = Ask(a, "acme");
  ASSERT_TRUE(WaitUntil([&] { return world.zoho().hung() == 1; }));
  a.process().Signal(SIGKILL);
  of_a.get();
  clock.Set(GetParam());
  ASSERT_TRUE(RedisIsOff(world.redis(), SecondsOf(GetParam())));
  const absl::Time start = absl::Now();
  EXPECT_TRUE(WaitUntil([&] { return b.GetAccessToken("acme").status.ok(); }, Longest()));
  EXPECT_LE(absl::Now() - start, Longest());
  EXPECT_EQ(world.Refreshes(), 2);
}

INSTANTIATE_TEST_SUITE_P(Offsets, RedisClock, ::testing::Values("60", "-3600"));

// Promise: no token that has run out is handed out for one that lives. Fault: Redis' clock is set
// back by an hour after a token was stored, which now seems to live for two; a replica that does
// not know it is asked. Asserted: it waits for the quiet time, fetches another one, 1 request in
// all, and promises no more life than the token has.
TEST(RedisClockSetBack, TokenOfUnknownAgeIsFetchedAnew) {
  Scale scale;
  WallClock clock(absl::StrCat(::testing::TempDir(), "/redis-clock-", getpid()));
  World::Options options = RedisWorld(scale);
  options.behaviour.access_token_life = absl::Hours(1);
  options.redis_server.environment = clock.Environment();
  World world(options);
  Broker& a = world.StartBroker();
  world.RegisterImported(a, "acme", "us");
  const Broker::Token stored = a.GetAccessToken("acme");
  ASSERT_TRUE(stored.status.ok()) << stored.status.error_message();
  world.log().Clear();
  clock.Set("-3600");
  ASSERT_TRUE(RedisIsOff(world.redis(), -3600));
  Broker& b = world.StartBroker();
  EXPECT_EQ(Metric(b, "tokenbroker_store_clock_jumps_total"), 1);
  const Broker::Token fetched = b.GetAccessToken("acme");
  ASSERT_TRUE(fetched.status.ok()) << fetched.status.error_message();
  EXPECT_NE(fetched.token.access_token(), stored.token.access_token());
  EXPECT_EQ(fetched.token.source(), v1::TOKEN_SOURCE_REFRESHED);
  EXPECT_LE(fetched.token.expires_in().seconds(), 3600);
  EXPECT_EQ(world.Refreshes(), 1);
  // Whoever has the first one in memory knows how long it lives, and that there is a newer one.
  EXPECT_TRUE(WaitUntil([&] {
    return a.GetAccessToken("acme").token.access_token() == fetched.token.access_token();
  }));
  EXPECT_EQ(world.Refreshes(), 1);
}

class BrokerClock : public Clocks {};

// Whether the broker's wall clock is `offset` seconds off, give or take a few: by the line of its
// log about a call that is made for that.
bool BrokerIsOff(Broker& broker, int64_t offset) {
  const std::string call = "\"GRANT_OF_NOBODY\"";
  const size_t before = LogTimes(broker, call).size();
  broker.GetAccessToken("GRANT_OF_NOBODY");
  if (!WaitUntil([&] { return LogTimes(broker, call).size() > before; })) return false;
  const absl::Duration off = LogTimes(broker, call).back() - absl::Now();
  return absl::AbsDuration(off - absl::Seconds(offset)) < absl::Seconds(30);
}

// Promise: G2 and the token's life; only Redis' clock and the broker's monotonic one count. Fault:
// the broker's wall clock jumps while its request is at Zoho; it refreshes once more afterwards.
// Asserted: its log shows the jump; 1 request while the first is awaited, 2 in all, one after the
// other; the caller gets both tokens, and is told a life of an hour each time.
TEST_P(BrokerClock, JumpsDuringARefresh) {
  WallClock clock(absl::StrCat(::testing::TempDir(), "/broker-clock-", getpid()));
  World world(RedisWorld(Patient()));
  Broker& a = world.StartBroker({}, clock.Environment());
  ASSERT_TRUE(BrokerIsOff(a, 0));
  Broker& b = world.StartBroker();
  world.RegisterImported(b, "acme", "us");
  LetTokensLive(world);
  HoldReplies(world);
  std::future<Broker::Token> of_a = Ask(a, "acme");
  ASSERT_TRUE(WaitUntil([&] { return world.zoho().hung() == 1; }));
  clock.Set(GetParam());
  ASSERT_TRUE(BrokerIsOff(a, SecondsOf(GetParam())));
  std::future<Broker::Token> of_b = Ask(b, "acme");
  LetPass(absl::Milliseconds(500));
  EXPECT_EQ(world.Refreshes(), 1);
  world.zoho().ReleaseHung();
  const Broker::Token first = of_a.get();
  ASSERT_TRUE(first.status.ok()) << first.status.error_message();
  EXPECT_GT(first.token.expires_in().seconds(), 3500);
  EXPECT_LE(first.token.expires_in().seconds(), 3600);
  EXPECT_EQ(of_b.get().token.access_token(), first.token.access_token());
  EXPECT_EQ(a.GetAccessToken("acme").token.access_token(), first.token.access_token());
  EXPECT_EQ(world.Refreshes(), 1);

  const Broker::Token second = a.GetAccessToken("acme", Rejecting(first.token.version()));
  ASSERT_TRUE(second.status.ok()) << second.status.error_message();
  EXPECT_EQ(second.token.source(), v1::TOKEN_SOURCE_REFRESHED);
  EXPECT_EQ(second.token.version(), first.token.version() + 1);
  EXPECT_GT(second.token.expires_in().seconds(), 3500);
  EXPECT_LE(second.token.expires_in().seconds(), 3600);
  EXPECT_TRUE(IsGood(world, second.token.access_token()));
  EXPECT_EQ(world.Refreshes(), 2);
  EXPECT_EQ(world.log().MaxInFlightPerGrant(), 1);
}

INSTANTIATE_TEST_SUITE_P(Offsets, BrokerClock, ::testing::Values("3600", "-3600"));

}  // namespace
}  // namespace tokenbroker::faults
