#ifndef TOKEN_BROKER_SERVER_RPC_CALL_EVENT_H_
#define TOKEN_BROKER_SERVER_RPC_CALL_EVENT_H_

#include <functional>
#include <string>
#include <string_view>

#include "absl/time/time.h"

namespace tokenbroker {

// One answered call, as operators see it. Holds no token. The views are good only while the
// listener runs.
struct CallEvent {
  std::string_view rpc;           // "GetAccessToken"
  std::string_view org_id;        // "" where the RPC has none
  std::string_view environment;   // "PRODUCTION", …; "" where the RPC has none or it was invalid
  std::string_view oauth_client;  // as asked for, or as answered; "" for none
  std::string_view code;          // "OK", "NOT_FOUND", …: as it was sent
  std::string_view reason;        // of the error: "ORG_NOT_FOUND", …; "" for OK
  // GetAccessToken: "cache", "store", "refreshed", "joined", "stale"; "" otherwise.
  std::string_view source;
  // What an INTERNAL error said; it was not sent. "" otherwise.
  std::string_view internal_error;
  absl::Duration latency;

  // The caller's address, "ipv4:10.0.0.7:51234". Made only when asked for: it costs an allocation.
  std::string Peer() const { return peer_of == nullptr ? "" : peer_of(peer_context); }
  std::string (*peer_of)(const void*) = nullptr;
  const void* peer_context = nullptr;
};

// Called once per call, before its answer is sent, on the thread that answers; must be quick.
using CallListener = std::function<void(const CallEvent&)>;

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_RPC_CALL_EVENT_H_
