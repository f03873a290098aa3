#include "tests/testing/fake_accounts_server.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tokenbroker::testing {
namespace {

TokenReply Failure(ReplyKind kind, std::string error, int http_status) {
  TokenReply reply;
  reply.kind = kind;
  reply.error = std::move(error);
  reply.advice = "advice of the fake";
  reply.http_status = http_status;
  return reply;
}

}  // namespace

ScriptedReply ScriptedReply::Success(absl::Duration lifetime, std::vector<std::string> scopes) {
  ScriptedReply scripted;
  scripted.reply.kind = ReplyKind::kSuccess;
  scripted.reply.lifetime = lifetime;
  scripted.reply.scopes = std::move(scopes);
  return scripted;
}

ScriptedReply ScriptedReply::SuccessWithRefreshToken(std::string refresh_token) {
  ScriptedReply scripted = Success(absl::ZeroDuration());
  scripted.reply.refresh_token = Secret(std::move(refresh_token));
  return scripted;
}

ScriptedReply ScriptedReply::Dead() {
  return {.reply = Failure(ReplyKind::kGrantDead, "invalid_code", 200)};
}

ScriptedReply ScriptedReply::ClientRejected() {
  return {.reply = Failure(ReplyKind::kClientRejected, "invalid_client", 200)};
}

ScriptedReply ScriptedReply::Throttled() {
  return {.reply = Failure(ReplyKind::kThrottled, "throttled", 400)};
}

ScriptedReply ScriptedReply::Transient() {
  return {.reply = Failure(ReplyKind::kTransient, "http_502", 502)};
}

ScriptedReply ScriptedReply::Ambiguous() {
  return {.delivery = TokenResponse::Delivery::kUnknown,
          .status = absl::UnavailableError("connection reset after sending")};
}

ScriptedReply ScriptedReply::Unreachable() {
  return {.delivery = TokenResponse::Delivery::kNotSent,
          .status = absl::UnavailableError("connection refused")};
}

ScriptedReply ScriptedReply::CheckTooSlow() {
  return {.delivery = TokenResponse::Delivery::kNotSent,
          .status = absl::UnavailableError("check_too_slow"),
          .checked = true};
}

TokenResponse FakeAccountsServer::RequestToken(const TokenRequest& request,
                                               BeforeSend before_send) {
  ScriptedReply scripted;
  bool has_script = false;
  {
    MutexLock lock(mutex_);
    has_script = TakeScript(request, &scripted);
    if (has_script && scripted.delivery == TokenResponse::Delivery::kNotSent && !scripted.checked) {
      return {.delivery = scripted.delivery, .status = scripted.status};
    }
    ++held_before_check_;
    changed_.NotifyAll();
    while (hold_before_check_) changed_.Wait(mutex_);
    ++checks_;
  }
  if (absl::Status checked = before_send(); !checked.ok()) {
    return {.delivery = TokenResponse::Delivery::kNotSent, .status = std::move(checked)};
  }
  if (has_script && scripted.delivery == TokenResponse::Delivery::kNotSent) {
    return {.delivery = scripted.delivery, .status = scripted.status};
  }

  MutexLock lock(mutex_);
  const std::string root = RootOf(CredentialOf(request));
  Begin(request, root);
  while (hold_) changed_.Wait(mutex_);
  TokenResponse response;
  if (!has_script) {
    response.delivery = TokenResponse::Delivery::kAnswered;
    response.reply = DefaultReply(request);
  } else {
    response.delivery = scripted.delivery;
    response.status = scripted.status;
    response.reply = scripted.reply;
    if (response.delivery == TokenResponse::Delivery::kAnswered &&
        response.reply.kind == ReplyKind::kSuccess && response.reply.access_token.empty()) {
      response.reply.access_token = Secret(absl::StrCat("at-", ++minted_));
      if (response.reply.lifetime == absl::ZeroDuration()) response.reply.lifetime = lifetime_;
      response.reply.http_status = 200;
    }
  }
  --lines_[root].in_flight;
  --total_.in_flight;
  changed_.NotifyAll();
  return response;
}

absl::Status FakeAccountsServer::RevokeToken(const DataCenter&, const Secret& token,
                                             absl::Duration) {
  MutexLock lock(mutex_);
  revoked_.emplace_back(token.Reveal());
  if (revoke_status_.ok()) dead_.emplace(token.Reveal());
  changed_.NotifyAll();
  return revoke_status_;
}

void FakeAccountsServer::Script(std::string_view credential, ScriptedReply reply) {
  MutexLock lock(mutex_);
  by_credential_[std::string(credential)].push_back(std::move(reply));
}

void FakeAccountsServer::Script(GrantType grant_type, ScriptedReply reply) {
  MutexLock lock(mutex_);
  by_type_[grant_type].push_back(std::move(reply));
}

void FakeAccountsServer::ScriptAll(ScriptedReply reply) {
  MutexLock lock(mutex_);
  all_.assign(1, std::move(reply));
}

void FakeAccountsServer::ClearScripts() {
  MutexLock lock(mutex_);
  by_credential_.clear();
  by_type_.clear();
  all_.clear();
}

void FakeAccountsServer::SetLifetime(absl::Duration lifetime) {
  MutexLock lock(mutex_);
  lifetime_ = lifetime;
}

