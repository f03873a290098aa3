#include "server/config/field_rules.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <regex>
#include <string>

#include "server/config/config_file.h"

namespace tokenbroker {
namespace {

TEST(ParseConfigDurationTest, ReadsOneNumberAndOneUnit) {
  EXPECT_EQ(ParseConfigDuration("250ms"), absl::Milliseconds(250));
  EXPECT_EQ(ParseConfigDuration("0s"), absl::ZeroDuration());
  EXPECT_EQ(ParseConfigDuration("5s"), absl::Seconds(5));
  EXPECT_EQ(ParseConfigDuration("10m"), absl::Minutes(10));
  EXPECT_EQ(ParseConfigDuration("1h"), absl::Hours(1));
  for (const char* bad : {"", "5", "s", "-5s", "+5s", "5 s", "5S", "5d", "1.5s", "1m30s", "5s ",
                          "0x5s", "99999999999999999999s", "9223372036854775807h", "88000h"}) {
    EXPECT_EQ(ParseConfigDuration(bad), std::nullopt) << bad;
  }
}

TEST(FormatConfigDurationTest, IsTheInverse) {
  for (const char* text : {"0s", "1ms", "250ms", "1500ms", "5s", "90s", "10m", "1h", "25h"}) {
    EXPECT_EQ(FormatConfigDuration(*ParseConfigDuration(text)), text);
  }
  EXPECT_EQ(FormatConfigDuration(absl::Seconds(600)), "10m");
}

// "Message.field" to its comment in config.proto, as one line with a space at its end.
std::map<std::string, std::string> Comments() {
  const char* path = std::getenv("CONFIG_PROTO");
  std::ifstream file(path == nullptr ? "" : path);
  EXPECT_TRUE(file.good()) << "CONFIG_PROTO must name config.proto";
  const std::regex message_line("message (\\w+) \\{");
  const std::regex field_line("  (?:optional |repeated )?[\\w.]+ (\\w+) = \\d+;");
  std::map<std::string, std::string> comments;
  std::string message, comment, line;
  while (std::getline(file, line)) {
    std::smatch match;
    if (std::regex_match(line, match, message_line)) {
      message = match[1];
      comment.clear();
    } else if (line.starts_with("  // ")) {
      comment += line.substr(5) + " ";
    } else if (std::regex_match(line, match, field_line)) {
      comments[message + "." + match[1].str()] = comment;
      comment.clear();
    }
  }
  return comments;
}

// "Message.field" to the default that its comment states.
std::map<std::string, std::string> DocumentedDefaults() {
  const std::regex default_text("Default (\"([^\"]*)\"|([^ ]*?))[.;,]? ");
  std::map<std::string, std::string> defaults;
  for (const auto& [field, comment] : Comments()) {
    if (std::smatch found; std::regex_search(comment, found, default_text)) {
      defaults[field] = found[2].matched ? found[2] : found[3];
    }
  }
  return defaults;
}

TEST(FieldRulesTest, AgreeWithTheSchemasComments) {
  const std::map<std::string, std::string> documented = DocumentedDefaults();
  EXPECT_GT(documented.size(), 40u);
  for (const FieldRule& rule : AllFieldRules()) {
    const std::string field(rule.field);
    if (rule.default_value.empty()) {
      EXPECT_FALSE(documented.contains(field)) << field;
      continue;
    }
    ASSERT_TRUE(documented.contains(field)) << field << " has an undocumented default";
    if (field == "Protocol.budget" || field == "Protocol.failure_backoff") continue;
    EXPECT_EQ(documented.at(field), rule.default_value) << field;
  }
  for (const auto& [field, text] : documented) {
    EXPECT_NE(FindFieldRule(field), nullptr) << field << " is documented as " << text;
  }
}

TEST(FieldRulesTest, LimitsStandInTheSchemasComments) {
  const std::map<std::string, std::string> comments = Comments();
  for (const FieldRule& rule : AllFieldRules()) {
    if (rule.min.empty()) continue;
    const std::string field(rule.field);
    ASSERT_TRUE(comments.contains(field)) << field;
    const std::regex limits("(^| )" + std::string(rule.min) + " to " + std::string(rule.max) +
                            "[.,:] ");
    EXPECT_TRUE(std::regex_search(comments.at(field), limits))
        << field << " is from " << rule.min << " to " << rule.max
        << ", and its comment: " << comments.at(field);
  }
}

TEST(FieldRulesTest, EveryOptionIsRequiredOrOptionalOrHasADefault) {
  const std::map<std::string, std::string> comments = Comments();
  int fields = 0;
  const auto* file = config::v1::Config::descriptor()->file();
  for (int i = 0; i < file->message_type_count(); ++i) {
    const auto* message = file->message_type(i);
    for (int k = 0; k < message->field_count(); ++k, ++fields) {
      const std::string field = message->name() + "." + message->field(k)->name();
      ASSERT_TRUE(comments.contains(field)) << field;
      EXPECT_TRUE(
          std::regex_search(comments.at(field), std::regex("REQUIRED|OPTIONAL|Default [^ ]")))
          << field << ": " << comments.at(field);
    }
  }
  EXPECT_GT(fields, 80);
}

TEST(FieldRulesTest, NameFieldsThatExistAndDefaultsWithinTheirLimits) {
  const auto* file = config::v1::Config::descriptor()->file();
  for (const FieldRule& rule : AllFieldRules()) {
    const std::string field(rule.field);
    const size_t dot = field.find('.');
    const auto* message = file->FindMessageTypeByName(field.substr(0, dot));
    ASSERT_NE(message, nullptr) << field;
    EXPECT_NE(message->FindFieldByName(field.substr(dot + 1)), nullptr) << field;
    EXPECT_EQ(rule.min.empty(), rule.max.empty()) << field;
    if (const auto value = ParseConfigDuration(rule.default_value)) {
      EXPECT_GE(*value, *ParseConfigDuration(rule.min)) << field;
      EXPECT_LE(*value, *ParseConfigDuration(rule.max)) << field;
    }
  }
}

}  // namespace
}  // namespace tokenbroker
