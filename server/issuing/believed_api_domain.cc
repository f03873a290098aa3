#include "server/issuing/believed_api_domain.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace tokenbroker {

std::string BelievedApiDomain(const DataCenter& dc, Environment environment,
                              const std::string& replied) {
  if (replied == dc.api_domain) return replied;
  constexpr absl::string_view kProduction = "https://www.";
  absl::string_view rest = dc.api_domain;
  if (environment == Environment::kProduction || !absl::ConsumePrefix(&rest, kProduction)) {
    return "";
  }
  const std::string own = absl::StrCat(
      environment == Environment::kSandbox ? "https://sandbox." : "https://developer.", rest);
  return replied == own ? own : "";
}

}  // namespace tokenbroker
