#include "tests/testing/certificate_authority.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cstdint>

namespace tokenbroker {
namespace {

template <auto kFree>
struct FreeWith {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using Key = std::unique_ptr<EVP_PKEY, FreeWith<&EVP_PKEY_free>>;
using X509Ptr = std::unique_ptr<X509, FreeWith<&X509_free>>;
using BioPtr = std::unique_ptr<BIO, FreeWith<&BIO_free>>;
using ExtensionPtr = std::unique_ptr<X509_EXTENSION, FreeWith<&X509_EXTENSION_free>>;

constexpr long kDay = 24 * 60 * 60;

absl::Status Failed() { return absl::InternalError("OpenSSL could not make a certificate"); }

std::string Contents(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return std::string(data, static_cast<size_t>(size));
}

std::string CertificatePem(X509* certificate) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  return PEM_write_bio_X509(bio.get(), certificate) == 1 ? Contents(bio.get()) : "";
}

std::string KeyPem(EVP_PKEY* key) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  return PEM_write_bio_PKCS8PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) == 1
             ? Contents(bio.get())
             : "";
}

bool AddExtension(X509* certificate, X509* issuer, int nid, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const ExtensionPtr extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value));
  return extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1;
}

// Everything but the extensions and the signature.
X509Ptr Draft(EVP_PKEY* key, const char* common_name, int days) {
  X509Ptr certificate(X509_new());
  uint64_t serial = 0;
  if (certificate == nullptr ||
      RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof(serial)) != 1) {
    return nullptr;
  }
  const auto* const name = reinterpret_cast<const unsigned char*>(common_name);
  const bool filled =
      X509_set_version(certificate.get(), X509_VERSION_3) == 1 &&
      ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate.get()), serial >> 1 | 1) == 1 &&
      X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -2 * kDay) != nullptr &&
      X509_gmtime_adj(X509_getm_notAfter(certificate.get()), days * kDay) != nullptr &&
      X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate.get()), "CN", MBSTRING_ASC, name,
                                 -1, -1, 0) == 1 &&
      X509_set_pubkey(certificate.get(), key) == 1;
  return filled ? std::move(certificate) : nullptr;
}

}  // namespace

absl::StatusOr<std::unique_ptr<CertificateAuthority>> CertificateAuthority::Create() {
  std::unique_ptr<CertificateAuthority> made(new CertificateAuthority());
  made->key_ = EVP_EC_gen("P-256");
  if (made->key_ == nullptr) return Failed();
  X509Ptr certificate = Draft(made->key_, "token-broker test authority", 30);
  if (certificate == nullptr ||
      X509_set_issuer_name(certificate.get(), X509_get_subject_name(certificate.get())) != 1 ||
      !AddExtension(certificate.get(), certificate.get(), NID_basic_constraints,
                    "critical,CA:TRUE") ||
      !AddExtension(certificate.get(), certificate.get(), NID_key_usage,
                    "critical,keyCertSign,cRLSign") ||
      !AddExtension(certificate.get(), certificate.get(), NID_subject_key_identifier, "hash") ||
      X509_sign(certificate.get(), made->key_, EVP_sha256()) == 0) {
    return Failed();
  }
  made->certificate_pem_ = CertificatePem(certificate.get());
  made->certificate_ = certificate.release();
  return made;
}

CertificateAuthority::~CertificateAuthority() {
  X509_free(certificate_);
  EVP_PKEY_free(key_);
}

absl::StatusOr<IssuedCertificate> CertificateAuthority::Issue(const std::string& names,
                                                              int days) const {
  const Key key(EVP_EC_gen("P-256"));
  if (key == nullptr) return Failed();
  const X509Ptr certificate = Draft(key.get(), "token-broker test", days);
  if (certificate == nullptr ||
      X509_set_issuer_name(certificate.get(), X509_get_subject_name(certificate_)) != 1 ||
      !AddExtension(certificate.get(), certificate_, NID_basic_constraints, "critical,CA:FALSE") ||
      !AddExtension(certificate.get(), certificate_, NID_ext_key_usage, "serverAuth,clientAuth") ||
      !AddExtension(certificate.get(), certificate_, NID_subject_alt_name, names.c_str()) ||
      X509_sign(certificate.get(), key_, EVP_sha256()) == 0) {
    return Failed();
  }
  return IssuedCertificate{CertificatePem(certificate.get()), KeyPem(key.get())};
}

}  // namespace tokenbroker
