// The fixtures of real Redis topologies: that they come up, fail over and move what they say.
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "tests/testing/certificate_authority.h"
#include "tests/testing/redis_cluster.h"
#include "tests/testing/redis_server.h"
#include "tests/testing/sentinel_set.h"

namespace tokenbroker {
namespace {

RedisServer::Tls MakeTls() {
  const auto ca = CertificateAuthority::Create();
  EXPECT_TRUE(ca.ok()) << ca.status();
  const auto issued = (*ca)->Issue("DNS:localhost,IP:127.0.0.1");
  EXPECT_TRUE(issued.ok()) << issued.status();
  return {*issued, (*ca)->certificate_pem()};
}

TEST(SentinelSetTest, FailsOverWhenAskedAndWhenThePrimaryDies) {
  const auto set = SentinelSet::Start({});
  ASSERT_TRUE(set.ok()) << set.status();
  RedisServer* const first = (*set)->primary();
  ASSERT_EQ(first, &(*set)->server(0));
  EXPECT_EQ((*set)->replicas().size(), 2u);
  ASSERT_TRUE(first->Command({"SET", "key", "value"}).ok());
  EXPECT_EQ(first->Command({"WAIT", "2", "5000"}).value(), "2");

  ASSERT_TRUE((*set)->FailOver().ok());
  RedisServer* const second = (*set)->primary();
  ASSERT_NE(second, nullptr);
  EXPECT_NE(second, first);
  EXPECT_EQ(second->Command({"GET", "key"}).value(), "value");
  // The old primary comes back as a replica before it can be promoted again.
  ASSERT_TRUE(WaitUntil([&] { return (*set)->replicas().size() == 2; }));

  second->Kill();
  ASSERT_TRUE((*set)->WaitForOtherPrimary(*second).ok());
  EXPECT_EQ((*set)->primary()->Command({"GET", "key"}).value(), "value");
}

TEST(SentinelSetTest, SpeaksTlsWithPasswords) {
  SentinelSet::Options options;
  options.server.tls = MakeTls();
  options.server.password = "canary-redis";
  options.sentinel_password = "canary-sentinel";
  const auto set = SentinelSet::Start(options);
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_FALSE(RedisCommand((*set)->primary()->port(), {"PING"}).ok()) << "speaks plain text";
  EXPECT_TRUE((*set)->FailOver().ok());
}

TEST(RedisClusterTest, MovesSlotsAndFailsOver) {
  const auto cluster = RedisCluster::Start({});
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  RedisCluster& nodes = **cluster;
  EXPECT_EQ(nodes.nodes(), 6);
  EXPECT_EQ(nodes.primaries().size(), 3u);
  const int slot = nodes.SlotOf("{tag}key").value();
  EXPECT_EQ(slot, nodes.SlotOf("tag").value());
  RedisServer* const from = nodes.PrimaryOf(slot);
  ASSERT_NE(from, nullptr);
  RedisServer* const to = from == &nodes.node(0) ? &nodes.node(1) : &nodes.node(0);
  ASSERT_TRUE(from->Command({"SET", "{tag}key", "value"}).ok());

  ASSERT_TRUE(nodes.BeginMove(slot, *to).ok());
  const auto asked = from->Command({"GET", "{tag}absent"});
  EXPECT_EQ(asked.status().message().substr(0, 4), "ASK ") << asked.status();
  ASSERT_TRUE(nodes.MoveKeys(slot, *to).ok());
  ASSERT_TRUE(nodes.FinishMove(slot, *to).ok());
  EXPECT_EQ(nodes.PrimaryOf(slot), to);
  EXPECT_EQ(to->Command({"GET", "{tag}key"}).value(), "value");
  EXPECT_EQ(from->Command({"GET", "{tag}key"}).status().message().substr(0, 6), "MOVED ");
  ASSERT_TRUE(nodes.WaitUntilWell().ok());

  ASSERT_TRUE(nodes.FailOver(nodes.node(3)).ok());
  EXPECT_EQ(nodes.node(0).Info("replication", "role"), "slave");
  EXPECT_EQ(nodes.primaries().size(), 3u);
}

TEST(RedisClusterTest, SpeaksTls) {
  RedisCluster::Options options;
  options.replicas = 0;
  options.server.tls = MakeTls();
  const auto cluster = RedisCluster::Start(options);
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  RedisCluster& nodes = **cluster;
  RedisServer* const from = nodes.PrimaryOf(0);
  ASSERT_EQ(from, &nodes.node(0));
  EXPECT_TRUE(nodes.Move(0, nodes.node(1)).ok());
  EXPECT_EQ(nodes.PrimaryOf(0), &nodes.node(1));
}

}  // namespace
}  // namespace tokenbroker
