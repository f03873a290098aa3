#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tokenbroker {
namespace {

namespace fs = std::filesystem;

struct SourceFile {
  std::string path;  // relative to the tree
  std::vector<std::string> includes;
  int lines = 0;
};

bool IsSource(const fs::path& path) {
  return path.extension() == ".cc" || path.extension() == ".h";
}

const std::vector<SourceFile>& Tree() {
  static const auto* const files = [] {
    auto* found = new std::vector<SourceFile>();
    const fs::path root = TB_SOURCE_DIR;
    for (const char* folder : {"common", "storage", "clients", "server", "tests", "bench"}) {
      for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
        const std::string path = fs::relative(entry.path(), root).string();
        if (!entry.is_regular_file() || !IsSource(entry.path()) ||
            absl::StrContains(path, "node_modules")) {
          continue;
        }
        SourceFile file{path};
        std::ifstream in(entry.path());
        for (std::string line; std::getline(in, line); ++file.lines) {
          if (!absl::StartsWith(line, "#include ")) continue;
          const size_t open = line.find_first_of("\"<");
          const size_t close = line.find_first_of("\">", open + 1);
          file.includes.push_back(line.substr(open + 1, close - open - 1));
        }
        found->push_back(std::move(file));
      }
    }
    return found;
  }();
  return *files;
}

// server/main.cc is the composition root and may see everything.
bool IsRoot(const std::string& path) { return path == "server/main.cc"; }

// What each room may include of this project, besides itself.
const std::map<std::string, std::set<std::string>>& Allowed() {
  static const auto* const rooms = new std::map<std::string, std::set<std::string>>{
      {"common/", {}},
      {"clients/zoho/", {"common/"}},
      {"storage/redis/", {"common/", "storage/*"}},
      {"storage/sqlite/", {"common/", "storage/*"}},
      {"storage/sealing/", {"common/", "storage/*"}},
      {"storage/", {"common/"}},
      {"server/issuing/", {"common/", "storage/*", "clients/zoho/"}},
      {"server/consent/",
       {"common/", "storage/*", "storage/sealing/", "clients/zoho/", "server/issuing/"}},
      {"server/config/",
       {"common/", "storage/*", "clients/zoho/", "storage/sealing/", "server/ops/log_level.h",
        "tokenbroker/config/"}},
      {"server/ops/", {"common/"}},
      {"server/rpc/",
       {"common/", "storage/*", "clients/zoho/", "server/issuing/", "server/consent/",
        "tokenbroker/v1/", "google/rpc/", "grpc/health/"}},
      {"tests/zoho_simulator/", {"common/"}},
      {"tests/e2e/",
       {"common/", "tests/testing/", "tests/zoho_simulator/", "tokenbroker/v1/", "google/rpc/",
        "grpc/health/"}},
      {"tests/faults/",
       {"common/", "storage/", "tests/e2e/", "tests/testing/", "tests/zoho_simulator/",
        "tokenbroker/v1/"}},
  };
  return *rooms;
}

bool IsOwn(const std::string& include) {
  for (const char* prefix : {"common/", "storage/", "clients/", "server/", "tests/", "tokenbroker/",
                             "google/rpc/", "grpc/health/"}) {
    if (absl::StartsWith(include, prefix)) return true;
  }
  return false;
}

bool Permits(const std::string& rule, const std::string& include) {
  // "storage/*": the contracts that lie directly in the folder.
  if (absl::EndsWith(rule, "/*")) {
    const std::string folder = rule.substr(0, rule.size() - 1);
    return absl::StartsWith(include, folder) &&
           include.find('/', folder.size()) == std::string::npos;
  }
  return absl::StartsWith(include, rule);
}

TEST(Architecture, RoomsIncludeOnlyWhatTheyMay) {
  ASSERT_GT(Tree().size(), 50u);
  for (const SourceFile& file : Tree()) {
    if (IsRoot(file.path)) continue;
    // The longest prefix is the room.
    std::string room;
    for (const auto& [prefix, rules] : Allowed()) {
      if (absl::StartsWith(file.path, prefix) && prefix.size() > room.size()) room = prefix;
    }
    if (room.empty()) continue;
    for (const std::string& include : file.includes) {
      if (!IsOwn(include) || absl::StartsWith(include, room)) continue;
      const std::set<std::string>& rules = Allowed().at(room);
      EXPECT_TRUE(std::any_of(rules.begin(), rules.end(),
                              [&](const std::string& rule) { return Permits(rule, include); }))
          << file.path << " must not include " << include;
    }
  }
}

