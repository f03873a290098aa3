#ifndef TOKEN_BROKER_SERVER_RPC_PENDING_CALL_H_
#define TOKEN_BROKER_SERVER_RPC_PENDING_CALL_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <memory>
#include <string_view>
#include <utility>

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

// Whose turn it is to answer a call. Outlives the call where its work does. Thread-safe.
class CallTurn {
 public:
  // The holder lets go of the call: whoever comes first may answer. False: it was cancelled, and
  // the holder has to say so.
  bool LetGo() { return Change(kHeld, kFree); }
  // The work comes back. False: the call was cancelled and is gone.
  bool TakeBack() { return Change(kFree, kHeld); }
  // gRPC cancels. True: nobody holds the call, and it is to be answered now.
  bool Cancel() {
    State now = state_.load(std::memory_order_acquire);
    while ((now == kHeld || now == kFree) &&
           !state_.compare_exchange_weak(now, now == kFree ? kHeld : kHeldCancelled,
                                         std::memory_order_acq_rel)) {
    }
    return now == kFree;
  }
  // False: somebody has answered already.
  bool Answer() { return state_.exchange(kAnswered, std::memory_order_acq_rel) != kAnswered; }
  // Sees all that the answering thread did.
  void Meet() const { (void)state_.load(std::memory_order_acquire); }

 private:
  enum State { kHeld, kHeldCancelled, kFree, kAnswered };
  bool Change(State from, State to) {
    return state_.compare_exchange_strong(from, to, std::memory_order_acq_rel);
  }
  std::atomic<State> state_{kHeld};
};

// A call that is answered later, on whatever thread, exactly once. gRPC destroys it, its request
// and its response when it was answered and its handler has returned: until the handler returns it
// may be touched in any case, afterwards only by whom has yet to answer it.
class PendingCall : public grpc::ServerUnaryReactor {
 public:
  // `reporter` must outlive the call.
  PendingCall(const CallReporter* reporter, const CallFacts& facts)
      : reporter_(reporter), facts_(facts) {}

  void Answer(const absl::Status& status) { Answer(status, "", facts_.oauth_client); }
  void Answer(const absl::Status& status, std::string_view source, std::string_view oauth_client);

  // Lets go of the call until the work has a result. `answer` gets that, unless gRPC has cancelled
  // the call by then: such a call is answered at once, whatever the work waits for, so that it
  // holds up no shutdown, and neither it, its request nor its response are there any more.
  template <typename Handler>
  auto Later(Handler answer) {
    // From LetGo on somebody else may end the call, and `this` with it.
    std::shared_ptr<CallTurn> turn = turn_;
    if (!turn->LetGo()) Answer(absl::CancelledError());
    return [turn = std::move(turn), answer = std::move(answer)](auto result) {
      if (turn->TakeBack()) answer(std::move(result));
    };
  }

  // How long the caller still waits: until its deadline less a moment, so that an answer still
  // reaches it and says why; for callers without one `fallback` after the call began. Zero or less:
  // too late.
  absl::Duration TimeLeft(absl::Duration fallback) const;

 protected:
  ~PendingCall() override = default;
  void OnCancel() override;

 private:
  void OnDone() final;

  const CallReporter* const reporter_;
  CallFacts facts_;
  const std::shared_ptr<CallTurn> turn_ = std::make_shared<CallTurn>();
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_RPC_PENDING_CALL_H_
