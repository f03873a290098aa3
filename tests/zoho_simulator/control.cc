#include "tests/zoho_simulator/control.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "tests/zoho_simulator/json_config.h"
#include "tests/zoho_simulator/reply.h"
#include "tests/zoho_simulator/text.h"

namespace tokenbroker::zoho_simulator {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr absl::Duration kPollInterval = absl::Milliseconds(5);

void Answer(HttpExchange& exchange, int status, const std::string& body,
            std::string content_type = "application/json") {
  HttpEnding ending;
  ending.status = status;
  ending.content_type = std::move(content_type);
  ending.body = body;
  exchange.End(std::move(ending));
}

int HttpStatusOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 200;
    case absl::StatusCode::kInvalidArgument:
      return 400;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kFailedPrecondition:
      return 409;
    case absl::StatusCode::kResourceExhausted:
      return 429;
    default:
      return 500;
  }
}

absl::StatusOr<uint64_t> ReadNumber(const Parameters& query, const char* name, uint64_t otherwise) {
  if (!Has(query, name)) return otherwise;
  uint64_t number = 0;
  if (!absl::SimpleAtoi(Get(query, name), &number)) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": not a number"));
  }
  return number;
}

absl::StatusOr<RequestFilter> ReadFilter(const Parameters& query) {
  RequestFilter filter;
  filter.dc = Get(query, "dc");
  filter.path = Get(query, "path");
  filter.grant_type = Get(query, "grant_type");
  filter.client_id = Get(query, "client_id");
  filter.user_id = Get(query, "user_id");
  filter.org_id = Get(query, "org_id");
  filter.outcome = Get(query, "outcome");
  filter.fault = Get(query, "fault");
  TB_ASSIGN_OR_RETURN(filter.grant_number, ReadNumber(query, "grant_number", 0));
  TB_ASSIGN_OR_RETURN(filter.after_sequence, ReadNumber(query, "after", 0));
  if (Has(query, "finished")) filter.finished = Get(query, "finished") == "true";
  if (Has(query, "client_gone")) filter.client_gone = Get(query, "client_gone") == "true";
  return filter;
}

ordered_json ToJson(const SeededGrant& grant) {
  return {{"grant_number", grant.identity.number},
          {"user_id", grant.identity.user_id},
          {"org_id", grant.identity.org_id},
          {"environment", std::string(EnvironmentName(grant.identity.environment))},
          {"dc", grant.dc},
          {"client_id", grant.client_id},
          {"refresh_token", grant.refresh_token}};
}

ordered_json ToJson(const GrantReport& report, absl::Time now) {
  ordered_json object = {{"grant_number", report.identity.number},
                         {"user_id", report.identity.user_id},
                         {"org_id", report.identity.org_id},
                         {"environment", std::string(EnvironmentName(report.identity.environment))},
                         {"dc", report.dc},
                         {"client_id", report.client_id},
                         {"alive", report.alive},
                         {"has_refresh_token", report.has_refresh_token},
                         {"mints", report.mints},
                         {"active_access_tokens", report.active_access_tokens}};
  if (report.throttled_until.has_value()) {
    object["throttled_for_seconds"] = absl::ToDoubleSeconds(*report.throttled_until - now);
  }
  return object;
}

using Result = absl::StatusOr<ordered_json>;

const ordered_json& Empty() {
  static const auto* const kEmpty = new ordered_json(ordered_json::object());
  return *kEmpty;
}

Result SeedGrants(Simulator& simulator, const json& body) {
  std::string dc, client_id;
  int count = 1;
  SeedOptions options;
  JsonFields fields(body, "seed");
  fields.Read("dc", &dc);
  fields.Read("client_id", &client_id);
  fields.Read("count", &count);
  fields.Read("scopes", &options.scopes);
  fields.ReadName("environment", &ParseEnvironment, &options.environment);
  fields.Read("prefix", &options.prefix);
  TB_RETURN_IF_ERROR(fields.Done());
  TB_ASSIGN_OR_RETURN(const std::vector<SeededGrant> seeded,
                      simulator.SeedGrants(dc, client_id, count, std::move(options)));
  ordered_json grants = ordered_json::array();
  for (const SeededGrant& grant : seeded) grants.push_back(ToJson(grant));
  return ordered_json{{"grants", std::move(grants)}};
}

