#include "tests/zoho_simulator/text.h"

#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"

namespace tokenbroker::zoho_simulator {
namespace {

constexpr char kHex[] = "0123456789ABCDEF";

absl::string_view Absl(std::string_view text) { return {text.data(), text.size()}; }

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool IsOperation(std::string_view text) {
  static constexpr std::array<std::string_view, 5> kOperations = {"ALL", "CREATE", "READ", "UPDATE",
                                                                  "DELETE"};
  return std::any_of(kOperations.begin(), kOperations.end(), [&](std::string_view operation) {
    return absl::EqualsIgnoreCase(Absl(text), Absl(operation));
  });
}

bool IsPeopleName(std::string_view text) {
  static constexpr std::array<std::string_view, 8> kNames = {
      "employee",    "forms",     "attendance", "leave",
      "timetracker", "timesheet", "dashboard",  "automation"};
  return std::any_of(kNames.begin(), kNames.end(), [&](std::string_view name) {
    return absl::EqualsIgnoreCase(Absl(text), Absl(name));
  });
}

}  // namespace

std::string PercentEncode(std::string_view text) {
  std::string encoded;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (absl::ascii_isalnum(byte) || c == '-' || c == '.' || c == '_' || c == '~') {
      encoded += c;
    } else {
      encoded += '%';
      encoded += kHex[byte >> 4];
      encoded += kHex[byte & 15];
    }
  }
  return encoded;
}

std::string PercentDecode(std::string_view text) {
  std::string decoded;
  decoded.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+') {
      decoded += ' ';
    } else if (text[i] == '%' && i + 2 < text.size() && HexValue(text[i + 1]) >= 0 &&
               HexValue(text[i + 2]) >= 0) {
      decoded += static_cast<char>(HexValue(text[i + 1]) * 16 + HexValue(text[i + 2]));
      i += 2;
    } else {
      decoded += text[i];
    }
  }
  return decoded;
}

std::map<std::string, std::string, std::less<>> ParseForm(std::string_view text) {
  std::map<std::string, std::string, std::less<>> form;
  while (!text.empty()) {
    const size_t end = std::min(text.find('&'), text.size());
    const std::string_view pair = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const size_t equals = pair.find('=');
    if (equals == std::string_view::npos) continue;
    form.emplace(PercentDecode(pair.substr(0, equals)), PercentDecode(pair.substr(equals + 1)));
  }
  return form;
}

std::vector<std::string> ParseScopes(std::string_view text) {
  return absl::StrSplit(Absl(text), absl::ByAnyChar(", \t\r\n"), absl::SkipEmpty());
}

bool IsKnownScope(std::string_view scope) {
  const std::vector<std::string> parts = absl::StrSplit(Absl(scope), '.');
  if (parts.size() < 3) return false;
  for (const std::string& part : parts) {
    if (part.empty()) return false;
    if (!std::all_of(part.begin(), part.end(), [](unsigned char c) {
          return absl::ascii_isalnum(c) || c == '_' || c == '-';
        })) {
      return false;
    }
  }
  if (!IsOperation(parts.back())) return false;
  if (absl::EqualsIgnoreCase(parts[0], "ZOHOPEOPLE")) {
    return parts.size() == 3 && IsPeopleName(parts[1]);
  }
  return true;
}

bool ScopesAllow(const std::vector<std::string>& granted, std::string_view needed) {
  const size_t dot = needed.rfind('.');
  const std::string all = std::string(needed.substr(0, dot)) + ".ALL";
  return std::any_of(granted.begin(), granted.end(), [&](const std::string& scope) {
    return absl::EqualsIgnoreCase(scope, Absl(needed)) || absl::EqualsIgnoreCase(scope, all);
  });
}

std::optional<std::string> Base64Decode(std::string_view text) {
  std::string decoded;
  if (!absl::Base64Unescape(Absl(text), &decoded)) return std::nullopt;
  return decoded;
}

std::string HtmlEscape(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string S256Challenge(std::string_view verifier) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest;
  SHA256(reinterpret_cast<const unsigned char*>(verifier.data()), verifier.size(), digest.data());
  std::string challenge;
  absl::WebSafeBase64Escape(
      absl::string_view(reinterpret_cast<const char*>(digest.data()), digest.size()), &challenge);
  // Abseil's string form has no padding; the standard wants none either.
  while (!challenge.empty() && challenge.back() == '=') challenge.pop_back();
  return challenge;
}

}  // namespace tokenbroker::zoho_simulator
