#ifndef TOKEN_BROKER_TESTS_SERVER_RPC_REFUSED_FIELDS_H_
#define TOKEN_BROKER_TESTS_SERVER_RPC_REFUSED_FIELDS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/errors.h"
#include "gtest/gtest.h"
#include "tests/server/rpc/zoho_setup.h"

namespace tokenbroker {

inline const ZohoSetup& Zoho() {
  static const auto* const setup = new ZohoSetup(TestSetup());
  return *setup;
}

// The fields that the request is refused for; empty if it is not refused.
inline std::vector<std::string> FieldsOf(const absl::Status& status) {
  if (status.ok()) return {};
  EXPECT_EQ(ErrorReason(status), "INVALID_REQUEST") << status;
  std::vector<std::string> fields;
  const ErrorDetail detail = GetErrorDetail(status).value_or(ErrorDetail{});
  for (const FieldViolation& violation : detail.violations) {
    EXPECT_FALSE(violation.description.empty());
    fields.push_back(violation.field);
  }
  return fields;
}

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_SERVER_RPC_REFUSED_FIELDS_H_
