#ifndef TOKEN_BROKER_SERVER_RPC_PENDING_CALL_H_
#define TOKEN_BROKER_SERVER_RPC_PENDING_CALL_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "server/rpc/call_event.h"

namespace tokenbroker {

// What is known of a call when it begins. The views point into its request, which lives as long as
// the call.
struct CallFacts {
  std::string_view rpc;
  std::string_view org_id;
  std::string_view environment;
  std::string_view oauth_client;
  const grpc::CallbackServerContext* context = nullptr;
  MonotonicTime begin;
};

// Tells the listener about answered calls. Thread-safe.
class CallReporter {
 public:
  CallReporter(CallListener listener, Clock clock);

  MonotonicTime Now() const { return clock_.monotonic(); }
  // `source` of a token, or "". `status` as issuing gave it.
  void Report(const CallFacts& facts, const absl::Status& status, std::string_view source) const;

 private:
  const CallListener listener_;
  const Clock clock_;
};

// A call that is answered later, on whatever thread, exactly once. gRPC destroys it when it was
// answered and its handler has returned: until the handler returns it may be touched in any case,
// afterwards only by whom has yet to answer it.
class PendingCall : public grpc::ServerUnaryReactor {
 public:
  // `reporter` must outlive the call.
  PendingCall(const CallReporter* reporter, const CallFacts& facts)
      : reporter_(reporter), facts_(facts) {}

  void Answer(const absl::Status& status) { Answer(status, "", facts_.oauth_client); }
  void Answer(const absl::Status& status, std::string_view source, std::string_view oauth_client);

  // How long the caller still waits: until its deadline less a moment, so that an answer still
  // reaches it and says why; `fallback` for callers without one. Zero or less: too late.
  absl::Duration TimeLeft(absl::Duration fallback) const;

 protected:
  ~PendingCall() override = default;

 private:
  void OnDone() final;

  const CallReporter* const reporter_;
  CallFacts facts_;
  std::atomic<bool> answered_{false};
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_RPC_PENDING_CALL_H_
