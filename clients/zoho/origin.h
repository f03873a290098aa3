#ifndef TOKEN_BROKER_CLIENTS_ZOHO_ORIGIN_H_
#define TOKEN_BROKER_CLIENTS_ZOHO_ORIGIN_H_

#include <optional>
#include <string>
#include <string_view>

namespace tokenbroker {

// The start of a web address: scheme, host and port.
struct Origin {
  std::string scheme;  // "https" or "http"
  std::string host;    // as written; IPv6 without its brackets
  int port = 0;        // 0: the scheme's own
};

// A web address in its two halves.
struct WebUrl {
  Origin origin;
  std::string_view rest;  // path, query and fragment of the argument; "" where there are none
};

// Reads `https://host[:port]` and nothing after it. Strict on purpose: every address that a secret
// is sent to passes here, so there is no user name, no escape, no upper-case scheme, no white space
// and no second way to write a host. nullopt: anything else.
std::optional<Origin> ParseOrigin(std::string_view text);

// The same with a path, query or fragment after it, which hold visible ASCII characters only.
// nullopt: anything else. The result points into `text`.
std::optional<WebUrl> ParseWebUrl(std::string_view text);

// `host[:port]` by the same rules.
bool IsHostAndPort(std::string_view text);

// Whether the host is this machine by any resolver: 127.0.0.1, ::1 or localhost.
bool IsLoopback(const Origin& origin);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_CLIENTS_ZOHO_ORIGIN_H_
