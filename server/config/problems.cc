#include "server/config/problems.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"

namespace tokenbroker {
namespace {

int SortKey(const ValueSource& source) {
  return source.line > 0 ? source.line : std::numeric_limits<int>::max();
}

}  // namespace

void Problems::Add(const ValueSource& source, std::string_view path, std::string_view text) {
  problems_.push_back({source, std::string(path), std::string(text)});
}

bool Problems::Has(std::string_view path) const {
  for (const Problem& problem : problems_) {
    const std::string_view at = problem.path;
    if (!at.starts_with(path)) continue;
    if (at.size() == path.size() || path.empty()) return true;
    if (at[path.size()] == '.' || at[path.size()] == '[') return true;
  }
  return false;
}

absl::Status Problems::ToStatus() const {
  if (problems_.empty()) return absl::OkStatus();
  std::vector<const Problem*> ordered;
  for (const Problem& problem : problems_) ordered.push_back(&problem);
  std::stable_sort(ordered.begin(), ordered.end(), [](const Problem* a, const Problem* b) {
    return SortKey(a->source) < SortKey(b->source);
  });
  std::string message;
  for (const Problem* problem : ordered) {
    if (!message.empty()) message += '\n';
    absl::StrAppend(&message, problem->source.name);
    if (problem->source.line > 0) absl::StrAppend(&message, ":", problem->source.line);
    absl::StrAppend(&message, ": ");
    if (!problem->path.empty()) absl::StrAppend(&message, problem->path, ": ");
    absl::StrAppend(&message, problem->text);
  }
  return absl::InvalidArgumentError(message);
}

}  // namespace tokenbroker
