#include "clients/zoho/revoke_reply.h"

#include <string_view>

#include "gtest/gtest.h"

namespace tokenbroker {
namespace {

struct Case {
  int http_status;
  std::string_view body;
  bool dead;
  std::string_view error;
};

TEST(RevokeReplyTest, IsClassified) {
  const Case cases[] = {
      {200, R"({"status":"success"})", true, ""},
      {200, "", true, ""},
      {200, "{}", true, ""},
      // Not known to this DC (any more).
      {400, R"({"error":"invalid_token"})", true, ""},
      {400, "", true, ""},
      {200, R"({"error":"invalid_code"})", true, ""},
      // The throttle, in any language.
      {400, R"({"error":"访问被拒绝","status":"failure"})", false, "throttled"},
      {429, "", false, "throttled"},
      // Says nothing about the token.
      {400, R"({"error":"general_error"})", false, "general_error"},
      {400, "<html></html>", false, "http_400"},
      {200, "<html></html>", false, "html"},
      {200, R"({"error":"general_error"})", false, "general_error"},
      {200, R"({"error":"something new"})", false, "unknown_error"},
      {200, R"({"status":"failure"})", false, "no_access_token"},
      {200, R"({"access_token":"1000.a","status":"failure"})", false, "contradictory_reply"},
      {200, R"({"status":)", false, "not_json"},
      {302, "", false, "http_302"},
      {401, R"({"error":"invalid_client"})", false, "invalid_client"},
      {404, "", false, "http_404"},
      {503, R"({"error":"invalid_token"})", false, "http_503"},
  };
  for (const Case& c : cases) {
    const RevokeReply reply = ClassifyRevokeReply(c.http_status, c.body);
    EXPECT_EQ(reply.dead, c.dead) << c.http_status << " " << c.body;
    EXPECT_EQ(reply.error, c.error) << c.http_status << " " << c.body;
  }
}

}  // namespace
}  // namespace tokenbroker
