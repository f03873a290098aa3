#include "server/rpc/token_service.h"

#include <atomic>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "clients/zoho/token_reply.h"
#include "common/errors.h"
#include "common/utf8.h"
#include "server/issuing/grant_resolver.h"
#include "server/rpc/authorise.h"
#include "server/rpc/convert.h"
#include "server/rpc/page_token.h"
#include "server/rpc/pending_call.h"
#include "server/rpc/recent_urls.h"
#include "server/rpc/status.h"
#include "server/rpc/validate.h"
#include "tokenbroker/v1/token_service.grpc.pb.h"

namespace tokenbroker {
namespace {

using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;

// Clients refuse answers over 4 MiB by default; a page stays well below.
constexpr size_t kMaxPageBytes = 3 * 1024 * 1024;
constexpr int kMaxUnreadableOrgIds = 100;  // as the proto says

std::string_view EnvironmentOf(v1::Environment environment) {
  switch (environment) {
    case v1::ENVIRONMENT_UNSPECIFIED:
    case v1::ENVIRONMENT_PRODUCTION:
      return EnvironmentName(Environment::kProduction);
    case v1::ENVIRONMENT_SANDBOX:
      return EnvironmentName(Environment::kSandbox);
    case v1::ENVIRONMENT_DEVELOPER:
      return EnvironmentName(Environment::kDeveloper);
    default:
      return "";
  }
}

// As logs and metrics write it.
std::string_view SourceLabel(TokenSource source) {
  switch (source) {
    case TokenSource::kCache:
      return "cache";
    case TokenSource::kStore:
      return "store";
    case TokenSource::kRefreshed:
      return "refreshed";
    case TokenSource::kJoined:
      return "joined";
    case TokenSource::kStale:
      return "stale";
  }
  return "";
}

// For requests that name a grant.
template <typename Request>
CallFacts FactsOf(std::string_view rpc, const CallbackServerContext* context,
                  const Request& request, MonotonicTime begin) {
  return {.rpc = rpc,
          .org_id = request.org_id(),
          .environment = EnvironmentOf(request.environment()),
          .oauth_client = request.oauth_client(),
          .context = context,
          .begin = begin};
}

// A call whose work goes on when the caller has left.
class SteadyCall final : public PendingCall {
 public:
  using PendingCall::PendingCall;
};

// A call that waits for a token and can leave.
class WaitingCall final : public PendingCall {
 public:
  WaitingCall(const CallReporter* reporter, const CallFacts& facts, TokenIssuer* issuer)
      : PendingCall(reporter, facts), issuer_(issuer) {}

  // Only in the handler: gRPC cancels no call before its handler has returned.
  void set_ticket(TokenIssuer::Ticket ticket) { ticket_.store(ticket, std::memory_order_release); }

 private:
  void OnCancel() override {
    PendingCall::OnCancel();
    const TokenIssuer::Ticket ticket = ticket_.load(std::memory_order_acquire);
    if (ticket != 0) issuer_->Cancel(ticket);
  }

  TokenIssuer* const issuer_;
  std::atomic<TokenIssuer::Ticket> ticket_{0};
};

// For an org of which something cannot be read. Names the grants.
absl::Status UnreadableError(const std::vector<UnreadableRecord>& unreadable) {
  std::vector<std::string> names;
  for (const UnreadableRecord& record : unreadable) {
    names.push_back(record.key ? absl::StrCat(std::string(EnvironmentName(record.key->environment)),
                                              "/", absl::CHexEscape(record.key->oauth_client))
                               : "?");
  }
  const std::string list = absl::StrJoin(names, ",");
  return WithMetadata(RecordUnreadableError(
                          absl::StrCat(list, " of this org; register it anew, or mend the store")),
                      "unreadable_grants", list);
}

// The grant that a query without an answer is about: of those that cannot be used, the one that
// GrantResolver would choose. nullptr: none.
const GrantRecord* FindUnusable(const OrgEntry& org, const v1::GetAccessTokenRequest& request) {
  const std::string_view environment = EnvironmentOf(request.environment());
  const std::vector<std::string> wanted(request.scopes().begin(), request.scopes().end());
  const GrantRecord* best = nullptr;
  for (const GrantRecord& record : org.grants) {
    if (record.state == GrantState::kActive ||
        EnvironmentName(record.key.environment) != environment ||
        (!request.oauth_client().empty() && record.key.oauth_client != request.oauth_client()) ||
        // A grant whose scopes Zoho never named is taken at its word.
        (!record.info.scopes.empty() && !MissingScopes(record.info.scopes, wanted).empty())) {
      continue;
    }
    if (best == nullptr || ServesBetter(record, *best)) best = &record;
  }
  return best;
}

}  // namespace

class TokenServiceEdge::Service final : public v1::TokenService::CallbackService {
 public:
  explicit Service(Options options)
      : options_(std::move(options)), reporter_(options_.on_call, options_.clock) {}

