#include "storage/sealing/keyring.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <array>
#include <memory>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/errors.h"

namespace tokenbroker {
namespace {

constexpr char kVersion = 1;
constexpr size_t kKeyBytes = 32;
constexpr size_t kNonceBytes = 12;
constexpr size_t kTagBytes = 16;
constexpr size_t kMaxIdBytes = 255;
// Far above any token; far below where int lengths end.
constexpr size_t kMaxPlaintextBytes = size_t{1} << 24;

struct FreeContext {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
using Context = std::unique_ptr<EVP_CIPHER_CTX, FreeContext>;

const unsigned char* Bytes(std::string_view s) {
  return reinterpret_cast<const unsigned char*>(s.data());
}
unsigned char* Bytes(std::string& s) { return reinterpret_cast<unsigned char*>(s.data()); }

absl::string_view View(std::string_view s) { return {s.data(), s.size()}; }

// The encryption key for one associated data; overwritten at the end.
class DerivedKey {
 public:
  DerivedKey(const Secret& key, std::string_view associated_data) {
    // Tells this use of the ring's key from any other that may come.
    static constexpr std::string_view kPurpose("token-broker seal 1\0", 20);
    std::string message(kPurpose);
    message.append(associated_data);
    unsigned int size = 0;
    ok_ = HMAC(EVP_sha256(), key.Reveal().data(), static_cast<int>(key.size()), Bytes(message),
               message.size(), bytes_.data(), &size) != nullptr &&
          size == bytes_.size();
  }
  ~DerivedKey() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }
  DerivedKey(const DerivedKey&) = delete;
  DerivedKey& operator=(const DerivedKey&) = delete;
  bool ok() const { return ok_; }
  const unsigned char* data() const { return bytes_.data(); }

 private:
  std::array<unsigned char, kKeyBytes> bytes_;
  bool ok_ = false;
};

// What stands in front of the nonce, and is authenticated together with the associated data.
std::string Header(std::string_view id) {
  std::string header;
  header.push_back(kVersion);
  header.push_back(static_cast<char>(id.size()));
  header.append(id);
  return header;
}

absl::Status SealFailed() { return InternalError("a value could not be sealed"); }

}  // namespace

absl::StatusOr<Keyring> Keyring::Create(std::vector<SealingKey> keys) {
  if (keys.empty()) return absl::InvalidArgumentError("the keyring has no key");
  for (size_t i = 0; i < keys.size(); ++i) {
    const std::string& id = keys[i].id;
    if (id.empty() || id.size() > kMaxIdBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("sealing key ", i + 1, ": its id must have 1 to ", kMaxIdBytes, " bytes"));
    }
    if (keys[i].key.size() != kKeyBytes) {
      return absl::InvalidArgumentError(absl::StrCat("sealing key '", absl::CEscape(id),
                                                     "' must have ", kKeyBytes, " bytes, not ",
                                                     keys[i].key.size()));
    }
    for (size_t j = 0; j < i; ++j) {
      if (keys[j].id == id) {
        return absl::InvalidArgumentError(
            absl::StrCat("sealing key '", absl::CEscape(id), "' is there twice"));
      }
    }
  }
  return Keyring(std::move(keys));
}

const Secret* Keyring::Find(std::string_view id) const {
  for (const SealingKey& key : keys_) {
    if (key.id == id) return &key.key;
  }
  return nullptr;
}

