#include "server/issuing/circuit_breaker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "server/issuing/store_health.h"

namespace tokenbroker {
namespace {

using ::testing::ElementsAre;

class CircuitBreakerTest : public ::testing::Test {
 protected:
  CircuitBreakers::Admission Admit() { return breakers_.Admit("eu", now_); }
  void Record(const CircuitBreakers::Admission& admission, bool usable) {
    breakers_.Record("eu", admission, usable, now_);
  }
  void Open() {
    for (int i = 0; i < 3; ++i) Record(Admit(), false);
  }

  std::vector<std::string> states_;
  CircuitBreakers breakers_{
      {.failures = 3, .open_for = absl::Seconds(10)},
      [this](std::string_view, std::string_view state) { states_.emplace_back(state); }};
  MonotonicTime now_ = absl::Hours(5);
};

TEST_F(CircuitBreakerTest, OpensAfterFailuresInARow) {
  Record(Admit(), false);
  Record(Admit(), false);
  Record(Admit(), true);
  Record(Admit(), false);
  Record(Admit(), false);
  EXPECT_EQ(Admit().wait, absl::ZeroDuration());
  Record(Admit(), false);
  EXPECT_EQ(Admit().wait, absl::Seconds(10));
  now_ += absl::Seconds(4);
  EXPECT_EQ(Admit().wait, absl::Seconds(6));
  EXPECT_EQ(breakers_.Admit("us", now_).wait, absl::ZeroDuration());
  EXPECT_THAT(states_, ElementsAre("open"));
}

TEST_F(CircuitBreakerTest, OneAtATimeTriesAndTheFirstAnswerCloses) {
  Open();
  now_ += absl::Seconds(10);
  const auto probe = Admit();
  EXPECT_EQ(probe.wait, absl::ZeroDuration());
  EXPECT_GT(Admit().wait, absl::ZeroDuration());
  Record(probe, false);
  EXPECT_EQ(Admit().wait, absl::Seconds(10));
  now_ += absl::Seconds(10);
  Record(Admit(), true);
  EXPECT_EQ(Admit().wait, absl::ZeroDuration());
  EXPECT_THAT(states_, ElementsAre("open", "half_open", "open", "half_open", "closed"));
}

TEST_F(CircuitBreakerTest, AnAbandonedProbeMakesRoomForTheNext) {
  Open();
  now_ += absl::Seconds(10);
  breakers_.Abandon("eu", Admit());
  EXPECT_EQ(Admit().wait, absl::ZeroDuration());
  EXPECT_THAT(states_, ElementsAre("open", "half_open"));
}

// Thirty that were sent before the breaker opened fail after it did: they neither keep it open nor
// count for the probe that is under way.
TEST_F(CircuitBreakerTest, StragglersSayNothingNew) {
  std::vector<CircuitBreakers::Admission> stragglers;
  for (int i = 0; i < 30; ++i) stragglers.push_back(Admit());
  Open();
  now_ += absl::Seconds(9);
  for (int i = 0; i < 10; ++i) Record(stragglers[i], false);
  EXPECT_EQ(Admit().wait, absl::Seconds(1));
  now_ += absl::Seconds(1);
  const auto probe = Admit();
  ASSERT_NE(probe.probe, 0u);
  for (int i = 10; i < 20; ++i) Record(stragglers[i], false);
  for (int i = 20; i < 30; ++i) breakers_.Abandon("eu", stragglers[i]);
  EXPECT_GT(Admit().wait, absl::ZeroDuration());
  Record(probe, true);
  EXPECT_THAT(states_, ElementsAre("open", "half_open", "closed"));
}

TEST_F(CircuitBreakerTest, AStragglersAnswerProvesThatTheDcWorks) {
  const auto straggler = Admit();
  Open();
  Record(straggler, true);
  EXPECT_EQ(Admit().wait, absl::ZeroDuration());
  EXPECT_THAT(states_, ElementsAre("open", "closed"));
}

TEST(StoreHealth, WhileItIsDownOneAtATimeTries) {
  StoreHealth health;
  MonotonicTime now = absl::Hours(1);
  EXPECT_TRUE(health.NoneDown(now));
  EXPECT_FALSE(health.KnownDown(0, now));
  EXPECT_TRUE(health.MayTry(0, now));
  EXPECT_TRUE(health.MayTry(0, now));
  health.RecordDown(0, now);
  EXPECT_FALSE(health.NoneDown(now));
  EXPECT_TRUE(health.KnownDown(0, now));
  EXPECT_FALSE(health.MayTry(0, now));
  now += StoreHealth::kRetry;
  EXPECT_TRUE(health.NoneDown(now));
  EXPECT_FALSE(health.KnownDown(0, now));
  EXPECT_TRUE(health.MayTry(0, now));
  EXPECT_FALSE(health.NoneDown(now));
  EXPECT_TRUE(health.KnownDown(0, now));
  EXPECT_FALSE(health.MayTry(0, now));
  health.RecordUp(0);
  EXPECT_FALSE(health.KnownDown(0, now));
  EXPECT_TRUE(health.MayTry(0, now));
}

TEST(StoreHealth, EveryDomainHasItsOwn) {
  StoreHealth health;
  const MonotonicTime now = absl::Hours(1);
  health.RecordDown(1, now);
  health.RecordUp(2);
  EXPECT_TRUE(health.KnownDown(1, now));
  EXPECT_FALSE(health.MayTry(1, now));
  EXPECT_FALSE(health.KnownDown(2, now));
  EXPECT_TRUE(health.MayTry(2, now));
  EXPECT_TRUE(health.MayTry(StoreHealth::kDomains, now));
  EXPECT_FALSE(health.MayTry(StoreHealth::kDomains + 1, now)) << "shares a state";
}

}  // namespace
}  // namespace tokenbroker
