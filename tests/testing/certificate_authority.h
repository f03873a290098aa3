#ifndef TOKEN_BROKER_TESTS_TESTING_CERTIFICATE_AUTHORITY_H_
#define TOKEN_BROKER_TESTS_TESTING_CERTIFICATE_AUTHORITY_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"

// OpenSSL's own name, so that its headers stay out of this one.
struct x509_st;
struct evp_pkey_st;

namespace tokenbroker {

struct IssuedCertificate {
  std::string certificate_pem;
  std::string private_key_pem;
};

// A certificate authority that lives as long as a test, so that no key lies in the repository.
//
//   auto ca = CertificateAuthority::Create();
//   auto server = (*ca)->Issue("DNS:localhost,IP:127.0.0.1");
class CertificateAuthority {
 public:
  // INTERNAL: OpenSSL failed.
  static absl::StatusOr<std::unique_ptr<CertificateAuthority>> Create();
  ~CertificateAuthority();

  const std::string& certificate_pem() const { return certificate_pem_; }
  // A certificate for servers and clients; `names` in OpenSSL's form, "DNS:…" and "IP:…" with
  // commas between. Valid from yesterday until `days` from now, which may be negative: expired.
  absl::StatusOr<IssuedCertificate> Issue(const std::string& names, int days = 30) const;

 private:
  CertificateAuthority() = default;

  evp_pkey_st* key_ = nullptr;
  x509_st* certificate_ = nullptr;
  std::string certificate_pem_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_TESTING_CERTIFICATE_AUTHORITY_H_
