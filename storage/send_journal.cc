#include "storage/send_journal.h"

#include <algorithm>
#include <cstddef>
#include <iterator>

namespace tokenbroker {
namespace {

// Whether a send at `sent` still counts. One from further ahead than a window is long was written
// by a clock that jumped, and would otherwise block the grant for as long as it jumped.
bool Counts(absl::Time sent, absl::Duration window, absl::Time now) {
  return absl::AbsDuration(now - sent) < window;
}

void Trim(const ProtocolLimits& limits, SendJournal& sends, absl::Time now) {
  absl::Duration longest;
  size_t useful = 0;
  for (const ProtocolLimits::Window& window : limits.budget) {
    longest = std::max(longest, window.length);
    useful = std::max(useful, static_cast<size_t>(window.sends));
  }
  sends.erase(std::remove_if(sends.begin(), sends.end(),
                             [&](absl::Time sent) { return !Counts(sent, longest, now); }),
              sends.end());
  if (sends.size() > useful) sends.erase(sends.begin(), sends.end() - useful);
}

}  // namespace

absl::Duration WaitForRoom(const ProtocolLimits& limits, const SendJournal& sends, int reserve,
                           absl::Time now) {
  absl::Duration wait;
  for (const ProtocolLimits::Window& window : limits.budget) {
    SendJournal counted;
    for (absl::Time sent : sends) {
      if (Counts(sent, window.length, now)) counted.push_back(sent);
    }
    const size_t allowed = static_cast<size_t>(std::max(1, window.sends - reserve));
    if (counted.size() < allowed) continue;
    // There is room once so many have left the window that `allowed` - 1 remain.
    wait = std::max(wait, counted[counted.size() - allowed] + window.length - now);
  }
  return wait;
}

void AddSend(const ProtocolLimits& limits, SendJournal& sends, absl::Time now) {
  sends.push_back(now);
  Trim(limits, sends, now);
}

void TakeBackSend(SendJournal& sends, absl::Time sent) {
  const auto found = std::find(sends.rbegin(), sends.rend(), sent);
  if (found != sends.rend()) sends.erase(std::next(found).base());
}

}  // namespace tokenbroker
