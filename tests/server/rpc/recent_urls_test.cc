#include "server/rpc/recent_urls.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace tokenbroker {
namespace {

constexpr MonotonicTime kNow = absl::Hours(1);

TEST(RecentUrls, RemembersForTenSeconds) {
  RecentUrls urls;
  EXPECT_EQ(urls.Find("acme", kNow), std::nullopt);
  urls.Put("acme", "https://one", kNow);
  urls.Put("bolt", "", kNow);
  EXPECT_EQ(urls.Find("acme", kNow + absl::Milliseconds(9999)), "https://one");
  EXPECT_EQ(urls.Find("bolt", kNow), "") << "that there is none is worth knowing, too";
  EXPECT_EQ(urls.Find("acme", kNow + absl::Seconds(10)), std::nullopt);
  urls.Put("acme", "https://two", kNow + absl::Seconds(10));
  EXPECT_EQ(urls.Find("acme", kNow + absl::Seconds(10)), "https://two");
}

TEST(RecentUrls, IsBounded) {
  RecentUrls urls;
  for (size_t i = 0; i <= RecentUrls::kMaxUrls; ++i) urls.Put(absl::StrCat(i), "u", kNow);
  EXPECT_EQ(urls.Find("0", kNow), std::nullopt);
  EXPECT_EQ(urls.Find(absl::StrCat(RecentUrls::kMaxUrls), kNow), "u");
}

TEST(RecentUrls, ForgetsKeysThatAreTooLong) {
  RecentUrls urls;
  const std::string longest(RecentUrls::kMaxKeyBytes, 'k');
  urls.Put(longest, "u", kNow);
  urls.Put(longest + "k", "u", kNow);
  EXPECT_EQ(urls.Find(longest, kNow), "u");
  EXPECT_EQ(urls.Find(longest + "k", kNow), std::nullopt);
}

}  // namespace
}  // namespace tokenbroker
