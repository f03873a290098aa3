#include "clients/zoho/origin.h"

#include <algorithm>

#include "absl/strings/ascii.h"

namespace tokenbroker {
namespace {

// The longest host name of DNS (RFC 1035, section 2.3.4).
constexpr size_t kMaxHostBytes = 253;

bool IsHostNameCharacter(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return absl::ascii_isalnum(byte) || c == '-' || c == '.';
}

bool IsIpv6Character(char c) {
  return absl::ascii_isxdigit(static_cast<unsigned char>(c)) || c == ':' || c == '.';
}

// Takes the host off the front of `text`. "" where there is none.
std::string ConsumeHost(std::string_view& text) {
  if (!text.empty() && text.front() == '[') {
    const size_t end = text.find(']');
    if (end == std::string_view::npos) return "";
    const std::string_view host = text.substr(1, end - 1);
    if (host.find(':') == std::string_view::npos ||
        !std::all_of(host.begin(), host.end(), IsIpv6Character)) {
      return "";
    }
    text.remove_prefix(end + 1);
    return std::string(host);
  }
  const auto end = std::find_if_not(text.begin(), text.end(), IsHostNameCharacter);
  const std::string host(text.begin(), end);
  if (host.size() > kMaxHostBytes || host.find("..") != std::string::npos) return "";
  if (!host.empty() && !absl::ascii_isalnum(static_cast<unsigned char>(host.front()))) return "";
  text.remove_prefix(host.size());
  return host;
}

// Takes `:port` off the front of `text`. 0: no port there. nullopt: not a port.
std::optional<int> ConsumePort(std::string_view& text) {
  if (text.empty() || text.front() != ':') return 0;
  text.remove_prefix(1);
  int port = 0;
  size_t digits = 0;
  while (digits < text.size() && absl::ascii_isdigit(static_cast<unsigned char>(text[digits]))) {
    port = port * 10 + (text[digits] - '0');
    if (++digits > 5) return std::nullopt;
  }
  if (port < 1 || port > 65535) return std::nullopt;
  text.remove_prefix(digits);
  return port;
}

}  // namespace

std::optional<WebUrl> ParseWebUrl(std::string_view text) {
  WebUrl url;
  for (const std::string_view scheme : {"https", "http"}) {
    if (text.substr(0, scheme.size()) == scheme && text.substr(scheme.size(), 3) == "://") {
      url.origin.scheme = scheme;
      break;
    }
  }
  if (url.origin.scheme.empty()) return std::nullopt;
  text.remove_prefix(url.origin.scheme.size() + 3);
  url.origin.host = ConsumeHost(text);
  if (url.origin.host.empty()) return std::nullopt;
  const std::optional<int> port = ConsumePort(text);
  if (!port) return std::nullopt;
  url.origin.port = *port;
  if (!text.empty() && text.front() != '/' && text.front() != '?' && text.front() != '#') {
    return std::nullopt;
  }
  const bool visible = std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isgraph(static_cast<unsigned char>(c));
  });
  if (!visible) return std::nullopt;
  url.rest = text;
  return url;
}

std::optional<Origin> ParseOrigin(std::string_view text) {
  std::optional<WebUrl> url = ParseWebUrl(text);
  if (!url || !url->rest.empty()) return std::nullopt;
  return std::move(url->origin);
}

bool IsHostAndPort(std::string_view text) {
  if (ConsumeHost(text).empty()) return false;
  return ConsumePort(text).has_value() && text.empty();
}

bool IsLoopback(const Origin& origin) {
  return origin.host == "127.0.0.1" || origin.host == "::1" || origin.host == "localhost";
}

}  // namespace tokenbroker
