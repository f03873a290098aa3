#ifndef TOKEN_BROKER_TESTS_TESTING_WALL_CLOCK_H_
#define TOKEN_BROKER_TESTS_TESTING_WALL_CLOCK_H_

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <utility>

namespace tokenbroker {

// The wall clock of a child process, to be set while it runs; its monotonic clock stays as it is,
// as in a machine whose time is set (wall_clock_preload.cc).
class WallClock {
 public:
  // In a file that says by how much the clock is off.
  explicit WallClock(std::string path) : path_(std::move(path)) { Set("0"); }

  // "60" is 60 s ahead; "-3600" an hour behind.
  void Set(const std::string& offset) {
    const std::string next = path_ + ".next";  // never half written when it is read
    std::ofstream(next) << offset << '\n';
    std::filesystem::rename(next, path_);
  }

  // For the child.
  std::map<std::string, std::string> Environment() const {
    return {{"LD_PRELOAD", TB_WALL_CLOCK}, {"WALL_CLOCK_FILE", path_}};
  }

 private:
  const std::string path_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_TESTING_WALL_CLOCK_H_
