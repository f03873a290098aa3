#include <gtest/gtest.h>

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "storage/sqlite/connection.h"
#include "tests/faults/fault_world.h"

// A record in the store is damaged.
namespace tokenbroker::faults {
namespace {

std::string Hex(const std::string& bytes) { return absl::BytesToHexString(bytes); }

// What of an encoded key is the org's part.
std::string OrgPart(const std::string& org_id) { return org_id + std::string("\0\1", 2); }

struct Listed {
  std::string orgs;  // "b c "
  int unreadable = 0;
  std::string unreadable_orgs;
};
Listed ListAll(Broker& broker, int page_size) {
  Listed listed;
  v1::ListOrgsRequest request;
  request.set_page_size(page_size);
  do {
    v1::ListOrgsResponse response;
    grpc::ClientContext context;
    const grpc::Status status = broker.stub().ListOrgs(&context, request, &response);
    if (!status.ok()) {
      ADD_FAILURE() << status.error_message();
      return listed;
    }
    for (const v1::Org& org : response.orgs()) absl::StrAppend(&listed.orgs, org.org_id(), " ");
    listed.unreadable += response.unreadable_grant_count();
    for (const std::string& org_id : response.unreadable_org_ids()) {
      absl::StrAppend(&listed.unreadable_orgs, org_id, " ");
    }
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  return listed;
}

CallError GetOrg(Broker& broker, const std::string& org_id) {
  v1::GetOrgRequest request;
  request.set_org_id(org_id);
  v1::GetOrgResponse response;
  grpc::ClientContext context;
  return Explain(broker.stub().GetOrg(&context, request, &response));
}

// Promise: one record that cannot be read concerns its org alone, is named, and is mended by
// registering. Asserted of "b", whose record is damaged, and of "a" and "c" beside it.
void ExpectOnlyBConcerned(World& world, Broker& broker) {
  for (const int page_size : {1, 100}) {
    const Listed listed = ListAll(broker, page_size);
    EXPECT_EQ(listed.orgs, "a c ");
    EXPECT_EQ(listed.unreadable, 2);
    EXPECT_EQ(listed.unreadable_orgs, "b ");
  }
  const CallError unreadable = GetOrg(broker, "b");
  EXPECT_EQ(unreadable.code, grpc::StatusCode::DATA_LOSS);
  EXPECT_EQ(unreadable.reason, "RECORD_UNREADABLE");
  EXPECT_EQ(unreadable.metadata.at("unreadable_grants"), "PRODUCTION/web");
  EXPECT_EQ(Explain(broker.GetAccessToken("b").status).reason, "RECORD_UNREADABLE");
  const auto without_client = [](auto& request) { request.clear_oauth_client(); };
  EXPECT_EQ(Explain(broker.GetAccessToken("b", without_client).status).reason, "RECORD_UNREADABLE");
  for (const char* org : {"a", "c"}) {
    EXPECT_TRUE(broker.GetAccessToken(org).status.ok());
    EXPECT_EQ(GetOrg(broker, org).code, grpc::StatusCode::OK);
  }
  EXPECT_EQ(Metric(broker, "tokenbroker_records_unreadable"), 2);
  EXPECT_TRUE(WaitUntil([&] {
    const std::string log = broker.process().err();
    return absl::StrContains(log, "\"record_unreadable\"") &&
           absl::StrContains(log, "\"key\":\"stray\\\\x00\\\\x02\"");
  })) << broker.process().err();

  world.RegisterImported(broker, "b", "us");
  EXPECT_TRUE(broker.GetAccessToken("b").status.ok());
  EXPECT_EQ(GetOrg(broker, "b").code, grpc::StatusCode::OK);
  EXPECT_EQ(ListAll(broker, 100).orgs, "a b c ");
}

TEST(Unreadable, RowOfTheDatabaseFileConcernsItsOrgAlone) {
  World world;
  {
    Broker& broker = world.StartBroker();
    for (const char* org : {"a", "b", "c"}) world.RegisterImported(broker, org, "us");
    ASSERT_EQ(broker.Stop(), 0);
  }
  {
    const auto file = Connection::Open(world.directory() + "/grants.db", absl::Seconds(30), true);
    ASSERT_TRUE(file.ok()) << file.status();
    const std::string damage = absl::StrCat(
        "UPDATE grants SET scopes = x'ffffffff' WHERE key > x'", Hex(OrgPart("b")),
        "' AND key < x'", Hex("c"), "';",
        "CREATE TEMP TABLE stray AS SELECT * FROM grants LIMIT 1;", "UPDATE stray SET key = x'",
        Hex(std::string("stray\0\2", 7)), "';", "INSERT INTO grants SELECT * FROM stray");
    const absl::Status damaged = (*file)->Execute(damage.c_str());
    ASSERT_TRUE(damaged.ok()) << damaged;
  }
  ExpectOnlyBConcerned(world, world.StartBroker());
}

TEST(Unreadable, HashOfRedisConcernsItsOrgAlone) {
  World world(RedisWorld());
  LetTokensLive(world);
  Broker& broker = world.StartBroker();
  for (const char* org : {"a", "b", "c"}) world.RegisterImported(broker, org, "us");
  ASSERT_TRUE(world.redis().Command({"SET", "tb:{b:PRODUCTION:web}", "something"}).ok());
  ASSERT_TRUE(world.redis().Command({"ZADD", "tb:index", "0", std::string("stray\0\2", 7)}).ok());
  // This one has the token in its memory.
  ExpectOnlyBConcerned(world, world.StartBroker());
}

// Promise: so does a sealing key that is missing; the grants are listed, for a list reads no token.
TEST(Unreadable, MissingSealingKeyIsNamedAndRegisteringMends) {
  World world;
  {
    Broker& broker = world.StartBroker();
    for (const char* org : {"a", "b"}) world.RegisterImported(broker, org, "us");
    ASSERT_EQ(broker.Stop(), 0);
  }
  // Another key of the same size takes its place.
  std::string config = world.config();
  const size_t at = config.find("- id: k1");
  ASSERT_NE(at, std::string::npos);
  config.replace(at, 8, "- id: k2");
  Broker& broker = world.StartBrokerWith(config);
  EXPECT_EQ(ListAll(broker, 100).orgs, "a b ");
  for (const char* org : {"a", "b"}) {
    EXPECT_EQ(GetOrg(broker, org).reason, "RECORD_UNREADABLE");
    EXPECT_EQ(Explain(broker.GetAccessToken(org).status).reason, "RECORD_UNREADABLE");
  }
  EXPECT_EQ(Metric(broker, "tokenbroker_records_unreadable"), 2);
  world.RegisterImported(broker, "b", "us");
  EXPECT_TRUE(broker.GetAccessToken("b").status.ok());
  EXPECT_EQ(GetOrg(broker, "b").code, grpc::StatusCode::OK);
  EXPECT_EQ(GetOrg(broker, "a").reason, "RECORD_UNREADABLE");
}

}  // namespace
}  // namespace tokenbroker::faults
