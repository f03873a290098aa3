#ifndef TOKEN_BROKER_TESTS_TESTING_FAKE_ACCOUNTS_SERVER_H_
#define TOKEN_BROKER_TESTS_TESTING_FAKE_ACCOUNTS_SERVER_H_

#include <deque>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "clients/zoho/accounts_server.h"
#include "common/mutex.h"

namespace tokenbroker::testing {

// What one request gets instead of the default behaviour.
struct ScriptedReply {
  TokenResponse::Delivery delivery = TokenResponse::Delivery::kAnswered;
  absl::Status status;  // of kNotSent and kUnknown
  // kAnswered. A success without access token gets the default one; empty scopes and api_domain
  // stay empty, a lifetime of zero becomes the default.
  TokenReply reply;
  // kNotSent only: whether the check before sending was still made.
  bool checked = false;

  static ScriptedReply Success(absl::Duration lifetime, std::vector<std::string> scopes = {});
  static ScriptedReply SuccessWithRefreshToken(std::string refresh_token);
  static ScriptedReply Dead();            // invalid_code
  static ScriptedReply ClientRejected();  // invalid_client
  static ScriptedReply Throttled();
  static ScriptedReply Transient();  // 502
  static ScriptedReply Ambiguous();  // sent, no reply
  static ScriptedReply Unreachable();
  static ScriptedReply CheckTooSlow();  // it passed, and nothing was sent
};

// Zoho's accounts servers as a working double: without a script it mints "at-1", "at-2", … for any
// refresh token or soid, and "rt-<n>" for any code, which is good once; a revoked token is dead.
// The check before sending is always made, once, and obeyed. Thread-safe.
//
// A "credential" is what a request spends: the refresh token, the code or the soid.
class FakeAccountsServer final : public AccountsServer {
 public:
  using GrantType = TokenRequest::GrantType;

  TokenResponse RequestToken(const TokenRequest& request, BeforeSend before_send) override;
  absl::Status RevokeToken(const DataCenter& dc, const Secret& token,
                           absl::Duration timeout) override;

  // --- Knobs
  // --------------------------------------------------------------------------------------- The
  // next requests with this credential, else of this grant type, in order.
  void Script(std::string_view credential, ScriptedReply reply);
  void Script(GrantType grant_type, ScriptedReply reply);
  // Every request without a script of its own, until it is cleared.
  void ScriptAll(ScriptedReply reply);
  void ClearScripts();
  // Of default replies. 3600 s; {}; false.
  void SetLifetime(absl::Duration lifetime);
  void SetScopes(std::vector<std::string> scopes);
  // Every refresh gives a new refresh token, "rt-<n>", and the old one dies.
  void SetRotates(bool rotates);
  // Whether a code's exchange gives a refresh token. True.
  void SetGivesRefreshTokens(bool gives);
  void SetRevokeStatus(absl::Status status);

  // Requests stop after the check, before they are answered, until Release(). Release also lets
  // those through that come later.
  void Hold();
  // Requests stop before the check.
  void HoldBeforeCheck();
  void Release();

  // --- What happened
  // --------------------------------------------------------------------------------- Waits until
  // `count` requests have passed the check (or come to be held before it). False: not within 10 s.
  bool WaitForSends(int count);
  bool WaitForHeldBeforeCheck(int count);
  // Requests that were sent: those whose check passed and whose script did not say kNotSent.
  int sends() const;
  // Of one credential. Rotated refresh tokens count for the first of their line.
  int sends(std::string_view credential) const;
  // The most that were in flight at once for one credential, between check and reply.
  int max_concurrent(std::string_view credential) const;
  int max_concurrent() const;  // over all credentials
  // Checks that were made, passed or not.
  int checks() const;
  std::vector<TokenRequest> requests() const;  // those that were sent
  std::vector<std::string> revoked() const;    // tokens, in order of the calls

 private:
  struct Line {
    int sends = 0;
    int in_flight = 0;
    int max_in_flight = 0;
  };

  static std::string CredentialOf(const TokenRequest& request);
  std::string RootOf(std::string_view credential) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool TakeScript(const TokenRequest& request, ScriptedReply* reply)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  TokenReply DefaultReply(const TokenRequest& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Begin(const TokenRequest& request, const std::string& root)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  using Counter = int FakeAccountsServer::*;
  bool WaitUntil(Counter counter, int count);

  mutable Mutex mutex_;
  CondVar changed_;
  std::map<std::string, std::deque<ScriptedReply>, std::less<>> by_credential_
      ABSL_GUARDED_BY(mutex_);
  std::map<GrantType, std::deque<ScriptedReply>> by_type_ ABSL_GUARDED_BY(mutex_);
  std::deque<ScriptedReply> all_ ABSL_GUARDED_BY(mutex_);  // at most one, never used up
  absl::Duration lifetime_ ABSL_GUARDED_BY(mutex_) = absl::Seconds(3600);
  std::vector<std::string> scopes_ ABSL_GUARDED_BY(mutex_);
  bool rotates_ ABSL_GUARDED_BY(mutex_) = false;
  bool gives_refresh_tokens_ ABSL_GUARDED_BY(mutex_) = true;
  absl::Status revoke_status_ ABSL_GUARDED_BY(mutex_);
  bool hold_ ABSL_GUARDED_BY(mutex_) = false;
  bool hold_before_check_ ABSL_GUARDED_BY(mutex_) = false;

  int minted_ ABSL_GUARDED_BY(mutex_) = 0;
  int sends_ ABSL_GUARDED_BY(mutex_) = 0;
  int checks_ ABSL_GUARDED_BY(mutex_) = 0;
  int held_before_check_ ABSL_GUARDED_BY(mutex_) = 0;
  Line total_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Line, std::less<>> lines_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string, std::less<>> rotated_from_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string, std::less<>> dead_ ABSL_GUARDED_BY(mutex_);
  std::vector<TokenRequest> requests_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> revoked_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tokenbroker::testing

#endif  // TOKEN_BROKER_TESTS_TESTING_FAKE_ACCOUNTS_SERVER_H_
