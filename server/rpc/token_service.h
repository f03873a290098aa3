#ifndef TOKEN_BROKER_SERVER_RPC_TOKEN_SERVICE_H_
#define TOKEN_BROKER_SERVER_RPC_TOKEN_SERVICE_H_

#include <memory>

#include "absl/time/time.h"
#include "common/clock.h"
#include "server/consent/authorization_url.h"
#include "server/issuing/grant_registrar.h"
#include "server/issuing/org_directory.h"
#include "server/issuing/token_issuer.h"
#include "server/rpc/call_event.h"
#include "storage/protocol_limits.h"

namespace grpc {
class Service;
}

namespace tokenbroker {

// tokenbroker.v1.TokenService on gRPC's callback API: authorises, validates, asks issuing/ and
// answers. Has no rule of its own and does no I/O; its threads never block. A token that this
// replica's memory holds is answered on the thread that read the request.
class TokenServiceEdge {
 public:
  // What is borrowed must outlive every call: shut the server down first.
  struct Options {
    TokenIssuer* issuer = nullptr;
    GrantRegistrar* registrar = nullptr;
    OrgDirectory* directory = nullptr;
    const ZohoSetup* setup = nullptr;
    // nullptr: consent is not configured.
    const AuthorizationUrls* authorization_urls = nullptr;
    Clock clock = Clock::System();
    // How long a call waits that brings no deadline.
    absl::Duration default_deadline = absl::Seconds(10);
    // Least remaining life of a token where a request does not say.
    absl::Duration default_min_lifetime = absl::Seconds(60);
    // As the issuer has it: for what GetOrg says about the next refresh.
    absl::Duration refresh_ahead = absl::Seconds(600);
    ProtocolLimits limits;  // as the store has them: likewise
    CallListener on_call;   // may be empty
  };

  explicit TokenServiceEdge(Options options);
  ~TokenServiceEdge();

  // To be registered with a server that is destroyed before this object.
  grpc::Service* service();

 private:
  class Service;
  std::unique_ptr<Service> service_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_RPC_TOKEN_SERVICE_H_
