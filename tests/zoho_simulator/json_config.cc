#include "tests/zoho_simulator/json_config.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/status_macros.h"

namespace tokenbroker::zoho_simulator {

using nlohmann::json;
using nlohmann::ordered_json;

JsonFields::JsonFields(const json& object, std::string_view where)
    : object_(object), where_(where) {
  if (!object.is_object()) {
    status_ = absl::InvalidArgumentError(absl::StrCat(std::string(where), ": not a JSON object"));
  }
}

const json* JsonFields::Child(const char* name) {
  known_.insert(name);
  if (!object_.is_object()) return nullptr;
  const auto it = object_.find(name);
  return it == object_.end() ? nullptr : &*it;
}

void JsonFields::Fail(std::string_view name, std::string_view what) {
  Check(absl::InvalidArgumentError(
      absl::StrCat(std::string(where_), ".", std::string(name), ": ", std::string(what))));
}

void JsonFields::Check(absl::Status status) {
  if (status_.ok()) status_ = std::move(status);
}

void JsonFields::Read(const char* name, std::string* target) {
  const json* value = Child(name);
  if (value == nullptr) return;
  if (!value->is_string()) return Fail(name, "not a string");
  *target = value->get<std::string>();
}

void JsonFields::Read(const char* name, bool* target) {
  const json* value = Child(name);
  if (value == nullptr) return;
  if (!value->is_boolean()) return Fail(name, "not true or false");
  *target = value->get<bool>();
}

void JsonFields::Read(const char* name, int64_t* target) {
  const json* value = Child(name);
  if (value == nullptr) return;
  if (!value->is_number_integer()) return Fail(name, "not an integer");
  *target = value->get<int64_t>();
}

void JsonFields::Read(const char* name, uint64_t* target) {
  int64_t number = 0;
  if (Child(name) == nullptr) return;
  Read(name, &number);
  if (number < 0) return Fail(name, "negative");
  *target = static_cast<uint64_t>(number);
}

void JsonFields::Read(const char* name, int* target) {
  int64_t number = *target;
  Read(name, &number);
  if (number < 0 || number > std::numeric_limits<int>::max()) return Fail(name, "out of range");
  *target = static_cast<int>(number);
}

void JsonFields::Read(const char* name, uint16_t* target) {
  int64_t number = *target;
  Read(name, &number);
  if (number < 0 || number > std::numeric_limits<uint16_t>::max()) {
    return Fail(name, "not a port");
  }
  *target = static_cast<uint16_t>(number);
}

void JsonFields::Read(const char* name, std::vector<std::string>* target) {
  const json* value = Child(name);
  if (value == nullptr) return;
  if (!value->is_array()) return Fail(name, "not a list");
  target->clear();
  for (const json& item : *value) {
    if (!item.is_string()) return Fail(name, "not a list of strings");
    target->push_back(item.get<std::string>());
  }
}

void JsonFields::Read(const char* name, std::map<std::string, std::string>* target) {
  const json* value = Child(name);
  if (value == nullptr) return;
  if (!value->is_object()) return Fail(name, "not an object");
  target->clear();
  for (const auto& [key, item] : value->items()) {
    if (!item.is_string()) return Fail(name, "not an object of strings");
    (*target)[key] = item.get<std::string>();
  }
}

void JsonFields::ReadSeconds(const char* name, absl::Duration* target) {
  const json* value = Child(name);
  if (value == nullptr) return;
  if (!value->is_number()) return Fail(name, "not a number of seconds");
  *target = absl::Seconds(value->get<double>());
}

void JsonFields::ReadMilliseconds(const char* name, absl::Duration* target) {
  const json* value = Child(name);
  if (value == nullptr) return;
  if (!value->is_number()) return Fail(name, "not a number of milliseconds");
  *target = absl::Milliseconds(value->get<double>());
}

absl::Status JsonFields::Done() const {
  if (!status_.ok()) return status_;
  for (const auto& [name, value] : object_.items()) {
    if (known_.find(name) == known_.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(std::string(where_), ".", name, ": no such field"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<json> ParseJson(std::string_view text) {
  json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false, /*ignore_comments=*/true);
  if (parsed.is_discarded()) return absl::InvalidArgumentError("not JSON");
  return parsed;
}

absl::StatusOr<ClientConfig> ParseClient(const json& object) {
  ClientConfig client;
  JsonFields fields(object, "client");
  fields.Read("client_id", &client.client_id);
  fields.ReadName("type", &ParseClientType, &client.type);
  fields.Read("home_dc", &client.home_dc);
  fields.Read("multi_dc", &client.multi_dc);
  fields.Read("same_secret_everywhere", &client.same_secret_everywhere);
  fields.Read("secrets", &client.secrets);
  fields.Read("redirect_uris", &client.redirect_uris);
  TB_RETURN_IF_ERROR(fields.Done());
  return client;
}

absl::StatusOr<UserConfig> ParseUser(const json& object) {
  UserConfig user;
  JsonFields fields(object, "user");
  fields.Read("user_id", &user.user_id);
  fields.Read("dc", &user.dc);
  if (const json* orgs = fields.Child("orgs"); orgs != nullptr && orgs->is_array()) {
    for (const json& item : *orgs) {
      OrgConfig org;
      JsonFields org_fields(item, "org");
      std::map<std::string, std::string> environments;
      org_fields.Read("org_id", &org.org_id);
      org_fields.Read("name", &org.name);
      org_fields.Read("environments", &environments);
      for (const auto& [name, zsoid] : environments) {
        if (const auto environment = ParseEnvironment(name)) {
          org.environments[*environment] = zsoid;
        } else {
          org_fields.Fail("environments", "has no such environment");
        }
      }
      fields.Check(org_fields.Done());
      user.orgs.push_back(std::move(org));
    }
  }
  TB_RETURN_IF_ERROR(fields.Done());
  return user;
}

absl::StatusOr<ConsentChoice> ParseConsent(const json& object) {
  ConsentChoice choice;
  JsonFields fields(object, "consent");
  fields.Read("user_id", &choice.user_id);
  fields.Read("org_id", &choice.org_id);
  fields.ReadName("environment", &ParseEnvironment, &choice.environment);
  fields.Read("accept", &choice.accept);
  TB_RETURN_IF_ERROR(fields.Done());
  return choice;
}

absl::StatusOr<FaultRule> ParseFaultRule(const json& object) {
  FaultRule rule;
  Fault& fault = rule.fault;
  JsonFields fields(object, "fault");
  fields.Read("dc", &rule.dc);
  fields.Read("path", &rule.path);
  fields.Read("grant_type", &rule.grant_type);
  fields.Read("client_id", &rule.client_id);
  fields.Read("org_id", &rule.org_id);
  fields.Read("times", &rule.times);
  fields.ReadName("kind", &ParseFaultKind, &fault.kind);
  fields.ReadMilliseconds("delay_ms", &fault.delay);
  fields.ReadMilliseconds("reply_delay_ms", &fault.reply_delay);
  if (fields.Child("drip_ms") != nullptr) {
    absl::Duration interval;
    fields.ReadMilliseconds("drip_ms", &interval);
    fault.drip_interval = interval;
  }
  fields.Read("drip_bytes", &fault.drip_bytes);
  fields.Read("status", &fault.status);
  fields.Read("body", &fault.body);
  fields.Read("content_type", &fault.content_type);
  fields.Read("redirect_to", &fault.redirect_to);
  fields.Read("huge_bytes", &fault.huge_bytes);
  fields.Read("truncate_bytes", &fault.truncate_bytes);
  fields.Read("process", &fault.process);
  TB_RETURN_IF_ERROR(fields.Done());
  return rule;
}

absl::Status MergeBehaviour(const json& object, Behaviour* behaviour) {
  Behaviour merged = *behaviour;
  JsonFields fields(object, "behaviour");
  fields.ReadSeconds("access_token_life_seconds", &merged.access_token_life);
  fields.ReadSeconds("code_life_seconds", &merged.code_life);
  fields.ReadSeconds("self_client_code_life_seconds", &merged.self_client_code_life);
  fields.ReadName("expires_in", &ParseExpiresInStyle, &merged.expires_in);
  fields.Read("scope_in_replies", &merged.scope_in_replies);
  fields.Read("api_domain", &merged.api_domain);
  fields.Read("wrong_secret_error", &merged.wrong_secret_error);
  fields.ReadName("throttle_language", &ParseLanguage, &merged.throttle_language);
  fields.Read("retries_extend_block", &merged.retries_extend_block);
  fields.Read("rotate_refresh_tokens", &merged.rotate_refresh_tokens);
  fields.ReadSeconds("rotation_leeway_seconds", &merged.rotation_leeway);
  fields.Read("rotation_reuse_revokes", &merged.rotation_reuse_revokes);
  fields.Read("first_consent_per_org", &merged.first_consent_per_org);
  fields.Read("redirect_location", &merged.redirect_location);
  fields.Read("redirect_accounts_server", &merged.redirect_accounts_server);
  fields.Read("extra_redirect_parameters", &merged.extra_redirect_parameters);
  fields.ReadSeconds("device_code_life_seconds", &merged.device_code_life);
  fields.ReadSeconds("device_interval_seconds", &merged.device_interval);
  if (const json* limits = fields.Child("limits")) {
    JsonFields limit_fields(*limits, "limits");
    limit_fields.Read("active_access_tokens", &merged.limits.active_access_tokens);
    limit_fields.Read("mints", &merged.limits.mints);
    limit_fields.Read("refresh_tokens", &merged.limits.refresh_tokens);
    limit_fields.Read("refresh_tokens_per_window", &merged.limits.refresh_tokens_per_window);
    limit_fields.Read("codes_per_window", &merged.limits.codes_per_window);
    limit_fields.ReadSeconds("window_seconds", &merged.limits.window);
    fields.Check(limit_fields.Done());
  }
  TB_RETURN_IF_ERROR(fields.Done());
  *behaviour = std::move(merged);
  return absl::OkStatus();
}

absl::StatusOr<Simulator::Options> ParseOptions(const json& object) {
  Simulator::Options options;
  JsonFields fields(object, "config");
  if (const json* behaviour = fields.Child("behaviour")) {
    fields.Check(MergeBehaviour(*behaviour, &options.behaviour));
  }
  fields.Read("https", &options.https);
  fields.Read("listen_address", &options.listen_address);
  fields.Read("control", &options.control);
  fields.Read("control_port", &options.control_port);
  fields.Read("threads", &options.threads);
  if (const json* dcs = fields.Child("dcs")) {
    if (!dcs->is_array()) fields.Fail("dcs", "not a list");
    for (const json& item : *dcs) {
      Simulator::DcOptions dc;
      if (item.is_string()) {
        dc.name = item.get<std::string>();
      } else {
        JsonFields dc_fields(item, "dc");
        dc_fields.Read("name", &dc.name);
        dc_fields.Read("port", &dc.port);
        dc_fields.Read("https_port", &dc.https_port);
        if (const json* behaviour = dc_fields.Child("behaviour")) {
          dc.behaviour = options.behaviour;
          dc_fields.Check(MergeBehaviour(*behaviour, &*dc.behaviour));
        }
        fields.Check(dc_fields.Done());
      }
      options.dcs.push_back(std::move(dc));
    }
  }
  if (const json* clients = fields.Child("clients")) {
    if (!clients->is_array()) fields.Fail("clients", "not a list");
    for (const json& item : *clients) {
      absl::StatusOr<ClientConfig> client = ParseClient(item);
      fields.Check(client.status());
      if (client.ok()) options.clients.push_back(*std::move(client));
    }
  }
  if (const json* users = fields.Child("users")) {
    if (!users->is_array()) fields.Fail("users", "not a list");
    for (const json& item : *users) {
      absl::StatusOr<UserConfig> user = ParseUser(item);
      fields.Check(user.status());
      if (user.ok()) options.users.push_back(*std::move(user));
    }
  }
  if (const json* consent = fields.Child("default_consent")) {
    absl::StatusOr<ConsentChoice> choice = ParseConsent(*consent);
    fields.Check(choice.status());
    if (choice.ok()) options.default_consent = *std::move(choice);
  }
  TB_RETURN_IF_ERROR(fields.Done());
  return options;
}

ordered_json ToJson(const Behaviour& behaviour) {
  const auto seconds = [](absl::Duration duration) { return absl::ToDoubleSeconds(duration); };
  ordered_json limits;
  limits["active_access_tokens"] = behaviour.limits.active_access_tokens;
  limits["mints"] = behaviour.limits.mints;
  limits["refresh_tokens"] = behaviour.limits.refresh_tokens;
  limits["refresh_tokens_per_window"] = behaviour.limits.refresh_tokens_per_window;
  limits["codes_per_window"] = behaviour.limits.codes_per_window;
  limits["window_seconds"] = seconds(behaviour.limits.window);
  ordered_json object;
  object["access_token_life_seconds"] = seconds(behaviour.access_token_life);
  object["code_life_seconds"] = seconds(behaviour.code_life);
  object["self_client_code_life_seconds"] = seconds(behaviour.self_client_code_life);
  object["expires_in"] = std::string(ExpiresInStyleName(behaviour.expires_in));
  object["scope_in_replies"] = behaviour.scope_in_replies;
  object["api_domain"] = behaviour.api_domain;
  object["wrong_secret_error"] = behaviour.wrong_secret_error;
  object["throttle_language"] = std::string(LanguageName(behaviour.throttle_language));
  object["retries_extend_block"] = behaviour.retries_extend_block;
  object["rotate_refresh_tokens"] = behaviour.rotate_refresh_tokens;
  object["rotation_leeway_seconds"] = seconds(behaviour.rotation_leeway);
  object["rotation_reuse_revokes"] = behaviour.rotation_reuse_revokes;
  object["first_consent_per_org"] = behaviour.first_consent_per_org;
  object["redirect_location"] = behaviour.redirect_location;
  object["redirect_accounts_server"] = behaviour.redirect_accounts_server;
  object["extra_redirect_parameters"] = behaviour.extra_redirect_parameters;
  object["device_code_life_seconds"] = seconds(behaviour.device_code_life);
  object["device_interval_seconds"] = seconds(behaviour.device_interval);
  object["limits"] = std::move(limits);
  return object;
}

ordered_json ToJson(const FaultRules::Numbered& numbered) {
  const FaultRule& rule = numbered.rule;
  ordered_json object;
  object["id"] = numbered.id;
  object["kind"] = std::string(FaultKindName(rule.fault.kind));
  object["dc"] = rule.dc;
  object["path"] = rule.path;
  object["grant_type"] = rule.grant_type;
  object["client_id"] = rule.client_id;
  object["org_id"] = rule.org_id;
  object["times"] = rule.times;
  object["delay_ms"] = absl::ToDoubleMilliseconds(rule.fault.delay);
  object["reply_delay_ms"] = absl::ToDoubleMilliseconds(rule.fault.reply_delay);
  return object;
}

ordered_json ToJson(const RequestEntry& entry) {
  const auto time = [](absl::Time t) {
    return absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", t, absl::UTCTimeZone());
  };
  ordered_json object;
  object["sequence"] = entry.sequence;
  object["arrival_time"] = time(entry.arrival_time);
  object["finished"] = entry.finished;
  if (entry.finished) object["finish_time"] = time(entry.finish_time);
  object["dc"] = entry.dc;
  object["method"] = entry.method;
  object["path"] = entry.path;
  object["grant_type"] = entry.grant_type;
  object["client_id"] = entry.client_id;
  object["grant_number"] = entry.grant.number;
  object["user_id"] = entry.grant.user_id;
  object["org_id"] = entry.grant.org_id;
  object["environment"] = entry.grant.org_id.empty()
                              ? std::string()
                              : std::string(EnvironmentName(entry.grant.environment));
  object["outcome"] = entry.outcome;
  object["fault"] = entry.fault;
  object["http_status"] = entry.http_status;
  object["connection_id"] = entry.connection_id;
  object["https"] = entry.https;
  object["secret_in_url"] = entry.secret_in_url;
  object["client_gone"] = entry.client_gone;
  object["in_flight"] = entry.in_flight;
  return object;
}

ordered_json ToJson(const LogSummary& summary) {
  ordered_json object;
  object["requests"] = summary.requests;
  object["in_flight"] = summary.in_flight;
  object["max_in_flight"] = summary.max_in_flight;
  object["max_in_flight_per_grant"] = summary.max_in_flight_per_grant;
  object["secrets_in_url"] = summary.secrets_in_url;
  object["by_dc"] = summary.by_dc;
  object["by_path"] = summary.by_path;
  object["by_grant_type"] = summary.by_grant_type;
  object["by_outcome"] = summary.by_outcome;
  return object;
}

}  // namespace tokenbroker::zoho_simulator
