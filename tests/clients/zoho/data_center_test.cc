#include "clients/zoho/data_center.h"

#include <string>
#include <string_view>
#include <vector>

#include "common/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tokenbroker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

DataCenterTable BuiltInTable() {
  return DataCenterTable::Create({}, /*allow_plaintext_loopback=*/false).value();
}

TEST(DataCenterTest, BuiltInRowsAreThoseOfTheFacts) {
  const DataCenterTable table = BuiltInTable();
  std::vector<std::string> names;
  for (const auto& [name, dc] : table.all()) {
    names.push_back(name);
    EXPECT_EQ(dc.name, name);
  }
  EXPECT_THAT(names, ElementsAre("ae", "au", "ca", "cn", "eu", "in", "jp", "sa", "sg", "uk", "us"));
  struct Row {
    std::string_view name, accounts_server, api_domain, people_host;
  };
  for (const Row& row :
       {Row{"us", "https://accounts.zoho.com", "https://www.zohoapis.com", "people.zoho.com"},
        Row{"eu", "https://accounts.zoho.eu", "https://www.zohoapis.eu", "people.zoho.eu"},
        Row{"in", "https://accounts.zoho.in", "https://www.zohoapis.in", "people.zoho.in"},
        Row{"au", "https://accounts.zoho.com.au", "https://www.zohoapis.com.au",
            "people.zoho.com.au"},
        Row{"jp", "https://accounts.zoho.jp", "https://www.zohoapis.jp", "people.zoho.jp"},
        Row{"cn", "https://accounts.zoho.com.cn", "https://www.zohoapis.com.cn",
            "people.zoho.com.cn"},
        Row{"ca", "https://accounts.zohocloud.ca", "https://www.zohoapis.ca",
            "people.zohocloud.ca"},
        Row{"sa", "https://accounts.zoho.sa", "https://www.zohoapis.sa", "people.zoho.sa"},
        Row{"uk", "https://accounts.zoho.uk", "https://www.zohoapis.uk", "people.zoho.uk"},
        Row{"ae", "https://accounts.zoho.ae", "https://www.zohoapis.ae", "people.zoho.ae"},
        Row{"sg", "https://accounts.zoho.sg", "https://www.zohoapis.sg", "people.zoho.sg"}}) {
    const DataCenter* dc = table.Find(row.name);
    ASSERT_NE(dc, nullptr) << row.name;
    EXPECT_EQ(dc->accounts_server, row.accounts_server);
    EXPECT_EQ(dc->api_domain, row.api_domain);
    EXPECT_EQ(dc->people_host, row.people_host);
  }
}

TEST(DataCenterTest, FindIsExact) {
  const DataCenterTable table = BuiltInTable();
  EXPECT_EQ(table.Find("US"), nullptr);
  EXPECT_EQ(table.Find(""), nullptr);
  EXPECT_EQ(table.Find("us "), nullptr);
}

TEST(DataCenterTest, OverrideKeepsWhatItDoesNotName) {
  const auto table =
      DataCenterTable::Create({{.name = "eu", .accounts_server = "http://127.0.0.1:4711"}}, true);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->all().size(), 11u);
  EXPECT_EQ(table->Find("eu")->accounts_server, "http://127.0.0.1:4711");
  EXPECT_EQ(table->Find("eu")->api_domain, "https://www.zohoapis.eu");
  EXPECT_EQ(table->Find("eu")->people_host, "people.zoho.eu");
  EXPECT_EQ(table->Find("us")->accounts_server, "https://accounts.zoho.com");
}

TEST(DataCenterTest, AddsADc) {
  const auto table =
      DataCenterTable::Create({{.name = "private-1",
                                .accounts_server = "https://accounts.corp.example:8443",
                                .api_domain = "https://api.corp.example",
                                .people_host = "people.corp.example"}},
                              false);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->all().size(), 12u);
  EXPECT_NE(table->Find("private-1"), nullptr);
}

TEST(DataCenterTest, PlaintextOnlyOnLoopbackAndOnlyIfAllowed) {
  const auto accepts = [](std::string_view url, bool allowed) {
    return DataCenterTable::Create({{.name = "us", .accounts_server = std::string(url)}}, allowed)
        .ok();
  };
  EXPECT_FALSE(accepts("http://127.0.0.1:4711", false));
  EXPECT_TRUE(accepts("http://127.0.0.1:4711", true));
  EXPECT_TRUE(accepts("http://[::1]:4711", true));
  EXPECT_TRUE(accepts("http://localhost:4711", true));
  EXPECT_FALSE(accepts("http://accounts.zoho.com", true));
  EXPECT_FALSE(accepts("http://localhost.evil.example", true));
  EXPECT_TRUE(accepts("https://127.0.0.1:4711", false));
}

