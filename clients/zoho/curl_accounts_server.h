#ifndef TOKEN_BROKER_CLIENTS_ZOHO_CURL_ACCOUNTS_SERVER_H_
#define TOKEN_BROKER_CLIENTS_ZOHO_CURL_ACCOUNTS_SERVER_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "clients/zoho/accounts_server.h"
#include "clients/zoho/single_post.h"
#include "clients/zoho/trust_anchors.h"

namespace tokenbroker {

// AccountsServer over libcurl: a fresh connection per request, no reuse (libcurl repeats a POST by
// itself when a reused connection turns out dead), no redirects, no proxy from the environment,
// form bodies, replies of at most 64 KiB.
class CurlAccountsServer final : public AccountsServer {
 public:
  struct Options {
    // http:// is allowed for loopback addresses only, and only if this is set (tests).
    bool allow_plaintext_loopback = false;
    // PEM file of CAs that are trusted besides the system's; "": none.
    std::string ca_file;
    std::string user_agent = "token-broker";
    size_t max_reply_bytes = 64 * 1024;  // of a reply's body; a reply's head may be as long
  };
  // INTERNAL if libcurl cannot be initialised; INVALID_ARGUMENT if `ca_file` cannot be read.
  static absl::StatusOr<std::unique_ptr<CurlAccountsServer>> Create(Options options);

  TokenResponse RequestToken(const TokenRequest& request, BeforeSend before_send) override;
  absl::Status RevokeToken(const DataCenter& dc, const Secret& token,
                           absl::Duration timeout) override;

 private:
  CurlAccountsServer(Options options, TrustAnchors anchors);
  FormPost PostTo(const DataCenter& dc, std::string_view path, Secret body) const;

  const Options options_;
  const TrustAnchors anchors_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_CLIENTS_ZOHO_CURL_ACCOUNTS_SERVER_H_
