#ifndef TOKEN_BROKER_CLIENTS_ZOHO_TRUST_ANCHORS_H_
#define TOKEN_BROKER_CLIENTS_ZOHO_TRUST_ANCHORS_H_

#include <string>

#include "absl/status/statusor.h"

namespace tokenbroker {

// Where the system keeps the authorities that it trusts.
struct SystemAuthorities {
  std::string directory;    // certificates by the hash of their subject
  std::string bundle_file;  // PEM; counts where the directory holds no such certificate

  // libcurl's, as it was built.
  static SystemAuthorities BuiltIn();
};

// Which certificate authorities are trusted: the system's, and those of one more file.
class TrustAnchors {
 public:
  // INTERNAL if libcurl cannot be initialised; INVALID_ARGUMENT if `ca_file` (PEM; "": none) cannot
  // be read or holds no certificate.
  static absl::StatusOr<TrustAnchors> Load(
      const std::string& ca_file, const SystemAuthorities& system = SystemAuthorities::BuiltIn());

  // Of one easy handle (a CURL*). False: libcurl refuses.
  bool Apply(void* easy) const;

 private:
  std::string ca_file_;
  std::string directory_;  // certificates by the hash of their subject; "": use bundle_
  std::string bundle_;     // PEM
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_CLIENTS_ZOHO_TRUST_ANCHORS_H_
