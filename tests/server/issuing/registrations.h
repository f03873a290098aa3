#ifndef TOKEN_BROKER_TESTS_SERVER_ISSUING_REGISTRATIONS_H_
#define TOKEN_BROKER_TESTS_SERVER_ISSUING_REGISTRATIONS_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/errors.h"
#include "tests/server/issuing/world.h"

// Registrations of the world's grant, and what became of them in one word.
namespace tokenbroker {

inline Registration ByCode(const std::string& code, const std::string& request_id = "") {
  Registration registration;
  registration.key = Grant().key;
  registration.dc = "us";
  registration.credential = CodeCredential{Secret(code), "https://broker.example.com/cb", {}};
  registration.request_id = request_id;
  return registration;
}

inline Registration Import(const std::string& refresh_token, const std::string& request_id = "") {
  Registration registration = ByCode("", request_id);
  registration.credential = ImportCredential{Secret(refresh_token)};
  return registration;
}

inline Registration ByClientCredentials() {
  Registration registration = ByCode("");
  registration.key.oauth_client = "self";
  registration.credential = ClientCredentialsCredential{"Service.1"};
  registration.scopes = {"A.b.READ", "A.c.READ"};
  return registration;
}

inline std::string Reason(const absl::StatusOr<Registered>& result) {
  if (result.ok()) return result->replaced ? "replaced" : "created";
  return ErrorReason(result.status());
}

// Registrations under way at the same time.
class Pending {
 public:
  void Start(World& world, int replica, Registration registration,
             absl::Duration deadline = absl::Seconds(10)) {
    auto result = std::make_shared<std::string>("waiting");
    results_.push_back(result);
    world.replica(replica).registrar().Register(
        std::move(registration), deadline, [result](const absl::StatusOr<Registered>& registered) {
          *result = *result == "waiting" ? Reason(registered) : "answered twice";
        });
  }
  std::vector<std::string> results() const {
    std::vector<std::string> all;
    for (const auto& result : results_) all.push_back(*result);
    return all;
  }

 private:
  std::vector<std::shared_ptr<std::string>> results_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_SERVER_ISSUING_REGISTRATIONS_H_
