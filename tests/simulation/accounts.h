#ifndef TOKEN_BROKER_TESTS_SIMULATION_ACCOUNTS_H_
#define TOKEN_BROKER_TESTS_SIMULATION_ACCOUNTS_H_

#include <memory>
#include <string>
#include <vector>

#include "clients/zoho/accounts_server.h"
#include "tests/simulation/seams.h"

namespace tokenbroker::simulation {

// Zoho: what it does with a request that arrives. Its truth is the judge's tables.
class SimulatedZoho {
 public:
  explicit SimulatedZoho(Context* context) : context_(context) {}

  // Somebody consents; the code is good once.
  std::string NewCode(int grant);
  // Somebody consents elsewhere, and brings the refresh token.
  std::string NewRefreshToken(int grant);
  // A consent ends at Zoho.
  void RevokeConsent(int consent);

  TokenReply Process(const TokenRequest& request, int consent);
  void Revoke(const Secret& token);
  // -1: of no consent that we know.
  int ConsentOf(const TokenRequest& request) const;

 private:
  struct Code {
    int consent = 0;
    bool used = false;
  };
  TokenReply Mint(int consent, bool with_refresh_token);

  Context* const context_;
  std::vector<Code> codes_;
};

// One process's way to Zoho, with everything that may happen on it. The judge hears of every first
// byte.
class SimulatedAccounts final : public AccountsServer {
 public:
  SimulatedAccounts(Seams* seams, SimulatedZoho* zoho)
      : seams_(seams), context_(seams->context), zoho_(zoho) {}

  TokenResponse RequestToken(const TokenRequest& request, BeforeSend before_send) override;
  absl::Status RevokeToken(const DataCenter& dc, const Secret& token,
                           absl::Duration timeout) override;

 private:
  // A request on its way. Shared by the process and the network.
  struct Exchange {
    int send = 0;
    bool open = true;   // at the client's end
    bool over = false;  // answered, or the connection is closed, or Zoho is done
    bool answered = false;
    bool reset = false;
    TokenReply reply;
    Strand* reader = nullptr;
  };

  void Close(Exchange& exchange);
  // Lets the first byte go and decides what becomes of the request.
  std::shared_ptr<Exchange> Dispatch(const TokenRequest& request, int consent);

  Seams* const seams_;
  Context* const context_;
  SimulatedZoho* const zoho_;
};

}  // namespace tokenbroker::simulation

#endif  // TOKEN_BROKER_TESTS_SIMULATION_ACCOUNTS_H_
