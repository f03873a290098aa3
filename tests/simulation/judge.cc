#include "tests/simulation/judge.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace tokenbroker::simulation {
namespace {

Nanos ToNanos(absl::Duration duration) { return absl::ToInt64Nanoseconds(duration); }

// Zoho's own limit: requests of one refresh token in ten minutes.
constexpr int kZohosLimit = 10;
constexpr Nanos kZohosWindow = 600 * kSecond;

}  // namespace

void Judge::Break(std::string_view promise, std::string how) {
  if (!broken_.empty()) return;
  broken_ = std::string(promise);
  how_ = std::move(how);
  trace_->Add("BROKEN", -1);
}

int Judge::AddConsent(int grant) {
  consents_.push_back({.grant = grant});
  return static_cast<int>(consents_.size()) - 1;
}

int Judge::AddRefreshToken(int consent) {
  refresh_tokens_.push_back({.consent = consent});
  const int token = static_cast<int>(refresh_tokens_.size()) - 1;
  this->consent(consent).refresh_tokens.push_back(token);
  return token;
}

int Judge::AddAccessToken(int consent) {
  access_tokens_.push_back(
      {.consent = consent, .minted_at = now(), .expires_at = now() + profile_->token_lifetime});
  return static_cast<int>(access_tokens_.size()) - 1;
}

int Judge::NumberOf(const Secret& token) {
  const std::string_view text = token.Reveal();
  const size_t dash = text.find('-');
  int number = -1;
  if (dash == text.npos ||
      !absl::SimpleAtoi(absl::string_view(text.data() + dash + 1, text.size() - dash - 1),
                        &number)) {
    return -1;
  }
  return number;
}

bool Judge::IsHonoured(int refresh_token) const {
  if (refresh_token < 0) return false;
  const RefreshToken& token = refresh_tokens_[static_cast<size_t>(refresh_token)];
  return !consents_[static_cast<size_t>(token.consent)].revoked && now() < token.honoured_until;
}

int Judge::GrantUnderWay() const {
  for (const Consent& consent : consents_) {
    if (!consent.under_way.empty()) return consent.grant;
  }
  return -1;
}

int Judge::OnMarked(int grant, const MarkSentRequest& request, const GrantRecord& record) {
  marks_.push_back({.grant = grant,
                    .attempt_id = request.attempt_id,
                    .generation = record.generation,
                    .at = now()});
  if (profile_->calm) CheckOneRefreshPerGeneration(marks_.back());
  return static_cast<int>(marks_.size()) - 1;
}

int Judge::OnCounted(int grant, const std::string& attempt_id) {
  for (size_t i = marks_.size(); i-- > 0;) {
    if (marks_[i].attempt_id == attempt_id) return static_cast<int>(i);
  }
  marks_.push_back({.grant = grant, .attempt_id = attempt_id, .at = now()});
  return static_cast<int>(marks_.size()) - 1;
}

void Judge::CheckOneRefreshPerGeneration(const Mark& mark) {
  for (const Mark& other : marks_) {
    if (&other != &mark && other.grant == mark.grant && other.generation == mark.generation) {
      Break("G1", absl::StrCat("grant ", mark.grant, ": a second refresh of generation ",
                               mark.generation, " without any fault"));
    }
  }
}

int Judge::OnFirstByte(const Strand& strand, int process, int consent, int refresh_token) {
  Send send{.consent = consent, .mark = strand.mark, .refresh_token = refresh_token, .at = now()};
  if (send.mark >= 0) {
    send.frozen = strand.gate->FrozenBetween(strand.checked_at, now(), now());
  }
  const int number = static_cast<int>(sends_.size());
  trace_->Add("first byte", process, number, consent, send.mark);
  sends_.push_back(send);
  Consent& line = this->consent(consent);
  CheckSendIsCounted(send, process);
  CheckOneRequestUnderWay(send);
  if (send.mark >= 0) {
    counted_[static_cast<size_t>(line.grant)].push_back(number);
    CheckZohosLimits(line.grant);
  }
  line.under_way.push_back(number);
  CheckNotThrottled(send, line.grant);
  return number;
}

bool Judge::IsExcused(const Send& send) const {
  // Without the freeze the first byte follows the check within the time that the store takes to
  // answer, and the request is over before the lease is.
  return send.mark >= 0 && send.frozen > 0 &&
         send.at - mark(send.mark).at >= ToNanos(limits_->sent_lease) - kSecond;
}

