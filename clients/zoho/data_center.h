#ifndef TOKEN_BROKER_CLIENTS_ZOHO_DATA_CENTER_H_
#define TOKEN_BROKER_CLIENTS_ZOHO_DATA_CENTER_H_

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tokenbroker {

// The longest name of a DC; Zoho's own have two letters.
inline constexpr size_t kMaxDcNameBytes = 32;

// One of Zoho's data centres. URLs have a scheme and no trailing slash.
struct DataCenter {
  std::string name;             // the `location` in Zoho's redirect: "us", "eu", …
  std::string accounts_server;  // https://accounts.zoho.com
  std::string api_domain;       // https://www.zohoapis.com
  std::string people_host;      // people.zoho.com; not derivable from api_domain
};

// What is wrong with a DC of the configuration.
struct DataCenterProblem {
  std::string field;  // the member, e.g. "api_domain"
  std::string rule;   // "must be …"
};
// Of `given`, with the values of the built-in DC of its name where it has none. The parameters are
// those of DataCenterTable::Create.
std::vector<DataCenterProblem> CheckDataCenter(const DataCenter& given,
                                               bool allow_plaintext_loopback);

// Whether a reply's `api_domain` may be believed for this DC: its own, or that of its sandbox or
// developer environment (facts, sections 1 and 8). Callers send access tokens there.
bool IsApiDomainOf(const DataCenter& dc, std::string_view api_domain);

// The table of data centres: the eleven of Zoho, built in, plus what the configuration adds or
// overrides. Immutable; thread-safe.
class DataCenterTable {
 public:
  // us, eu, in, au, jp, cn, ca, sa, uk, ae, sg (facts, section 1).
  static std::vector<DataCenter> BuiltIn();

  // The built-in DCs with `overrides` over them by name. In an override of a built-in DC empty
  // fields keep the built-in value. `allow_plaintext_loopback`: accounts servers may be
  // http://127.0.0.1, http://[::1] or http://localhost (tests). INVALID_ARGUMENT naming every DC
  // and rule that fails.
  static absl::StatusOr<DataCenterTable> Create(const std::vector<DataCenter>& overrides,
                                                bool allow_plaintext_loopback);

  // nullptr: no such DC.
  const DataCenter* Find(std::string_view name) const;

  // The DC that a consent's redirect names. Both parameters come from the browser, so they are
  // believed only if `accounts_server` is, byte for byte, the one of `location`'s row (facts,
  // section 8: posting the client secret to a server of the attacker's choice is a known
  // vulnerability). INVALID_ARGUMENT INVALID_REQUEST naming location or accounts_server.
  absl::StatusOr<const DataCenter*> FromRedirect(std::string_view location,
                                                 std::string_view accounts_server) const;

  // By name.
  const std::map<std::string, DataCenter, std::less<>>& all() const { return by_name_; }

 private:
  std::map<std::string, DataCenter, std::less<>> by_name_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_CLIENTS_ZOHO_DATA_CENTER_H_
