#ifndef TOKEN_BROKER_CLIENTS_ZOHO_TRUST_ANCHORS_H_
#define TOKEN_BROKER_CLIENTS_ZOHO_TRUST_ANCHORS_H_

#include <string>

#include "absl/status/statusor.h"

namespace tokenbroker {

// Which certificate authorities are trusted: the system's, and those of one more file.
class TrustAnchors {
 public:
  // INTERNAL if libcurl cannot be initialised; INVALID_ARGUMENT if `ca_file` (PEM; "": none) cannot
  // be read or holds no certificate.
  static absl::StatusOr<TrustAnchors> Load(const std::string& ca_file);

  // Of one easy handle (a CURL*). False: libcurl refuses.
  bool Apply(void* easy) const;

 private:
  std::string ca_file_;
  std::string directory_;  // certificates by the hash of their subject; "": use bundle_
  std::string bundle_;     // PEM
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_CLIENTS_ZOHO_TRUST_ANCHORS_H_
