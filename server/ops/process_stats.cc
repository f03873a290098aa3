#include "server/ops/process_stats.h"

#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>

namespace tokenbroker {
namespace {

// When the machine started, in seconds since 1970: the btime line of /proc/stat.
double BootTime() {
  std::ifstream file("/proc/stat");
  std::string word;
  double time = 0;
  while (file >> word) {
    if (word == "btime" && file >> time) return time;
  }
  return 0;
}

}  // namespace

ProcessStats ReadProcessStats() {
  ProcessStats stats;
  std::ifstream file("/proc/self/stat");
  std::string line;
  if (!std::getline(file, line)) return stats;
  // The second field is the program's name in parentheses, and may itself hold blanks and
  // parentheses. From the third on: fields 14 and 15 are CPU ticks, 22 the start, 24 the pages.
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return stats;
  std::istringstream fields(line.substr(name_end + 1));
  const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  std::string field;
  for (int i = 3; i <= 24 && fields >> field; ++i) {
    const double value = i == 3 ? 0 : std::strtod(field.c_str(), nullptr);
    if (i == 14 || i == 15) stats.cpu_seconds += value / ticks;
    if (i == 22) stats.start_time = BootTime() + value / ticks;
    if (i == 24) stats.resident_bytes = value * static_cast<double>(sysconf(_SC_PAGESIZE));
  }
  std::error_code error;
  for (std::filesystem::directory_iterator it("/proc/self/fd", error), end; !error && it != end;
       it.increment(error)) {
    ++stats.open_files;
  }
  return stats;
}

}  // namespace tokenbroker
