#include "clients/zoho/oauth_client.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "clients/zoho/client_name.h"
#include "clients/zoho/origin.h"
#include "common/ids.h"

namespace tokenbroker {
namespace {

enum class Entry { kMandatory, kOptional, kNotApplicable };

// The guide's table 'Mandatory Entries for Different Client Types'.
struct ConsoleEntries {
  Entry client_name;
  Entry homepage_url;
  Entry redirect_uris;
  Entry javascript_domains;
};

// nullopt: nothing is mandatory, and everything may apply.
ConsoleEntries EntriesOf(std::optional<OAuthClientType> type) {
  if (!type) return {Entry::kOptional, Entry::kOptional, Entry::kOptional, Entry::kOptional};
  switch (*type) {
    case OAuthClientType::kClientBased:
      return {Entry::kMandatory, Entry::kMandatory, Entry::kMandatory, Entry::kMandatory};
    case OAuthClientType::kServerBased:
    case OAuthClientType::kMobile:
      return {Entry::kMandatory, Entry::kMandatory, Entry::kMandatory, Entry::kNotApplicable};
    case OAuthClientType::kNonBrowser:
      return {Entry::kMandatory, Entry::kMandatory, Entry::kOptional, Entry::kNotApplicable};
    case OAuthClientType::kSelfClient:
      // The guide has 'not mandatory' for redirect URIs; but a code of the Self Client tab is
      // exchanged without one, and Zoho refuses it with one.
      return {Entry::kOptional, Entry::kOptional, Entry::kNotApplicable, Entry::kNotApplicable};
  }
  return {Entry::kMandatory, Entry::kMandatory, Entry::kMandatory, Entry::kNotApplicable};
}

// https, or http on the developer's own machine. No fragment: the browser would keep it (RFC 6749,
// section 3.1.2).
bool IsWebPage(std::string_view text) {
  const std::optional<WebUrl> url = ParseWebUrl(text);
  return url && (url->origin.scheme == "https" || IsLoopback(url->origin)) &&
         url->rest.find('#') == std::string_view::npos;
}

class Checker {
 public:
  Checker(const OAuthClient& client, std::optional<OAuthClientType> type,
          const std::vector<std::string>& known_dcs)
      : client_(client), type_(type), known_dcs_(known_dcs) {}

  std::vector<OAuthClientProblem> Check() && {
    CheckIdentity();
    CheckConsoleEntries();
    CheckSecrets();
    return std::move(problems_);
  }

 private:
  void Add(std::string field, std::string description) {
    problems_.push_back({std::move(field), std::move(description)});
  }

  // Whether the entry's value is there to be checked further.
  bool CheckPresence(Entry entry, bool empty, const std::string& field) {
    const std::string_view type = OAuthClientTypeName(client_.type);
    if (empty && entry == Entry::kMandatory) {
      Add(field, absl::StrCat("is mandatory for the client type ",
                              absl::string_view(type.data(), type.size())));
    }
    if (!empty && entry == Entry::kNotApplicable) {
      Add(field, absl::StrCat("does not apply to the client type ",
                              absl::string_view(type.data(), type.size()), ": leave it out"));
      return false;
    }
    return !empty;
  }

  void CheckIdentity() {
    if (client_.name.empty() || client_.name.size() > kMaxOAuthClientBytes) {
      Add("name", absl::StrCat("must have 1 to ", kMaxOAuthClientBytes, " bytes"));
    }
    if (client_.client_id.empty()) {
      Add("client_id", "is mandatory: copy the Client ID from Zoho's developer console");
    } else if (!std::all_of(client_.client_id.begin(), client_.client_id.end(), [](char c) {
                 return absl::ascii_isgraph(static_cast<unsigned char>(c));
               })) {
      Add("client_id", "must not contain white space or other invisible characters");
    }
  }

