#ifndef TOKEN_BROKER_SERVER_ISSUING_GRANT_KEY_VIEW_H_
#define TOKEN_BROKER_SERVER_ISSUING_GRANT_KEY_VIEW_H_

#include <string>
#include <string_view>

#include "absl/hash/hash.h"
#include "common/ids.h"

namespace tokenbroker {

// A GrantKey that owns nothing, so that the hot path looks up without allocating.
struct GrantKeyView {
  std::string_view org_id;
  Environment environment = Environment::kProduction;
  std::string_view oauth_client;

  GrantKeyView(std::string_view org_id, Environment environment, std::string_view oauth_client)
      : org_id(org_id), environment(environment), oauth_client(oauth_client) {}
  GrantKeyView(const GrantKey& key)  // NOLINT: a key is used wherever a view is wanted
      : org_id(key.org_id), environment(key.environment), oauth_client(key.oauth_client) {}

  friend bool operator==(const GrantKeyView&, const GrantKeyView&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const GrantKeyView& key) {
    return H::combine(std::move(h), absl::string_view(key.org_id.data(), key.org_id.size()),
                      key.environment,
                      absl::string_view(key.oauth_client.data(), key.oauth_client.size()));
  }

  GrantKey ToKey() const {
    return GrantKey{std::string(org_id), environment, std::string(oauth_client)};
  }
};

// Heterogeneous lookup in maps keyed by GrantKey.
struct GrantKeyHash {
  using is_transparent = void;
  size_t operator()(const GrantKeyView& key) const { return absl::HashOf(key); }
};
struct GrantKeyEqual {
  using is_transparent = void;
  bool operator()(const GrantKeyView& a, const GrantKeyView& b) const { return a == b; }
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_ISSUING_GRANT_KEY_VIEW_H_
