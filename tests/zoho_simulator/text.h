// The text formats of OAuth over HTTP: percent encoding, form bodies, scope lists, base64, HTML.

#ifndef TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_TEXT_H_
#define TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_TEXT_H_

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tokenbroker::zoho_simulator {

// Everything but letters, digits and "-._~" becomes %XX.
std::string PercentEncode(std::string_view text);

// As in forms: "+" is a space. Broken escapes stay as they are.
std::string PercentDecode(std::string_view text);

// "a=b&c=d", decoded. Of a name that comes twice the first value counts.
std::map<std::string, std::string, std::less<>> ParseForm(std::string_view text);

// Splits at commas and white space.
std::vector<std::string> ParseScopes(std::string_view text);

// The shape <service>.<name>.<operation>, and for ZOHOPEOPLE a name that exists.
bool IsKnownScope(std::string_view scope);

// Whether `granted` (one of its operations, or ALL) allows `needed`. Case does not count.
bool ScopesAllow(const std::vector<std::string>& granted, std::string_view needed);

std::optional<std::string> Base64Decode(std::string_view text);

std::string HtmlEscape(std::string_view text);

// base64url(SHA-256(verifier)) without padding: PKCE's S256.
std::string S256Challenge(std::string_view verifier);

}  // namespace tokenbroker::zoho_simulator

#endif  // TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_TEXT_H_
