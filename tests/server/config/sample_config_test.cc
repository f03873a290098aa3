// The files under config/ load as they stand, and the main one leaves no option out.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "server/config/config_file.h"
#include "server/config/settings.h"
#include "tests/server/config/fake_files.h"

namespace tokenbroker {
namespace {

using ::google::protobuf::Descriptor;

std::filesystem::path ConfigFolder() {
  const char* folder = std::getenv("CONFIG_FOLDER");
  return folder == nullptr ? "CONFIG_FOLDER is not set" : folder;
}

std::string ReadText(const std::filesystem::path& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file.good()) << path;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// The real file, and something fitting for every file that it names.
FileReader ReaderFor(const std::string& sample) {
  return [sample](const std::string& path, size_t) -> absl::StatusOr<std::string> {
    if (path == sample) return ReadText(path);
    if (path.ends_with(".crt")) return kCertificateText;
    if (path.ends_with("tls.key")) return kPrivateKeyText;
    if (path.find("-key") != std::string::npos) return kKeyText;
    return std::string(kSecretText);
  };
}

std::vector<std::string> Samples() {
  std::vector<std::string> files = {(ConfigFolder() / "token-broker.yaml").string()};
  for (const auto& entry : std::filesystem::directory_iterator(ConfigFolder() / "examples")) {
    files.push_back(entry.path().string());
  }
  return files;
}

void CollectFields(const Descriptor& type, std::vector<std::string>* names) {
  for (int i = 0; i < type.field_count(); ++i) {
    names->push_back(type.field(i)->name());
    const Descriptor* inner = type.field(i)->message_type();
    if (inner != nullptr && inner->full_name() != "google.protobuf.Duration") {
      CollectFields(*inner, names);
    }
  }
}

TEST(SampleConfigTest, DocumentsEveryOption) {
  const std::string text = ReadText(ConfigFolder() / "token-broker.yaml");
  std::vector<std::string> names;
  CollectFields(*config::v1::Config::descriptor(), &names);
  EXPECT_GT(names.size(), 80u);
  for (const std::string& name : names) {
    // As a key, perhaps commented out; a word in a comment is not enough.
    const std::regex key("(^|\\n)[ #]*(- )?" + name + ":");
    EXPECT_TRUE(std::regex_search(text, key)) << name;
  }
}

TEST(SampleConfigTest, AllSamplesLoad) {
  const std::vector<std::string> samples = Samples();
  EXPECT_GE(samples.size(), 4u);
  for (const std::string& sample : samples) {
    SCOPED_TRACE(sample);
    CommandLine line;
    line.config_file = sample;
    EXPECT_EQ(LoadSettings(line, ReaderFor(sample)).status(), absl::OkStatus());
  }
}

// The values written in the sample are the defaults, where there are defaults.
TEST(SampleConfigTest, ShowsTheDefaults) {
  const std::string sample = (ConfigFolder() / "token-broker.yaml").string();
  CommandLine line;
  line.config_file = sample;
  const auto settings = LoadSettings(line, ReaderFor(sample));
  ASSERT_EQ(settings.status(), absl::OkStatus());
  Problems problems;
  ConfigDocument empty = ReadConfig("empty.yaml", "store: {redis: {}}\n", &problems);
  FillDefaults(&empty);
  const auto& defaults = empty.config;
  EXPECT_EQ(settings->grpc.max_request_bytes, defaults.grpc().max_request_bytes());
  EXPECT_EQ(absl::ToInt64Seconds(settings->grpc.drain_timeout),
            defaults.grpc().drain_timeout().seconds());
  EXPECT_EQ(settings->store.redis->pool_size, defaults.store().redis().pool_size());
  EXPECT_EQ(settings->issuing.lane_queue, defaults.issuing().lane_queue());
  EXPECT_EQ(settings->issuing.cache_entries, defaults.issuing().cache_entries());
  EXPECT_EQ(absl::ToInt64Seconds(settings->issuing.refresh_ahead),
            defaults.issuing().refresh_ahead().seconds());
  EXPECT_EQ(static_cast<int>(settings->protocol.budget.size()), defaults.protocol().budget_size());
}

TEST(SampleConfigTest, AlternativesInCommentsLoadToo) {
  // The sample's commented-out SQLite block in place of its Redis block.
  std::istringstream lines(ReadText(ConfigFolder() / "token-broker.yaml"));
  std::string text, line;
  bool in_redis = false;
  while (std::getline(lines, line)) {
    if (line == "  redis:") in_redis = true;
    if (in_redis && (line.starts_with("    ") || line == "  redis:")) continue;
    in_redis = false;
    if (line.starts_with("  # sqlite:") || line.starts_with("  #   ")) line.erase(2, 2);
    text += line + "\n";
  }
  const std::string name = "token-broker.yaml";
  CommandLine command;
  command.config_file = name;
  const FileReader others = ReaderFor("");
  const auto settings = LoadSettings(
      command, [&](const std::string& path, size_t max_bytes) -> absl::StatusOr<std::string> {
        if (path == name) return text;
        return others(path, max_bytes);
      });
  ASSERT_EQ(settings.status(), absl::OkStatus());
  ASSERT_TRUE(settings->store.sqlite.has_value());
  EXPECT_EQ(settings->store.sqlite->path, "/var/lib/token-broker/grants.db");
}

TEST(SampleConfigTest, HoldsNoSecretInline) {
  for (const std::string& sample : Samples()) {
    const std::regex inline_secret("(secret|password|token)\\w*: ", std::regex::icase);
    std::istringstream lines(ReadText(sample));
    std::string line;
    while (std::getline(lines, line)) {
      std::smatch match;
      if (std::regex_search(line, match, inline_secret) && !line.starts_with("#")) {
        EXPECT_NE(match.str().find("_file: "), std::string::npos) << sample << ": " << line;
      }
    }
  }
}

}  // namespace
}  // namespace tokenbroker
