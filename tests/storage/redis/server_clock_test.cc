#include "storage/redis/server_clock.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace tokenbroker::redis {
namespace {

constexpr absl::Duration kDrift = absl::Seconds(1);
constexpr absl::Duration kQuiet = absl::Seconds(20);
constexpr absl::Duration kTrip = absl::Milliseconds(4);

// A server whose clock the test sets, and a machine whose clocks it moves on.
class ServerClockTest : public testing::Test {
 protected:
  // The server's clock is `ahead` of this machine's at first sight.
  void Meet(absl::Duration ahead = absl::ZeroDuration()) {
    server_ahead_ = ahead;
    clock_.emplace(
        ServerClock::Options{kDrift, kQuiet,
                             [this](const ServerClock::Jump& jump) { jumps_.push_back(jump); }},
        wall(), now_);
    Ask();
  }
  // A question and its answer; the server read its clock in the middle.
  void Ask(absl::Duration trip = kTrip) {
    const MonotonicTime begin = now_;
    now_ += trip / 2;
    const absl::Time time = server();
    now_ += trip / 2;
    clock_->Observe(time, begin, now_);
  }
  void Pass(absl::Duration duration) { now_ += duration; }
  void Set(absl::Duration by) { server_ahead_ += by; }
  absl::Time wall() const { return kStart + now_; }
  absl::Time server() const {
    return absl::FromUnixMillis(absl::ToUnixMillis(wall() + server_ahead_));
  }
  absl::Duration quiet() const { return clock_->QuietLeft(now_); }

  const absl::Time kStart = absl::FromUnixSeconds(1'700'000'000);
  MonotonicTime now_ = absl::Seconds(1000);
  absl::Duration server_ahead_;
  std::optional<ServerClock> clock_;
  std::vector<ServerClock::Jump> jumps_;
};

TEST_F(ServerClockTest, EvenClockHoldsNothingBack) {
  Meet();
  for (int i = 0; i < 100; ++i) {
    Pass(absl::Seconds(5));
    Ask();
    EXPECT_EQ(quiet(), absl::ZeroDuration());
  }
  EXPECT_TRUE(jumps_.empty());
}

TEST_F(ServerClockTest, JumpHoldsBackFromWhenItIsNoticed) {
  for (const absl::Duration by :
       {absl::Seconds(60), -absl::Hours(1), absl::Milliseconds(1100), -absl::Milliseconds(1100)}) {
    SCOPED_TRACE(absl::FormatDuration(by));
    jumps_.clear();
    Meet();
    Pass(absl::Seconds(5));
    Ask();
    Set(by);
    EXPECT_EQ(quiet(), absl::ZeroDuration());  // nobody can know yet
    Ask();
    EXPECT_EQ(quiet(), kQuiet);
    ASSERT_EQ(jumps_.size(), 1u);
    EXPECT_FALSE(jumps_[0].at_first_sight);
    EXPECT_EQ(jumps_[0].quiet, kQuiet);
    EXPECT_LE(absl::AbsDuration(jumps_[0].by - by), 2 * kTrip);
    // The new difference is the one to expect: answers prolong nothing.
    Pass(kQuiet / 2);
    Ask();
    EXPECT_LE(quiet(), kQuiet / 2);
    Pass(kQuiet / 2);
    Ask();
    EXPECT_EQ(quiet(), absl::ZeroDuration());
    EXPECT_EQ(jumps_.size(), 1u);
    // And the next jump counts again.
    Set(-by);
    Ask();
    EXPECT_EQ(quiet(), kQuiet);
  }
}

TEST_F(ServerClockTest, DriftIsNoJump) {
  Meet();
  Set(kDrift - 2 * kTrip);
  Ask();
  EXPECT_TRUE(jumps_.empty());
}

TEST_F(ServerClockTest, SmallStepsWithinALeaseAddUp) {
  Meet();
  for (int i = 0; i < 4; ++i) {
    Pass(kQuiet / 5);
    Set(kDrift / 3);
    Ask();
  }
  EXPECT_EQ(jumps_.size(), 1u);
}

TEST_F(ServerClockTest, SmallStepsFarApartDoNot) {
  Meet();
  for (int i = 0; i < 10; ++i) {
    Pass(3 * kQuiet);
    Set(kDrift / 3);
    Ask();
  }
  EXPECT_TRUE(jumps_.empty());
}

TEST_F(ServerClockTest, ClockThatIsPutRightSlowlyDoesNotJump) {
  Meet();
  Pass(absl::Hours(10));
  Set(absl::Hours(10) * 0.0005);  // 18 s
  Ask();
  EXPECT_TRUE(jumps_.empty());
}

TEST_F(ServerClockTest, SlowAnswersProveLittle) {
  Meet();
  const MonotonicTime begin = now_;
  const absl::Time time = server();
  Pass(absl::Minutes(10));  // this process stood still
  clock_->Observe(time, begin, now_);
  EXPECT_TRUE(jumps_.empty());
  Ask();
  EXPECT_TRUE(jumps_.empty());
  // But what they prove counts.
  Set(absl::Seconds(10));
  Ask(absl::Seconds(6));
  EXPECT_EQ(jumps_.size(), 1u);
}

TEST_F(ServerClockTest, AnswersFromBeforeAJumpDoNotCountAfterIt) {
  Meet();
  const MonotonicTime begin = now_;
  const absl::Time before = server();
  Pass(kTrip);
  const MonotonicTime end = now_;
  Set(absl::Seconds(60));
  Ask();
  ASSERT_EQ(jumps_.size(), 1u);
  clock_->Observe(before, begin, end);  // on a slower thread
  Ask();
  EXPECT_EQ(jumps_.size(), 1u);
}

TEST_F(ServerClockTest, FirstSightComparesWallClocks) {
  Meet(absl::Seconds(4));
  Meet(-absl::Seconds(4));
  EXPECT_TRUE(jumps_.empty());
  EXPECT_EQ(quiet(), absl::ZeroDuration());
  for (const absl::Duration ahead : {absl::Seconds(6), -absl::Seconds(6)}) {
    jumps_.clear();
    Meet(ahead);
    ASSERT_EQ(jumps_.size(), 1u);
    EXPECT_TRUE(jumps_[0].at_first_sight);
    EXPECT_EQ(quiet(), kQuiet);
    // Only then: afterwards the clocks may be apart.
    Pass(kQuiet);
    Ask();
    EXPECT_EQ(jumps_.size(), 1u);
    EXPECT_EQ(quiet(), absl::ZeroDuration());
  }
}

TEST_F(ServerClockTest, ExpectsWhatDidNotJump) {
  Meet();
  const absl::Duration within = absl::Milliseconds(500);
  for (const absl::Duration age : {absl::ZeroDuration(), kQuiet, absl::Hours(1)}) {
    Pass(age);
    Ask();
    const ServerClock::Range range = clock_->Expect(now_, within);
    const absl::Time time = server();
    EXPECT_LE(range.earliest, time);
    EXPECT_GE(range.latest, time + within);
    const absl::Duration slack = kDrift + kTrip + 0.001 * age + absl::Milliseconds(50);
    EXPECT_GT(range.earliest, time - slack);
    EXPECT_LT(range.latest, time + within + slack);
  }
}

}  // namespace
}  // namespace tokenbroker::redis
