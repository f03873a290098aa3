// A TokenIssuer's flights, from their start to the answers of all who waited.
#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "server/issuing/token_issuer.h"

namespace tokenbroker {
namespace {

constexpr std::string_view kStoreLane = "store";
constexpr absl::Duration kBackgroundRetry = absl::Seconds(5);
// A failure is answered from memory for at most this long, so that what another replica mended is
// seen even when its change event got lost.
constexpr absl::Duration kLongestRefusal = absl::Seconds(30);
// Of refusals that end with a change event: unknown org, consent required.
constexpr absl::Duration kStateRefusal = absl::Seconds(5);
// A flight that brought something other than what a waiter wants is followed by another one.
constexpr int kMaxRejoins = 3;

std::string LaneOf(const std::string& dc) { return absl::StrCat("dc:", dc); }

bool IsAlive(const GrantRecord& record) {
  return record.state == GrantState::kActive && !record.access_token.empty() &&
         record.AccessLifetime() > absl::ZeroDuration();
}

}  // namespace

absl::Status TokenIssuer::Refusal() const {
  return draining_ || executor_->stopping() ? ShuttingDownError()
                                            : OverloadedError(absl::Seconds(1));
}

void TokenIssuer::Start(const std::shared_ptr<Flight>& flight) {
  const bool accepted = executor_->Run(kStoreLane, [this, flight] {
    flight->key.oauth_client.empty() ? ResolveStage(*flight) : LoadStage(*flight);
  });
  if (!accepted) LandFailed(*flight, Refusal());
}

template <typename Read>
auto TokenIssuer::ReadStore(const GrantKey& key, Read read) -> decltype(read()) {
  const uint64_t domain = store_->FailureDomain(key);
  if (!store_health_.MayTry(domain, clock_.monotonic())) {
    return StoreUnavailableError("it did not answer a moment ago");
  }
  auto result = read();
  if (absl::IsUnavailable(result.status())) {
    store_health_.RecordDown(domain, clock_.monotonic());
  } else {
    store_health_.RecordUp(domain);
  }
  return result;
}

void TokenIssuer::ResolveStage(const Flight& flight) {
  const int64_t session = store_->subscription_session();
  const absl::StatusOr<GrantResolver::Grants> grants = ReadStore(
      flight.key, [&] { return resolver_.Load(flight.key.org_id, flight.key.environment); });
  if (absl::IsNotFound(grants.status())) {
    const MonotonicTime now = clock_.monotonic();
    cache_.PutRefusal(flight.key,
                      {grants.status(), 0, session, now, now + kStateRefusal, now + kStateRefusal});
  }
  const FlightTable::Landed landed = flights_.Land(flight.key);
  // Something of the org was registered while its grants were read.
  if (landed.noted.generation > 0) cache_.Invalidate(flight.key, landed.noted.generation, true);
  for (const Waiter& waiter : landed.waiters) JoinResolved(flight, waiter, grants);
}

void TokenIssuer::JoinResolved(const Flight& flight, Waiter waiter,
                               const absl::StatusOr<GrantResolver::Grants>& grants) {
  const MonotonicTime now = clock_.monotonic();
  absl::StatusOr<std::string> client;
  if (grants.ok()) {
    client = resolver_.Choose(*grants, waiter.scopes, now);
  } else if (std::shared_ptr<const std::string> remembered =
                 resolver_.Remembered(flight.key.org_id, flight.key.environment, waiter.scopes, now,
                                      GrantResolver::Age::kAny);
             remembered != nullptr && !absl::IsNotFound(grants.status())) {
    client = *remembered;
  } else {
    client = grants.status();
  }
  if (!client.ok()) {
    flights_.Forget(waiter.ticket);
    waiter.callback(client.status());
    return;
  }
  TokenQuery query{flight.key.org_id, flight.key.environment, *client,
                   waiter.scopes,     waiter.min_lifetime,    waiter.rejected_version};
  if (std::optional<absl::StatusOr<TokenAnswer>> cached = TryCached(query)) {
    flights_.Forget(waiter.ticket);
    waiter.callback(*std::move(cached));
    return;
  }
  waiter.started_flight = false;
  Join(GrantKey{flight.key.org_id, flight.key.environment, *std::move(client)}, std::move(waiter));
}

void TokenIssuer::LoadStage(const Flight& flight) {
  Landing landing{flight};
  landing.loaded_only = true;
  // Before the record is read: what changes afterwards is heard of.
  landing.session = store_->subscription_session();
  RefreshResult& result = landing.result;
  result.read_at = clock_.monotonic();
  absl::StatusOr<GrantRecord> record =
      ReadStore(flight.key, [&] { return store_->Load(flight.key); });
  if (!record.ok() || !(record->key == flight.key)) {
    // The latter cannot be, and a token of another grant must not be given out if it is.
    LandFailed(flight, record.ok() ? InternalError("the store gave another grant's record")
                                   : record.status());
    return;
  }
  result.record = *record;
  if (record->state != GrantState::kActive) {
    result.status = ConsentRequiredError(
        record->state == GrantState::kRevoked ? "revoked" : record->last_error);
    Land(landing);
    return;
  }
  // Those who want scopes that the grant lacks are no reason to refresh.
  const std::vector<Waiter> lacking = flights_.TakeIf(flight.key, [&](const Waiter& waiter) {
    return !LackingScopes(record->info.scopes, waiter.scopes).empty();
  });
  for (const Waiter& waiter : lacking) {
    waiter.callback(ScopeNotGrantedError(LackingScopes(record->info.scopes, waiter.scopes)));
  }
  const bool nobody_else =
      !lacking.empty() && flight.purpose == Purpose::kCaller && flights_.waiters(flight.key) == 0;
  if (nobody_else || !NeedsRefresh(flight, *record)) {
    result.outcome = RefreshResult::Outcome::kFresh;
    Land(landing);
    return;
  }
  // Meanwhile the old token is for those who leave before the new one comes.
  if (IsAlive(*record)) {
    Keep(landing, MakeToken(*record, result.read_at));
  }
  auto refresh = [this, flight, record = *std::move(record), read_at = result.read_at,
                  session = landing.session] { RefreshStage(flight, record, read_at, session); };
  if (!executor_->Run(LaneOf(result.record.info.dc), std::move(refresh))) {
    result.status = Refusal();
    Land(landing);
  }
}

bool TokenIssuer::NeedsRefresh(const Flight& flight, const GrantRecord& record) const {
  const absl::Duration left = record.AccessLifetime();
  if (!IsAlive(record) || left < options_.forced_refresh) return true;
  if (flight.purpose == Purpose::kBackground &&
      (flight.version != 0 ? record.generation == flight.version
                           : left <= RefreshAheadAt(record))) {
    return true;
  }
  return flights_.AnyWaiter(flight.key, [&](const Waiter& waiter) {
    return waiter.rejected_version == record.generation || left < waiter.min_lifetime;
  });
}

void TokenIssuer::RefreshStage(const Flight& flight, const GrantRecord& record,
                               MonotonicTime read_at, int64_t session) {
  const auto on_late = [&](const absl::Status& status) {
    for (const Waiter& waiter : flights_.MarkLate(flight.key, status)) {
      AnswerStale(flight.key, waiter, status);
    }
  };
  Landing landing{flight};
  landing.session = session;
  landing.result = refresher_->Refresh(record, read_at, flight.purpose, on_late);
  Land(landing);
}

void TokenIssuer::LandFailed(const Flight& flight, const absl::Status& status) {
  Landing landing{flight};
  landing.loaded_only = true;
  landing.session = store_->subscription_session();
  landing.result.status = status;
  Land(landing);
}

void TokenIssuer::Land(const Landing& landing) {
  const RefreshResult& result = landing.result;
  const bool failed = result.outcome == RefreshResult::Outcome::kFailed;
  const bool dead = failed && (absl::IsNotFound(result.status) ||
                               ErrorReason(result.status) == "CONSENT_REQUIRED");
  // Revoked or dead since the record was read: its token is neither kept nor given out.
  const auto died_meanwhile = [&](const FlightTable::Noted& noted) {
    return !noted.alive && noted.generation >= result.record.generation;
  };
  std::shared_ptr<const IssuedToken> token;
  if (!dead && !died_meanwhile(flights_.noted(landing.key())) && IsAlive(result.record)) {
    token = MakeToken(result.record, result.read_at);
    Keep(landing, token);
  }
  if (failed) Remember(landing, dead);

  // Only now: whatever changed before is noted and applied here, whatever changes later finds the
  // cache as it is to be.
  FlightTable::Landed landed = flights_.Land(landing.key());
  ApplyNoted(landing.key(), landed.noted);
  if (landed.waiters.empty()) return;
  cache_.MarkUsed(landing.key(), clock_.monotonic());
  if (died_meanwhile(landed.noted)) token = nullptr;
  if (failed && !dead && token == nullptr && landed.noted.alive) {
    // The store could not be asked, or no longer has a living token; memory may.
    if (const std::optional<TokenCache::Entry> entry = cache_.Peek(landing.key())) {
      token = entry->token;
    }
  }
  // A flight that was under way may have brought the very token that a caller does not want;
  // background work is refused sooner than a caller; and what failed may have been mended since.
  const bool again = !failed || landing.flight.purpose == Purpose::kBackground ||
                     absl::IsAborted(result.status) ||
                     (landed.noted.alive && landed.noted.generation > result.record.generation);
  for (Waiter& waiter : landed.waiters) Answer(std::move(waiter), landing, token, again);
}

void TokenIssuer::Keep(const Landing& landing, const std::shared_ptr<const IssuedToken>& token) {
  const MonotonicTime now = clock_.monotonic();
  const bool used = landing.flight.purpose == Purpose::kCaller;
  const bool is_new = cache_.Put(token, landing.session, landing.result.read_at, now, used);
  // What was heard of before found nothing in the cache that it could apply to.
  ApplyNoted(landing.key(), flights_.noted(landing.key()));
  if (!is_new) return;
  const absl::Duration due = token->expires_at - now - RefreshAheadAt(landing.result.record);
  RefreshAheadIn(due, landing.key(), token->version, /*used_since=*/now);
}

void TokenIssuer::ApplyNoted(const GrantKey& key, const FlightTable::Noted& noted) {
  if (noted.generation > 0) cache_.Invalidate(key, noted.generation, noted.alive);
}

// Keeps a failure, so that the next calls need not find it out again.
void TokenIssuer::Remember(const Landing& landing, bool dead) {
  const RefreshResult& result = landing.result;
  const GrantKey& key = landing.key();
  const MonotonicTime now = clock_.monotonic();
  if (dead) {
    const bool gone = absl::IsNotFound(result.status);
    const std::optional<TokenCache::Entry> known = gone ? cache_.Peek(key) : std::nullopt;
    // Read by this very flight, or by one before it.
    if (gone && (!landing.loaded_only || (known && known->token != nullptr))) {
      refresher_->TellMissing(key);
    }
    // A record that is gone leaves nothing that could be newer.
    const int64_t generation =
        gone ? std::numeric_limits<int64_t>::max() : result.record.generation;
    cache_.Invalidate(key, generation, /*alive=*/false);
    resolver_.NoteChange(key, /*alive=*/false);
  }
  const ErrorDetail detail = GetErrorDetail(result.status).value_or(ErrorDetail{});
  absl::Duration hold =
      std::max(result.retry_after, detail.retry_after.value_or(absl::ZeroDuration()));
  if (landing.flight.purpose == Purpose::kBackground) {
    // Background work may be refused what a caller would still get; it only tries again while the
    // token lives.
    const std::optional<TokenCache::Entry> entry = cache_.Peek(key);
    const absl::Duration again = std::max(hold, kBackgroundRetry);
    if (!dead && entry && entry->token != nullptr && entry->token->expires_at - now > again) {
      RefreshAheadIn(again, key, entry->token->version, -absl::InfiniteDuration());
    }
    return;
  }
  if (hold <= absl::ZeroDuration() &&
      (dead || absl::IsFailedPrecondition(result.status) || absl::IsDataLoss(result.status))) {
    hold = kStateRefusal;
  }
  if (hold <= absl::ZeroDuration()) return;
  cache_.PutRefusal(key, {result.status, result.record.generation, landing.session, now,
                          now + std::min(hold, kLongestRefusal), now + hold});
}

void TokenIssuer::Answer(Waiter waiter, const Landing& landing,
                         const std::shared_ptr<const IssuedToken>& token, bool again) {
  const RefreshResult& result = landing.result;
  const bool failed = result.outcome == RefreshResult::Outcome::kFailed;
  if (token != nullptr && token->version != waiter.rejected_version) {
    const absl::Duration left = token->expires_at - clock_.monotonic();
    // What was minted just now is as good as it gets.
    const bool newest = !failed && !landing.loaded_only && left > absl::ZeroDuration();
    // Of two failures, the older token is no better than the one that was refused.
    const bool good_enough =
        left >= waiter.min_lifetime &&
        (failed ? token->version > waiter.rejected_version : left >= options_.forced_refresh);
    if (newest || good_enough) {
      TokenSource source = TokenSource::kJoined;
      if (failed) {
        source = TokenSource::kStale;
      } else if (landing.loaded_only) {
        source = TokenSource::kStore;
      } else if (result.outcome == RefreshResult::Outcome::kRefreshed && waiter.started_flight) {
        source = TokenSource::kRefreshed;
      }
      flights_.Forget(waiter.ticket);
      AnswerToken(waiter, token, source);
      return;
    }
  }
  if (again && ++waiter.rejoins <= kMaxRejoins) {
    waiter.started_flight = false;
    Join(landing.key(), std::move(waiter));
    return;
  }
  flights_.Forget(waiter.ticket);
  waiter.callback(failed ? result.status : GrantChangedError());
}

void TokenIssuer::AnswerToken(const Waiter& waiter, std::shared_ptr<const IssuedToken> token,
                              TokenSource source) const {
  if (std::vector<std::string> missing = LackingScopes(token->scopes, waiter.scopes);
      !missing.empty()) {
    waiter.callback(ScopeNotGrantedError(missing));
    return;
  }
  const absl::Duration left = token->expires_at - clock_.monotonic();
  waiter.callback(TokenAnswer{std::move(token), source, left});
}

void TokenIssuer::AnswerStale(const GrantKey& key, const Waiter& waiter,
                              const absl::Status& status) const {
  const std::optional<TokenCache::Entry> entry = cache_.Peek(key);
  if (!absl::IsCancelled(status) && entry && entry->token != nullptr &&
      entry->token->version > waiter.rejected_version &&
      entry->token->expires_at - clock_.monotonic() >= waiter.min_lifetime) {
    AnswerToken(waiter, entry->token, TokenSource::kStale);
    return;
  }
  waiter.callback(status);
}

std::shared_ptr<const IssuedToken> TokenIssuer::MakeToken(const GrantRecord& record,
                                                          MonotonicTime read_at) const {
  auto token = std::make_shared<IssuedToken>();
  token->key = record.key;
  token->access_token = record.access_token;
  token->authorization_header =
      Secret(absl::StrCat("Zoho-oauthtoken ", absl::string_view(record.access_token.Reveal().data(),
                                                                record.access_token.size())));
  token->expires_at = read_at + record.AccessLifetime();
  token->api_domain = record.api_domain;
  if (const DataCenter* dc = refresher_->setup().data_centers.Find(record.info.dc); dc != nullptr) {
    token->people_host = dc->people_host;
    if (token->api_domain.empty()) token->api_domain = dc->api_domain;
  }
  token->dc = record.info.dc;
  token->scopes = record.info.scopes;
  token->version = record.generation;
  token->keep_warm = record.info.keep_warm;
  return token;
}

}  // namespace tokenbroker
