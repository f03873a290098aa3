#include "clients/zoho/data_center.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "clients/zoho/origin.h"
#include "common/errors.h"

namespace tokenbroker {
namespace {

bool IsDcName(std::string_view name) {
  return !name.empty() && name.size() <= kMaxDcNameBytes &&
         std::all_of(name.begin(), name.end(), [](char c) {
           const auto byte = static_cast<unsigned char>(c);
           return absl::ascii_islower(byte) || absl::ascii_isdigit(byte) || c == '-' || c == '_';
         });
}

bool IsServerUrl(std::string_view url, bool allow_plaintext_loopback) {
  const std::optional<Origin> origin = ParseOrigin(url);
  if (!origin) return false;
  return origin->scheme == "https" || (allow_plaintext_loopback && IsLoopback(*origin));
}

void Override(std::string& field, const std::string& value) {
  if (!value.empty()) field = value;
}

void Merge(const DataCenter& given, DataCenter& dc) {
  dc.name = given.name;
  Override(dc.accounts_server, given.accounts_server);
  Override(dc.api_domain, given.api_domain);
  Override(dc.people_host, given.people_host);
}

}  // namespace

std::vector<DataCenterProblem> CheckDataCenter(const DataCenter& given,
                                               bool allow_plaintext_loopback) {
  DataCenter dc;
  for (const DataCenter& built_in : DataCenterTable::BuiltIn()) {
    if (built_in.name == given.name) dc = built_in;
  }
  Merge(given, dc);
  std::vector<DataCenterProblem> problems;
  const auto require = [&](bool fine, std::string_view field, std::string_view rule) {
    if (!fine) problems.push_back({std::string(field), std::string(rule)});
  };
  const std::string_view url_rule =
      allow_plaintext_loopback
          ? "must be https://host[:port], or http:// on a loopback address, with nothing after it"
          : "must be https://host[:port] with nothing after it";
  require(IsDcName(dc.name), "name",
          "must have 1 to 32 characters out of lower-case letters, digits, '-' and '_'");
  require(IsServerUrl(dc.accounts_server, allow_plaintext_loopback), "accounts_server", url_rule);
  require(IsServerUrl(dc.api_domain, allow_plaintext_loopback), "api_domain", url_rule);
  require(IsHostAndPort(dc.people_host), "people_host", "must be host[:port] without a scheme");
  return problems;
}

std::vector<DataCenter> DataCenterTable::BuiltIn() {
  // Canada's accounts and People hosts are at zohocloud.ca, its API domain is not.
  return {
      {"us", "https://accounts.zoho.com", "https://www.zohoapis.com", "people.zoho.com"},
      {"eu", "https://accounts.zoho.eu", "https://www.zohoapis.eu", "people.zoho.eu"},
      {"in", "https://accounts.zoho.in", "https://www.zohoapis.in", "people.zoho.in"},
      {"au", "https://accounts.zoho.com.au", "https://www.zohoapis.com.au", "people.zoho.com.au"},
      {"jp", "https://accounts.zoho.jp", "https://www.zohoapis.jp", "people.zoho.jp"},
      {"cn", "https://accounts.zoho.com.cn", "https://www.zohoapis.com.cn", "people.zoho.com.cn"},
      {"ca", "https://accounts.zohocloud.ca", "https://www.zohoapis.ca", "people.zohocloud.ca"},
      {"sa", "https://accounts.zoho.sa", "https://www.zohoapis.sa", "people.zoho.sa"},
      {"uk", "https://accounts.zoho.uk", "https://www.zohoapis.uk", "people.zoho.uk"},
      {"ae", "https://accounts.zoho.ae", "https://www.zohoapis.ae", "people.zoho.ae"},
      {"sg", "https://accounts.zoho.sg", "https://www.zohoapis.sg", "people.zoho.sg"},
  };
}

absl::StatusOr<DataCenterTable> DataCenterTable::Create(const std::vector<DataCenter>& overrides,
                                                        bool allow_plaintext_loopback) {
  DataCenterTable table;
  for (DataCenter& dc : BuiltIn()) {
    std::string name = dc.name;
    table.by_name_.emplace(std::move(name), std::move(dc));
  }
  std::vector<std::string> problems;
  std::vector<std::string_view> seen;
  for (const DataCenter& given : overrides) {
    if (std::find(seen.begin(), seen.end(), given.name) != seen.end()) {
      problems.push_back(absl::StrCat("DC '", absl::CHexEscape(given.name), "': is there twice"));
      continue;
    }
    seen.push_back(given.name);
    Merge(given, table.by_name_[given.name]);
    for (const DataCenterProblem& problem : CheckDataCenter(given, allow_plaintext_loopback)) {
      problems.push_back(absl::StrCat("DC '", absl::CHexEscape(given.name), "': ", problem.field,
                                      " ", problem.rule));
    }
  }
  if (!problems.empty()) return absl::InvalidArgumentError(absl::StrJoin(problems, "; "));
  return table;
}

const DataCenter* DataCenterTable::Find(std::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &it->second;
}

absl::StatusOr<const DataCenter*> DataCenterTable::FromRedirect(
    std::string_view location, std::string_view accounts_server) const {
  // The values are not repeated in the errors: the browser's owner chose them.
  const DataCenter* dc = Find(location);
  if (dc == nullptr) {
    return InvalidRequestError({{"location", "must be the name of a known DC"}});
  }
  if (dc->accounts_server != accounts_server) {
    return InvalidRequestError(
        {{"accounts_server",
          absl::StrCat("must be exactly the accounts server of DC '", dc->name, "'")}});
  }
  return dc;
}

bool IsApiDomainOf(const DataCenter& dc, std::string_view api_domain) {
  if (api_domain == dc.api_domain) return true;
  // https://sandbox.zohoapis.<tld> and https://developer.zohoapis.<tld> belong to the same row.
  constexpr std::string_view kProduction = "https://www.";
  if (std::string_view(dc.api_domain).substr(0, kProduction.size()) != kProduction) return false;
  const std::string domain = dc.api_domain.substr(kProduction.size());
  return api_domain == "https://sandbox." + domain || api_domain == "https://developer." + domain;
}

}  // namespace tokenbroker
