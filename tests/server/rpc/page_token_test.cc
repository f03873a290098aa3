#include "server/rpc/page_token.h"

#include <string>

#include "gtest/gtest.h"

namespace tokenbroker {
namespace {

GrantFilter SomeFilter() {
  GrantFilter filter;
  filter.dc = "eu";
  filter.environment = Environment::kSandbox;
  filter.state = GrantState::kActive;
  filter.labels = {{"team", "a"}};
  filter.oauth_client = "web";
  return filter;
}

TEST(PageToken, GivesBackWhatItWasMadeFrom) {
  for (const std::string& next :
       {std::string("key"), std::string("\0\xff\x01", 3), std::string(2000, 'k')}) {
    EXPECT_EQ(DecodePageToken(EncodePageToken(next, SomeFilter()), SomeFilter()), next);
    EXPECT_EQ(DecodePageToken(EncodePageToken(next, {}), {}), next);
  }
}

TEST(PageToken, IsSafeInUrls) {
  for (char c : EncodePageToken(std::string("\xff\xfe\xfd", 3), SomeFilter())) {
    EXPECT_TRUE(isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_') << c;
  }
}

// The same in every process: other replicas have to read it, also after an update.
TEST(PageToken, StaysTheSame) {
  EXPECT_EQ(EncodePageToken("key", {}), EncodePageToken("key", {}));
  EXPECT_EQ(EncodePageToken("key", {}), "Afya7nucEHEUa2V5");
}

TEST(PageToken, IsBoundToTheFilter) {
  const std::string token = EncodePageToken("key", SomeFilter());
  const auto refuses = [&](auto change) {
    GrantFilter filter = SomeFilter();
    change(filter);
    return !DecodePageToken(token, filter).has_value();
  };
  EXPECT_TRUE(refuses([](GrantFilter& f) { f.dc = "us"; }));
  EXPECT_TRUE(refuses([](GrantFilter& f) { f.environment = Environment::kProduction; }));
  EXPECT_TRUE(refuses([](GrantFilter& f) { f.environment.reset(); }));
  EXPECT_TRUE(refuses([](GrantFilter& f) { f.state.reset(); }));
  EXPECT_TRUE(refuses([](GrantFilter& f) { f.labels["team"] = "b"; }));
  EXPECT_TRUE(refuses([](GrantFilter& f) { f.labels["tier"] = "1"; }));
  EXPECT_TRUE(refuses([](GrantFilter& f) { f.oauth_client = "other"; }));
  // What is moved from one field to the next is another filter.
  EXPECT_TRUE(refuses([](GrantFilter& f) {
    f.dc = "";
    f.oauth_client = "euweb";
  }));
}

TEST(PageToken, RefusesWhatWasAltered) {
  const std::string token = EncodePageToken("some key", SomeFilter());
  for (size_t i = 0; i < token.size(); ++i) {
    std::string altered = token;
    altered[i] = altered[i] == 'A' ? 'B' : 'A';
    EXPECT_FALSE(DecodePageToken(altered, SomeFilter()).has_value()) << i;
    EXPECT_FALSE(DecodePageToken(token.substr(0, i), SomeFilter()).has_value()) << i;
  }
  EXPECT_FALSE(DecodePageToken(token + "A", SomeFilter()).has_value());
  EXPECT_FALSE(DecodePageToken(token + "==", SomeFilter()).has_value());
  EXPECT_FALSE(DecodePageToken("not base64 at all!", SomeFilter()).has_value());
  EXPECT_FALSE(DecodePageToken(std::string("\0\0", 2), SomeFilter()).has_value());
}

}  // namespace
}  // namespace tokenbroker
