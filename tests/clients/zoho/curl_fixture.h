// A CurlAccountsServer that may speak plaintext to loopback, for posts to a ScriptedPeer.

#ifndef TOKEN_BROKER_TESTS_CLIENTS_ZOHO_CURL_FIXTURE_H_
#define TOKEN_BROKER_TESTS_CLIENTS_ZOHO_CURL_FIXTURE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "clients/zoho/curl_accounts_server.h"
#include "common/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/clients/zoho/scripted_peer.h"

namespace tokenbroker {

// In every secret of these tests, so that one search proves that none got out.
inline constexpr char kCanary[] = "CANARY";

inline constexpr char kTokenBody[] =
    R"({"access_token":"1000.new.CANARY","api_domain":"https://www.zohoapis.com",)"
    R"("token_type":"Bearer","expires_in":3600})";

inline DataCenter DcAt(const std::string& accounts_server) {
  return {"us", accounts_server, "https://www.zohoapis.com", "people.zoho.com"};
}

inline TokenRequest RefreshAt(const std::string& accounts_server) {
  TokenRequest request;
  request.grant_type = TokenRequest::GrantType::kRefreshToken;
  request.dc = DcAt(accounts_server);
  request.client_id = "1000.APP";
  request.client_secret = Secret("CANARY-client-secret");
  request.refresh_token = Secret("1000.old.CANARY");
  return request;
}

inline std::string DeliveryName(TokenResponse::Delivery delivery) {
  switch (delivery) {
    case TokenResponse::Delivery::kNotSent:
      return "not sent";
    case TokenResponse::Delivery::kAnswered:
      return "answered";
    case TokenResponse::Delivery::kUnknown:
      return "unknown";
  }
  return "";
}

inline std::string LastError(const absl::Status& status) {
  const auto detail = GetErrorDetail(status);
  if (!detail || detail->metadata.count("last_error") == 0) return "";
  return detail->metadata.at("last_error");
}

class CurlAccountsServerTest : public ::testing::Test {
 protected:
  CurlAccountsServerTest() : CurlAccountsServerTest(Options()) {}
  explicit CurlAccountsServerTest(CurlAccountsServer::Options options)
      : server_(CurlAccountsServer::Create(std::move(options)).value()) {}

  static CurlAccountsServer::Options Options() {
    CurlAccountsServer::Options options;
    options.allow_plaintext_loopback = true;
    return options;
  }

  TokenResponse Send(const TokenRequest& request) {
    return Send(request, [] { return absl::OkStatus(); });
  }
  // Counts the checks, and looks for secrets in what is told about the outcome.
  TokenResponse Send(const TokenRequest& request, BeforeSend check) {
    TokenResponse response = server_->RequestToken(request, [&] {
      ++checks_;
      return check();
    });
    EXPECT_THAT(response.status.ToString(), ::testing::Not(::testing::HasSubstr(kCanary)));
    EXPECT_THAT(
        absl::StrCat(response.reply.error, response.reply.advice, response.reply.api_domain),
        ::testing::Not(::testing::HasSubstr(kCanary)));
    EXPECT_EQ(response.status.ok(), response.delivery == TokenResponse::Delivery::kAnswered);
    return response;
  }

  // Sends a refresh that must fail, and checks how: with one of `last_errors`.
  void ExpectFailure(const TokenRequest& request, TokenResponse::Delivery delivery,
                     const std::vector<std::string>& last_errors) {
    const TokenResponse response = Send(request);
    EXPECT_EQ(DeliveryName(response.delivery), DeliveryName(delivery));
    EXPECT_EQ(response.status.code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(ErrorReason(response.status), "ZOHO_UNAVAILABLE");
    EXPECT_THAT(last_errors, ::testing::Contains(LastError(response.status)));
  }

  std::unique_ptr<CurlAccountsServer> server_;
  int checks_ = 0;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_CLIENTS_ZOHO_CURL_FIXTURE_H_
