#include "server/issuing/flight_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/errors.h"

namespace tokenbroker {
namespace {

const GrantKey kKey{"acme", Environment::kProduction, "web"};
const GrantKey kOrg{"acme", Environment::kProduction, ""};

Waiter AWaiter(int64_t rejected_version = 0) {
  Waiter waiter;
  waiter.rejected_version = rejected_version;
  return waiter;
}

TEST(FlightTable, TheFirstStartsAndTheOthersJoin) {
  FlightTable table;
  const auto first = table.Join(kKey, AWaiter());
  ASSERT_NE(first.started, nullptr);
  EXPECT_EQ(first.started->purpose, Purpose::kCaller);
  const auto second = table.Join(kKey, AWaiter());
  EXPECT_EQ(second.started, nullptr);
  EXPECT_NE(first.ticket, second.ticket);
  EXPECT_EQ(table.StartBackground(kKey, 1), nullptr);
  EXPECT_EQ(table.size(), 1u);
  EXPECT_EQ(table.waiters(kKey), 2u);
  const auto landed = table.Land(kKey);
  ASSERT_EQ(landed.waiters.size(), 2u);
  EXPECT_TRUE(landed.waiters[0].started_flight);
  EXPECT_FALSE(landed.waiters[1].started_flight);
  EXPECT_EQ(table.size(), 0u);
}

TEST(FlightTable, EveryWaiterLeavesOnce) {
  FlightTable table;
  const uint64_t one = table.Join(kKey, AWaiter(1)).ticket;
  const uint64_t two = table.Join(kKey, AWaiter(2)).ticket;
  const auto taken = table.Take(one, absl::CancelledError());
  ASSERT_TRUE(taken.has_value());
  EXPECT_EQ(taken->key, kKey);
  EXPECT_EQ(taken->waiter.rejected_version, 1);
  EXPECT_FALSE(table.Take(one, absl::CancelledError()).has_value());
  const auto landed = table.Land(kKey);
  ASSERT_EQ(landed.waiters.size(), 1u);
  EXPECT_FALSE(table.Take(two, absl::CancelledError()).has_value());
  EXPECT_FALSE(table.Take(987654321, absl::CancelledError()).has_value());
}

TEST(FlightTable, WhoLeavesBetweenTwoFlightsIsRefusedByTheSecond) {
  FlightTable table;
  const uint64_t ticket = table.Join(kOrg, AWaiter()).ticket;
  auto landed = table.Land(kOrg);
  EXPECT_FALSE(table.Take(ticket, absl::CancelledError()).has_value());
  const auto joined = table.Join(kKey, std::move(landed.waiters[0]));
  ASSERT_TRUE(joined.refused.has_value());
  EXPECT_TRUE(absl::IsCancelled(joined.refusal));
  EXPECT_EQ(table.size(), 0u);
}

TEST(FlightTable, ATicketHoldsOverFlights) {
  FlightTable table;
  const uint64_t ticket = table.Join(kOrg, AWaiter()).ticket;
  auto landed = table.Land(kOrg);
  EXPECT_EQ(table.Join(kKey, std::move(landed.waiters[0])).ticket, ticket);
  const auto taken = table.Take(ticket, absl::CancelledError());
  ASSERT_TRUE(taken.has_value());
  EXPECT_EQ(taken->key, kKey);
}

TEST(FlightTable, AnsweredWaitersLeaveNothingBehind) {
  FlightTable table;
  const uint64_t ticket = table.Join(kKey, AWaiter()).ticket;
  table.Land(kKey);
  table.Forget(ticket);
  // A new waiter cannot be mistaken for it.
  const auto joined = table.Join(kKey, AWaiter());
  EXPECT_FALSE(table.Take(ticket, absl::CancelledError()).has_value());
  EXPECT_TRUE(table.Take(joined.ticket, absl::CancelledError()).has_value());
}

TEST(FlightTable, LateFlightsKeepNobody) {
  FlightTable table;
  table.Join(kKey, AWaiter());
  const absl::Status late = StoreUnavailableError("late");
  EXPECT_EQ(table.MarkLate(kKey, late).size(), 1u);
  const auto joined = table.Join(kKey, AWaiter());
  EXPECT_EQ(joined.refusal, late);
  EXPECT_TRUE(joined.refused.has_value());
  EXPECT_TRUE(table.Land(kKey).waiters.empty());
  EXPECT_NE(table.Join(kKey, AWaiter()).started, nullptr);
}

TEST(FlightTable, NotesTheNewestChangeOfGrantsInFlight) {
  FlightTable table;
  table.NoteChange(kKey, 9, false);
  table.Join(kKey, AWaiter());
  EXPECT_EQ(table.noted(kKey).generation, 0);
  table.NoteChange(kKey, 5, true);
  table.NoteChange(kKey, 7, false);
  table.NoteChange(kKey, 6, true);
  table.NoteChange({"acme", Environment::kSandbox, "web"}, 10, true);
  EXPECT_EQ(table.noted(kKey).generation, 7);
  const auto landed = table.Land(kKey);
  EXPECT_EQ(landed.noted.generation, 7);
  EXPECT_FALSE(landed.noted.alive);
}

TEST(FlightTable, WhenClosedNobodyJoins) {
  FlightTable table;
  table.Join(kKey, AWaiter());
  table.Close();
  EXPECT_EQ(ErrorReason(table.Join(kKey, AWaiter()).refusal), "SHUTTING_DOWN");
  EXPECT_EQ(table.StartBackground({"b", Environment::kProduction, "web"}, 1), nullptr);
  EXPECT_EQ(table.TakeAll().size(), 1u);
  EXPECT_TRUE(table.TakeAll().empty());
  EXPECT_EQ(table.size(), 1u);
}

TEST(FlightTable, TakesOutWhomItIsAskedFor) {
  FlightTable table;
  for (int i = 0; i < 10; ++i) table.Join(kKey, AWaiter(i));
  const auto taken =
      table.TakeIf(kKey, [](const Waiter& waiter) { return waiter.rejected_version % 2 == 0; });
  EXPECT_EQ(taken.size(), 5u);
  EXPECT_EQ(table.waiters(kKey), 5u);
  EXPECT_FALSE(
      table.AnyWaiter(kKey, [](const Waiter& waiter) { return waiter.rejected_version == 2; }));
  EXPECT_TRUE(
      table.AnyWaiter(kKey, [](const Waiter& waiter) { return waiter.rejected_version == 3; }));
  EXPECT_FALSE(table.Take(taken[0].ticket, absl::CancelledError()).has_value());
}

}  // namespace
}  // namespace tokenbroker
