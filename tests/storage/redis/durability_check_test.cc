#include "storage/redis/durability_check.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tokenbroker::redis {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kGood[] =
    "# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n# Persistence\r\naof_enabled:1\r\n"
    "# Replication\r\nrole:master\r\nconnected_slaves:1\r\n"
    "slave0:ip=127.0.0.1,port=6380,state=online,offset=1,lag=0\r\n";

std::string With(std::string info, const std::string& from, const std::string& to) {
  const size_t at = info.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return info.replace(at, from.size(), to);
}

std::vector<std::string> Risks(const std::string& info, int acks) {
  std::vector<std::string> names;
  for (const DurabilityProblem& problem : CheckDurability(info, acks)) {
    names.emplace_back(DurabilityRiskName(problem.risk));
  }
  return names;
}

TEST(DurabilityCheckTest, GoodServerHasNoProblem) {
  EXPECT_THAT(Risks(kGood, 0), IsEmpty());
  EXPECT_THAT(Risks(kGood, 1), IsEmpty());
}

TEST(DurabilityCheckTest, NamesEachRiskAndWhatToChange) {
  const auto eviction = CheckDurability(With(kGood, "noeviction", "allkeys-lru"), 1);
  ASSERT_EQ(eviction.size(), 1u);
  EXPECT_EQ(eviction[0].risk, DurabilityRisk::kEviction);
  EXPECT_THAT(eviction[0].text, HasSubstr("allkeys-lru"));
  EXPECT_THAT(eviction[0].text, HasSubstr("Set maxmemory-policy noeviction"));

  const auto persistence = CheckDurability(With(kGood, "aof_enabled:1", "aof_enabled:0"), 1);
  ASSERT_EQ(persistence.size(), 1u);
  EXPECT_EQ(persistence[0].risk, DurabilityRisk::kNoPersistence);
  EXPECT_THAT(persistence[0].text, HasSubstr("appendonly yes"));

  const auto replicas = CheckDurability(kGood, 2);
  ASSERT_EQ(replicas.size(), 1u);
  EXPECT_EQ(replicas[0].risk, DurabilityRisk::kTooFewReplicas);
  EXPECT_THAT(replicas[0].text, HasSubstr("has 1 replicas in step"));
  EXPECT_THAT(replicas[0].text, HasSubstr("asks 2"));
}

TEST(DurabilityCheckTest, TellsAllAtOnce) {
  EXPECT_THAT(Risks("maxmemory_policy:volatile-ttl\naof_enabled:0\nconnected_slaves:0\n", 1),
              ElementsAre("EVICTION", "NO_PERSISTENCE", "TOO_FEW_REPLICAS"));
}

TEST(DurabilityCheckTest, TakesSilenceForTheWorst) {
  EXPECT_THAT(Risks("", 1), ElementsAre("EVICTION", "NO_PERSISTENCE", "TOO_FEW_REPLICAS"));
  EXPECT_THAT(Risks("", 0), ElementsAre("EVICTION", "NO_PERSISTENCE"));
}

TEST(DurabilityCheckTest, CountsOnlyReplicasInStep) {
  EXPECT_THAT(Risks(With(kGood, "state=online", "state=wait_bgsave"), 1),
              ElementsAre("TOO_FEW_REPLICAS"));
  // A service that does not list them.
  const std::string unlisted = With(kGood, "slave0:", "hidden:");
  EXPECT_THAT(Risks(unlisted, 1), IsEmpty());
  EXPECT_THAT(Risks(unlisted, 2), ElementsAre("TOO_FEW_REPLICAS"));
}

}  // namespace
}  // namespace tokenbroker::redis
