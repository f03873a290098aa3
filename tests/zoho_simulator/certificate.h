// A self-signed certificate, made at start, so that no key lies in the repository.

#ifndef TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_CERTIFICATE_H_
#define TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_CERTIFICATE_H_

#include <string>

#include "absl/status/statusor.h"

namespace tokenbroker::zoho_simulator {

struct Certificate {
  std::string certificate_pem;  // also its own CA
  std::string private_key_pem;
};

// For localhost, 127.0.0.1 and ::1; P-256, valid from yesterday for ten years. Internal: OpenSSL
// failed.
absl::StatusOr<Certificate> MakeCertificate(const std::string& common_name = "localhost");

// The name by which OpenSSL finds a certificate in a directory of authorities: "1b0f7e5c.0". "": no
// certificate.
std::string HashedName(const std::string& certificate_pem);

}  // namespace tokenbroker::zoho_simulator

#endif  // TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_CERTIFICATE_H_
