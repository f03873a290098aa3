#include "server/rpc/page_token.h"

#include <cstdint>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace tokenbroker {
namespace {

constexpr char kFormat = 1;
constexpr size_t kChecksumBytes = 8;

// FNV-1a, 64 bits. Not absl::Hash: that one differs from process to process.
uint64_t Checksum(std::string_view bytes) {
  uint64_t hash = 14695981039346656037u;  // offset basis and prime: the FNV specification
  for (unsigned char byte : bytes) {
    hash ^= byte;
    hash *= 1099511628211u;
  }
  return hash;
}

void AppendField(std::string_view field, std::string& out) {
  absl::StrAppend(&out, field.size(), ":", absl::string_view(field.data(), field.size()));
}

uint64_t ChecksumOf(std::string_view next, const GrantFilter& filter) {
  std::string text(1, kFormat);
  AppendField(next, text);
  AppendField(filter.dc, text);
  AppendField(filter.environment ? EnvironmentName(*filter.environment) : "", text);
  AppendField(filter.state ? absl::StrCat(static_cast<int>(*filter.state)) : "", text);
  AppendField(filter.oauth_client, text);
  for (const auto& [key, value] : filter.labels) {
    AppendField(key, text);
    AppendField(value, text);
  }
  return Checksum(text);
}

}  // namespace

std::string EncodePageToken(std::string_view next, const GrantFilter& filter) {
  std::string bytes(1, kFormat);
  uint64_t checksum = ChecksumOf(next, filter);
  for (size_t i = 0; i < kChecksumBytes; ++i, checksum >>= 8) {
    bytes.push_back(static_cast<char>(checksum & 0xFF));
  }
  bytes.append(next);
  return absl::WebSafeBase64Escape(bytes);
}

std::optional<std::string> DecodePageToken(std::string_view page_token, const GrantFilter& filter) {
  std::string bytes;
  if (!absl::WebSafeBase64Unescape({page_token.data(), page_token.size()}, &bytes) ||
      bytes.size() < 1 + kChecksumBytes) {
    return std::nullopt;
  }
  std::string next = bytes.substr(1 + kChecksumBytes);
  // Comparing the text as a whole also refuses other spellings of the same bytes.
  if (EncodePageToken(next, filter) != page_token) return std::nullopt;
  return next;
}

}  // namespace tokenbroker
