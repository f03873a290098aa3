#include "clients/zoho/trust_anchors.h"

#include <curl/curl.h>
#include <dirent.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace tokenbroker {
namespace {

constexpr std::string_view kCertificateMark = "-----BEGIN CERTIFICATE-----";

std::optional<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  if (!file || !(content << file.rdbuf())) return std::nullopt;
  return std::move(content).str();
}

// "1b0f7e5c.0": a certificate under the hash of its subject, as OpenSSL looks it up.
bool IsHashedName(std::string_view name) {
  return name.size() >= 10 && name[8] == '.' &&
         std::all_of(name.begin(), name.begin() + 8,
                     [](char c) { return absl::ascii_isxdigit(static_cast<unsigned char>(c)); });
}

bool HasHashedCertificates(const std::string& path) {
  struct Close {
    void operator()(DIR* directory) const { closedir(directory); }
  };
  const std::unique_ptr<DIR, Close> directory(opendir(path.c_str()));
  if (!directory) return false;
  while (const dirent* entry = readdir(directory.get())) {
    if (IsHashedName(entry->d_name)) return true;
  }
  return false;
}

// Once per process: libcurl's own initialisation is not thread-safe everywhere.
bool InitialiseCurl() {
  static const bool ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  return ready;
}

}  // namespace

SystemAuthorities SystemAuthorities::BuiltIn() {
  const curl_version_info_data* built_in = curl_version_info(CURLVERSION_NOW);
  const auto text = [](const char* path) { return std::string(path != nullptr ? path : ""); };
  return {text(built_in->capath), text(built_in->cainfo)};
}

absl::StatusOr<TrustAnchors> TrustAnchors::Load(const std::string& ca_file,
                                                const SystemAuthorities& system) {
  if (!InitialiseCurl()) return absl::InternalError("libcurl cannot be initialised");
  TrustAnchors anchors;
  anchors.ca_file_ = ca_file;
  std::string further;
  if (!ca_file.empty()) {
    std::optional<std::string> content = ReadFile(ca_file);
    if (!content || content->find(kCertificateMark) == std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("the CA file '", ca_file, "' cannot be read or holds no PEM certificate"));
    }
    further = *std::move(content);
  }
  if (HasHashedCertificates(system.directory)) {
    anchors.directory_ = system.directory;
    return anchors;
  }
  // Images with the bundle alone.
  anchors.bundle_ = ReadFile(system.bundle_file).value_or("");
  absl::StrAppend(&anchors.bundle_, "\n", further);
  return anchors;
}

bool TrustAnchors::Apply(void* easy) const {
  const auto set = [easy](CURLoption option, auto value) {
    return curl_easy_setopt(static_cast<CURL*>(easy), option, value) == CURLE_OK;
  };
  if (directory_.empty()) {
    curl_blob blob{const_cast<char*>(bundle_.data()), bundle_.size(), CURL_BLOB_NOCOPY};
    return set(CURLOPT_CAPATH, static_cast<const char*>(nullptr)) &&
           set(CURLOPT_CAINFO_BLOB, &blob);
  }
  // The directory alone: reading the system's bundle of about 140 certificates, which libcurl does
  // for every connection by default, costs 20 ms of CPU against 1 ms for everything else.
  return set(CURLOPT_CAINFO, ca_file_.empty() ? nullptr : ca_file_.c_str()) &&
         set(CURLOPT_CAPATH, directory_.c_str());
}

}  // namespace tokenbroker
