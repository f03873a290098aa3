#include "storage/redis/scripts.h"

#include <algorithm>
#include <functional>

namespace tokenbroker::redis {
namespace {

constexpr std::string_view kGuardMark = "-- guard: ";

// Calls `visit` with every line, its end included, and the name of the guard it ends in, or "".
void ForEachLine(std::string_view source,
                 const std::function<void(std::string_view, std::string_view)>& visit) {
  while (!source.empty()) {
    const size_t newline = source.find('\n');
    const size_t size = newline == source.npos ? source.size() : newline + 1;
    const std::string_view line = source.substr(0, size);
    const size_t mark = line.find(kGuardMark);
    std::string_view guard;
    if (mark != line.npos) {
      guard = line.substr(mark + kGuardMark.size());
      guard = guard.substr(0, guard.find_first_of(" \n"));
    }
    visit(line, guard);
    source.remove_prefix(size);
  }
}

}  // namespace

ScriptSet ScriptSet::Embedded() {
  ScriptSet set;
  for (size_t i = 0; i < kScriptCount; ++i) {
    set.sources_[i] = std::string(kPrelude) + kEmbeddedScripts[i].source;
  }
  return set;
}

std::vector<std::string> ScriptSet::Guards() const {
  std::vector<std::string> guards;
  for (const std::string& source : sources_) {
    ForEachLine(source, [&](std::string_view, std::string_view guard) {
      if (guard.empty() || std::find(guards.begin(), guards.end(), guard) != guards.end()) return;
      guards.emplace_back(guard);
    });
  }
  return guards;
}

bool ScriptSet::RemoveGuard(std::string_view name) {
  bool found = false;
  for (std::string& source : sources_) {
    std::string kept;
    kept.reserve(source.size());
    ForEachLine(source, [&](std::string_view line, std::string_view guard) {
      if (guard == name) {
        found = true;
      } else {
        kept += line;
      }
    });
    source = std::move(kept);
  }
  return found;
}

}  // namespace tokenbroker::redis
