#include "tests/zoho_simulator/endpoints.h"

#include <string>
#include <string_view>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/zoho_simulator/text.h"

namespace tokenbroker::zoho_simulator {
namespace {

constexpr std::string_view kToken = "/oauth/v2/token";
constexpr std::string_view kRevoke = "/oauth/v2/token/revoke";
constexpr std::string_view kRevokeWithBasicAuth = "/oauth/v2/revoke/token";
constexpr std::string_view kDeviceCode = "/oauth/v3/device/code";
constexpr std::string_view kDeviceToken = "/oauth/v3/device/token";

bool IsPost(std::string_view path) {
  return path == kToken || path == kRevoke || path == kRevokeWithBasicAuth || path == kDeviceCode ||
         path == kDeviceToken;
}

bool StartsWith(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

// The parts of multipart/form-data that have a name and no file.
Parameters ParseMultipart(std::string_view content_type, std::string_view body) {
  Parameters parameters;
  constexpr std::string_view kBoundary = "boundary=";
  size_t at = content_type.find(kBoundary);
  if (at == std::string_view::npos) return parameters;
  std::string_view boundary = content_type.substr(at + kBoundary.size());
  boundary = boundary.substr(0, boundary.find(';'));
  if (boundary.size() >= 2 && boundary.front() == '"') {
    boundary = boundary.substr(1, boundary.size() - 2);
  }
  const std::string delimiter = absl::StrCat("--", std::string(boundary));
  at = body.find(delimiter);
  while (at != std::string_view::npos) {
    body.remove_prefix(at + delimiter.size());
    at = body.find(delimiter);
    if (at == std::string_view::npos) break;
    const std::string_view part = body.substr(0, at);
    const size_t blank = part.find("\r\n\r\n");
    const size_t name = part.find("name=\"");
    if (blank == std::string_view::npos || name == std::string_view::npos || name > blank) continue;
    const std::string_view rest = part.substr(name + 6);
    std::string_view value = part.substr(blank + 4);
    if (value.size() >= 2) value.remove_suffix(2);  // the line end before the delimiter
    parameters.emplace(std::string(rest.substr(0, rest.find('"'))), std::string(value));
  }
  return parameters;
}

std::string BasicAuthUser(std::string_view authorization) {
  constexpr std::string_view kScheme = "Basic ";
  if (!StartsWith(authorization, kScheme)) return "";
  const std::optional<std::string> pair = Base64Decode(authorization.substr(kScheme.size()));
  if (!pair.has_value()) return "";
  return PercentDecode(pair->substr(0, pair->find(':')));
}

}  // namespace

Parameters ParametersOf(const HttpRequest& request) {
  Parameters parameters;
  const absl::string_view type(request.content_type);
  if (absl::StartsWithIgnoreCase(type, "multipart/form-data")) {
    parameters = ParseMultipart(request.content_type, request.body);
  } else if (type.empty() ||
             absl::StartsWithIgnoreCase(type, "application/x-www-form-urlencoded")) {
    parameters = ParseForm(request.body);
  }
  parameters.merge(ParseForm(request.query));
  return parameters;
}

RequestEntry EntryFor(const AccountsState& state, const HttpRequest& request,
                      const Parameters& parameters, absl::Time now) {
  RequestEntry entry;
  entry.arrival_time = now;
  entry.dc = request.label;
  entry.method = request.method;
  entry.path = request.path;
  entry.grant_type = Get(parameters, "grant_type");
  entry.client_id = Get(parameters, "client_id");
  if (entry.client_id.empty()) entry.client_id = BasicAuthUser(request.authorization);
  entry.connection_id = request.connection_id;
  entry.https = request.https;
  entry.grant = state.Identify(request.label, parameters, request.authorization);
  if (!request.query.empty()) {
    const Parameters query = ParseForm(request.query);
    for (const char* secret :
         {"client_secret", "refresh_token", "access_token", "token", "code", "code_verifier"}) {
      entry.secret_in_url = entry.secret_in_url || Has(query, secret);
    }
  }
  return entry;
}

AccountsReply Dispatch(AccountsState& state, const HttpRequest& request,
                       const Parameters& parameters, absl::Time now) {
  const std::string& dc = request.label;
  const std::string& path = request.path;
  if (dc == kTrapLabel) {
    AccountsReply reply = HtmlPage(200, "Not Zoho", "");
    reply.outcome = "trapped";
    return reply;
  }
  if (IsPost(path) && request.method != "POST") return BadRequestPage();
  if (path == kToken) return state.Token(dc, parameters, now);
  if (path == kRevoke) return state.Revoke(dc, parameters, now);
  if (path == kRevokeWithBasicAuth) {
    return state.RevokeWithBasicAuth(dc, request.authorization, parameters, now);
  }
  if (path == kDeviceCode) return state.DeviceCode(dc, parameters, now);
  if (path == kDeviceToken) return state.DeviceToken(dc, parameters, now);
  if (path == "/oauth/serverinfo") return state.ServerInfo(dc);
  if (path == "/oauth/v2/auth") return state.Authorize(dc, parameters, request.target, now);
  if (path == "/oauth/v3/device") return state.DevicePage(dc, parameters, request.target, now);
  if (StartsWith(path, "/people/api/")) {
    return state.People(dc, request.method, path, request.authorization, now);
  }
  AccountsReply reply = HtmlPage(404, "Not Found", "");
  reply.outcome = "not_found";
  return reply;
}

}  // namespace tokenbroker::zoho_simulator
