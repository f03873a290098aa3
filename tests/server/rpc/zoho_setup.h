#ifndef TOKEN_BROKER_TESTS_SERVER_RPC_ZOHO_SETUP_H_
#define TOKEN_BROKER_TESTS_SERVER_RPC_ZOHO_SETUP_H_

#include <string>
#include <utility>
#include <vector>

#include "server/issuing/refresher.h"

namespace tokenbroker {

inline constexpr char kCallbackUrl[] = "https://broker.example.com/oauth/callback";

// The eleven DCs and three OAuth clients: "web" has secrets for us and eu, "other" has one for all
// DCs and no callback URL, "self" is a Self Client in us.
inline ZohoSetup TestSetup() {
  OAuthClient web;
  web.name = "web";
  web.client_id = "1000.WEB";
  web.client_name = "web";
  web.homepage_url = "https://broker.example.com";
  web.redirect_uris = {"https://app.example.com/back", kCallbackUrl};
  web.secrets.emplace("us", Secret("web-us-secret"));
  web.secrets.emplace("eu", Secret("web-eu-secret"));

  OAuthClient other = web;
  other.name = "other";
  other.client_id = "1000.OTHER";
  other.redirect_uris = {"https://app.example.com/other"};
  other.secrets.clear();
  other.shared_secret = Secret("other-secret");

  OAuthClient self;
  self.name = "self";
  self.type = OAuthClientType::kSelfClient;
  self.client_id = "1000.SELF";
  self.secrets.emplace("us", Secret("self-us-secret"));

  std::vector<OAuthClient> clients;
  clients.push_back(std::move(web));
  clients.push_back(std::move(other));
  clients.push_back(std::move(self));
  return {.data_centers = *DataCenterTable::Create({}, /*allow_plaintext_loopback=*/false),
          .oauth_clients = *OAuthClientRegistry::Create(std::move(clients))};
}

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_SERVER_RPC_ZOHO_SETUP_H_
