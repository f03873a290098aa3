// protocol: what it takes to have a budget or a cooldown that breaks Zoho's rules.
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "server/config/settings.h"
#include "tests/server/config/fake_files.h"

namespace tokenbroker {
namespace {

// What is wrong with this section, which is line 1; "" if nothing is.
std::string Report(const std::string& protocol) {
  const std::string yaml =
      absl::StrCat("protocol: ", protocol,
                   "\n"
                   "store: {sqlite: {path: grants.db}, allow_unsealed: true}\n"
                   "oauth_clients:\n"
                   "  - {name: a, type: SELF_CLIENT, client_id: x, dc_secrets: [{dc: us, "
                   "client_secret_file: secret}]}\n");
  CommandLine line;
  line.config_file = "broker.yaml";
  const FakeFiles files =
      FakeFiles().Add("broker.yaml", yaml).Add("secret", std::string(kSecretText));
  return std::string(LoadSettings(line, files.Reader()).status().message());
}

constexpr char kAccept[] =
    "and Zoho 10; that must be accepted by name: protocol.accept_risks: [BUDGET_ABOVE_ZOHO_LIMIT]";

TEST(ProtocolSettingsTest, BudgetAboveZohosLimitIsRefused) {
  EXPECT_EQ(Report("{budget: [{sends: 11, length: 10m}]}"),
            absl::StrCat("broker.yaml:1: protocol.budget: allows 11 sends in 10m, ", kAccept));
  // In windows that are shorter than Zoho's, and one that is longer.
  EXPECT_EQ(Report("{budget: [{sends: 4, length: 4m}, {sends: 60, length: 1h}]}"),
            absl::StrCat("broker.yaml:1: protocol.budget: allows 12 sends in 10m, ", kAccept));
  EXPECT_EQ(Report("{budget: [{sends: 60, length: 1h}]}"),
            absl::StrCat("broker.yaml:1: protocol.budget: allows 60 sends in 10m, ", kAccept));
}

TEST(ProtocolSettingsTest, BudgetUpToZohosLimitIsFine) {
  EXPECT_EQ(Report("{budget: [{sends: 10, length: 10m}]}"), "");
  EXPECT_EQ(Report("{budget: [{sends: 5, length: 5m}]}"), "");
  EXPECT_EQ(Report("{budget: [{sends: 100, length: 1m}, {sends: 10, length: 1h}]}"), "");
}

TEST(ProtocolSettingsTest, BudgetAboveZohosLimitCanBeAcceptedByName) {
  EXPECT_EQ(Report("{budget: [{sends: 100, length: 1s}], accept_risks: [BUDGET_ABOVE_ZOHO_LIMIT]}"),
            "");
  EXPECT_EQ(Report("{accept_risks: [FIRE]}"),
            "broker.yaml:1: protocol.accept_risks[0]: must be one of BUDGET_ABOVE_ZOHO_LIMIT, "
            "THROTTLE_COOLDOWN_BELOW_ZOHO_LIMIT, not 'FIRE'");
}

TEST(ProtocolSettingsTest, ThrottleCooldownBelowZohosIsRefused) {
  for (const std::string section :
       {"{throttle_cooldown: 599999ms}",
        "{throttle_cooldown: 1ms, accept_risks: [BUDGET_ABOVE_ZOHO_LIMIT]}"}) {
    EXPECT_EQ(Report(section),
              "broker.yaml:1: protocol.throttle_cooldown: is less than the 10m for which Zoho "
              "throttles; that must be accepted by name: protocol.accept_risks: "
              "[THROTTLE_COOLDOWN_BELOW_ZOHO_LIMIT]");
  }
  EXPECT_EQ(Report("{throttle_cooldown: 600s}"), "");
  EXPECT_EQ(Report("{throttle_cooldown: 1h}"), "");
}

TEST(ProtocolSettingsTest, ThrottleCooldownBelowZohosCanBeAcceptedByName) {
  EXPECT_EQ(Report("{throttle_cooldown: 1s, accept_risks: [THROTTLE_COOLDOWN_BELOW_ZOHO_LIMIT]}"),
            "");
  EXPECT_EQ(Report("{throttle_cooldown: 1s, budget: [{sends: 11, length: 10m}], accept_risks: "
                   "[THROTTLE_COOLDOWN_BELOW_ZOHO_LIMIT]}"),
            absl::StrCat("broker.yaml:1: protocol.budget: allows 11 sends in 10m, ", kAccept));
}

}  // namespace
}  // namespace tokenbroker
