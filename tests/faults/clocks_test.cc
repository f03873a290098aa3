#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/faults/fault_world.h"

// Clocks that jump: the wall clock of one process is moved while it runs, its monotonic clock stays
// as it is, as in a machine whose time is set (wall_clock_preload.cc).
namespace tokenbroker::faults {
namespace {

// A file that says by how much a process' wall clock is off.
class WallClock {
 public:
  explicit WallClock(std::string path) : path_(std::move(path)) { Set("0"); }

  // "60" is 60 s ahead; "-3600" an hour behind.
  void Set(const std::string& offset) {
    const std::string next = path_ + ".next";  // never half written when it is read
    std::ofstream(next) << offset << '\n';
    std::filesystem::rename(next, path_);
  }

  std::map<std::string, std::string> Environment() const {
    return {{"LD_PRELOAD", TB_WALL_CLOCK}, {"WALL_CLOCK_FILE", path_}};
  }

 private:
  const std::string path_;
};

class Clocks : public ::testing::TestWithParam<std::string> {
 protected:
  static Scale Patient() {
    Scale scale;
    scale.response_timeout = absl::Seconds(2);
    scale.sent_lease = absl::Seconds(3);
    return scale;
  }
};

class BrokerClock : public Clocks {};

// Promise: G2 and the token's life; only Redis' clock and the broker's monotonic one count. Fault:
// the broker's wall clock jumps before a refresh and while its request is at Zoho. Asserted: 1
// request in all; the caller gets a token that is good and is told a life of an hour.
TEST_P(BrokerClock, JumpsDuringARefresh) {
  WallClock clock(absl::StrCat(::testing::TempDir(), "/broker-clock-", getpid()));
  World world(RedisWorld(Patient()));
  Broker& a = world.StartBroker({}, clock.Environment());
  Broker& b = world.StartBroker();
  world.RegisterImported(b, "acme", "us");
  LetTokensLive(world);
  HoldReplies(world);
  std::future<Broker::Token> of_a = Ask(a, "acme");
  ASSERT_TRUE(WaitUntil([&] { return world.zoho().hung() == 1; }));
  clock.Set(GetParam());
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
  EXPECT_EQ(world.log().MaxInFlightPerGrant(), 1);
}

INSTANTIATE_TEST_SUITE_P(Offsets, BrokerClock, ::testing::Values("3600", "-3600"));

}  // namespace
}  // namespace tokenbroker::faults
