#ifndef TOKEN_BROKER_TESTS_SERVER_RPC_TOKEN_SERVICE_FIXTURE_H_
#define TOKEN_BROKER_TESTS_SERVER_RPC_TOKEN_SERVICE_FIXTURE_H_

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "storage/sqlite/sqlite_token_store.h"
#include "tests/server/rpc/broker_fixture.h"
#include "tests/server/rpc/error_details.h"

namespace tokenbroker {

// Every RPC over the wire, on the SQLite store, with only Zoho being a double.
class TokenServiceTest : public ::testing::Test {
 protected:
  TokenServiceTest() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "token-service-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) std::abort();
    folder_ = pattern;
    auto store = SqliteTokenStore::Create({.path = folder_ / "grants.db"});
    if (!store.ok()) std::abort();
    store_ = *std::move(store);
    Start({});
  }
  ~TokenServiceTest() override {
    broker_.reset();
    store_.reset();
    std::filesystem::remove_all(folder_);
  }

  void Start(Broker::Options options) {
    broker_.reset();
    broker_ = std::make_unique<Broker>(store_.get(), options);
  }

  // Imports a refresh token of its own for the org.
  v1::Grant Import(const std::string& org_id, const std::string& dc = "eu",
                   const std::vector<std::string>& scopes = {"A.b.READ"},
                   const std::string& oauth_client = "web") {
    v1::RegisterGrantRequest request;
    request.set_org_id(org_id);
    request.set_oauth_client(oauth_client);
    request.set_dc(dc);
    request.set_refresh_token("refresh of " + org_id + " " + oauth_client);
    request.mutable_scopes()->Add(scopes.begin(), scopes.end());
    v1::RegisterGrantResponse response;
    TestContext context;
    const grpc::Status status = broker_->stub().RegisterGrant(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.grant();
  }

  grpc::Status GetToken(const v1::GetAccessTokenRequest& request,
                        v1::GetAccessTokenResponse* response = nullptr) {
    v1::GetAccessTokenResponse ignored;
    TestContext context;
    return broker_->stub().GetAccessToken(&context, request,
                                          response == nullptr ? &ignored : response);
  }

  static v1::GetAccessTokenRequest TokenOf(const std::string& org_id) {
    v1::GetAccessTokenRequest request;
    request.set_org_id(org_id);
    return request;
  }

  std::filesystem::path folder_;
  std::unique_ptr<SqliteTokenStore> store_;
  std::unique_ptr<Broker> broker_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_SERVER_RPC_TOKEN_SERVICE_FIXTURE_H_