TEST(Architecture, ThirdPartyLibrariesHaveOneHome) {
  const std::map<std::string, std::vector<std::string>> homes = {
      {"hiredis", {"storage/redis/"}},
      {"sqlite3", {"storage/sqlite/"}},
      {"curl/", {"clients/zoho/"}},
      {"openssl/",
       {"storage/sealing/", "storage/redis/", "tests/zoho_simulator/", "tests/storage/redis/",
        "tests/storage/sealing/", "tests/testing/"}},
      {"yaml-cpp", {"server/config/"}},
      {"prometheus/", {"server/ops/"}},
      {"boost/", {"server/ops/", "tests/zoho_simulator/"}},
      {"grpcpp/",
       {"server/rpc/", "server/main.cc", "tests/server/rpc/", "tests/e2e/", "tests/faults/",
        "bench/", "clients/cpp/", "clients/cli/"}},
      {"google/protobuf/", {"server/rpc/", "server/config/", "tests/server/", "tests/e2e/"}},
      {"nlohmann/", {"clients/zoho/", "server/ops/", "tests/", "bench/"}},
  };
  for (const SourceFile& file : Tree()) {
    for (const std::string& include : file.includes) {
      for (const auto& [library, where] : homes) {
        if (!absl::StartsWith(include, library)) continue;
        EXPECT_TRUE(
            std::any_of(where.begin(), where.end(),
                        [&](const std::string& home) { return absl::StartsWith(file.path, home); }))
            << file.path << " includes " << include;
      }
    }
  }
}

// Whoever includes a header of another folder gets no third-party library with it.
TEST(Architecture, HeadersDragNoLibraryIntoOthers) {
  std::map<std::string, const SourceFile*> by_path;
  for (const SourceFile& file : Tree()) by_path[file.path] = &file;
  for (const SourceFile& file : Tree()) {
    if (IsRoot(file.path) || absl::StartsWith(file.path, "tests/")) continue;
    std::set<std::string> seen;
    std::vector<std::string> open;
    for (const std::string& include : file.includes) {
      if (by_path.count(include) != 0 &&
          fs::path(include).parent_path() != fs::path(file.path).parent_path()) {
        open.push_back(include);
      }
    }
    while (!open.empty()) {
      const std::string include = open.back();
      open.pop_back();
      if (!seen.insert(include).second) continue;
      for (const char* heavy :
           {"curl/", "hiredis", "sqlite3", "boost/", "yaml-cpp", "prometheus/"}) {
        EXPECT_FALSE(absl::StartsWith(include, heavy)) << file.path << " drags in " << include;
      }
      const auto own = by_path.find(include);
      if (own == by_path.end()) continue;
      open.insert(open.end(), own->second->includes.begin(), own->second->includes.end());
    }
  }
}

// Only the store, the accounts server, the injected clock and the executor make issuing/ wait or
// tell it the time, so that a simulation can own all of them.
TEST(Architecture, IssuingOwnsNoThreadClockOrSleep) {
  const fs::path root = TB_SOURCE_DIR;
  for (const SourceFile& file : Tree()) {
    if (!absl::StartsWith(file.path, "server/issuing/") ||
        absl::StrContains(file.path, "thread_executor")) {
      continue;
    }
    std::ifstream in(root / file.path);
    const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    for (const char* word : {"std::thread", "absl::Now", "SleepFor", "sleep_for", "steady_clock",
                             "system_clock", "CondVar", "condition_variable", "std::async"}) {
      EXPECT_FALSE(absl::StrContains(text, word)) << file.path << " uses " << word;
    }
  }
}