Result CreateCode(Simulator& simulator, const json& body) {
  CodeRequest request;
  JsonFields fields(body, "code");
  fields.Read("client_id", &request.client_id);
  fields.Read("user_id", &request.user_id);
  fields.Read("org_id", &request.org_id);
  fields.ReadName("environment", &ParseEnvironment, &request.environment);
  fields.Read("scopes", &request.scopes);
  fields.Read("redirect_uri", &request.redirect_uri);
  if (fields.Child("life_seconds") != nullptr) {
    absl::Duration life;
    fields.ReadSeconds("life_seconds", &life);
    request.life = life;
  }
  fields.Read("offline", &request.offline);
  fields.Read("prompt_consent", &request.prompt_consent);
  TB_RETURN_IF_ERROR(fields.Done());
  TB_ASSIGN_OR_RETURN(const std::string code,
                      simulator.accounts().CreateCode(request, simulator.now()));
  return ordered_json{{"code", code}};
}

Result SetBehaviour(Simulator& simulator, const Parameters& query, const json& body) {
  const std::string& dc = Get(query, "dc");
  std::vector<std::string> names = simulator.dc_names();
  if (!dc.empty()) names = {dc};
  for (const std::string& name : names) {
    TB_ASSIGN_OR_RETURN(Behaviour behaviour, simulator.accounts().GetBehaviour(name));
    TB_RETURN_IF_ERROR(MergeBehaviour(body, &behaviour));
    TB_RETURN_IF_ERROR(simulator.accounts().SetBehaviour(name, std::move(behaviour)));
  }
  return Empty();
}

Result GetBehaviour(Simulator& simulator) {
  ordered_json all = ordered_json::object();
  for (const std::string& name : simulator.dc_names()) {
    TB_ASSIGN_OR_RETURN(const Behaviour behaviour, simulator.accounts().GetBehaviour(name));
    all[name] = ToJson(behaviour);
  }
  return all;
}

// The four things that happen behind an app's back take their object from the same fields.
Result Kill(Simulator& simulator, std::string_view what, const json& body) {
  std::string user_id, client_id, org_id;
  uint64_t grant_number = 0;
  JsonFields fields(body, "kill");
  fields.Read("user_id", &user_id);
  fields.Read("client_id", &client_id);
  fields.Read("org_id", &org_id);
  fields.Read("grant_number", &grant_number);
  TB_RETURN_IF_ERROR(fields.Done());
  AccountsState& accounts = simulator.accounts();
  if (what == "user-tokens") {
    return ordered_json{{"killed", accounts.TerminateUserTokens(user_id)}};
  }
  if (what == "connected-app") {
    return ordered_json{{"killed", accounts.RemoveConnectedApp(user_id, client_id)}};
  }
  if (what == "access-tokens") return ordered_json{{"killed", accounts.KillAccessTokens(org_id)}};
  if (what == "grant") {
    TB_RETURN_IF_ERROR(accounts.KillGrant(grant_number));
    return ordered_json{{"killed", 1}};
  }
  return absl::NotFoundError("no such thing to kill");
}

Result FindGrant(Simulator& simulator, const Parameters& query) {
  const absl::Time now = simulator.now();
  std::optional<GrantReport> report;
  TB_ASSIGN_OR_RETURN(const uint64_t number, ReadNumber(query, "grant_number", 0));
  if (number != 0) {
    report = simulator.accounts().FindGrant(number, now);
  } else {
    report = simulator.accounts().FindGrant(
        Get(query, "dc"), Get(query, "client_id"), Get(query, "org_id"),
        ParseEnvironment(Get(query, "environment")).value_or(Environment::kProduction), now);
  }
  if (!report.has_value()) return absl::NotFoundError("no such grant");
  return ToJson(*report, now);
}