void FakeAccountsServer::SetScopes(std::vector<std::string> scopes) {
  MutexLock lock(mutex_);
  scopes_ = std::move(scopes);
}

void FakeAccountsServer::SetRotates(bool rotates) {
  MutexLock lock(mutex_);
  rotates_ = rotates;
}

void FakeAccountsServer::SetGivesRefreshTokens(bool gives) {
  MutexLock lock(mutex_);
  gives_refresh_tokens_ = gives;
}

void FakeAccountsServer::SetRevokeStatus(absl::Status status) {
  MutexLock lock(mutex_);
  revoke_status_ = std::move(status);
}

void FakeAccountsServer::Hold() {
  MutexLock lock(mutex_);
  hold_ = true;
}

void FakeAccountsServer::HoldBeforeCheck() {
  MutexLock lock(mutex_);
  hold_before_check_ = true;
}

void FakeAccountsServer::Release() {
  MutexLock lock(mutex_);
  hold_ = false;
  hold_before_check_ = false;
  changed_.NotifyAll();
}

bool FakeAccountsServer::WaitForSends(int count) {
  return WaitUntil(&FakeAccountsServer::sends_, count);
}

bool FakeAccountsServer::WaitForHeldBeforeCheck(int count) {
  return WaitUntil(&FakeAccountsServer::held_before_check_, count);
}

bool FakeAccountsServer::WaitUntil(Counter counter, int count) {
  const absl::Time give_up = absl::Now() + absl::Seconds(10);
  MutexLock lock(mutex_);
  while (this->*counter < count) {
    if (absl::Now() >= give_up) return false;
    changed_.WaitFor(mutex_, give_up - absl::Now());
  }
  return true;
}

int FakeAccountsServer::sends() const {
  MutexLock lock(mutex_);
  return sends_;
}

int FakeAccountsServer::sends(std::string_view credential) const {
  MutexLock lock(mutex_);
  const auto line = lines_.find(RootOf(credential));
  return line == lines_.end() ? 0 : line->second.sends;
}

int FakeAccountsServer::max_concurrent(std::string_view credential) const {
  MutexLock lock(mutex_);
  const auto line = lines_.find(RootOf(credential));
  return line == lines_.end() ? 0 : line->second.max_in_flight;
}

int FakeAccountsServer::max_concurrent() const {
  MutexLock lock(mutex_);
  return total_.max_in_flight;
}

int FakeAccountsServer::checks() const {
  MutexLock lock(mutex_);
  return checks_;
}

std::vector<TokenRequest> FakeAccountsServer::requests() const {
  MutexLock lock(mutex_);
  return requests_;
}

std::vector<std::string> FakeAccountsServer::revoked() const {
  MutexLock lock(mutex_);
  return revoked_;
}

std::string FakeAccountsServer::CredentialOf(const TokenRequest& request) {
  switch (request.grant_type) {
    case GrantType::kAuthorizationCode:
      return std::string(request.code.Reveal());
    case GrantType::kRefreshToken:
      return std::string(request.refresh_token.Reveal());
    case GrantType::kClientCredentials:
      return request.soid;
  }
  return "";
}

std::string FakeAccountsServer::RootOf(std::string_view credential) const {
  std::string root(credential);
  for (auto it = rotated_from_.find(root); it != rotated_from_.end();
       it = rotated_from_.find(root)) {
    root = it->second;
  }
  return root;
}

bool FakeAccountsServer::TakeScript(const TokenRequest& request, ScriptedReply* reply) {
  const auto take = [reply](auto& map, const auto& key) {
    const auto it = map.find(key);
    if (it == map.end() || it->second.empty()) return false;
    *reply = std::move(it->second.front());
    it->second.pop_front();
    return true;
  };
  if (take(by_credential_, CredentialOf(request)) || take(by_type_, request.grant_type)) {
    return true;
  }
  if (all_.empty()) return false;
  *reply = all_.front();
  return true;
}

void FakeAccountsServer::Begin(const TokenRequest& request, const std::string& root) {
  requests_.push_back(request);
  ++sends_;
  Line& line = lines_[root];
  ++line.sends;
  line.max_in_flight = std::max(line.max_in_flight, ++line.in_flight);
  total_.max_in_flight = std::max(total_.max_in_flight, ++total_.in_flight);
  changed_.NotifyAll();
}

TokenReply FakeAccountsServer::DefaultReply(const TokenRequest& request) {
  const std::string credential = CredentialOf(request);
  if (dead_.contains(credential)) return Failure(ReplyKind::kGrantDead, "invalid_code", 200);
  TokenReply reply;
  reply.kind = ReplyKind::kSuccess;
  reply.http_status = 200;
  reply.lifetime = lifetime_;
  reply.scopes = scopes_;
  reply.api_domain = request.dc.api_domain;
  const int n = ++minted_;
  reply.access_token = Secret(absl::StrCat("at-", n));
  const std::string next = absl::StrCat("rt-", n);
  if (request.grant_type == GrantType::kAuthorizationCode) {
    dead_.insert(credential);
    if (gives_refresh_tokens_) reply.refresh_token = Secret(next);
  } else if (request.grant_type == GrantType::kRefreshToken && rotates_) {
    dead_.insert(credential);
    rotated_from_[next] = credential;
    reply.refresh_token = Secret(next);
  }
  return reply;
}

}  // namespace tokenbroker::testing