void Judge::CheckOneRequestUnderWay(const Send& send) {
  if (send.mark < 0) return;
  const Consent& line = consent(send.consent);
  for (const int number : line.under_way) {
    const Send& other = sends_[static_cast<size_t>(number)];
    if (IsExcused(send) || IsExcused(other)) {
      ++excused_;
      trace_->Add("excused", -1, number);
      continue;
    }
    // "A registration begins another consent": what is sent after it does not wait for what was
    // sent before, even where it is with the same refresh token.
    const Nanos first = std::min(mark(other.mark).at, mark(send.mark).at);
    const Nanos last = std::max(mark(other.mark).at, mark(send.mark).at);
    const std::vector<Replaced>& replaced = replaced_[static_cast<size_t>(line.grant)];
    if (std::any_of(replaced.begin(), replaced.end(),
                    [&](const Replaced& one) { return first <= one.at && one.at <= last; })) {
      continue;
    }
    Break("G2", absl::StrCat("consent ", send.consent, ": a request leaves while request ", number,
                             " is under way"));
  }
}

void Judge::CheckSendIsCounted(const Send& send, int process) {
  if (send.mark < 0) {
    Break("G6", absl::StrCat("process ", process, " sends without having been counted"));
    return;
  }
  if (++marks_[static_cast<size_t>(send.mark)].sends > 1) {
    Break("G6", absl::StrCat("process ", process, " sends twice after one check"));
  }
}

void Judge::CheckZohosLimits(int grant) {
  const std::vector<int>& counted = counted_[static_cast<size_t>(grant)];
  const auto marked_at = [&](int number) {
    return mark(sends_[static_cast<size_t>(number)].mark).at;
  };
  int in_window = 0;
  Nanos newest = 0;
  for (const int number : counted) {
    if (now() - sends_[static_cast<size_t>(number)].at < kZohosWindow) ++in_window;
    newest = std::max(newest, marked_at(number));
  }
  if (in_window > kZohosLimit) Break("G6", absl::StrCat(in_window, " requests in ten minutes"));
  // By the time of the checks, which is what the store counts by: a process that was frozen since
  // sends later.
  for (const Nanos end : {marked_at(counted.back()), newest}) {
    int in_budget = 0;
    for (const int number : counted) {
      const Nanos age = end - marked_at(number);
      if (age >= 0 && age < ToNanos(limits_->budget.front().length) - Tolerance()) ++in_budget;
    }
    if (in_budget > limits_->budget.front().sends) {
      Break("G6", absl::StrCat("grant ", grant, ": ", in_budget,
                               " requests in the budget's first window"));
    }
  }
}

void Judge::CheckNotThrottled(const Send& send, int grant) {
  const Nanos since = throttled_[static_cast<size_t>(grant)];
  if (since < 0 || send.mark < 0 || mark(send.mark).at < since) return;
  if (mark(send.mark).at - since < ToNanos(limits_->throttle_cooldown) - Tolerance()) {
    Break("G6", absl::StrCat("grant ", grant, ": a request leaves while Zoho throttles"));
  }
}

void Judge::OnOver(int send) {
  std::erase(consent(sends_[static_cast<size_t>(send)].consent).under_way, send);
}

void Judge::OnMinted(Strand& strand, int process, int access_token) {
  trace_->Add("minted", process, access_token);
  strand.minted.push_back(access_token);
}

void Judge::OnSettled(int process, const Secret& access_token, Verdict verdict, int64_t generation,
                      const GrantRecord* record) {
  const int number = NumberOf(access_token);
  trace_->Add("settled", process, number, static_cast<int64_t>(verdict),
              record == nullptr ? 0 : record->generation);
  if (number < 0) return;
  this->access_token(number).settled = true;
  // "G4": let go of only where nobody needs it any more.
  if (verdict == Verdict::kNotFound ||
      (verdict == Verdict::kSuperseded && record->generation <= generation) ||
      (verdict == Verdict::kRevoked && record->state != GrantState::kRevoked)) {
    Break("G4", absl::StrCat("process ", process, " lets go of token ", number,
                             " although nothing newer is stored"));
  }
}

void Judge::OnEnd(const Strand& strand, int process, bool living) {
  if (!living) return;
  for (const int token : strand.minted) CheckNoTokenIsDropped(token, process);
}

void Judge::CheckNoTokenIsDropped(int access_token, int process) {
  const AccessToken& token = this->access_token(access_token);
  if (token.settled) return;
  // An access token that has run out, by a clock that may be fast, is no loss.
  const Nanos fast = profile_->token_lifetime / 40 + Tolerance();
  if (!token.with_refresh_token && now() >= token.expires_at - fast) return;
  Break("G4", absl::StrCat("process ", process, " drops token ", access_token));
}

void Judge::OnCommitStored(int process, const GrantRecord& before, const GrantRecord& after,
                           const CommitRequest& request) {
  CheckResultIsCurrent(process, before, after, request);
}