TEST(Architecture, FilesStayShort) {
  constexpr int kAboutFourHundred = 480;
  // Longer files, each with its reason.
  const std::map<std::string, std::string> reasons = {
      {"tests/zoho_simulator/http_front.cc", "all of Boost in one file: it compiles for long"}};
  for (const SourceFile& file : Tree()) {
    if (reasons.count(file.path) != 0) continue;
    EXPECT_LE(file.lines, kAboutFourHundred) << file.path << " needs a second room, or a reason";
  }
}

std::vector<std::string> LinesOf(const fs::path& path) {
  std::ifstream in(path);
  const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  return absl::StrSplit(text, '\n');
}

// Every folder with files of ours in it, relative to the tree. Hidden folders belong to tools.
std::set<std::string> Folders() {
  const fs::path root = TB_SOURCE_DIR;
  std::set<std::string> folders;
  for (auto it = fs::recursive_directory_iterator(root); it != fs::recursive_directory_iterator();
       ++it) {
    const std::string name = it->path().filename().string();
    if (it->is_directory() && (name[0] == '.' || name == "build" || name == "node_modules")) {
      it.disable_recursion_pending();
    } else if (it->is_regular_file() && it->path().parent_path() != root) {
      folders.insert(fs::relative(it->path().parent_path(), root).string());
    }
  }
  return folders;
}

TEST(Architecture, EveryFolderIntroducesItself) {
  const fs::path root = TB_SOURCE_DIR;
  // Folders that the README of one above them introduces by name.
  const std::map<std::string, std::string> introduced = {
      {"config/examples", "config"},
      {"helm/token-broker/ci", "helm/token-broker"},
      {"helm/token-broker/templates", "helm/token-broker"},  // helm renders whatever lies there
      {"helm/token-broker/templates/tests", "helm/token-broker"},
      {"protos/google/rpc", "protos"},
      {"protos/grpc/health/v1", "protos"},
      {"protos/tokenbroker/config/v1", "protos"},
      {"protos/tokenbroker/v1", "protos"},
      {"storage/redis/scripts", "storage/redis"},
      {"tests/clients/zoho/token_reply_corpus", "tests/clients/zoho"},
  };
  const std::set<std::string> folders = Folders();
  for (const char* folder : {"scripts", "config", "cmake", "server/issuing", "tests/e2e"}) {
    EXPECT_EQ(folders.count(folder), 1u) << folder;
  }
  for (const std::string& folder : folders) {
    if (const auto it = introduced.find(folder); it != introduced.end()) {
      const std::string inner = folder.substr(it->second.size() + 1);
      const std::vector<std::string> readme = LinesOf(root / it->second / "README.md");
      EXPECT_TRUE(std::any_of(readme.begin(), readme.end(),
                              [&](const std::string& line) {
                                return absl::StrContains(line, absl::StrCat("`", inner));
                              }))
          << it->second << "/README.md does not name " << inner;
      continue;
    }
    if (absl::StartsWith(folder, "tests/") && !fs::exists(root / folder / "README.md")) {
      // Folders that only mirror another one are introduced by it.
      const std::string mirrored = folder.substr(std::string("tests/").size());
      EXPECT_TRUE(fs::exists(root / mirrored)) << folder << " has no README.md";
      continue;
    }
    EXPECT_TRUE(fs::exists(root / folder / "README.md")) << folder << " has no README.md";
  }
}

// What it is; what it may use; what it must never; what else matters. More may follow below.
TEST(Architecture, ReadmesOpenWithFourSentences) {
  const fs::path root = TB_SOURCE_DIR;
  int seen = 0;
  for (const std::string& folder : Folders()) {
    if (!fs::exists(root / folder / "README.md")) continue;
    ++seen;
    const std::vector<std::string> lines = LinesOf(root / folder / "README.md");
    EXPECT_EQ(lines[0], absl::StrCat("# ", folder));
    size_t line = 1;
    while (line < lines.size() && lines[line].empty()) ++line;
    int sentences = 0;
    for (; line < lines.size() && !lines[line].empty(); ++line) ++sentences;
    EXPECT_EQ(sentences, 4) << folder << "/README.md";
  }
  EXPECT_GT(seen, 30);
}

}  // namespace
}  // namespace tokenbroker