  ServerUnaryReactor* GetAccessToken(CallbackServerContext* context,
                                     const v1::GetAccessTokenRequest* request,
                                     v1::GetAccessTokenResponse* response) override {
    CallFacts facts = FactsOf("GetAccessToken", context, *request, reporter_.Now());
    absl::StatusOr<TokenQuery> query = Admit(facts, [&] {
      return ValidateGetAccessToken(*request, *options_.setup, options_.default_min_lifetime);
    });
    if (!query.ok()) return AnswerNow(context, facts, query.status(), "");

    std::optional<absl::StatusOr<TokenAnswer>> cached = options_.issuer->TryCached(*query);
    if (cached && cached->ok()) {
      const TokenAnswer& answer = **cached;
      FillToken(answer, options_.clock.wall(), *response);
      facts.oauth_client = answer.token->key.oauth_client;
      return AnswerNow(context, facts, absl::OkStatus(), SourceLabel(answer.source));
    }
    if (cached && !NeedsUrl(cached->status())) {
      return AnswerNow(context, facts, cached->status(), "");
    }
    if (cached) {
      if (const auto url = urls_.Find(UrlKey(*request), options_.clock.monotonic())) {
        return AnswerNow(context, facts, WithUrl(cached->status(), *url), "");
      }
    }

    auto* call = new WaitingCall(&reporter_, facts, options_.issuer);
    if (cached) {
      AnswerWithUrl(call, cached->status(), request);
      return call;
    }
    const absl::Duration left = call->TimeLeft(options_.default_deadline);
    if (left <= absl::ZeroDuration()) {
      call->Answer(DeadlineExceededError());
      return call;
    }
    call->set_ticket(options_.issuer->GetAccessToken(
        *query, left, [this, call, request, response](absl::StatusOr<TokenAnswer> answer) {
          AnswerToken(call, std::move(answer), request, response);
        }));
    return call;
  }

  ServerUnaryReactor* RegisterGrant(CallbackServerContext* context,
                                    const v1::RegisterGrantRequest* request,
                                    v1::RegisterGrantResponse* response) override {
    const CallFacts facts = FactsOf("RegisterGrant", context, *request, reporter_.Now());
    absl::StatusOr<Registration> registration =
        Admit(facts, [&] { return ValidateRegisterGrant(*request, *options_.setup); });
    if (!registration.ok()) return AnswerNow(context, facts, registration.status(), "");

    auto* call = new SteadyCall(&reporter_, facts);
    const absl::Duration left = call->TimeLeft(options_.default_deadline);
    if (left <= absl::ZeroDuration()) {
      call->Answer(DeadlineExceededError());
      return call;
    }
    options_.registrar->Register(
        *std::move(registration), left,
        call->Later([this, call, response](absl::StatusOr<Registered> registered) {
          if (registered.ok()) {
            FillGrant(registered->record, View(), *response->mutable_grant());
            response->set_replaced(registered->replaced);
          }
          call->Answer(registered.status());
        }));
    return call;
  }

  ServerUnaryReactor* ListOrgs(CallbackServerContext* context, const v1::ListOrgsRequest* request,
                               v1::ListOrgsResponse* response) override {
    const CallFacts facts{.rpc = "ListOrgs", .context = context, .begin = reporter_.Now()};
    absl::StatusOr<OrgListing> listing = Admit(facts, [&] { return ValidateListOrgs(*request); });
    if (!listing.ok()) return AnswerNow(context, facts, listing.status(), "");

    auto* call = new SteadyCall(&reporter_, facts);
    const absl::Duration left = call->TimeLeft(options_.default_deadline);
    options_.directory->List(
        listing->filter, listing->after, listing->page_size, left,
        call->Later([this, call, response, filter = listing->filter](absl::StatusOr<OrgPage> page) {
          if (page.ok()) FillPage(*page, filter, *response);
          call->Answer(page.status());
        }));
    return call;
  }

