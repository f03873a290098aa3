// The fuzzer's little sister for every build: the corpus, and thousands of mutations of it with a
// fixed seed.

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "gtest/gtest.h"
#include "tests/clients/zoho/token_reply_properties.h"

namespace tokenbroker {
namespace {

constexpr int kMutations = 12000;

std::vector<std::string> Corpus() {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(TB_CORPUS_DIRECTORY)) {
    paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());  // the order of a directory is not fixed, the seed is
  std::vector<std::string> corpus;
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream content;
    content << file.rdbuf();
    corpus.push_back(std::move(content).str());
  }
  return corpus;
}

class Mutator {
 public:
  explicit Mutator(std::vector<std::string> corpus) : corpus_(std::move(corpus)) {}

  std::string Next() {
    std::string input = corpus_[Below(corpus_.size())];
    for (uint64_t i = 0, n = 1 + Below(4); i < n; ++i) Mutate(input);
    return input;
  }

 private:
  // Not std::uniform_int_distribution: its results differ between standard libraries.
  uint64_t Below(uint64_t limit) { return limit == 0 ? 0 : random_() % limit; }

  void Mutate(std::string& input) {
    static const std::vector<std::string> kPieces = {"\"access_token\":\"1000.x\",",
                                                     "\"error\":\"invalid_code\",",
                                                     "\"status\":\"failure\",",
                                                     "\"expires_in\":-1,",
                                                     "\"expires_in\":1e308,",
                                                     "\"expires_in_sec\":0.5,",
                                                     "\\u0000",
                                                     "\\r\\n",
                                                     "\xff",
                                                     "null",
                                                     "[[[[",
                                                     "}}",
                                                     "1e999",
                                                     "-0",
                                                     "\"scope\":\" ,\","};
    const size_t at = Below(input.size() + 1);
    switch (Below(6)) {
      case 0:
        if (!input.empty()) input[at % input.size()] = static_cast<char>(random_());
        break;
      case 1:
        input.erase(at, Below(16));
        break;
      case 2:
        input.insert(at, kPieces[Below(kPieces.size())]);
        break;
      case 3:
        input.insert(at, 1, static_cast<char>(random_()));
        break;
      case 4: {  // the rest of another one
        const std::string& other = corpus_[Below(corpus_.size())];
        input = input.substr(0, at) + other.substr(Below(other.size() + 1));
        break;
      }
      case 5:  // the same part twice
        input.insert(at, input.substr(Below(input.size() + 1), Below(40)));
        break;
    }
  }

  const std::vector<std::string> corpus_;
  std::mt19937_64 random_{20240229};
};

TEST(TokenReplyMutationTest, CorpusIsThere) {
  const std::vector<std::string> corpus = Corpus();
  EXPECT_GE(corpus.size(), 20u);
  for (const std::string& input : corpus) {
    EXPECT_EQ(BrokenReplyProperty(input), "") << absl::CHexEscape(input);
  }
}

TEST(TokenReplyMutationTest, PropertiesHoldForMutations) {
  Mutator mutator(Corpus());
  for (int i = 0; i < kMutations; ++i) {
    const std::string input = mutator.Next();
    ASSERT_EQ(BrokenReplyProperty(input), "") << i << ": " << absl::CHexEscape(input);
  }
}

TEST(TokenReplyMutationTest, PropertiesHoldForNoise) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 2000; ++i) {
    std::string input(random() % 200, '\0');
    for (char& c : input) c = static_cast<char>(random());
    ASSERT_EQ(BrokenReplyProperty(input), "") << i << ": " << absl::CHexEscape(input);
  }
}

}  // namespace
}  // namespace tokenbroker