Result ListRequests(Simulator& simulator, const Parameters& query) {
  TB_ASSIGN_OR_RETURN(const RequestFilter filter, ReadFilter(query));
  TB_ASSIGN_OR_RETURN(const uint64_t limit, ReadNumber(query, "limit", 0));
  ordered_json requests = ordered_json::array();
  for (const RequestEntry& entry : simulator.log().Entries(filter, limit)) {
    requests.push_back(ToJson(entry));
  }
  return ordered_json{{"requests", std::move(requests)}};
}

Result Summary(Simulator& simulator) {
  ordered_json summary = ToJson(simulator.log().Summary());
  summary["connections"] = simulator.ConnectionCount();
  summary["hung"] = simulator.hung();
  return summary;
}

Result ListFaults(Simulator& simulator) {
  ordered_json faults = ordered_json::array();
  for (const FaultRules::Numbered& numbered : simulator.faults()) {
    faults.push_back(ToJson(numbered));
  }
  return ordered_json{{"faults", std::move(faults)}};
}

Result DeleteFaults(Simulator& simulator, const Parameters& query) {
  TB_ASSIGN_OR_RETURN(const uint64_t id, ReadNumber(query, "id", 0));
  if (id == 0) {
    simulator.ClearFaults(Get(query, "dc"));
  } else if (!simulator.RemoveFault(id)) {
    return absl::NotFoundError("no such fault");
  }
  return Empty();
}

Result SetAcceptMode(Simulator& simulator, const json& body) {
  std::string dc;
  AcceptMode mode = AcceptMode::kServe;
  JsonFields fields(body, "accept-mode");
  fields.Read("dc", &dc);
  fields.ReadName("mode", &ParseAcceptMode, &mode);
  TB_RETURN_IF_ERROR(fields.Done());
  TB_RETURN_IF_ERROR(simulator.SetAcceptMode(dc, mode));
  return Empty();
}

Result Advance(Simulator& simulator, const json& body) {
  absl::Duration by;
  JsonFields fields(body, "advance");
  fields.ReadSeconds("seconds", &by);
  TB_RETURN_IF_ERROR(fields.Done());
  simulator.AdvanceTime(by);
  return Empty();
}

Result AnswerGet(Simulator& simulator, std::string_view path, const Parameters& query) {
  if (path == "requests") return ListRequests(simulator, query);
  if (path == "summary") return Summary(simulator);
  if (path == "faults") return ListFaults(simulator);
  if (path == "behaviour") return GetBehaviour(simulator);
  if (path == "grant") return FindGrant(simulator, query);
  if (path == "urls") return ordered_json::parse(UrlsAsJson(simulator));
  return absl::NotFoundError("no such path");
}

Result AnswerDelete(Simulator& simulator, std::string_view path, const Parameters& query) {
  if (path == "requests") {
    simulator.log().Clear();
    return Empty();
  }
  if (path == "faults") return DeleteFaults(simulator, query);
  if (path == "clients") {
    TB_RETURN_IF_ERROR(simulator.accounts().DeleteClient(Get(query, "client_id")));
    return Empty();
  }
  if (path == "default-consent") {
    simulator.accounts().SetDefaultConsent(std::nullopt);
    return Empty();
  }
  return absl::NotFoundError("no such path");
}

Result AnswerPost(Simulator& simulator, std::string_view path, const Parameters& query,
                  std::string_view text) {
  TB_ASSIGN_OR_RETURN(const json body, ParseJson(text.empty() ? "{}" : text));
  if (path == "seed") return SeedGrants(simulator, body);
  if (path == "codes") return CreateCode(simulator, body);
  if (path == "behaviour") return SetBehaviour(simulator, query, body);
  if (path == "accept-mode") return SetAcceptMode(simulator, body);
  if (path == "advance") return Advance(simulator, body);
  if (path == "release") {
    return ordered_json{{"released", simulator.ReleaseHung(Get(query, "dc"))}};
  }
  if (path == "faults") {
    TB_ASSIGN_OR_RETURN(FaultRule rule, ParseFaultRule(body));
    return ordered_json{{"id", simulator.AddFault(std::move(rule))}};
  }
  if (path == "clients") {
    TB_ASSIGN_OR_RETURN(ClientConfig client, ParseClient(body));
    TB_RETURN_IF_ERROR(simulator.accounts().AddClient(std::move(client)));
    return Empty();
  }
  if (path == "users") {
    TB_ASSIGN_OR_RETURN(UserConfig user, ParseUser(body));
    TB_RETURN_IF_ERROR(simulator.accounts().AddUser(std::move(user)));
    return Empty();
  }
  if (path == "default-consent") {
    TB_ASSIGN_OR_RETURN(ConsentChoice choice, ParseConsent(body));
    simulator.accounts().SetDefaultConsent(std::move(choice));
    return Empty();
  }
  constexpr std::string_view kKill = "kill/";
  if (path.substr(0, kKill.size()) == kKill) {
    return Kill(simulator, path.substr(kKill.size()), body);
  }
  return absl::NotFoundError("no such path");
}

