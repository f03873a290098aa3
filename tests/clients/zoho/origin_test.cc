#include "clients/zoho/origin.h"

#include <string>
#include <string_view>

#include "gtest/gtest.h"

namespace tokenbroker {
namespace {

TEST(OriginTest, ReadsSchemeHostAndPort) {
  const auto origin = ParseOrigin("https://accounts.zoho.com");
  ASSERT_TRUE(origin.has_value());
  EXPECT_EQ(origin->scheme, "https");
  EXPECT_EQ(origin->host, "accounts.zoho.com");
  EXPECT_EQ(origin->port, 0);

  const auto ipv6 = ParseOrigin("http://[::1]:8080");
  ASSERT_TRUE(ipv6.has_value());
  EXPECT_EQ(ipv6->scheme, "http");
  EXPECT_EQ(ipv6->host, "::1");
  EXPECT_EQ(ipv6->port, 8080);
}

TEST(OriginTest, RefusesEverySecondWayToWriteIt) {
  for (const std::string_view text : {"",
                                      "https://",
                                      "https:///",
                                      "accounts.zoho.com",
                                      "//accounts.zoho.com",
                                      "HTTPS://accounts.zoho.com",
                                      "ftp://accounts.zoho.com",
                                      "https:accounts.zoho.com",
                                      "https://accounts.zoho.com/",
                                      "https://accounts.zoho.com?x",
                                      "https://accounts.zoho.com#x",
                                      " https://accounts.zoho.com",
                                      "https://accounts.zoho.com ",
                                      "https://accounts.zoho.com\n",
                                      "https://user@accounts.zoho.com",
                                      "https://user:pw@accounts.zoho.com",
                                      "https://accounts.zoho.com@evil.example",
                                      "https://accounts.zoho.com\\@evil.example",
                                      "https://accounts.zoho.com%2eevil.example",
                                      "https://accounts..zoho.com",
                                      "https://.zoho.com",
                                      "https://-zoho.com",
                                      "https://acc_ounts.zoho.com",
                                      "https://b\xc3\xbc"
                                      "rger.example",
                                      "https://accounts.zoho.com:",
                                      "https://accounts.zoho.com:0",
                                      "https://accounts.zoho.com:65536",
                                      "https://accounts.zoho.com:123456",
                                      "https://accounts.zoho.com:+443",
                                      "https://accounts.zoho.com:4a3",
                                      "https://[::1",
                                      "https://[127.0.0.1]",
                                      "https://[::1]x",
                                      "https://[fe80::1%25eth0]",
                                      "https://[]"}) {
    EXPECT_FALSE(ParseOrigin(text).has_value()) << text;
  }
  EXPECT_FALSE(ParseOrigin(std::string_view("https://a\0.example", 18)).has_value());
  EXPECT_FALSE(ParseOrigin("https://" + std::string(254, 'a')).has_value());
}

TEST(OriginTest, WebUrlKeepsTheRest) {
  const auto url = ParseWebUrl("https://app.example:8443/callback?x=1#y");
  ASSERT_TRUE(url.has_value());
  EXPECT_EQ(url->origin.host, "app.example");
  EXPECT_EQ(url->origin.port, 8443);
  EXPECT_EQ(url->rest, "/callback?x=1#y");
  EXPECT_FALSE(ParseWebUrl("https://app.example/a b").has_value());
  EXPECT_FALSE(ParseWebUrl("https://app.example/\r\nx").has_value());
  EXPECT_FALSE(ParseWebUrl("https://app.examplecallback@x/").has_value());
}

TEST(OriginTest, HostAndPort) {
  EXPECT_TRUE(IsHostAndPort("people.zoho.com"));
  EXPECT_TRUE(IsHostAndPort("127.0.0.1:8080"));
  EXPECT_TRUE(IsHostAndPort("[::1]:8080"));
  EXPECT_FALSE(IsHostAndPort(""));
  EXPECT_FALSE(IsHostAndPort("https://people.zoho.com"));
  EXPECT_FALSE(IsHostAndPort("people.zoho.com/"));
  EXPECT_FALSE(IsHostAndPort(":80"));
}

TEST(OriginTest, Loopback) {
  EXPECT_TRUE(IsLoopback(*ParseOrigin("http://127.0.0.1:1")));
  EXPECT_TRUE(IsLoopback(*ParseOrigin("http://[::1]")));
  EXPECT_TRUE(IsLoopback(*ParseOrigin("http://localhost:80")));
  EXPECT_FALSE(IsLoopback(*ParseOrigin("http://localhost.evil.example")));
  EXPECT_FALSE(IsLoopback(*ParseOrigin("http://127.0.0.1.evil.example")));
  EXPECT_FALSE(IsLoopback(*ParseOrigin("http://0.0.0.0")));
  EXPECT_FALSE(IsLoopback(*ParseOrigin("http://10.0.0.1")));
}

}  // namespace
}  // namespace tokenbroker
