#include "server/issuing/issued_token.h"

#include "clients/zoho/token_reply.h"

namespace tokenbroker {

std::string_view TokenSourceName(TokenSource source) {
  switch (source) {
    case TokenSource::kCache:
      return "CACHE";
    case TokenSource::kStore:
      return "STORE";
    case TokenSource::kRefreshed:
      return "REFRESHED";
    case TokenSource::kJoined:
      return "JOINED";
    case TokenSource::kStale:
      return "STALE";
  }
  return "UNKNOWN";
}

std::vector<std::string> LackingScopes(const std::vector<std::string>& granted,
                                       const std::vector<std::string>& wanted) {
  if (wanted.empty() || granted.empty()) return {};
  return MissingScopes(granted, wanted);
}

}  // namespace tokenbroker
