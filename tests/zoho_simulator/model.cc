#include "tests/zoho_simulator/model.h"

#include <array>
#include <utility>

namespace tokenbroker::zoho_simulator {
namespace {

template <typename Enum, size_t kSize>
using NameTable = std::array<std::pair<Enum, std::string_view>, kSize>;

template <typename Enum, size_t kSize>
std::string_view NameOf(const NameTable<Enum, kSize>& table, Enum value) {
  for (const auto& [candidate, name] : table) {
    if (candidate == value) return name;
  }
  return "";
}

template <typename Enum, size_t kSize>
std::optional<Enum> ValueOf(const NameTable<Enum, kSize>& table, std::string_view name) {
  for (const auto& [value, candidate] : table) {
    if (candidate == name) return value;
  }
  return std::nullopt;
}

constexpr NameTable<Environment, 3> kEnvironments = {{{Environment::kProduction, "PRODUCTION"},
                                                      {Environment::kSandbox, "SANDBOX"},
                                                      {Environment::kDeveloper, "DEVELOPER"}}};
constexpr NameTable<ClientType, 5> kClientTypes = {{{ClientType::kServerBased, "server_based"},
                                                    {ClientType::kClientBased, "client_based"},
                                                    {ClientType::kMobile, "mobile"},
                                                    {ClientType::kNonBrowser, "non_browser"},
                                                    {ClientType::kSelfClient, "self_client"}}};
constexpr NameTable<ExpiresInStyle, 4> kExpiresInStyles = {
    {{ExpiresInStyle::kSeconds, "seconds"},
     {ExpiresInStyle::kMillisecondsWithSeconds, "milliseconds_with_seconds"},
     {ExpiresInStyle::kMillisecondsOnly, "milliseconds_only"},
     {ExpiresInStyle::kAbsent, "absent"}}};
constexpr NameTable<Language, 2> kLanguages = {
    {{Language::kEnglish, "en"}, {Language::kChinese, "zh"}}};

}  // namespace

const std::vector<DataCentre>& RealDataCentres() {
  static const auto* const kTable = new std::vector<DataCentre>{
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
  return *kTable;
}

const DataCentre* FindRealDataCentre(std::string_view name) {
  for (const DataCentre& dc : RealDataCentres()) {
    if (dc.name == name) return &dc;
  }
  return nullptr;
}

std::string_view EnvironmentName(Environment environment) {
  return NameOf(kEnvironments, environment);
}
std::optional<Environment> ParseEnvironment(std::string_view name) {
  return ValueOf(kEnvironments, name);
}
std::string_view ClientTypeName(ClientType type) { return NameOf(kClientTypes, type); }
std::optional<ClientType> ParseClientType(std::string_view name) {
  return ValueOf(kClientTypes, name);
}
std::string_view ExpiresInStyleName(ExpiresInStyle style) {
  return NameOf(kExpiresInStyles, style);
}
std::optional<ExpiresInStyle> ParseExpiresInStyle(std::string_view name) {
  return ValueOf(kExpiresInStyles, name);
}
std::string_view LanguageName(Language language) { return NameOf(kLanguages, language); }
std::optional<Language> ParseLanguage(std::string_view name) { return ValueOf(kLanguages, name); }

}  // namespace tokenbroker::zoho_simulator
