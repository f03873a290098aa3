#ifndef TOKEN_BROKER_COMMON_IDS_H_
#define TOKEN_BROKER_COMMON_IDS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace tokenbroker {

// The longest org id and the longest OAuth client name, in bytes. Zoho's own ids are far shorter;
// the limit keeps keys and index entries bounded.
inline constexpr size_t kMaxOrgIdBytes = 1024;
inline constexpr size_t kMaxOAuthClientBytes = 128;

// A grant never crosses environments (vendor's guide, last section).
enum class Environment : uint8_t { kProduction = 1, kSandbox = 2, kDeveloper = 3 };

// "PRODUCTION", "SANDBOX", "DEVELOPER".
std::string_view EnvironmentName(Environment environment);
std::optional<Environment> ParseEnvironment(std::string_view name);

// What identifies a grant: one org's consent to one OAuth client in one environment. The unit of
// locking, of Zoho's budget and of storage. The ids are opaque: any bytes are allowed.
struct GrantKey {
  std::string org_id;
  Environment environment = Environment::kProduction;
  std::string oauth_client;

  friend bool operator==(const GrantKey&, const GrantKey&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const GrantKey& key) {
    return H::combine(std::move(h), key.org_id, key.environment, key.oauth_client);
  }
};

// An injective encoding of the key that keeps order: encodings compare bytewise as (org_id,
// environment, oauth_client) do, and `EncodeOrgPrefix(org)` is a prefix of exactly the encodings of
// that org's grants. NUL bytes in ids are escaped as 00 FF; 00 01 ends an id (no id's encoding is a
// prefix of another's). For index entries, page tokens and associated data of ciphertexts.
std::string EncodeGrantKey(const GrantKey& key);
std::string EncodeOrgPrefix(std::string_view org_id);
std::string EncodeOrgEnvironmentPrefix(std::string_view org_id, Environment environment);
// nullopt: not an encoding made by EncodeGrantKey.
std::optional<GrantKey> DecodeGrantKey(std::string_view encoded);

// A random 128-bit id in 32 hex digits, for attempts (one try of one replica to refresh one grant)
// and requests. Thread-safe.
std::string NewAttemptId();
// From now on this thread's ids are those that any thread gets with this seed. For simulations,
// which have to repeat; without it they are unique.
void SeedAttemptIds(uint64_t seed);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_COMMON_IDS_H_