  ServerUnaryReactor* GetOrg(CallbackServerContext* context, const v1::GetOrgRequest* request,
                             v1::GetOrgResponse* response) override {
    const CallFacts facts{
        .rpc = "GetOrg", .org_id = request->org_id(), .context = context, .begin = reporter_.Now()};
    absl::StatusOr<std::string> org_id = Admit(facts, [&] { return ValidateGetOrg(*request); });
    if (!org_id.ok()) return AnswerNow(context, facts, org_id.status(), "");

    auto* call = new SteadyCall(&reporter_, facts);
    const absl::Duration left = call->TimeLeft(options_.default_deadline);
    options_.directory->Get(*std::move(org_id), left,
                            call->Later([this, call, response](absl::StatusOr<OrgEntry> org) {
                              if (!org.ok()) return call->Answer(org.status());
                              if (!org->unreadable.empty())
                                return call->Answer(UnreadableError(org->unreadable));
                              FillOrg(*org, *response->mutable_org());
                              call->Answer(absl::OkStatus());
                            }));
    return call;
  }

  ServerUnaryReactor* RevokeGrant(CallbackServerContext* context,
                                  const v1::RevokeGrantRequest* request,
                                  v1::RevokeGrantResponse* response) override {
    const CallFacts facts = FactsOf("RevokeGrant", context, *request, reporter_.Now());
    absl::StatusOr<GrantKey> key = Admit(facts, [&] { return ValidateRevokeGrant(*request); });
    if (!key.ok()) return AnswerNow(context, facts, key.status(), "");

    auto* call = new SteadyCall(&reporter_, facts);
    const absl::Duration left = call->TimeLeft(options_.default_deadline);
    if (left <= absl::ZeroDuration()) {
      call->Answer(DeadlineExceededError());
      return call;
    }
    options_.registrar->Revoke(*key, left,
                               call->Later([this, call, response](absl::StatusOr<Revoked> revoked) {
                                 if (revoked.ok()) {
                                   FillGrant(revoked->record, View(), *response->mutable_grant());
                                   response->set_revoked_at_zoho(revoked->revoked_at_zoho);
                                 }
                                 call->Answer(revoked.status());
                               }));
    return call;
  }

  ServerUnaryReactor* CreateAuthorizationUrl(
      CallbackServerContext* context, const v1::CreateAuthorizationUrlRequest* request,
      v1::CreateAuthorizationUrlResponse* response) override {
    const CallFacts facts = FactsOf("CreateAuthorizationUrl", context, *request, reporter_.Now());
    const absl::StatusOr<AuthorizationRequest> wanted =
        Admit(facts, [&] { return ValidateCreateAuthorizationUrl(*request, *options_.setup); });
    if (!wanted.ok()) return AnswerNow(context, facts, wanted.status(), "");
    if (options_.authorization_urls == nullptr) {
      return AnswerNow(
          context, facts,
          ConsentNotConfiguredError("the broker's configuration has no `consent` section"), "");
    }
    const absl::StatusOr<AuthorizationUrl> url = options_.authorization_urls->Create(*wanted);
    if (url.ok()) {
      response->set_authorization_url(url->url);
      SetTimestamp(url->expire_time, *response->mutable_expire_time());
    }
    return AnswerNow(context, facts, url.status(), "");
  }

 private:
  // Authorises, then validates.
  template <typename Validate>
  auto Admit(const CallFacts& facts, Validate validate) const -> decltype(validate()) {
    if (absl::Status status = Authorise(*facts.context, facts.rpc); !status.ok()) return status;
    return validate();
  }

  ServerUnaryReactor* AnswerNow(CallbackServerContext* context, const CallFacts& facts,
                                const absl::Status& status, std::string_view source) const {
    reporter_.Report(facts, status, source);
    ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(ToGrpcStatus(status));
    return reactor;
  }

  void AnswerToken(WaitingCall* call, absl::StatusOr<TokenAnswer> answer,
                   const v1::GetAccessTokenRequest* request, v1::GetAccessTokenResponse* response) {
    if (answer.ok()) {
      FillToken(*answer, options_.clock.wall(), *response);
      return call->Answer(absl::OkStatus(), SourceLabel(answer->source),
                          answer->token->key.oauth_client);
    }
    if (NeedsUrl(answer.status())) return AnswerWithUrl(call, answer.status(), request);
    call->Answer(answer.status());
  }

  bool NeedsUrl(const absl::Status& status) const {
    return options_.authorization_urls != nullptr &&
           status.code() == absl::StatusCode::kFailedPrecondition &&
           ErrorReason(status) == "CONSENT_REQUIRED";
  }

