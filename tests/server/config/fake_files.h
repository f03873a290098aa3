#ifndef TOKEN_BROKER_TESTS_SERVER_CONFIG_FAKE_FILES_H_
#define TOKEN_BROKER_TESTS_SERVER_CONFIG_FAKE_FILES_H_

#include <map>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "server/config/settings.h"

namespace tokenbroker {

// 32 bytes in base64.
inline constexpr char kKeyText[] = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";
inline constexpr char kCertificateText[] =
    "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n";
inline constexpr char kPrivateKeyText[] =
    "-----BEGIN PRIVATE KEY-----\nMAo=\n-----END PRIVATE KEY-----\n";
// Must never be seen anywhere.
inline constexpr char kSecretText[] = "canary0123456789canary0123456789";

// The least that loads, as broker.yaml with a secret in own-org-us. Sections after it begin at
// line 10.
inline constexpr char kMinimal[] = R"(store:
  sqlite: {path: grants.db}
  allow_unsealed: true
oauth_clients:
  - name: own-org
    type: SELF_CLIENT
    client_id: "1000.A"
    dc_secrets:
      - {dc: us, client_secret_file: own-org-us}
)";

// A file system in memory.
class FakeFiles {
 public:
  FakeFiles& Add(const std::string& path, std::string content) {
    contents_[path] = std::move(content);
    return *this;
  }

  FileReader Reader() const {
    return [contents = contents_](const std::string& path,
                                  size_t max_bytes) -> absl::StatusOr<std::string> {
      const auto it = contents.find(path);
      if (it == contents.end()) return absl::NotFoundError("no such file");
      if (it->second.size() > max_bytes) return absl::FailedPreconditionError("is too large");
      return it->second;
    };
  }

 private:
  std::map<std::string, std::string> contents_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_SERVER_CONFIG_FAKE_FILES_H_
