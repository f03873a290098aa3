#include "server/rpc/pending_call.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "common/errors.h"
#include "server/rpc/status.h"

namespace tokenbroker {
namespace {

// What an answer needs to get to the caller before its deadline, at most and as a part of the time
// that it gave.
constexpr absl::Duration kAnswerMargin = absl::Milliseconds(50);
constexpr int kAnswerMarginPart = 20;

std::string PeerOf(const void* context) {
  return static_cast<const grpc::CallbackServerContext*>(context)->peer();
}

}  // namespace

CallReporter::CallReporter(CallListener listener, Clock clock)
    : listener_(std::move(listener)), clock_(std::move(clock)) {}

void CallReporter::Report(const CallFacts& facts, const absl::Status& status,
                          std::string_view source) const {
  if (!listener_) return;
  CallEvent event{.rpc = facts.rpc,
                  .org_id = facts.org_id,
                  .environment = facts.environment,
                  .oauth_client = facts.oauth_client,
                  .code = StatusCodeName(SentCode(status)),
                  .source = source,
                  .latency = Now() - facts.begin,
                  .peer_of = &PeerOf,
                  .peer_context = facts.context};
  if (status.ok()) return listener_(event);
  std::string reason = ErrorReason(status);
  if (reason.empty()) {
    reason = status.code() == absl::StatusCode::kCancelled ? "CANCELLED" : "INTERNAL";
  }
  event.reason = reason;
  if (SentCode(status) == absl::StatusCode::kInternal) {
    event.internal_error = {status.message().data(), status.message().size()};
  }
  listener_(event);
}

void PendingCall::Answer(const absl::Status& status, std::string_view source,
                         std::string_view oauth_client) {
  // A second answer would be a defect of issuing/; gRPC would crash on it.
  if (!turn_->Answer()) return;
  facts_.oauth_client = oauth_client;
  reporter_->Report(facts_, status, source);
  Finish(ToGrpcStatus(status));
}

absl::Duration PendingCall::TimeLeft(absl::Duration fallback) const {
  const std::chrono::system_clock::time_point deadline = facts_.context->deadline();
  // gRPC's "none" is the end of time, give or take a rounding.
  const auto left = deadline - std::chrono::system_clock::now();
  if (left > std::chrono::hours(24)) return fallback - (reporter_->Now() - facts_.begin);
  const absl::Duration given = absl::FromChrono(left);
  return given - std::min(kAnswerMargin, given / kAnswerMarginPart);
}

void PendingCall::OnCancel() {
  if (turn_->Cancel()) Answer(absl::CancelledError());
}

void PendingCall::OnDone() {
  // However gRPC got from there to here.
  turn_->Meet();
  delete this;
}

}  // namespace tokenbroker