TEST(DataCenterTest, NamesEveryProblemAtOnce) {
  const auto table =
      DataCenterTable::Create({{.name = "us", .accounts_server = "https://accounts.zoho.com/"},
                               {.name = "new", .accounts_server = "https://accounts.corp.example"},
                               {.name = "eu", .people_host = "https://people.zoho.eu"},
                               {.name = "eu"},
                               {.name = "Bad Name"}},
                              false);
  ASSERT_EQ(table.status().code(), absl::StatusCode::kInvalidArgument);
  const std::string message(table.status().message());
  for (const char* part :
       {"DC 'us': accounts_server", "DC 'new': api_domain", "DC 'new': people_host",
        "DC 'eu': people_host", "DC 'eu': is there twice", "DC 'Bad Name': name"}) {
    EXPECT_THAT(message, HasSubstr(part));
  }
  EXPECT_THAT(message, Not(HasSubstr("DC 'new': accounts_server")));
}

TEST(DataCenterTest, RedirectIsBelievedOnlyIfBothParametersAreOfOneRow) {
  const DataCenterTable table = BuiltInTable();
  const auto dc = table.FromRedirect("eu", "https://accounts.zoho.eu");
  ASSERT_TRUE(dc.ok());
  EXPECT_EQ((*dc)->name, "eu");

  struct Attack {
    std::string_view location, accounts_server, field;
  };
  for (const Attack& attack :
       {Attack{"us", "https://accounts.zoho.eu", "accounts_server"},
        Attack{"us", "https://accounts.evil.example", "accounts_server"},
        Attack{"us", "https://accounts.zoho.com.evil.example", "accounts_server"},
        Attack{"us", "https://accounts.zoho.com@evil.example", "accounts_server"},
        Attack{"us", "https://accounts.zoho.com/", "accounts_server"},
        Attack{"us", "https://ACCOUNTS.zoho.com", "accounts_server"},
        Attack{"us", "http://accounts.zoho.com", "accounts_server"},
        Attack{"us", "accounts.zoho.com", "accounts_server"}, Attack{"us", "", "accounts_server"},
        Attack{"US", "https://accounts.zoho.com", "location"},
        Attack{"", "https://accounts.zoho.com", "location"},
        Attack{"xx", "https://accounts.zoho.com", "location"}}) {
    const auto refused = table.FromRedirect(attack.location, attack.accounts_server);
    ASSERT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument)
        << attack.location << " " << attack.accounts_server;
    const auto detail = GetErrorDetail(refused.status());
    ASSERT_TRUE(detail.has_value());
    EXPECT_EQ(detail->reason, "INVALID_REQUEST");
    ASSERT_EQ(detail->violations.size(), 1u);
    EXPECT_EQ(detail->violations[0].field, attack.field);
    EXPECT_THAT(refused.status().ToString(), Not(HasSubstr("evil")));
  }
}

TEST(DataCenterTest, ApiDomain) {
  const DataCenterTable table = BuiltInTable();
  const DataCenter& us = *table.Find("us");
  EXPECT_TRUE(IsApiDomainOf(us, "https://www.zohoapis.com"));
  EXPECT_TRUE(IsApiDomainOf(us, "https://sandbox.zohoapis.com"));
  EXPECT_TRUE(IsApiDomainOf(us, "https://developer.zohoapis.com"));
  EXPECT_TRUE(IsApiDomainOf(*table.Find("ca"), "https://sandbox.zohoapis.ca"));
  for (const char* other :
       {"", "https://www.zohoapis.eu", "https://sandbox.zohoapis.eu", "http://www.zohoapis.com",
        "https://www.zohoapis.com/", "https://www.zohoapis.com.evil.example",
        "https://evil.zohoapis.com", "https://zohoapis.com", "https://WWW.zohoapis.com"}) {
    EXPECT_FALSE(IsApiDomainOf(us, other)) << other;
  }
  const DataCenter loopback{"t", "http://127.0.0.1:1", "http://127.0.0.1:1", "127.0.0.1:1"};
  EXPECT_TRUE(IsApiDomainOf(loopback, "http://127.0.0.1:1"));
  EXPECT_FALSE(IsApiDomainOf(loopback, "https://sandbox."));
}

}  // namespace
}  // namespace tokenbroker