  void CheckConsoleEntries() {
    const ConsoleEntries entries = EntriesOf(type_);
    if (CheckPresence(entries.client_name, client_.client_name.empty(), "client_name") &&
        !IsConsoleClientName(client_.client_name)) {
      Add("client_name",
          "has a special character: besides letters, digits and spaces the console takes only '_' "
          "and '&'");
    }
    if (CheckPresence(entries.homepage_url, client_.homepage_url.empty(), "homepage_url") &&
        !IsWebPage(client_.homepage_url)) {
      Add("homepage_url", "must look like https://www.yourdomain.com");
    }
    if (CheckPresence(entries.redirect_uris, client_.redirect_uris.empty(), "redirect_uris")) {
      for (size_t i = 0; i < client_.redirect_uris.size(); ++i) {
        if (IsWebPage(client_.redirect_uris[i])) continue;
        Add(absl::StrCat("redirect_uris[", i, "]"),
            "must look like https://www.your-domain.com/callback (http:// on localhost only), "
            "without a fragment");
      }
    }
    if (CheckPresence(entries.javascript_domains, client_.javascript_domains.empty(),
                      "javascript_domains")) {
      for (size_t i = 0; i < client_.javascript_domains.size(); ++i) {
        if (ParseOrigin(client_.javascript_domains[i])) continue;
        Add(absl::StrCat("javascript_domains[", i, "]"),
            "must be one domain that starts with http:// or https://, without a path; further "
            "domains are further entries");
      }
    }
  }

  void CheckSecrets() {
    if (client_.shared_secret && !client_.secrets.empty()) {
      Add("secrets", "give either one secret for all DCs or one per DC, not both");
    }
    if (client_.shared_secret && client_.shared_secret->empty()) {
      Add("shared_secret", "is empty");
    }
    for (const auto& [dc, secret] : client_.secrets) {
      const std::string field = absl::StrCat("secrets[", absl::CHexEscape(dc), "]");
      if (std::find(known_dcs_.begin(), known_dcs_.end(), dc) == known_dcs_.end()) {
        Add(field, "is not the name of a known DC");
      }
      if (secret.empty()) Add(field, "is empty");
    }
    if (type_ == OAuthClientType::kSelfClient) {
      if (client_.shared_secret || client_.secrets.size() != 1) {
        Add("secrets",
            "must name exactly one DC: a Self Client lives in the DC whose console made it, and "
            "Multi-DC is not available to it");
      }
    } else if (!client_.shared_secret && client_.secrets.empty()) {
      Add("secrets", "need one secret per DC (each DC has its own), or one shared by all DCs");
    }
  }

  const OAuthClient& client_;
  const std::optional<OAuthClientType> type_;  // nullopt: not known
  const std::vector<std::string>& known_dcs_;
  std::vector<OAuthClientProblem> problems_;
};

}  // namespace

std::string_view OAuthClientTypeName(OAuthClientType type) {
  switch (type) {
    case OAuthClientType::kServerBased:
      return "SERVER_BASED";
    case OAuthClientType::kClientBased:
      return "CLIENT_BASED";
    case OAuthClientType::kMobile:
      return "MOBILE";
    case OAuthClientType::kNonBrowser:
      return "NON_BROWSER";
    case OAuthClientType::kSelfClient:
      return "SELF_CLIENT";
  }
  return "UNKNOWN";
}

const Secret* OAuthClient::SecretFor(std::string_view dc) const {
  if (const auto it = secrets.find(dc); it != secrets.end()) return &it->second;
  return shared_secret ? &*shared_secret : nullptr;
}

std::vector<OAuthClientProblem> CheckOAuthClient(const OAuthClient& client,
                                                 const std::vector<std::string>& known_dcs) {
  return Checker(client, client.type, known_dcs).Check();
}

std::vector<OAuthClientProblem> CheckUntypedOAuthClient(const OAuthClient& client,
                                                        const std::vector<std::string>& known_dcs) {
  return Checker(client, std::nullopt, known_dcs).Check();
}

absl::StatusOr<OAuthClientRegistry> OAuthClientRegistry::Create(std::vector<OAuthClient> clients) {
  OAuthClientRegistry registry;
  for (OAuthClient& client : clients) {
    std::string name = client.name;
    if (!registry.by_name_.emplace(name, std::move(client)).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("two OAuth clients are called '", absl::CHexEscape(name), "'"));
    }
  }
  return registry;
}

const OAuthClient* OAuthClientRegistry::Find(std::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &it->second;
}

}  // namespace tokenbroker
