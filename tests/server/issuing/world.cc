#include "tests/server/issuing/world.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/errors.h"

namespace tokenbroker {
namespace {

testing::ManualExecutor::Options ExecutorOptions(const World::Options& options) {
  testing::ManualExecutor::Options result = options.executor;
  result.seed = options.seed;
  return result;
}

testing::FakeTokenStore::Options StoreOptions(const World::Options& options,
                                              testing::ManualExecutor* executor) {
  testing::FakeTokenStore::Options result;
  result.limits = options.limits;
  result.clock = executor->clock();
  result.block = [executor](const std::function<bool()>& ready, absl::Duration timeout) {
    executor->BlockUntil(ready, timeout);
  };
  if (options.seed != 0) {
    result.post = [executor](std::function<void()> deliver) {
      executor->RunAfter(absl::Milliseconds(1), std::move(deliver));
    };
  }
  return result;
}

}  // namespace

ZohoSetup TestSetup() {
  std::vector<OAuthClient> clients;
  for (const char* name : {"web", "narrow", "self", "lost"}) {
    OAuthClient client;
    client.name = name;
    client.client_id = absl::StrCat("1000.", name);
    if (client.name == "self") {
      client.type = OAuthClientType::kSelfClient;
      client.secrets.emplace("us", Secret("secret-self"));
    } else if (client.name != "lost") {
      client.shared_secret = Secret(absl::StrCat("secret-", name));
    }
    clients.push_back(std::move(client));
  }
  auto table = DataCenterTable::Create({}, false);
  auto registry = OAuthClientRegistry::Create(std::move(clients));
  if (!table.ok() || !registry.ok()) std::abort();
  return {*std::move(table), *std::move(registry)};
}

absl::Duration DistantAccountsServer::LatencyOf(const std::string& dc) const {
  const auto found = latency_.find(dc);
  return found == latency_.end() ? default_latency_ : found->second;
}

TokenResponse DistantAccountsServer::RequestToken(const TokenRequest& request,
                                                  BeforeSend before_send) {
  std::string credential = request.soid;
  credential += request.refresh_token.Reveal();
  credential += request.code.Reveal();
  bool timed_out = false;
  TokenResponse response = near_.RequestToken(request, [&]() -> absl::Status {
    if (connect_ > absl::ZeroDuration()) executor_->Pause(connect_);
    absl::Status checked = before_send();
    if (!checked.ok()) return checked;
    if (check_twice_) second_checks_.push_back(before_send());
    if (std::function<void()> hook = std::exchange(when_sent_, nullptr)) hook();
    max_in_flight_ = std::max(max_in_flight_, ++in_flight_[credential]);
    const absl::Duration latency = LatencyOf(request.dc.name);
    timed_out = latency > request.response_timeout;
    const absl::Duration wait = std::min(latency, request.response_timeout);
    if (wait > absl::ZeroDuration()) executor_->Pause(wait);
    --in_flight_[credential];
    return checked;
  });
  if (timed_out && response.delivery == TokenResponse::Delivery::kAnswered) {
    return {.delivery = TokenResponse::Delivery::kUnknown,
            .status = absl::UnavailableError("no answer in time")};
  }
  return response;
}

absl::Status DistantAccountsServer::RevokeToken(const DataCenter& dc, const Secret& token,
                                                absl::Duration timeout) {
  const absl::Duration latency = LatencyOf(dc.name);
  if (latency > absl::ZeroDuration()) executor_->Pause(std::min(latency, timeout));
  if (latency > timeout) return ZohoUnavailableError(dc.name, "no_answer", absl::ZeroDuration());
  return near_.RevokeToken(dc, token, timeout);
}

Replica::Replica(const TokenIssuer::Options& options, const ProtocolLimits& limits,
                 CircuitBreakers::Options breaker, const ZohoSetup* setup,
                 testing::FakeTokenStore* store, AccountsServer* accounts,
                 testing::ManualExecutor* executor)
    : executor_(executor),
      store_(store),
      events_{
          .on_refresh = [this](const RefreshEvent& event) { outcomes_.push_back(event.outcome); },
          .on_commit_pending = [this](int change) { commits_pending_ += change; },
          .on_breaker =
              [this](std::string_view dc, std::string_view state) {
                breaker_states_.push_back(
                    absl::StrCat(absl::string_view(dc.data(), dc.size()), " ",
                                 absl::string_view(state.data(), state.size())));
              },
          .on_grant_missing = [this](const GrantKey&) { ++grants_missing_; }},
      refresher_(limits, breaker, setup, store, accounts, executor, executor->clock(), &events_),
      issuer_(options, store, &refresher_, executor, executor->clock()),
      registrar_(store, &refresher_, executor, executor->clock(), &events_),
      directory_(store, executor) {}

std::shared_ptr<Call> Replica::Start(const Query& query) {
  TokenQuery token_query{query.org_id, query.environment,  query.oauth_client,
                         query.scopes, query.min_lifetime, query.rejected_version};
  auto call = std::make_shared<Call>();
  if (auto cached = issuer_.TryCached(token_query)) {
    call->cached = true;
    call->answers = 1;
    call->answered_at = executor_->now();
    call->answer = *std::move(cached);
    return call;
  }
  call->ticket =
      issuer_.GetAccessToken(token_query, query.deadline,
                             [call, executor = executor_](absl::StatusOr<TokenAnswer> answer) {
                               ++call->answers;
                               call->answered_at = executor->now();
                               call->answer = std::move(answer);
                             });
  return call;
}

absl::StatusOr<TokenAnswer> Replica::Get(const Query& query) {
  const std::shared_ptr<Call> call = Start(query);
  if (!executor_->RunUntil([&] { return call->answer.has_value(); }, absl::Minutes(1))) {
    return absl::InternalError("not answered");
  }
  return *call->answer;
}

absl::StatusOr<Registered> Replica::Register(Registration registration, absl::Duration deadline) {
  auto answer = std::make_shared<std::optional<absl::StatusOr<Registered>>>();
  registrar_.Register(std::move(registration), deadline,
                      [answer](absl::StatusOr<Registered> result) { *answer = std::move(result); });
  if (!executor_->RunUntil([&] { return answer->has_value(); }, absl::Minutes(1))) {
    return absl::InternalError("not answered");
  }
  return **answer;
}

absl::StatusOr<Revoked> Replica::Revoke(const GrantKey& key, absl::Duration deadline) {
  auto answer = std::make_shared<std::optional<absl::StatusOr<Revoked>>>();
  registrar_.Revoke(key, deadline,
                    [answer](absl::StatusOr<Revoked> result) { *answer = std::move(result); });
  if (!executor_->RunUntil([&] { return answer->has_value(); }, absl::Minutes(1))) {
    return absl::InternalError("not answered");
  }
  return **answer;
}

int Replica::CountOutcome(const std::string& outcome) const {
  return static_cast<int>(std::count(outcomes_.begin(), outcomes_.end(), outcome));
}

World::World(const Options& options)
    : executor_(ExecutorOptions(options)),
      accounts_(&executor_),
      first_store_(StoreOptions(options, &executor_)) {
  for (int i = 0; i < options.replicas; ++i) {
    testing::FakeTokenStore* store = &first_store_;
    if (i > 0) {
      more_stores_.push_back(first_store_.AnotherReplica());
      store = more_stores_.back().get();
    }
    replicas_.push_back(std::make_unique<Replica>(options.issuer, options.limits, options.breaker,
                                                  &setup_, store, &accounts_, &executor_));
  }
}

World::~World() { executor_.Shutdown(); }

void World::Add(const Grant& grant) {
  RegisterRequest request;
  request.key = grant.key;
  request.attempt_id = NewAttemptId();
  request.info.dc = grant.dc;
  request.info.scopes = grant.scopes;
  request.info.keep_warm = grant.keep_warm;
  request.refresh_token = Secret(grant.refresh_token);
  if (grant.lifetime != absl::ZeroDuration()) {
    request.tokens.emplace();
    request.tokens->access_token = Secret("at-old");
    request.tokens->lifetime = grant.lifetime;
  }
  if (!first_store_.Register(request).ok()) std::abort();
  executor_.RunUntilIdle();
}

std::string Brief(const absl::StatusOr<TokenAnswer>& answer) {
  if (!answer.ok()) {
    const std::string reason = ErrorReason(answer.status());
    return reason.empty() ? answer.status().ToString() : reason;
  }
  const std::string_view source = TokenSourceName(answer->source);
  const std::string_view token = answer->token->access_token.Reveal();
  return absl::StrCat(absl::string_view(source.data(), source.size()), " ",
                      absl::string_view(token.data(), token.size()));
}

std::string Brief(const std::shared_ptr<Call>& call) {
  if (call->answers > 1) return absl::StrCat("answered ", call->answers, " times");
  return call->answer ? Brief(*call->answer) : "waiting";
}

absl::Duration RetryAfter(const absl::Status& status) {
  const std::optional<ErrorDetail> detail = GetErrorDetail(status);
  return detail && detail->retry_after ? *detail->retry_after : absl::InfiniteDuration();
}

}  // namespace tokenbroker
