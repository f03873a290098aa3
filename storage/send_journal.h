#ifndef TOKEN_BROKER_STORAGE_SEND_JOURNAL_H_
#define TOKEN_BROKER_STORAGE_SEND_JOURNAL_H_

#include <vector>

#include "absl/time/time.h"
#include "storage/protocol_limits.h"

// The budget: when requests were sent for a grant (`GrantRecord::sends`, oldest first), held
// against the windows of `ProtocolLimits::budget`. Part of the protocol (protocol.h), which says
// when a send is counted and when it is taken back.
namespace tokenbroker {

using SendJournal = std::vector<absl::Time>;

// How long until every window has room for one more send and `reserve` others; zero: it has now.
// One send is always allowed in a window, whatever the reserve.
absl::Duration WaitForRoom(const ProtocolLimits& limits, const SendJournal& sends, int reserve,
                           absl::Time now);

// Adds a send at `now` and drops what no window can count, so that the journal stays short whatever
// is sent.
void AddSend(const ProtocolLimits& limits, SendJournal& sends, absl::Time now);

// Takes the newest send at `sent` out, if there is one. Others may have been counted since.
void TakeBackSend(SendJournal& sends, absl::Time sent);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_STORAGE_SEND_JOURNAL_H_
