#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace tokenbroker {
namespace {

namespace fs = std::filesystem;

const fs::path& Root() {
  static const auto* const root = new fs::path(TB_SOURCE_DIR);
  return *root;
}

std::string Read(const fs::path& path) {
  std::ifstream in(path);
  EXPECT_TRUE(in.is_open()) << path;
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::vector<std::smatch> Matches(const std::string& text, const std::regex& pattern) {
  return {std::sregex_iterator(text.begin(), text.end(), pattern), std::sregex_iterator()};
}

struct Document {
  std::string path;  // relative to the tree
  std::string prose;
  std::string code;  // of fenced blocks
};

// Every Markdown file that is ours.
const std::vector<Document>& Documents() {
  static const auto* const documents = [] {
    auto* found = new std::vector<Document>();
    const std::set<std::string> others = {"build", "node_modules", ".git", ".tools"};
    for (auto it = fs::recursive_directory_iterator(Root());
         it != fs::recursive_directory_iterator(); ++it) {
      if (others.count(it->path().filename().string()) != 0) {
        it.disable_recursion_pending();
        continue;
      }
      if (it->path().extension() != ".md") continue;
      Document document{fs::relative(it->path(), Root()).string()};
      std::istringstream lines(Read(it->path()));
      bool fenced = false;
      for (std::string line; std::getline(lines, line);) {
        if (absl::StartsWith(line, "```")) {
          fenced = !fenced;
        } else {
          absl::StrAppend(fenced ? &document.code : &document.prose, line, "\n");
        }
      }
      EXPECT_FALSE(fenced) << document.path << " ends within a block of code";
      found->push_back(std::move(document));
    }
    return found;
  }();
  return *documents;
}

const Document& Readme() {
  const auto it = std::find_if(Documents().begin(), Documents().end(),
                               [](const Document& d) { return d.path == "README.md"; });
  return *it;
}

TEST(Docs, AreFound) {
  ASSERT_GT(Documents().size(), 20u);
  for (const char* path :
       {"README.md", "ARCHITECTURE.md", "CHANGELOG.md", "docs/README.md", "docs/zoho-setup.md",
        "docs/operations.md", "docs/metrics.md", "docs/guarantees.md"}) {
    EXPECT_TRUE(fs::exists(Root() / path)) << path;
  }
}

// Reason to canonical code.
using ErrorTable = std::map<std::string, std::string>;

// What errors.cc makes, with the codes that errors.h promises.
ErrorTable Catalogue() {
  const std::string source = Read(Root() / "common/errors.cc");
  const std::string header =
      absl::StrReplaceAll(Read(Root() / "common/errors.h"), {{"\n// ", " "}});
  ErrorTable promised;
  for (const std::smatch& match :
       Matches(header, std::regex("\\b([A-Z_]+), (?:reason )?([A-Z_]{4,})[.:]"))) {
    promised[match[2]] = match[1];
  }
  ErrorTable catalogue;
  for (const std::smatch& match : Matches(source, std::regex("\\.reason = \"([A-Z_]+)\""))) {
    catalogue[match[1]] = promised[match[1]];
  }
  return catalogue;
}

TEST(Docs, ReadmeHasEveryErrorAndNoOther) {
  ErrorTable table;
  for (const std::smatch& row :
       Matches(Readme().prose, std::regex("\n\\| `([A-Z_]+)` \\| `([A-Z_]+)` \\|"))) {
    EXPECT_TRUE(table.emplace(row[1], row[2]).second) << row[1] << " is there twice";
  }
  const ErrorTable catalogue = Catalogue();
  ASSERT_GT(catalogue.size(), 20u);
  EXPECT_EQ(table, catalogue);
}

TEST(Docs, ReadmeShowsEveryRpcByGrpcurl) {
  const std::string proto = Read(Root() / "protos/tokenbroker/v1/token_service.proto");
  const std::vector<std::smatch> rpcs = Matches(proto, std::regex("\n  rpc (\\w+)\\("));
  ASSERT_GE(rpcs.size(), 6u);
  for (const std::smatch& rpc : rpcs) {
    const std::regex line(
        absl::StrCat("grpcurl [^\n]*tokenbroker\\.v1\\.TokenService/", rpc[1].str(), "\\b"));
    EXPECT_TRUE(std::regex_search(Readme().code, line)) << rpc[1] << " has no grpcurl line";
  }
}

// Of requests and the messages within them; those of a oneof are as the oneof is.
TEST(Docs, EveryFieldOfARequestIsRequiredOrOptional) {
  const std::regex message_line("message (\\w+) \\{");
  const std::regex asked("\\w+Request|AuthorizationCode|ClientCredentials|GrantFilter");
  const std::regex field_line("  (?:oneof (\\w+) \\{|\\w.* (\\w+) = \\d+;)");
  std::istringstream lines(Read(Root() / "protos/tokenbroker/v1/token_service.proto"));
  std::string message, comment;
  int seen = 0;
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (std::regex_match(line, match, message_line)) {
      message = match[1];
    } else if (std::regex_match(line, match, field_line) && std::regex_match(message, asked)) {
      ++seen;
      EXPECT_TRUE(absl::StrContains(comment, "REQUIRED") || absl::StrContains(comment, "OPTIONAL"))
          << message << "." << match[1] << match[2];
    }
    comment = absl::StartsWith(line, "  //") ? absl::StrCat(comment, line) : "";
  }
  EXPECT_GT(seen, 40);
}

TEST(Docs, RelativeLinksLeadSomewhere) {
  const std::regex link("\\]\\(([^)#\\s]+)(#[^)]*)?\\)");
  int seen = 0;
  for (const Document& document : Documents()) {
    for (const std::smatch& match : Matches(document.prose, link)) {
      const std::string target = match[1];
      if (absl::StrContains(target, "://") || absl::StartsWith(target, "mailto:")) continue;
      ++seen;
      EXPECT_TRUE(fs::exists((Root() / document.path).parent_path() / target))
          << document.path << " links to " << target;
    }
  }
  EXPECT_GT(seen, 10);
}

// `storage/redis/`, `scripts/test --only dev`: in prose by their first folder, in blocks of code
// where a script is called.
TEST(Docs, PathsExist) {
  const std::regex quoted(
      "`((?:bench|clients|cmake|common|config|docs|helm|protos|scripts|server|storage|tests)/"
      "[A-Za-z0-9_./-]*)(?: [^`\n]*)?`");
  const std::regex called("(?:^|\n| )(scripts/[a-z_/]+)");
  int seen = 0;
  for (const Document& document : Documents()) {
    std::vector<std::string> paths;
    for (const std::smatch& match : Matches(document.prose, quoted)) paths.push_back(match[1]);
    for (const std::smatch& match : Matches(document.code, called)) paths.push_back(match[1]);
    for (const std::string& path : paths) {
      ++seen;
      EXPECT_TRUE(fs::exists(Root() / path)) << document.path << " names " << path;
    }
  }
  EXPECT_GT(seen, 30);
}

// A promise is worth the tests that run: each names some, and each of those is built somewhere.
TEST(Docs, EveryGuaranteeNamesTestsThatRun) {
  const auto guarantees =
      std::find_if(Documents().begin(), Documents().end(),
                   [](const Document& d) { return d.path == "docs/guarantees.md"; });
  ASSERT_NE(guarantees, Documents().end());
  std::string builds;
  for (auto it = fs::recursive_directory_iterator(Root() / "tests");
       it != fs::recursive_directory_iterator(); ++it) {
    if (it->path().filename() == "CMakeLists.txt") builds += Read(it->path());
  }
  const auto is_built = [&](const std::string& file) {
    // tb_faults_test(name) and its like spell the ending themselves.
    const std::string stem = file.substr(0, file.rfind("_test.cc"));
    return absl::StrContains(builds, file) ||
           std::regex_search(builds, std::regex(absl::StrCat("_test\\(", stem, "\\b")));
  };
  const std::string& text = guarantees->prose;
  for (int number = 1; number <= 7; ++number) {
    const size_t begin = text.find(absl::StrCat("\n### G", number, ". "));
    ASSERT_NE(begin, std::string::npos) << "G" << number;
    const std::string promise = text.substr(begin, text.find("\n## ", begin) - begin);
    const std::string own = promise.substr(0, promise.find("\n### ", 1));
    const size_t shown = own.find("\n- Shown by: ");
    ASSERT_NE(shown, std::string::npos) << "G" << number;
    EXPECT_NE(own.find("\n- Assumes"), std::string::npos) << "G" << number;
    const std::vector<std::smatch> tests =
        Matches(own, std::regex("`tests/(?:[a-z_]+/)*([a-z_0-9]+\\.cc)`"));
    EXPECT_FALSE(tests.empty()) << "G" << number;
    for (const std::smatch& test : tests) {
      EXPECT_TRUE(is_built(test[1]))
          << "G" << number << " is shown by " << test[1] << ", which nothing builds";
    }
  }
  EXPECT_FALSE(is_built("no_such_test.cc"));
}

TEST(Docs, ModelDescribesItsConfigurations) {
  std::set<std::string> checked;
  const std::string check = Read(Root() / "docs/model/check");
  for (const std::smatch& row : Matches(check, std::regex("\n([a-z_]+) *\\|[^|\n]*\\| *[0-9]+ "))) {
    checked.insert(row[1]);
  }
  ASSERT_GT(checked.size(), 10u);
  const std::string readme = Read(Root() / "docs/model/README.md");
  const size_t begin = readme.find("\n## Configurations");
  ASSERT_NE(begin, std::string::npos);
  const std::string section = readme.substr(begin, readme.find("\n## ", begin + 1) - begin);
  std::set<std::string> described;
  for (const std::smatch& name : Matches(section, std::regex("`([a-z_]+)`"))) {
    described.insert(name[1]);
  }
  EXPECT_EQ(described, checked);
}

// Absolute paths are those of an installed broker, of every Debian, or of a URL; none of the
// machine that a document was written on.
TEST(Docs, NoPathOfTheWritersMachine) {
  const std::regex absolute("(?:^|[\\s`\"'(=])(/[A-Za-z0-9_.-]+/[A-Za-z0-9_./-]*)");
  for (const Document& document : Documents()) {
    for (const std::string* text : {&document.prose, &document.code}) {
      for (const std::smatch& match : Matches(*text, absolute)) {
        const std::string path = match[1];
        bool known = false;
        for (const char* root : {"/etc/token-broker", "/etc/ssl/", "/var/lib/token-broker", "/usr/",
                                 "/oauth/", "/control/", "/people/"}) {
          known |= absl::StartsWith(path, root);
        }
        EXPECT_TRUE(known) << document.path << " names " << path;
      }
    }
  }
}

}  // namespace
}  // namespace tokenbroker
