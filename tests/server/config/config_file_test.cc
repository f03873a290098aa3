#include "server/config/config_file.h"

#include <gtest/gtest.h>

#include <ostream>
#include <set>
#include <string>
#include <vector>

namespace tokenbroker {
namespace {

using ::google::protobuf::Descriptor;
using ::google::protobuf::FieldDescriptor;

std::string ReadAndReport(const std::string& text) {
  Problems problems;
  ReadConfig("broker.yaml", text, &problems);
  return std::string(problems.ToStatus().message());
}

struct BadFile {
  std::string name;
  std::string yaml;
  std::string message;
};

void PrintTo(const BadFile& file, std::ostream* out) { *out << file.name; }

class BadFileTest : public testing::TestWithParam<BadFile> {};

TEST_P(BadFileTest, SaysWhereAndWhat) {
  EXPECT_EQ(ReadAndReport(GetParam().yaml), GetParam().message);
}

const BadFile kBadFiles[] = {
    {"Empty", "", "broker.yaml:1: is empty"},
    {"OnlyComments", "# nothing\n# here\n", "broker.yaml:1: is empty"},
    {"ListAtTheRoot", "- a\n- b\n", "broker.yaml:1: must consist of keys with values"},
    {"TextAtTheRoot", "hello\n", "broker.yaml:1: must consist of keys with values"},
    {"TwoDocuments", "grpc: {}\n---\nops: {}\n",
     "broker.yaml:2: there is more than one YAML document"},
    {"NotUtf8", "grpc:\n  listen: \"\xff\"\n", "broker.yaml:2: is not UTF-8 text"},
    {"OverlongUtf8", "grpc: {}\n# \xc0\xaf\n", "broker.yaml:2: is not UTF-8 text"},
    {"SurrogateInUtf8", "# \xed\xa0\x80\n", "broker.yaml:1: is not UTF-8 text"},
    {"NulByte", std::string("grpc: {}\n\0", 10), "broker.yaml:2: is not UTF-8 text"},
    {"UnknownRootKey", "grcp: {}\n", "broker.yaml:1: grcp: unknown key; did you mean 'grpc'?"},
    {"UnknownKey", "grpc:\n  tls:\n    certificate: a\n",
     "broker.yaml:3: grpc.tls.certificate: unknown key; known: cert_file, key_file, "
     "client_ca_file"},
    {"MisspeltKey", "store:\n  redis:\n    adress: a:1\n",
     "broker.yaml:3: store.redis.adress: unknown key; did you mean 'address'?"},
    {"SecretInline", "oauth_clients:\n  - client_secret: s3cr3t\n",
     "broker.yaml:2: oauth_clients[0].client_secret: unknown key; known: name, type, client_name, "
     "client_id, homepage_url, redirect_uris, javascript_domains, client_secret_file, dc_secrets"},
    {"DuplicateKey", "log:\n  level: INFO\n  level: ERROR\n",
     "broker.yaml:3: log.level: is there twice; first in line 2"},
    {"MapForText", "grpc:\n  listen: {a: b}\n", "broker.yaml:2: grpc.listen: must be a text"},
    {"ListForText", "grpc:\n  listen: [a]\n", "broker.yaml:2: grpc.listen: must be a text"},
    {"EmptyText", "grpc:\n  listen: ''\n",
     "broker.yaml:2: grpc.listen: is empty; give it a value or remove the key"},
    {"NoValue", "grpc:\n  listen:\nops:\n",
     "broker.yaml:2: grpc.listen: has no value; give it one or remove the key\n"
     "broker.yaml:3: ops: has no value; give it one or remove the key"},
    {"NoValueForList", "oauth_clients:\n",
     "broker.yaml:1: oauth_clients: has no value; give it one or remove the key"},
    {"TextForMap", "grpc: yes\n", "broker.yaml:1: grpc: must be a map of keys with values"},
    {"TextForList", "oauth_clients: none\n", "broker.yaml:1: oauth_clients: must be a list"},
    {"MapForList", "oauth_clients: {name: a}\n", "broker.yaml:1: oauth_clients: must be a list"},
    {"TextForNumber", "issuing:\n  lane_threads: many\n",
     "broker.yaml:2: issuing.lane_threads: must be a whole number"},
    {"QuotedNumber", "issuing:\n  lane_threads: \"5\"\n",
     "broker.yaml:2: issuing.lane_threads: must be a whole number"},
    {"Fraction", "issuing:\n  lane_threads: 1.5\n",
     "broker.yaml:2: issuing.lane_threads: must be a whole number"},
    {"FractionWithExponent", "issuing:\n  lane_threads: 15e-1\n",
     "broker.yaml:2: issuing.lane_threads: must be a whole number"},
    {"NotFinite", "issuing:\n  lane_threads: .inf\n",
     "broker.yaml:2: issuing.lane_threads: must be a whole number"},
    {"BeyondDouble", "issuing:\n  lane_threads: 1e999\n",
     "broker.yaml:2: issuing.lane_threads: must be between 1 and 1024"},
    {"NumberBelow", "issuing:\n  lane_threads: 0\n",
     "broker.yaml:2: issuing.lane_threads: must be between 1 and 1024"},
    {"NegativeNumber", "issuing:\n  lane_threads: -1\n",
     "broker.yaml:2: issuing.lane_threads: must be between 1 and 1024"},
    {"NumberAbove", "issuing:\n  lane_threads: 1025\n",
     "broker.yaml:2: issuing.lane_threads: must be between 1 and 1024"},
    {"NumberBeyondInt32", "issuing:\n  lane_threads: 99999999999999999999\n",
     "broker.yaml:2: issuing.lane_threads: must be between 1 and 1024"},
    {"NotABool", "store:\n  allow_unsealed: yes\n",
     "broker.yaml:2: store.allow_unsealed: must be true or false"},
    {"QuotedBool", "store:\n  allow_unsealed: 'true'\n",
     "broker.yaml:2: store.allow_unsealed: must be true or false"},
    {"DurationWithoutUnit", "grpc:\n  drain_timeout: 25\n",
     "broker.yaml:2: grpc.drain_timeout: must be a duration such as 250ms, 5s, 10m or 1h, not "
     "'25'"},
    {"DurationWithSpace", "grpc:\n  drain_timeout: 25 s\n",
     "broker.yaml:2: grpc.drain_timeout: must be a duration such as 250ms, 5s, 10m or 1h, not "
     "'25 s'"},
    {"DurationOfTwoUnits", "grpc:\n  drain_timeout: 1m30s\n",
     "broker.yaml:2: grpc.drain_timeout: must be a duration such as 250ms, 5s, 10m or 1h, not "
     "'1m30s'"},
    {"DurationAsMap", "grpc:\n  drain_timeout: {seconds: 5}\n",
     "broker.yaml:2: grpc.drain_timeout: must be a duration such as 250ms, 5s, 10m or 1h"},
    {"DurationAbove", "grpc:\n  drain_timeout: 11m\n",
     "broker.yaml:2: grpc.drain_timeout: must be between 0s and 10m"},
    {"DurationInList", "protocol:\n  failure_backoff: [5s, 2h, soon]\n",
     "broker.yaml:2: protocol.failure_backoff[1]: must be between 1ms and 1h\n"
     "broker.yaml:2: protocol.failure_backoff[2]: must be a duration such as 250ms, 5s, 10m or 1h, "
     "not 'soon'"},
    {"BadEnum", "log:\n  level: LOUD\n",
     "broker.yaml:2: log.level: must be one of DEBUG, INFO, WARNING, ERROR, not 'LOUD'"},
    {"UnspecifiedEnum", "log:\n  level: LOG_LEVEL_UNSPECIFIED\n",
     "broker.yaml:2: log.level: must be one of DEBUG, INFO, WARNING, ERROR, not "
     "'LOG_LEVEL_UNSPECIFIED'"},
    {"EnumAsNumber", "log:\n  level: 2\n",
     "broker.yaml:2: log.level: must be one of DEBUG, INFO, WARNING, ERROR, not '2'"},
    {"EnumAsList", "log:\n  level: [INFO]\n",
     "broker.yaml:2: log.level: must be one of DEBUG, INFO, WARNING, ERROR"},
    {"Alias", "grpc: &g\n  listen: a:1\nops: *g\n",
     "broker.yaml:1: anchors (&name) are not supported; write the value out\n"
     "broker.yaml:3: aliases (*name) are not supported; write the value out"},
    {"MergeKey", "grpc:\n  <<: {listen: a:1}\n",
     "broker.yaml:2: grpc.<<: unknown key; known: listen, tls, max_request_bytes, "
     "max_concurrent_streams, max_connection_age, max_connection_age_grace, keepalive_time, "
     "keepalive_timeout, memory_quota_mib, drain_timeout"},
    {"Tag", "grpc:\n  listen: !!binary aGVsbG8=\n",
     "broker.yaml:2: tags (!name) are not supported"},
    {"ListAsKey", "? [a, b]\n: c\n", "broker.yaml:1: a key must be a name"},
    {"ControlCharacterInKey", "\"a\\x1bb\": 1\n",
     "broker.yaml:1: a\\x1b\\x62: unknown key; known: grpc, ops, store, oauth_clients, "
     "data_centers, "
     "zoho, issuing, consent, log, protocol"},
};

INSTANTIATE_TEST_SUITE_P(All, BadFileTest, testing::ValuesIn(kBadFiles),
                         [](const auto& info) { return info.param.name; });

TEST(ReadConfigTest, ReportsEverythingAtOnceInTheOrderOfTheLines) {
  EXPECT_EQ(ReadAndReport("grpc:\n"
                          "  lisen: a:1\n"
                          "  drain_timeout: soon\n"
                          "log: {level: LOUD}\n"
                          "issuing:\n"
                          "  lane_queue: 0\n"),
            "broker.yaml:2: grpc.lisen: unknown key; did you mean 'listen'?\n"
            "broker.yaml:3: grpc.drain_timeout: must be a duration such as 250ms, 5s, 10m or 1h, "
            "not 'soon'\n"
            "broker.yaml:4: log.level: must be one of DEBUG, INFO, WARNING, ERROR, not 'LOUD'\n"
            "broker.yaml:6: issuing.lane_queue: must be between 1 and 10000000");
}

TEST(ReadConfigTest, SaysTheLineOfASyntaxError) {
  const std::string message = ReadAndReport("grpc:\n  listen: [a\nops: {}\n");
  EXPECT_TRUE(message.starts_with("broker.yaml:3: is not YAML: ")) << message;
}

TEST(ReadConfigTest, RefusesLargeFiles) {
  EXPECT_EQ(ReadAndReport(std::string(kMaxConfigBytes + 1, '#')),
            "broker.yaml:1: is larger than 1048576 bytes");
  EXPECT_EQ(ReadAndReport("log: {level: INFO}\n#" + std::string(kMaxConfigBytes - 100, 'x')), "");
}

TEST(ReadConfigTest, SurvivesDeepNesting) {
  const std::string message = ReadAndReport(std::string(100'000, '['));
  EXPECT_TRUE(message.starts_with("broker.yaml:1: ")) << message.substr(0, 200);
}

TEST(ReadConfigTest, ReadsEveryTypeAndRemembersWhere) {
  Problems problems;
  const ConfigDocument document = ReadConfig("broker.yaml",
                                             "grpc:\n"
                                             "  listen: 127.0.0.1:1\n"
                                             "  drain_timeout: 1500ms\n"
                                             "log: {level: log_level_error, cached_calls: false}\n"
                                             "store:\n"
                                             "  redis: {replica_acks: 0, username: 42}\n"
                                             "oauth_clients:\n"
                                             "  - name: a\n"
                                             "    type: SELF_CLIENT\n"
                                             "    redirect_uris:\n"
                                             "      - one\n"
                                             "      - two\n",
                                             &problems);
  ASSERT_EQ(problems.ToStatus(), absl::OkStatus());
  const config::v1::Config& config = document.config;
  EXPECT_EQ(config.grpc().listen(), "127.0.0.1:1");
  EXPECT_EQ(config.grpc().drain_timeout().seconds(), 1);
  EXPECT_EQ(config.grpc().drain_timeout().nanos(), 500'000'000);
  EXPECT_EQ(config.log().level(), config::v1::LOG_LEVEL_ERROR);
  EXPECT_TRUE(config.log().has_cached_calls());
  EXPECT_FALSE(config.log().cached_calls());
  EXPECT_TRUE(config.store().redis().has_replica_acks());
  EXPECT_EQ(config.store().redis().username(), "42");
  EXPECT_EQ(config.oauth_clients(0).type(), config::v1::CLIENT_TYPE_SELF_CLIENT);
  EXPECT_EQ(config.oauth_clients(0).redirect_uris(1), "two");

  EXPECT_EQ(document.SourceOf("grpc.drain_timeout").line, 3);
  EXPECT_EQ(document.SourceOf("oauth_clients[0].redirect_uris[1]").line, 12);
  // Not written: the nearest key around it.
  EXPECT_EQ(document.SourceOf("oauth_clients[0].client_id").line, 8);
  EXPECT_EQ(document.SourceOf("store.redis.address").line, 6);
  EXPECT_EQ(document.SourceOf("issuing.lane_queue").line, 1);
}

// Helm writes large numbers of its values like this.
TEST(ReadConfigTest, WholeNumbersMayHaveAnExponent) {
  Problems problems;
  const ConfigDocument document = ReadConfig(
      "broker.yaml", "issuing: {cache_entries: 1e+06, lane_queue: 20000.0}\n", &problems);
  ASSERT_EQ(problems.ToStatus(), absl::OkStatus());
  EXPECT_EQ(document.config.issuing().cache_entries(), 1'000'000);
  EXPECT_EQ(document.config.issuing().lane_queue(), 20'000);
}

class OverrideTest : public testing::Test {
 protected:
  OverrideTest() {
    document_ = ReadConfig("broker.yaml",
                           "grpc: {listen: file:1}\n"
                           "oauth_clients: [{name: a, redirect_uris: [one]}]\n",
                           &problems_);
  }

  std::string Apply(const std::string& path, const std::string& value) {
    Problems problems;
    ApplyOverride({"--set", path, value}, &document_, &problems);
    return std::string(problems.ToStatus().message());
  }

  Problems problems_;
  ConfigDocument document_;
};

TEST_F(OverrideTest, SetsValuesOfAllShapes) {
  EXPECT_EQ(Apply("grpc.listen", "flag:2"), "");
  EXPECT_EQ(Apply("issuing.lane_threads", "7"), "");
  EXPECT_EQ(Apply("store.redis.replica_acks", "0"), "");
  EXPECT_EQ(Apply("oauth_clients[0].client_name", "with: colon #"), "");
  EXPECT_EQ(Apply("oauth_clients[0].redirect_uris[0]", "uno"), "");
  EXPECT_EQ(Apply("oauth_clients[0].redirect_uris[1]", "dos"), "");
  EXPECT_EQ(Apply("oauth_clients[1].name", "b"), "");
  EXPECT_EQ(Apply("protocol.failure_backoff", "[1s, 2s]"), "");
  EXPECT_EQ(Apply("protocol.budget", "[{sends: 1, length: 5s}]"), "");
  EXPECT_EQ(Apply("store.sqlite", "{path: x.db}"), "");
  const config::v1::Config& config = document_.config;
  EXPECT_EQ(config.grpc().listen(), "flag:2");
  EXPECT_EQ(config.issuing().lane_threads(), 7);
  EXPECT_TRUE(config.store().redis().has_replica_acks());
  EXPECT_EQ(config.oauth_clients(0).client_name(), "with: colon #");
  EXPECT_EQ(config.oauth_clients(0).redirect_uris(0), "uno");
  EXPECT_EQ(config.oauth_clients(0).redirect_uris(1), "dos");
  EXPECT_EQ(config.oauth_clients(1).name(), "b");
  EXPECT_EQ(config.protocol().failure_backoff_size(), 2);
  EXPECT_EQ(config.protocol().budget(0).length().seconds(), 5);
  EXPECT_EQ(config.store().sqlite().path(), "x.db");
  EXPECT_EQ(document_.SourceOf("grpc.listen").name, "--set");
  EXPECT_EQ(document_.SourceOf("oauth_clients[1].client_id").name, "--set");
  EXPECT_EQ(document_.SourceOf("oauth_clients[0].name").name, "broker.yaml");
}

TEST_F(OverrideTest, RefusesWhatTheFileMayNotSayEither) {
  EXPECT_EQ(Apply("grpc.lisen", "a:1"), "--set: grpc.lisen: unknown key; did you mean 'listen'?");
  EXPECT_EQ(Apply("issuing.lane_threads", "x"),
            "--set: issuing.lane_threads: must be a whole number");
  EXPECT_EQ(Apply("issuing.lane_threads", "0"),
            "--set: issuing.lane_threads: must be between 1 and 1024");
  EXPECT_EQ(Apply("grpc..listen", "x"), "--set: grpc..listen: is not the path of a key");
  EXPECT_EQ(Apply("oauth_clients[x].name", "x"),
            "--set: oauth_clients[x].name: is not the path of a key");
  EXPECT_EQ(Apply("oauth_clients.name", "x"),
            "--set: oauth_clients.name: needs an index: it is a list");
  EXPECT_EQ(Apply("oauth_clients[5].name", "x"),
            "--set: oauth_clients[5].name: the list has 1 elements");
  EXPECT_EQ(Apply("grpc[0].listen", "x"), "--set: grpc[0].listen: has an index but is not a list");
  EXPECT_EQ(Apply("grpc.listen.host", "x"), "--set: grpc.listen.host: has no keys of its own");
  EXPECT_EQ(Apply("grpc.drain_timeout.seconds", "1"),
            "--set: grpc.drain_timeout.seconds: has no keys of its own");
  EXPECT_EQ(Apply("protocol.failure_backoff", "5s"),
            "--set: protocol.failure_backoff: must be a list");
  EXPECT_EQ(Apply("store.sqlite", "{pth: x}"),
            "--set: store.sqlite.pth: unknown key; did you mean 'path'?");
}

TEST(FillDefaultsTest, FillsWhatWasNotWrittenAndNothingElse) {
  Problems problems;
  ConfigDocument document = ReadConfig(
      "broker.yaml", "grpc: {drain_timeout: 0s}\nprotocol: {background_reserve: 0}\n", &problems);
  FillDefaults(&document);
  const config::v1::Config& config = document.config;
  EXPECT_EQ(config.grpc().listen(), "127.0.0.1:8443");
  EXPECT_EQ(config.grpc().drain_timeout().seconds(), 0);
  EXPECT_EQ(config.protocol().background_reserve(), 0);
  EXPECT_EQ(config.protocol().budget_size(), 2);
  EXPECT_EQ(config.protocol().failure_backoff_size(), 4);
  EXPECT_EQ(config.zoho().user_agent(), "token-broker/" + std::string(ProgramVersion()));
  EXPECT_TRUE(config.log().cached_calls());
  // Their presence means something.
  EXPECT_FALSE(config.grpc().has_tls());
  EXPECT_FALSE(config.has_store());
  EXPECT_FALSE(config.has_consent());
}

// The reader knows these types only.
void ExpectKnownTypes(const Descriptor& type) {
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_STRING:
      case FieldDescriptor::CPPTYPE_INT32:
      case FieldDescriptor::CPPTYPE_BOOL:
        EXPECT_TRUE(!field.is_repeated() || field.cpp_type() == FieldDescriptor::CPPTYPE_STRING)
            << field.full_name();
        EXPECT_EQ(field.type() == FieldDescriptor::TYPE_BYTES, false) << field.full_name();
        break;
      case FieldDescriptor::CPPTYPE_ENUM:
        EXPECT_TRUE(field.enum_type()->value(0)->name().ends_with("_UNSPECIFIED"));
        break;
      case FieldDescriptor::CPPTYPE_MESSAGE:
        EXPECT_FALSE(field.is_map()) << field.full_name();
        if (field.message_type()->full_name() != "google.protobuf.Duration") {
          ExpectKnownTypes(*field.message_type());
        }
        break;
      default:
        ADD_FAILURE() << field.full_name() << " has a type that the reader does not know";
    }
  }
}

TEST(SchemaTest, UsesOnlyTypesThatTheReaderKnows) {
  ExpectKnownTypes(*config::v1::Config::descriptor());
}

TEST(EnvironmentKeysTest, AreDistinct) {
  std::set<std::string> variables;
  bool listen = false;
  for (const EnvironmentKey& key : EnvironmentKeys()) {
    EXPECT_TRUE(variables.insert(key.variable).second) << key.variable;
    listen = listen || (key.variable == "TOKENBROKER_GRPC_LISTEN" && key.path == "grpc.listen");
  }
  EXPECT_TRUE(listen);
  EXPECT_FALSE(variables.contains("TOKENBROKER_CONFIG"));
}

}  // namespace
}  // namespace tokenbroker
