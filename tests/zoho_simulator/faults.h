// What can be made to go wrong between the simulator and its caller, and the list of rules that
// says for which requests. Pure: no sockets, no clock.

#ifndef TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_FAULTS_H_
#define TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_FAULTS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "common/mutex.h"

namespace tokenbroker::zoho_simulator {

// How a DC's ports treat new connections.
enum class AcceptMode {
  kServe,
  kRefuse,  // nobody listens: the caller gets ECONNREFUSED
  kReset,   // accepted, then reset
  kStall,   // accepted, then nothing: no TLS handshake, no reply
};

// "serve", "refuse", "reset" or "stall".
std::string_view AcceptModeName(AcceptMode mode);
std::optional<AcceptMode> ParseAcceptMode(std::string_view name);

enum class FaultKind {
  kNone,                   // only the delays and the drip of the rule
  kResetBeforeProcessing,  // TCP RST; nothing changed
  kResetAfterProcessing,   // TCP RST; the state changed and the reply is lost
  kHang,                   // nothing happens until released; then processed and answered
  kHangAfterProcessing,    // the state changed; the reply comes when released
  kStatus,                 // `status` with `body` (or a JSON general_error)
  kHtml,                   // `status` (200 if not set) with an HTML page
  kEmpty,                  // `status` (200 if not set) with no body
  kHugeBody,               // 200 with `huge_bytes` of JSON text
  kRedirect,               // 302 to `redirect_to` (empty: the simulator's trap)
  kGarbageJson,            // 200, application/json, not JSON
  kTooManyRequests,        // 429
  kThrottle,               // 400 with Zoho's throttle body in the DC's language
  kTruncate,               // processed; `truncate_bytes` of the reply, then the connection closes
};

// "none", "reset_before_processing", "status", ... as in the enumerators.
std::string_view FaultKindName(FaultKind kind);
std::optional<FaultKind> ParseFaultKind(std::string_view name);

struct Fault {
  FaultKind kind = FaultKind::kNone;
  absl::Duration delay = absl::ZeroDuration();        // before processing, in real time
  absl::Duration reply_delay = absl::ZeroDuration();  // after processing, in real time
  // Set: the reply leaves in pieces of `drip_bytes`, this far apart.
  std::optional<absl::Duration> drip_interval;
  size_t drip_bytes = 1;
  int status = 0;
  std::string body;
  std::string content_type;  // of `body`; empty: application/json
  std::string redirect_to;
  size_t huge_bytes = 16u << 20;
  size_t truncate_bytes = 20;
  // For the kinds that replace the reply: whether the request is processed (state changes) first.
  bool process = false;
};

// A fault and the requests that it hits. An empty field matches everything.
struct FaultRule {
  std::string dc;
  std::string path;        // exact: "/oauth/v2/token"
  std::string grant_type;  // "refresh_token"
  std::string client_id;
  std::string org_id;
  int64_t times = -1;  // for the next N matching requests; -1: until cleared
  Fault fault;
};

// What is known about a request when its fault is chosen.
struct FaultSubject {
  std::string_view dc;
  std::string_view path;
  std::string_view grant_type;
  std::string_view client_id;
  std::string_view org_id;
};

// The rules in force. Thread-safe.
class FaultRules {
 public:
  struct Numbered {
    uint64_t id;
    FaultRule rule;
  };

  // Adds a rule behind the existing ones. Returns its id.
  uint64_t Add(FaultRule rule);

  // The sum of the matching rules, or nothing: the longest delays, the drip and the kind (with its
  // details) of the first rule that has one. Counts down the rules that it used; a second rule with
  // a kind is not used and waits for its turn.
  std::optional<Fault> Take(const FaultSubject& subject);

  // False if there is no such rule (any more).
  bool Remove(uint64_t id);

  // Removes the rules of `dc`; all rules if empty.
  void Clear(std::string_view dc);

  std::vector<Numbered> List() const;

 private:
  mutable Mutex mutex_;
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  std::vector<Numbered> rules_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tokenbroker::zoho_simulator

#endif  // TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_FAULTS_H_
