#include "server/issuing/token_issuer.h"

#include <utility>

#include "common/errors.h"

namespace tokenbroker {
namespace {

// For how long what the store said last is believed over a caller that names a later version.
// Longer than a change event takes (some milliseconds), so that callers with made-up versions cost
// one look per second and grant.
constexpr absl::Duration kBelievedNewest = absl::Seconds(1);

// What is left of a refusal, for RetryInfo.
// The refusal with what is left of its wait; one without stays so.
absl::Status StillRefused(const absl::Status& status, absl::Duration left) {
  const std::optional<ErrorDetail> detail = GetErrorDetail(status);
  return detail && detail->retry_after ? WithRetryAfter(status, left) : status;
}

}  // namespace

TokenIssuer::TokenIssuer(Options options, TokenStore* store, Refresher* refresher,
                         Executor* executor, Clock clock)
    : options_(options),
      store_(store),
      refresher_(refresher),
      executor_(executor),
      clock_(std::move(clock)),
      cache_(options.cache_entries),
      resolver_(store) {
  store_->SetChangeListener([this](const ChangeEvent& event) { OnChange(event); });
}

TokenIssuer::~TokenIssuer() {
  store_->SetChangeListener(nullptr);
  flights_.Close();
  for (const auto& [key, waiter] : flights_.TakeAll()) waiter.callback(ShuttingDownError());
}

std::optional<absl::StatusOr<TokenAnswer>> TokenIssuer::TryCached(const TokenQuery& query) {
  const MonotonicTime now = clock_.monotonic();
  std::shared_ptr<const std::string> resolved;
  GrantKeyView key(query.org_id, query.environment, query.oauth_client);
  if (query.oauth_client.empty()) {
    const auto age = KnownDown(key, now) ? GrantResolver::Age::kAny : GrantResolver::Age::kFresh;
    resolved = resolver_.Remembered(query.org_id, query.environment, query.scopes, now, age);
    // Otherwise there can only be the refusal of an unknown org, under the key without a client.
    if (resolved != nullptr) key.oauth_client = *resolved;
  }
  std::optional<TokenCache::Entry> entry = cache_.Find(key, now);
  if (!entry) return std::nullopt;
  if (entry->came_back && entry->token != nullptr)
    StartBackground(key.ToKey(), entry->token->version);

  const bool refused = entry->refusal != nullptr && Holds(*entry->refusal, now);
  if (entry->token != nullptr) {
    const IssuedToken& token = *entry->token;
    const absl::Duration left = token.expires_at - now;
    // A version beyond ours was refused. Ours may be out of date, so the store is asked; if it was
    // asked just now, there is no such version, and ours is what there is.
    if (token.version < query.rejected_version && now - entry->checked_at >= kBelievedNewest) {
      return std::nullopt;
    }
    const bool wanted = token.version != query.rejected_version && left >= query.min_lifetime;
    const bool due = left < options_.forced_refresh;
    if (wanted && (refused || (!due && IsTrusted(*entry, now)) || KnownDown(key, now))) {
      if (std::vector<std::string> missing = LackingScopes(token.scopes, query.scopes);
          !missing.empty()) {
        return ScopeNotGrantedError(missing);
      }
      return TokenAnswer{std::move(entry->token),
                         due || entry->outdated ? TokenSource::kStale : TokenSource::kCache, left};
    }
  }
  if (refused) return StillRefused(entry->refusal->status, entry->refusal->retry_at - now);
  return std::nullopt;
}

bool TokenIssuer::KnownDown(const GrantKeyView& key, MonotonicTime now) const {
  return !store_health_.NoneDown(now) &&
         store_health_.KnownDown(store_->FailureDomain(key.ToKey()), now);
}

bool TokenIssuer::IsTrusted(const TokenCache::Entry& entry, MonotonicTime now) const {
  if (entry.outdated) return false;
  const int64_t session = store_->subscription_session();
  if (session != 0) return entry.session == session;
  return now - entry.checked_at < options_.unheard_recheck;
}

bool TokenIssuer::Holds(const TokenCache::Refusal& refusal, MonotonicTime now) const {
  if (now >= refusal.until) return false;
  const int64_t session = store_->subscription_session();
  if (session != 0) return refusal.session == session;
  return now - refusal.since < options_.unheard_recheck;
}

TokenIssuer::Ticket TokenIssuer::GetAccessToken(const TokenQuery& query, absl::Duration deadline,
                                                Callback callback) {
  const MonotonicTime now = clock_.monotonic();
  Waiter waiter;
  waiter.scopes = query.scopes;
  waiter.min_lifetime = query.min_lifetime;
  waiter.rejected_version = query.rejected_version;
  waiter.until = now + deadline;
  waiter.callback = std::move(callback);
  GrantKeyView key(query.org_id, query.environment, query.oauth_client);
  std::shared_ptr<const std::string> resolved;
  if (query.oauth_client.empty()) {
    resolved = resolver_.Remembered(query.org_id, query.environment, query.scopes, now);
    if (resolved != nullptr) key.oauth_client = *resolved;
  }
  return Join(key.ToKey(), std::move(waiter));
}

TokenIssuer::Ticket TokenIssuer::Join(const GrantKey& key, Waiter waiter) {
  const absl::Duration left = waiter.until - clock_.monotonic();
  if (left <= absl::ZeroDuration()) {
    flights_.Forget(waiter.ticket);
    AnswerStale(key, waiter, DeadlineExceededError());
    return 0;
  }
  const bool first = waiter.ticket == 0;
  FlightTable::Joined joined = flights_.Join(key, std::move(waiter));
  if (joined.refused) {
    AnswerStale(key, *joined.refused, joined.refusal);
    return 0;
  }
  if (first) {
    executor_->RunAfter(left, [this, ticket = joined.ticket] {
      if (const auto late = flights_.Take(ticket, DeadlineExceededError())) {
        AnswerStale(late->key, late->waiter, DeadlineExceededError());
      }
    });
  }
  if (joined.started != nullptr) Start(joined.started);
  return joined.ticket;
}

void TokenIssuer::Cancel(Ticket ticket) {
  if (ticket == 0) return;
  const absl::Status cancelled = absl::CancelledError("the caller has gone");
  if (const auto gone = flights_.Take(ticket, cancelled)) gone->waiter.callback(cancelled);
}

void TokenIssuer::OnChange(const ChangeEvent& event) {
  const bool alive = event.state == GrantState::kActive;
  // The flight and the refusal of callers that name no OAuth client.
  const GrantKeyView org(event.key.org_id, event.key.environment, "");
  resolver_.NoteChange(event.key, alive);
  for (const GrantKeyView& key : {GrantKeyView(event.key), org}) {
    flights_.NoteChange(key, event.generation, alive);
    cache_.Invalidate(key, event.generation, alive);
  }
}

}  // namespace tokenbroker
