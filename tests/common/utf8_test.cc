#include "common/utf8.h"

#include <gtest/gtest.h>

namespace tokenbroker {
namespace {

TEST(Utf8Test, KeepsWhatIsUtf8) {
  for (const char* text :
       {"", "plain", "Zürich", "株式会社", "\xF0\x9F\x98\x80", "\xF4\x8F\xBF\xBF"}) {
    EXPECT_EQ(ToUtf8(text), text);
  }
  EXPECT_EQ(ToUtf8(std::string_view("a\0b", 3)), std::string_view("a\0b", 3));
}

TEST(Utf8Test, ReplacesEveryOtherByte) {
  EXPECT_EQ(ToUtf8("a\xFFz"), "a\uFFFDz");
  EXPECT_EQ(ToUtf8("\xC3"), "\uFFFD");                                        // cut off
  EXPECT_EQ(ToUtf8("\xC0\xAF"), "\uFFFD\uFFFD");                              // overlong
  EXPECT_EQ(ToUtf8("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");                    // a surrogate
  EXPECT_EQ(ToUtf8("\xF4\x90\x80\x80").size(), 4 * kUtf8Replacement.size());  // too far
}

}  // namespace
}  // namespace tokenbroker
