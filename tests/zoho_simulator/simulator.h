// The Zoho OAuth simulator: several data centres in one process, each with its own accounts server
// and People API on a loopback port, over HTTP and (if asked) HTTPS.
//
//   Simulator::Options options;
//   options.dcs = {{.name = "us"}, {.name = "eu"}};
//   options.clients = {{.client_id = "1000.APP", .home_dc = "us", .multi_dc = true,
//                       .secrets = {{"us", "secret-us"}, {"eu", "secret-eu"}},
//                       .redirect_uris = {"https://app.example/callback"}}};
//   auto simulator = Simulator::Create(std::move(options)).value();
//   auto grants = simulator->SeedGrants("us", "1000.APP", 1000).value();
//   ... point the code under test at simulator->dc("us").url() ...
//   EXPECT_EQ(simulator->log().Count({.dc = "us", .outcome = "minted"}), 1);
//   EXPECT_LE(simulator->log().MaxInFlightPerGrant(), 1);
//
// Everything here is thread-safe. The destructor closes all sockets and ends all threads.

#ifndef TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_SIMULATOR_H_
#define TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_SIMULATOR_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/zoho_simulator/accounts_state.h"
#include "tests/zoho_simulator/faults.h"
#include "tests/zoho_simulator/model.h"
#include "tests/zoho_simulator/request_log.h"

namespace tokenbroker::zoho_simulator {

class Simulator {
 public:
  struct DcOptions {
    std::string name;         // one of the eleven, or any other for a private installation
    uint16_t port = 0;        // 0: chosen by the system
    uint16_t https_port = 0;  // 0: chosen by the system
    std::optional<Behaviour> behaviour;  // instead of Options::behaviour
  };

  struct Options {
    std::vector<DcOptions> dcs;  // empty: us and eu
    bool https = false;          // serve HTTPS too; then it is the https URL that redirects name
    std::string listen_address = "127.0.0.1";
    bool control = true;        // the control endpoint
    uint16_t control_port = 0;  // 0: chosen by the system
    int threads = 1;
    std::vector<ClientConfig> clients;
    std::vector<UserConfig> users;
    Behaviour behaviour;
    // Who answers the consent page where the request does not say so. Without: an HTML page.
    std::optional<ConsentChoice> default_consent;
    // The clock of all lifetimes and windows; AdvanceTime() adds to it. Default: the system's.
    std::function<absl::Time()> now;
    uint64_t seed = 0;  // of tokens and codes; 0: random
  };

  // A simulated DC's addresses. URLs have no trailing slash. The accounts server and the People API
  // share them.
  class Dc {
   public:
    const std::string& name() const { return name_; }
    const std::string& url() const { return url_; }              // "http://127.0.0.1:4711"
    const std::string& https_url() const { return https_url_; }  // empty without HTTPS

   private:
    friend class Simulator;
    std::string name_, url_, https_url_;
  };

  // Starts listening; when this returns, all ports answer.
  // InvalidArgument: a client, user or DC contradicts itself or another. Unavailable: a port is
  // taken. Internal: no certificate could be made.
  static absl::StatusOr<std::unique_ptr<Simulator>> Create(Options options);
  ~Simulator();

  // The DC called `name`, which must be one of Options::dcs: the process ends otherwise.
  const Dc& dc(std::string_view name) const;
  std::vector<std::string> dc_names() const;

  // "http://127.0.0.1:4712"; empty without control endpoint.
  const std::string& control_url() const;

  // A listener that only records: its requests are logged with dc "trap". Redirects lead here.
  const std::string& trap_url() const;

  // The certificate of all HTTPS ports, for use as CA; for localhost and 127.0.0.1. Empty without
  // HTTPS.
  const std::string& certificate_pem() const;

  // The URL to open for a consent that answers itself: the authorization endpoint of `dc` with
  // `parameters` and the choice (parameters sim_user, sim_org, sim_environment, sim_decision).
  std::string ConsentUrl(std::string_view dc, const std::map<std::string, std::string>& parameters,
                         const ConsentChoice& choice) const;

  // The simulated Zoho itself: clients, users, grants, codes, behaviour. Its operations that take a
  // time want now().
  AccountsState& accounts();

  // Shorthand for accounts().SeedGrants(dc, client_id, count, {}, now()).
  absl::StatusOr<std::vector<SeededGrant>> SeedGrants(std::string_view dc,
                                                      std::string_view client_id, int count,
                                                      SeedOptions options = {});

  RequestLog& log();

  // Connections that DC `name` has accepted; over all DCs if empty.
  int64_t ConnectionCount(std::string_view name = {}) const;

  uint64_t AddFault(FaultRule rule);
  bool RemoveFault(uint64_t id);
  // Ends the faults of `dc` (all if empty), and releases what hangs.
  void ClearFaults(std::string_view dc = {});
  std::vector<FaultRules::Numbered> faults() const;
  // Lets the requests that hang, or have arrived and would hang, go on: those of `dc`, all if
  // empty. Returns how many were hanging.
  int ReleaseHung(std::string_view dc = {});
  int hung() const;

  // Returns when the mode is in force. NotFound: no such DC. Unavailable: the port was taken
  // meanwhile.
  absl::Status SetAcceptMode(std::string_view dc, AcceptMode mode);

  // The simulator's clock.
  absl::Time now() const;
  void AdvanceTime(absl::Duration by);

  class Impl;

 private:
  explicit Simulator(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tokenbroker::zoho_simulator

#endif  // TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_SIMULATOR_H_