  // With the metadata entry `authorization_url` where one can be made. Where not, the error goes
  // out as it is.
  void AnswerWithUrl(WaitingCall* call, const absl::Status& status,
                     const v1::GetAccessTokenRequest* request) {
    if (const auto url = urls_.Find(UrlKey(*request), options_.clock.monotonic())) {
      return call->Answer(WithUrl(status, *url));
    }
    const absl::Duration left = call->TimeLeft(options_.default_deadline);
    std::string org_id = request->org_id();
    // The request is there until the call is let go of, and again where there is a result.
    auto answer = call->Later([this, call, status, request](absl::StatusOr<OrgEntry> org) {
      const GrantRecord* grant = org.ok() ? FindUnusable(*org, *request) : nullptr;
      // The store may know more the next time.
      if (grant == nullptr) return call->Answer(status);
      std::string url = MakeUrl(*grant, *request);
      const absl::Status with_url = WithUrl(status, url);
      urls_.Put(UrlKey(*request), std::move(url), options_.clock.monotonic());
      call->Answer(with_url);
    });
    options_.directory->Get(std::move(org_id), left, std::move(answer));
  }

  // Asks for what the dead grant had, or for what the call wants where Zoho never named the grant's
  // scopes. "": none can be made.
  std::string MakeUrl(const GrantRecord& grant, const v1::GetAccessTokenRequest& request) const {
    std::vector<std::string> scopes = grant.info.scopes;
    if (scopes.empty()) scopes.assign(request.scopes().begin(), request.scopes().end());
    // Zoho's page refuses a request without any.
    if (scopes.empty()) return "";
    const absl::StatusOr<AuthorizationUrl> url =
        options_.authorization_urls->Create({.key = grant.key,
                                             .dc = grant.info.dc,
                                             .scopes = std::move(scopes),
                                             .display_name = grant.info.display_name,
                                             .labels = grant.info.labels,
                                             .keep_warm = grant.info.keep_warm});
    return url.ok() ? url->url : "";
  }

  static absl::Status WithUrl(const absl::Status& status, const std::string& url) {
    return url.empty() ? status : WithMetadata(status, "authorization_url", url);
  }

  // All that the choice of the URL depends on.
  static std::string UrlKey(const v1::GetAccessTokenRequest& request) {
    const auto environment = static_cast<int>(request.environment());
    return absl::StrCat(request.org_id().size(), ":", request.org_id(), environment, ":",
                        request.oauth_client().size(), ":", request.oauth_client(),
                        absl::StrJoin(request.scopes(), ","));
  }

  GrantView View() const {
    return {.limits = options_.limits,
            .wall_now = options_.clock.wall(),
            .refresh_ahead = options_.refresh_ahead};
  }

  void FillOrg(const OrgEntry& org, v1::Org& out) const {
    const GrantView view = View();
    out.set_org_id(ToUtf8(org.org_id));
    for (const GrantRecord& record : org.grants) FillGrant(record, view, *out.add_grants());
  }

  void FillPage(const OrgPage& page, const GrantFilter& filter,
                v1::ListOrgsResponse& response) const {
    size_t bytes = 0;
    std::string next = page.next;
    for (const OrgEntry& entry : page.orgs) {
      v1::Org org;
      FillOrg(entry, org);
      bytes += org.ByteSizeLong();
      if (bytes > kMaxPageBytes && response.orgs_size() > 0) break;
      next = EncodeGrantKey(entry.grants.back().key);
      *response.add_orgs() = std::move(org);
    }
    if (response.orgs_size() == static_cast<int>(page.orgs.size())) next = page.next;
    if (!next.empty()) response.set_next_page_token(EncodePageToken(next, filter));
    FillUnreadable(page.unreadable, next, response);
  }

  // Those up to `next` ("": all): the others are on the next page again.
  static void FillUnreadable(const std::vector<UnreadableRecord>& unreadable,
                             const std::string& next, v1::ListOrgsResponse& response) {
    int count = 0;
    for (const UnreadableRecord& record : unreadable) {
      if (!next.empty() && record.encoded > next) break;
      ++count;
      const auto& ids = response.unreadable_org_ids();
      if (!record.key || ids.size() >= kMaxUnreadableOrgIds) continue;
      const std::string org_id = ToUtf8(record.key->org_id);
      if (ids.empty() || *ids.rbegin() != org_id) response.add_unreadable_org_ids(org_id);
    }
    response.set_unreadable_grant_count(count);
  }

  const Options options_;
  const CallReporter reporter_;
  RecentUrls urls_;
};

TokenServiceEdge::TokenServiceEdge(Options options)
    : service_(std::make_unique<Service>(std::move(options))) {}
TokenServiceEdge::~TokenServiceEdge() = default;

grpc::Service* TokenServiceEdge::service() { return service_.get(); }

}  // namespace tokenbroker
