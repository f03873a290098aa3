#ifndef TOKEN_BROKER_STORAGE_SEALING_KEYRING_H_
#define TOKEN_BROKER_STORAGE_SEALING_KEYRING_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/secret.h"

namespace tokenbroker {

struct SealingKey {
  std::string id;  // 1 to 255 bytes; not secret: it stands in front of every sealed value
  Secret key;      // 32 random bytes
};

// Keys for sealing values: encrypting them so that nobody without the key can read, change or move
// them. The first key seals, all of them open; to rotate, add a new key behind the old one in every
// ring, put it in front, and keep the old one until nothing sealed by it is left.
//
//   Keyring keyring = *Keyring::Create({{"2026", new_key}, {"2025", old_key}});
//   std::string sealed = *keyring.Seal(token.Reveal(), "grant 7, refresh token");
//   Secret opened = *keyring.Open(sealed, "grant 7, refresh token");
//
// AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce. Its associated data is what the value
// belongs to: a sealed value that is moved elsewhere does not open there. Each associated data has
// an encryption key of its own, HMAC-SHA-256 of the ring's key over it, so that SP 800-38D's limit
// of 2^32 random nonces per key holds for one field of one grant; a single key for a million grants
// would reach it within months.
//
// A sealed value: 0x01, the key id's length (one byte), the key id, the nonce (12 bytes), the
// ciphertext (as long as the value), the tag (16 bytes).
//
// Immutable and thread-safe.
class Keyring {
 public:
  // INVALID_ARGUMENT: no key, an id that is empty, too long or there twice, or a key that is not 32
  // bytes. Names the id, never the key.
  static absl::StatusOr<Keyring> Create(std::vector<SealingKey> keys);

  // INTERNAL: the system has no random numbers, or OpenSSL failed.
  absl::StatusOr<std::string> Seal(std::string_view plaintext,
                                   std::string_view associated_data) const;

  // DATA_LOSS RECORD_UNREADABLE: not a sealed value, sealed by a key that the ring does not have
  // (named), changed, or sealed for other associated data.
  absl::StatusOr<Secret> Open(std::string_view sealed, std::string_view associated_data) const;

  // Whether Seal would use another key than `sealed` names. False for what is no sealed value.
  bool IsOutdated(std::string_view sealed) const;

 private:
  explicit Keyring(std::vector<SealingKey> keys) : keys_(std::move(keys)) {}
  const Secret* Find(std::string_view id) const;

  std::vector<SealingKey> keys_;  // few: searched from the front
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_STORAGE_SEALING_KEYRING_H_