void Judge::CheckResultIsCurrent(int process, const GrantRecord& before, const GrantRecord& after,
                                 const CommitRequest& request) {
  if (before.state == GrantState::kRevoked || before.generation != request.generation ||
      after.generation != before.generation + 1) {
    Break("G3", absl::StrCat("process ", process, ": a result made from generation ",
                             request.generation, " is stored over ", before.generation));
  }
  for (const Send& send : sends_) {
    if (send.mark < 0 || mark(send.mark).attempt_id != request.attempt_id) continue;
    if (send.refresh_token != NumberOf(before.refresh_token)) {
      Break("G3", absl::StrCat("process ", process, ": a result of refresh token ",
                               send.refresh_token, " is stored over another consent"));
    }
  }
}

void Judge::OnFailStored(int process, int grant, const GrantRecord& before,
                         const GrantRecord& after, const FailRequest& request, bool on_primary) {
  // Not acknowledged by replicas: one that has been replaced unawares takes it with it.
  if (request.kind == FailureKind::kThrottled && on_primary)
    throttled_[static_cast<size_t>(grant)] = now();
  if (after.state == GrantState::kNeedsConsent && before.state != GrantState::kNeedsConsent) {
    CheckDeadIsDead(process, before);
  }
}

void Judge::CheckDeadIsDead(int process, const GrantRecord& before) {
  const int token = NumberOf(before.refresh_token);
  if (!IsHonoured(token)) return;
  Break("G5", absl::StrCat("process ", process, " marks the grant of refresh token ", token,
                           " as dead, which Zoho honours"));
}

Nanos Judge::ConsentStored(int grant, const GrantRecord& record) const {
  for (const Replaced& one : replaced_[static_cast<size_t>(grant)]) {
    if (one.consent == record.consent()) return one.at;
  }
  return 0;
}

void Judge::OnRegistered(int grant, const GrantRecord& before, const GrantRecord& after,
                         const RegisterRequest& request) {
  const int token = request.tokens ? NumberOf(request.tokens->access_token) : -1;
  if (token >= 0 && ConsentStored(grant, before) > access_token(token).minted_at) {
    Break("G3", absl::StrCat("grant ", grant, ": what came of token ", token,
                             " is stored over a later registration or revocation"));
  }
  OnReplaced(grant, before, after);
}

void Judge::OnRevoked(int grant, const GrantRecord& before, const GrantRecord& after, Nanos begun) {
  if (ConsentStored(grant, before) > begun) {
    Break("G3", absl::StrCat("grant ", grant, ": a revocation ends a consent that came later"));
  }
  OnReplaced(grant, before, after);
}

void Judge::OnReplaced(int grant, const GrantRecord& before, const GrantRecord& after) {
  replaced_[static_cast<size_t>(grant)].push_back({after.consent(), now()});
  if (after.generation <= before.generation) {
    Break("G3", absl::StrCat("grant ", grant, ": generation ", after.generation, " after ",
                             before.generation));
  }
}

void Judge::OnTold(int process, int grant, std::string_view promise, int64_t generation,
                   std::string_view attempt_id) {
  trace_->Add("told", process, grant, generation);
  std::vector<Told>& told = told_[static_cast<size_t>(grant)];
  for (const Told& known : told) {
    if (known.generation == generation && known.attempt_id == attempt_id) return;
  }
  told.push_back({promise, generation, std::string(attempt_id)});
}

void Judge::ForgetThrottles() { throttled_.assign(throttled_.size(), -1); }

void Judge::OnAnswer(int process, int grant, const GrantKey& asked, int64_t rejected_version,
                     const GrantKey& got, const Secret& access_token, int64_t version) {
  const int number = NumberOf(access_token);
  trace_->Add("token", process, grant, number, version);
  // "G7. Nobody else's token".
  if (got.org_id != asked.org_id || got.environment != asked.environment ||
      (!asked.oauth_client.empty() && got.oauth_client != asked.oauth_client) || number < 0 ||
      consent(this->access_token(number).consent).grant != grant) {
    Break("G7", absl::StrCat("process ", process, " hands out token ", number,
                             " of another grant for grant ", grant));
    return;
  }
  if (version == rejected_version) {
    Break("answers", absl::StrCat("version ", version, " was refused and is handed out again"));
  }
  const AccessToken& token = this->access_token(number);
  const Nanos slow = profile_->token_lifetime / 40 + Tolerance();
  if (now() > token.expires_at + slow) {
    Break("answers", absl::StrCat("token ", number, " is handed out after its end"));
  }
}

}  // namespace tokenbroker::simulation