// Answers when enough requests match, or at the deadline.
void Wait(Simulator& simulator, const std::shared_ptr<HttpExchange>& exchange,
          const RequestFilter& filter, int64_t count, absl::Duration left) {
  const int64_t matched = simulator.log().Count(filter);
  if (matched >= count || left <= absl::ZeroDuration()) {
    const ordered_json body = {{"reached", matched >= count}, {"count", matched}};
    Answer(*exchange, matched >= count ? 200 : 408, body.dump());
    return;
  }
  exchange->After(kPollInterval, [&simulator, exchange, filter, count, left] {
    Wait(simulator, exchange, filter, count, left - kPollInterval);
  });
}

}  // namespace

void HandleControl(Simulator& simulator, std::shared_ptr<HttpExchange> exchange) {
  const HttpRequest& request = exchange->request();
  const Parameters query = ParseForm(request.query);
  constexpr std::string_view kRoot = "/control/";
  std::string_view path = request.path;
  if (path.substr(0, kRoot.size()) != kRoot) {
    Answer(*exchange, 404, "{\"error\":\"the paths begin with /control/\"}");
    return;
  }
  path.remove_prefix(kRoot.size());
  if (request.method == "GET" && path == "certificate") {
    Answer(*exchange, 200, simulator.certificate_pem(), "application/x-pem-file");
    return;
  }
  if (request.method == "GET" && path == "wait") {
    const absl::StatusOr<RequestFilter> filter = ReadFilter(query);
    const absl::StatusOr<uint64_t> count = ReadNumber(query, "count", 1);
    const absl::StatusOr<uint64_t> timeout = ReadNumber(query, "timeout_ms", 10000);
    if (!filter.ok() || !count.ok() || !timeout.ok()) {
      Answer(*exchange, 400, "{\"error\":\"bad number\"}");
      return;
    }
    Wait(simulator, exchange, *filter, static_cast<int64_t>(*count),
         absl::Milliseconds(static_cast<int64_t>(*timeout)));
    return;
  }
  Result result = absl::InvalidArgumentError("GET, POST and DELETE only");
  if (request.method == "GET") result = AnswerGet(simulator, path, query);
  if (request.method == "DELETE") result = AnswerDelete(simulator, path, query);
  if (request.method == "POST") result = AnswerPost(simulator, path, query, request.body);
  if (!result.ok()) {
    const ordered_json body = {{"error", std::string(result.status().message())}};
    Answer(*exchange, HttpStatusOf(result.status()), body.dump());
    return;
  }
  // What came from the network may be no UTF-8.
  Answer(*exchange, 200, result->dump(-1, ' ', false, ordered_json::error_handler_t::replace));
}

std::string UrlsAsJson(const Simulator& simulator) {
  ordered_json dcs = ordered_json::object();
  for (const std::string& name : simulator.dc_names()) {
    const Simulator::Dc& dc = simulator.dc(name);
    dcs[name] = {{"http", dc.url()}};
    if (!dc.https_url().empty()) dcs[name]["https"] = dc.https_url();
  }
  return ordered_json{
      {"control", simulator.control_url()}, {"trap", simulator.trap_url()}, {"dcs", std::move(dcs)}}
      .dump();
}

}  // namespace tokenbroker::zoho_simulator
