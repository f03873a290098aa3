// JSON to the simulator's plain data and back. Strict: unknown keys and wrong types are errors that
// name the key.

#ifndef TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_JSON_CONFIG_H_
#define TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_JSON_CONFIG_H_

#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/zoho_simulator/faults.h"
#include "tests/zoho_simulator/model.h"
#include "tests/zoho_simulator/request_log.h"
#include "tests/zoho_simulator/simulator.h"

namespace tokenbroker::zoho_simulator {

// Reads the fields of one JSON object. A field that is absent leaves its target as it is.
class JsonFields {
 public:
  // `where` names the object in errors. Both must outlive this.
  JsonFields(const nlohmann::json& object, std::string_view where);

  void Read(const char* name, std::string* target);
  void Read(const char* name, bool* target);
  void Read(const char* name, int* target);
  void Read(const char* name, int64_t* target);
  void Read(const char* name, uint64_t* target);
  void Read(const char* name, uint16_t* target);
  void Read(const char* name, std::vector<std::string>* target);
  void Read(const char* name, std::map<std::string, std::string>* target);
  void ReadSeconds(const char* name, absl::Duration* target);
  void ReadMilliseconds(const char* name, absl::Duration* target);
  template <typename Enum>
  void ReadName(const char* name, std::optional<Enum> (*parse)(std::string_view), Enum* target) {
    std::string text;
    if (Child(name) == nullptr) return;
    Read(name, &text);
    if (const std::optional<Enum> value = parse(text)) {
      *target = *value;
    } else {
      Fail(name, "has no such value");
    }
  }
  // The field's value, or nullptr.
  const nlohmann::json* Child(const char* name);
  void Fail(std::string_view name, std::string_view what);
  void Check(absl::Status status);

  // The first error; else an error for the first field that nobody asked for; else OK.
  absl::Status Done() const;

 private:
  const nlohmann::json& object_;
  const std::string_view where_;
  std::set<std::string, std::less<>> known_;
  absl::Status status_;
};

// All return InvalidArgument with the place of the mistake.
absl::StatusOr<nlohmann::json> ParseJson(std::string_view text);
absl::StatusOr<Simulator::Options> ParseOptions(const nlohmann::json& object);
absl::StatusOr<ClientConfig> ParseClient(const nlohmann::json& object);
absl::StatusOr<UserConfig> ParseUser(const nlohmann::json& object);
absl::StatusOr<ConsentChoice> ParseConsent(const nlohmann::json& object);
absl::StatusOr<FaultRule> ParseFaultRule(const nlohmann::json& object);
// Changes what `object` names and leaves the rest.
absl::Status MergeBehaviour(const nlohmann::json& object, Behaviour* behaviour);

nlohmann::ordered_json ToJson(const Behaviour& behaviour);
nlohmann::ordered_json ToJson(const FaultRules::Numbered& numbered);
nlohmann::ordered_json ToJson(const RequestEntry& entry);
nlohmann::ordered_json ToJson(const LogSummary& summary);

}  // namespace tokenbroker::zoho_simulator

#endif  // TOKEN_BROKER_TESTS_ZOHO_SIMULATOR_JSON_CONFIG_H_