absl::StatusOr<std::string> Keyring::Seal(std::string_view plaintext,
                                          std::string_view associated_data) const {
  if (plaintext.size() > kMaxPlaintextBytes) return SealFailed();
  const std::string header = Header(keys_.front().id);
  const DerivedKey key(keys_.front().key, associated_data);

  std::string sealed = header;
  sealed.resize(header.size() + kNonceBytes + plaintext.size() + kTagBytes);
  unsigned char* const nonce = Bytes(sealed) + header.size();
  unsigned char* const ciphertext = nonce + kNonceBytes;
  unsigned char* const tag = ciphertext + plaintext.size();
  if (!key.ok() || RAND_bytes(nonce, kNonceBytes) != 1) return SealFailed();

  const Context context(EVP_CIPHER_CTX_new());
  int size = 0;
  if (context == nullptr ||
      EVP_EncryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, key.data(), nonce) != 1 ||
      EVP_EncryptUpdate(context.get(), nullptr, &size, Bytes(header),
                        static_cast<int>(header.size())) != 1 ||
      EVP_EncryptUpdate(context.get(), nullptr, &size, Bytes(associated_data),
                        static_cast<int>(associated_data.size())) != 1 ||
      EVP_EncryptUpdate(context.get(), ciphertext, &size, Bytes(plaintext),
                        static_cast<int>(plaintext.size())) != 1 ||
      EVP_EncryptFinal_ex(context.get(), tag, &size) != 1 ||
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes, tag) != 1) {
    return SealFailed();
  }
  return sealed;
}

bool Keyring::IsOutdated(std::string_view sealed) const {
  if (sealed.size() < 2 || sealed[0] != kVersion) return false;
  const size_t id_size = static_cast<unsigned char>(sealed[1]);
  return sealed.substr(2, id_size) != keys_.front().id;
}

absl::StatusOr<Secret> Keyring::Open(std::string_view sealed,
                                     std::string_view associated_data) const {
  if (sealed.size() < 2 || sealed[0] != kVersion) {
    return RecordUnreadableError("a value is not sealed, or by another version");
  }
  const size_t id_size = static_cast<unsigned char>(sealed[1]);
  const size_t header_size = 2 + id_size;
  if (sealed.size() < header_size + kNonceBytes + kTagBytes ||
      sealed.size() > header_size + kNonceBytes + kMaxPlaintextBytes + kTagBytes) {
    return RecordUnreadableError("a sealed value is damaged");
  }
  const std::string_view header = sealed.substr(0, header_size);
  const std::string_view id = sealed.substr(2, id_size);
  const Secret* const ring_key = Find(id);
  const std::string name = absl::CEscape(View(id));
  if (ring_key == nullptr) {
    return RecordUnreadableError(
        absl::StrCat("a value is sealed by key '", name, "', which is not in the keyring"));
  }
  const DerivedKey key(*ring_key, associated_data);
  const unsigned char* const nonce = Bytes(sealed) + header_size;
  const unsigned char* const ciphertext = nonce + kNonceBytes;
  const size_t size = sealed.size() - header_size - kNonceBytes - kTagBytes;
  std::string tag(sealed.substr(sealed.size() - kTagBytes));  // OpenSSL wants it writable

  std::string plaintext(size, '\0');
  unsigned char end[kTagBytes];  // GCM leaves nothing for the end, but wants a place for it
  int written = 0;
  const Context context(EVP_CIPHER_CTX_new());
  const bool opened =
      key.ok() && context != nullptr &&
      EVP_DecryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, key.data(), nonce) == 1 &&
      EVP_DecryptUpdate(context.get(), nullptr, &written, Bytes(header),
                        static_cast<int>(header.size())) == 1 &&
      EVP_DecryptUpdate(context.get(), nullptr, &written, Bytes(associated_data),
                        static_cast<int>(associated_data.size())) == 1 &&
      EVP_DecryptUpdate(context.get(), Bytes(plaintext), &written, ciphertext,
                        static_cast<int>(size)) == 1 &&
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes, Bytes(tag)) == 1 &&
      EVP_DecryptFinal_ex(context.get(), end, &written) == 1;
  // A Secret in any case: bytes that fail the check must not stay in memory either.
  Secret secret(std::move(plaintext));
  if (!opened) {
    return RecordUnreadableError(absl::StrCat("a value sealed by key '", name,
                                              "' does not open: another key of this name, another "
                                              "place, or changed"));
  }
  return secret;
}

}  // namespace tokenbroker
