#include "server/consent/consent_state.h"

#include <charconv>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace tokenbroker {
namespace {

// Ties the ciphertext to its use: nothing else that the key seals can be passed off as a state.
constexpr std::string_view kAssociatedData = "token-broker consent state 1";
// Longer than any state that fits into an authorization URL.
constexpr size_t kMaxStateBytes = 8192;

// A list of length-prefixed strings, so that any bytes are allowed in each.
class FieldWriter {
 public:
  void Add(std::string_view field) {
    absl::StrAppend(&out_, field.size(), ":", absl::string_view(field.data(), field.size()));
  }
  void AddNumber(int64_t number) { Add(absl::StrCat(number)); }
  std::string Take() { return std::move(out_); }

 private:
  std::string out_;
};

class FieldReader {
 public:
  explicit FieldReader(std::string_view in) : in_(in) {}

  // "", and not ok() any more, where there is no further field.
  std::string Next() {
    size_t size = 0;
    const auto [end, error] = std::from_chars(in_.data(), in_.data() + in_.size(), size);
    const size_t digits = static_cast<size_t>(end - in_.data());
    if (error != std::errc() || digits >= in_.size() || in_[digits] != ':' ||
        size > in_.size() - digits - 1) {
      ok_ = false;
      in_ = {};
      return "";
    }
    std::string field(in_.substr(digits + 1, size));
    in_.remove_prefix(digits + 1 + size);
    return field;
  }
  int64_t NextNumber() {
    const std::string field = Next();
    int64_t number = 0;
    const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), number);
    if (error != std::errc() || end != field.data() + field.size()) ok_ = false;
    return number;
  }
  // Whether every field was there, and no more of them.
  bool finished() const { return ok_ && in_.empty(); }
  bool ok() const { return ok_; }

 private:
  std::string_view in_;
  bool ok_ = true;
};

std::string Serialize(const ConsentState& state) {
  const AuthorizationRequest& request = state.request;
  FieldWriter writer;
  writer.Add(EncodeGrantKey(request.key));
  writer.Add(request.dc);
  writer.Add(request.display_name);
  writer.AddNumber(request.keep_warm ? 1 : 0);
  writer.Add(state.code_verifier.Reveal());
  writer.AddNumber(absl::ToUnixSeconds(state.expire_time));
  writer.Add(state.request_id);
  writer.AddNumber(static_cast<int64_t>(request.scopes.size()));
  for (const std::string& scope : request.scopes) writer.Add(scope);
  writer.AddNumber(static_cast<int64_t>(request.labels.size()));
  for (const auto& [key, value] : request.labels) {
    writer.Add(key);
    writer.Add(value);
  }
  return writer.Take();
}

std::optional<ConsentState> Parse(std::string_view plaintext) {
  FieldReader reader(plaintext);
  ConsentState state;
  AuthorizationRequest& request = state.request;
  std::optional<GrantKey> key = DecodeGrantKey(reader.Next());
  if (!key) return std::nullopt;
  request.key = *std::move(key);
  request.dc = reader.Next();
  request.display_name = reader.Next();
  request.keep_warm = reader.NextNumber() != 0;
  state.code_verifier = Secret(reader.Next());
  state.expire_time = absl::FromUnixSeconds(reader.NextNumber());
  state.request_id = reader.Next();
  for (int64_t left = reader.NextNumber(); left > 0 && reader.ok(); --left) {
    request.scopes.push_back(reader.Next());
  }
  for (int64_t left = reader.NextNumber(); left > 0 && reader.ok(); --left) {
    std::string label = reader.Next();
    request.labels[std::move(label)] = reader.Next();
  }
  if (!reader.finished()) return std::nullopt;
  return state;
}

absl::Status ForeignStateError() {
  return absl::InvalidArgumentError("this link was not made by this service, or was changed");
}

}  // namespace

absl::StatusOr<std::string> SealConsentState(const ConsentState& state, const Keyring& keys) {
  // Holds the PKCE verifier: wiped when it is done with.
  const Secret plaintext(Serialize(state));
  TB_ASSIGN_OR_RETURN(const std::string sealed, keys.Seal(plaintext.Reveal(), kAssociatedData));
  return absl::WebSafeBase64Escape(sealed);
}

absl::StatusOr<ConsentState> OpenConsentState(std::string_view state, const Keyring& keys,
                                              absl::Time now) {
  std::string sealed;
  if (state.empty() || state.size() > kMaxStateBytes ||
      !absl::WebSafeBase64Unescape({state.data(), state.size()}, &sealed)) {
    return ForeignStateError();
  }
  const absl::StatusOr<Secret> plaintext = keys.Open(sealed, kAssociatedData);
  if (!plaintext.ok()) return ForeignStateError();
  std::optional<ConsentState> parsed = Parse(plaintext->Reveal());
  if (!parsed) return ForeignStateError();
  if (parsed->expire_time <= now) return absl::OutOfRangeError("this link has expired");
  return *std::move(parsed);
}

}  // namespace tokenbroker
