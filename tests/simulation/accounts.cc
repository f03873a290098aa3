#include "tests/simulation/accounts.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/errors.h"

namespace tokenbroker::simulation {
namespace {

// How long Zoho may go on with a request whose sender was frozen or killed. With what lies between
// check and first byte it stays within the sent lease ("G2", assumptions).
constexpr Nanos kLongest = 14 * kSecond;

TokenReply Failure(ReplyKind kind, std::string error, int http_status) {
  TokenReply reply;
  reply.kind = kind;
  reply.error = std::move(error);
  reply.advice = "advice";
  reply.http_status = http_status;
  return reply;
}

}  // namespace

std::string SimulatedZoho::NewCode(int grant) {
  codes_.push_back({context_->judge.AddConsent(grant)});
  return absl::StrCat("code-", codes_.size() - 1);
}

std::string SimulatedZoho::NewRefreshToken(int grant) {
  return absl::StrCat("rt-", context_->judge.AddRefreshToken(context_->judge.AddConsent(grant)));
}

void SimulatedZoho::RevokeConsent(int consent) {
  context_->trace.Add("consent revoked", -1, consent);
  context_->judge.consent(consent).revoked = true;
}

int SimulatedZoho::ConsentOf(const TokenRequest& request) const {
  if (request.grant_type == TokenRequest::GrantType::kAuthorizationCode) {
    return codes_[static_cast<size_t>(Judge::NumberOf(request.code))].consent;
  }
  return context_->judge.refresh_token(Judge::NumberOf(request.refresh_token)).consent;
}

TokenReply SimulatedZoho::Process(const TokenRequest& request, int consent) {
  Judge& judge = context_->judge;
  if (request.grant_type == TokenRequest::GrantType::kAuthorizationCode) {
    Code& code = codes_[static_cast<size_t>(Judge::NumberOf(request.code))];
    if (std::exchange(code.used, true) || judge.consent(consent).revoked) {
      return Failure(ReplyKind::kGrantDead, "invalid_code", 200);
    }
    return Mint(consent, true);
  }
  const int used = Judge::NumberOf(request.refresh_token);
  if (!judge.IsHonoured(used)) return Failure(ReplyKind::kGrantDead, "invalid_code", 200);
  if (context_->profile.rotates) {
    for (const int token : judge.consent(consent).refresh_tokens) {
      Nanos& until = judge.refresh_token(token).honoured_until;
      until = std::min(until, context_->now() + context_->profile.leeway);
    }
  }
  return Mint(consent, context_->profile.rotates);
}

TokenReply SimulatedZoho::Mint(int consent, bool with_refresh_token) {
  Judge& judge = context_->judge;
  TokenReply reply;
  reply.kind = ReplyKind::kSuccess;
  reply.http_status = 200;
  reply.lifetime = absl::Nanoseconds(context_->profile.token_lifetime);
  const int token = judge.AddAccessToken(consent);
  judge.access_token(token).with_refresh_token = with_refresh_token;
  reply.access_token = Secret(absl::StrCat("at-", token));
  if (with_refresh_token) {
    reply.refresh_token = Secret(absl::StrCat("rt-", judge.AddRefreshToken(consent)));
  }
  context_->trace.Add("mints", -1, consent, token);
  return reply;
}

void SimulatedZoho::Revoke(const Secret& token) {
  const int number = Judge::NumberOf(token);
  if (number < 0) return;
  Judge& judge = context_->judge;
  // An access token that nobody was given is forgotten.
  if (token.Reveal().starts_with("rt-") && judge.IsHonoured(number)) {
    RevokeConsent(judge.refresh_token(number).consent);
  }
}

void SimulatedAccounts::Close(Exchange& exchange) {
  exchange.open = false;
  exchange.reader = nullptr;
  if (!std::exchange(exchange.over, true)) context_->judge.OnOver(exchange.send);
}

std::shared_ptr<SimulatedAccounts::Exchange> SimulatedAccounts::Dispatch(
    const TokenRequest& request, int consent) {
  const Strand& strand = *context_->scheduler.current();
  auto exchange = std::make_shared<Exchange>();
  const int refresh_token = request.grant_type == TokenRequest::GrantType::kRefreshToken
                                ? Judge::NumberOf(request.refresh_token)
                                : -1;
  exchange->send = context_->judge.OnFirstByte(strand, seams_->process, consent, refresh_token);

  Chance& chance = context_->chance();
  const Profile& profile = context_->profile;
  Nanos processed = chance.Between(20 * kMilli, profile.zohos_time);
  if (context_->Happens(profile.answer_late, Fault::kAnswerLate)) {
    processed = chance.Spread(300, 12'000) * kMilli;
  }
  Nanos answered = processed + chance.Between(1, 50) * kMilli;
  enum { kAnswer, kResetBefore, kResetAfter, kNothing, kErrorBefore, kErrorAfter, kThrottle };
  int fate = kAnswer;
  if (!context_->healed && chance.Millionths(profile.answer_fails)) {
    fate = static_cast<int>(chance.Between(kResetBefore, kThrottle));
    constexpr Fault kCounted[] = {Fault::kResetBefore, Fault::kResetAfter,  Fault::kNoAnswer,
                                  Fault::kServerError, Fault::kServerError, Fault::kThrottled};
    context_->Count(kCounted[fate - 1]);
  }
  Nanos longest = kLongest;
  if (strand.mark >= 0) {
    // Where the first byte itself was late, the freeze before it is the exception.
    const Nanos lease = absl::ToInt64Nanoseconds(context_->limits.sent_lease);
    const Nanos left = context_->judge.mark(strand.mark).at + lease - kSecond - context_->now();
    if (left > 0) longest = std::min(longest, left);
  }
  answered = std::min(answered, longest);
  processed = std::min(processed, answered);

  // The connection, if the client has closed it by then, takes nothing any more to Zoho. That of
  // one who was killed does.
  const auto acts = [exchange] { return exchange->open; };
  if (fate == kAnswer || fate == kResetAfter || fate == kErrorAfter || fate == kNothing) {
    context_->scheduler.Post(nullptr, processed, [this, exchange, request, consent, acts] {
      if (acts()) exchange->reply = zoho_->Process(request, consent);
    });
  }
  context_->scheduler.Post(nullptr, answered, [this, exchange, fate, acts] {
    if (!acts()) return;
    Strand* const reader = exchange->reader;
    switch (fate) {
      case kResetBefore:
      case kResetAfter:
        exchange->reset = true;
        break;
      case kNothing:
        return;
      case kErrorBefore:
      case kErrorAfter:
        exchange->answered = true;
        exchange->reply = Failure(ReplyKind::kTransient, "http_502", 502);
        break;
      case kThrottle:
        exchange->answered = true;
        exchange->reply = Failure(ReplyKind::kThrottled, "throttled", 400);
        break;
      default:
        exchange->answered = true;
    }
    Close(*exchange);
    context_->scheduler.Wake(reader);
  });
  if (fate == kNothing) {
    // The connection stays open, for whoever listens at its other end; Zoho is done.
    context_->scheduler.Post(nullptr, longest, [this, exchange] {
      if (!std::exchange(exchange->over, true)) context_->judge.OnOver(exchange->send);
    });
  }
  return exchange;
}

TokenResponse SimulatedAccounts::RequestToken(const TokenRequest& request, BeforeSend before_send) {
  using Delivery = TokenResponse::Delivery;
  const auto not_sent = [](std::string_view why) {
    return TokenResponse{
        .delivery = Delivery::kNotSent,
        .status = absl::UnavailableError(absl::string_view(why.data(), why.size()))};
  };
  Chance& chance = context_->chance();
  Strand& strand = *context_->scheduler.current();
  if (!seams_->Pass()) return not_sent("dead");
  // The connection.
  const bool fails = context_->Happens(context_->profile.connect_fails, Fault::kConnectFailed);
  Nanos connect = chance.Between(1, 60) * kMilli;
  if (fails && chance.Percent(50)) connect = seams_->ToWorld(request.connect_timeout);
  context_->scheduler.Block(connect);
  if (seams_->dead()) return not_sent("dead");
  if (fails) return not_sent("no connection");

  strand.mark = -1;
  absl::Status checked = before_send();
  if (!checked.ok()) return {.delivery = Delivery::kNotSent, .status = std::move(checked)};
  if (seams_->dead()) return not_sent("dead");
  const MonotonicTime checked_at = seams_->Monotonic();
  // Between the check and the first byte.
  if (context_->Happens(context_->profile.freeze_before_first_byte,
                        Fault::kFreezeBeforeFirstByte)) {
    seams_->FreezeForAWhile();
  }
  if (!seams_->Pass()) return not_sent("dead");
  context_->scheduler.Block(chance.Between(1, 100) * kMicro);
  if (seams_->dead()) return not_sent("dead");

  const int consent = zoho_->ConsentOf(request);
  for (int posts = 1;; ++posts) {
    const std::shared_ptr<Exchange> exchange = Dispatch(request, consent);
    exchange->reader = &strand;
    while (!exchange->answered && !exchange->reset) {
      const absl::Duration left = request.response_timeout - (seams_->Monotonic() - checked_at);
      if (left <= absl::ZeroDuration() || seams_->dead()) break;
      context_->scheduler.Block(seams_->ToWorld(left));
    }
    exchange->reader = nullptr;
    if (seams_->dead()) {
      // The machine says nothing to Zoho for a while: it may go on with the request.
      return {.delivery = Delivery::kUnknown, .status = absl::UnavailableError("dead")};
    }
    if (exchange->answered) {
      if (exchange->reply.kind == ReplyKind::kSuccess) {
        context_->judge.OnMinted(strand, seams_->process,
                                 Judge::NumberOf(exchange->reply.access_token));
      }
      context_->trace.Add("answer", seams_->process, exchange->send,
                          static_cast<int64_t>(exchange->reply.kind));
      return {.delivery = Delivery::kAnswered, .reply = exchange->reply};
    }
    if (exchange->reset && posts == 1 && context_->defect == Defect::kSecondPost) continue;
    Close(*exchange);
    context_->trace.Add("no answer", seams_->process, exchange->send);
    return {.delivery = Delivery::kUnknown,
            .status = absl::UnavailableError("the connection ended without an answer")};
  }
}

absl::Status SimulatedAccounts::RevokeToken(const DataCenter& dc, const Secret& token,
                                            absl::Duration timeout) {
  if (!seams_->Pass()) return ZohoUnavailableError(dc.name, "dead", absl::ZeroDuration());
  Chance& chance = context_->chance();
  const bool lost = !context_->healed && chance.Millionths(context_->profile.answer_fails);
  if (lost && chance.Percent(50)) {
    context_->scheduler.Block(seams_->ToWorld(timeout));
    return ZohoUnavailableError(dc.name, "no_answer", absl::ZeroDuration());
  }
  context_->scheduler.Block(chance.Between(20, 300) * kMilli);
  if (seams_->dead()) return ZohoUnavailableError(dc.name, "dead", absl::ZeroDuration());
  zoho_->Revoke(token);
  if (lost) return ZohoUnavailableError(dc.name, "no_answer", absl::ZeroDuration());
  return absl::OkStatus();
}

}  // namespace tokenbroker::simulation
