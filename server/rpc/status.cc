#include "server/rpc/status.h"

#include <algorithm>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/rpc/convert.h"

namespace tokenbroker {
namespace {

// gRPC clients refuse more than 8 KiB of trailers. Details travel in base64 (4/3), and an
// authorization URL in the metadata, which cut would be of no use, takes up to 4 KiB of them.
constexpr char kUncutKey[] = "authorization_url";
constexpr size_t kMaxMessageBytes = 512;
constexpr size_t kMaxValueBytes = 1024;
constexpr size_t kMaxViolationBytes = 3072;

constexpr char kNeutralText[] = "the broker failed; its log says more";

// Cut before a UTF-8 sequence, not within one: protobuf strings must be valid UTF-8.
std::string Shorten(absl::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return std::string(text);
  size_t end = max_bytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return absl::StrCat(text.substr(0, end), "…");
}

void AddViolations(const ErrorDetail& detail, google::rpc::Status& out) {
  google::rpc::BadRequest bad_request;
  size_t bytes = 0;
  size_t added = 0;
  for (const FieldViolation& violation : detail.violations) {
    bytes += violation.field.size() + violation.description.size() + 8;
    if (bytes > kMaxViolationBytes) break;
    google::rpc::BadRequest::FieldViolation* field = bad_request.add_field_violations();
    field->set_field(violation.field);
    field->set_description(violation.description);
    ++added;
  }
  if (added < detail.violations.size()) {
    google::rpc::BadRequest::FieldViolation* rest = bad_request.add_field_violations();
    rest->set_description(absl::StrCat("and ", detail.violations.size() - added, " more"));
  }
  out.add_details()->PackFrom(bad_request);
}

}  // namespace

absl::StatusCode SentCode(const absl::Status& status) {
  if (status.ok() || status.code() == absl::StatusCode::kCancelled) return status.code();
  return GetErrorDetail(status) ? status.code() : absl::StatusCode::kInternal;
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  std::optional<ErrorDetail> detail = GetErrorDetail(status);
  if (!detail && status.code() == absl::StatusCode::kCancelled) return grpc::Status::CANCELLED;

  std::string message;
  if (!detail || status.code() == absl::StatusCode::kInternal) {
    detail = ErrorDetail{.reason = "INTERNAL"};
    message = kNeutralText;
  } else {
    message = Shorten(status.message(), kMaxMessageBytes);
  }

  const absl::StatusCode code = SentCode(status);
  google::rpc::Status out;
  out.set_code(static_cast<int>(code));
  out.set_message(message);

  google::rpc::ErrorInfo info;
  info.set_reason(detail->reason);
  info.set_domain(std::string(kErrorDomain));
  for (const auto& [key, value] : detail->metadata) {
    (*info.mutable_metadata())[key] = key == kUncutKey ? value : Shorten(value, kMaxValueBytes);
  }
  out.add_details()->PackFrom(info);

  if (detail->retry_after) {
    google::rpc::RetryInfo retry;
    SetDuration(std::clamp(*detail->retry_after, absl::ZeroDuration(), absl::Hours(24)),
                *retry.mutable_retry_delay());
    out.add_details()->PackFrom(retry);
  }
  if (!detail->violations.empty()) AddViolations(*detail, out);
  return grpc::Status(static_cast<grpc::StatusCode>(code), message, out.SerializeAsString());
}

std::string_view StatusCodeName(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return "OK";
    case absl::StatusCode::kCancelled:
      return "CANCELLED";
    case absl::StatusCode::kInvalidArgument:
      return "INVALID_ARGUMENT";
    case absl::StatusCode::kDeadlineExceeded:
      return "DEADLINE_EXCEEDED";
    case absl::StatusCode::kNotFound:
      return "NOT_FOUND";
    case absl::StatusCode::kAlreadyExists:
      return "ALREADY_EXISTS";
    case absl::StatusCode::kPermissionDenied:
      return "PERMISSION_DENIED";
    case absl::StatusCode::kUnauthenticated:
      return "UNAUTHENTICATED";
    case absl::StatusCode::kResourceExhausted:
      return "RESOURCE_EXHAUSTED";
    case absl::StatusCode::kFailedPrecondition:
      return "FAILED_PRECONDITION";
    case absl::StatusCode::kAborted:
      return "ABORTED";
    case absl::StatusCode::kOutOfRange:
      return "OUT_OF_RANGE";
    case absl::StatusCode::kUnimplemented:
      return "UNIMPLEMENTED";
    case absl::StatusCode::kInternal:
      return "INTERNAL";
    case absl::StatusCode::kUnavailable:
      return "UNAVAILABLE";
    case absl::StatusCode::kDataLoss:
      return "DATA_LOSS";
    default:
      return "UNKNOWN";
  }
}

}  // namespace tokenbroker
