#include "tests/zoho_simulator/request_log.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace tokenbroker::zoho_simulator {
namespace {

bool Fits(const std::string& wanted, const std::string& value) {
  return wanted.empty() || wanted == value;
}

std::string KeyOfGrant(uint64_t number) { return absl::StrCat("#", number); }

// What may not overlap: the mints of one refresh token, or of one org's client_credentials.
std::string FlightKey(const RequestEntry& entry) {
  if (entry.grant_type == "refresh_token" && entry.grant.number != 0) {
    return KeyOfGrant(entry.grant.number);
  }
  if (entry.grant_type == "client_credentials" && !entry.grant.org_id.empty()) {
    return absl::StrCat(entry.dc, "\n", entry.client_id, "\n", entry.grant.org_id, "\n",
                        static_cast<int>(entry.grant.environment));
  }
  return "";
}

}  // namespace

bool RequestFilter::Matches(const RequestEntry& entry) const {
  return Fits(dc, entry.dc) && Fits(path, entry.path) && Fits(grant_type, entry.grant_type) &&
         Fits(client_id, entry.client_id) && Fits(user_id, entry.grant.user_id) &&
         Fits(org_id, entry.grant.org_id) && Fits(outcome, entry.outcome) &&
         Fits(fault, entry.fault) && (grant_number == 0 || grant_number == entry.grant.number) &&
         entry.sequence > after_sequence &&
         (!finished.has_value() || *finished == entry.finished) &&
         (!client_gone.has_value() || *client_gone == entry.client_gone);
}

uint64_t RequestLog::Begin(RequestEntry entry) {
  MutexLock lock(mutex_);
  entry.sequence = next_sequence_++;
  const std::string& key = open_[entry.sequence] = FlightKey(entry);
  if (!key.empty()) {
    InFlight& flight = per_grant_[key];
    entry.in_flight = ++flight.now;
    flight.max = std::max(flight.max, flight.now);
  }
  all_.max = std::max(all_.max, ++all_.now);
  entries_.push_back(std::move(entry));
  Notify(nullptr, entries_.back());
  return entries_.back().sequence;
}

void RequestLog::Finish(uint64_t sequence, Ending ending) {
  MutexLock lock(mutex_);
  LeaveFlight(sequence);
  RequestEntry* entry = Find(sequence);
  if (entry == nullptr || entry->finished) return;
  const RequestEntry before = *entry;
  entry->finished = true;
  entry->finish_time = ending.finish_time;
  entry->outcome = std::move(ending.outcome);
  entry->fault = std::move(ending.fault);
  entry->http_status = ending.http_status;
  entry->client_gone = entry->client_gone || ending.client_gone;
  if (ending.grant.has_value()) entry->grant = *std::move(ending.grant);
  Notify(&before, *entry);
}

void RequestLog::ClientGone(uint64_t sequence) {
  MutexLock lock(mutex_);
  LeaveFlight(sequence);
  RequestEntry* entry = Find(sequence);
  if (entry == nullptr || entry->finished) return;
  const RequestEntry before = *entry;
  entry->client_gone = true;
  Notify(&before, *entry);
}

int64_t RequestLog::Count(const RequestFilter& filter) const {
  MutexLock lock(mutex_);
  return std::count_if(entries_.begin(), entries_.end(),
                       [&](const RequestEntry& entry) { return filter.Matches(entry); });
}

std::vector<RequestEntry> RequestLog::Entries(const RequestFilter& filter, size_t limit) const {
  MutexLock lock(mutex_);
  std::vector<RequestEntry> found;
  for (const RequestEntry& entry : entries_) {
    if (!filter.Matches(entry)) continue;
    found.push_back(entry);
    if (found.size() == limit) break;
  }
  return found;
}

bool RequestLog::WaitForCount(const RequestFilter& filter, int64_t count,
                              absl::Duration timeout) const {
  const absl::Time deadline = absl::Now() + timeout;
  MutexLock lock(mutex_);
  Waiter waiter{&filter,
                std::count_if(entries_.begin(), entries_.end(),
                              [&](const RequestEntry& entry) { return filter.Matches(entry); })};
  waiters_.push_back(&waiter);
  while (waiter.matched < count) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) break;
    changed_.WaitFor(mutex_, left);
  }
  std::erase(waiters_, &waiter);
  return waiter.matched >= count;
}

int64_t RequestLog::MaxInFlightPerGrant() const {
  MutexLock lock(mutex_);
  int64_t max = 0;
  for (const auto& [key, flight] : per_grant_) max = std::max(max, flight.max);
  return max;
}

int64_t RequestLog::MaxInFlight(uint64_t grant_number) const {
  MutexLock lock(mutex_);
  const auto it = per_grant_.find(KeyOfGrant(grant_number));
  return it == per_grant_.end() ? 0 : it->second.max;
}

LogSummary RequestLog::Summary() const {
  LogSummary summary;
  summary.max_in_flight_per_grant = MaxInFlightPerGrant();
  MutexLock lock(mutex_);
  summary.requests = static_cast<int64_t>(entries_.size());
  summary.in_flight = all_.now;
  summary.max_in_flight = all_.max;
  for (const RequestEntry& entry : entries_) {
    if (entry.secret_in_url) ++summary.secrets_in_url;
    ++summary.by_dc[entry.dc];
    ++summary.by_path[entry.path];
    if (!entry.grant_type.empty()) ++summary.by_grant_type[entry.grant_type];
    if (entry.finished) ++summary.by_outcome[entry.outcome];
  }
  return summary;
}

void RequestLog::Clear() {
  MutexLock lock(mutex_);
  entries_.clear();
  all_.max = all_.now;
  std::erase_if(per_grant_, [](const auto& item) { return item.second.now == 0; });
  for (auto& [key, flight] : per_grant_) flight.max = flight.now;
  for (Waiter* waiter : waiters_) waiter->matched = 0;
}

RequestEntry* RequestLog::Find(uint64_t sequence) {
  if (entries_.empty() || sequence < entries_.front().sequence) return nullptr;
  return &entries_[sequence - entries_.front().sequence];
}

void RequestLog::LeaveFlight(uint64_t sequence) {
  const auto open = open_.find(sequence);
  if (open == open_.end()) return;
  --all_.now;
  if (const auto flight = per_grant_.find(open->second); flight != per_grant_.end()) {
    --flight->second.now;
  }
  open_.erase(open);
}

void RequestLog::Notify(const RequestEntry* before, const RequestEntry& entry) {
  if (waiters_.empty()) return;
  for (Waiter* waiter : waiters_) {
    const bool matched = before != nullptr && waiter->filter->Matches(*before);
    const bool matches = waiter->filter->Matches(entry);
    waiter->matched += static_cast<int64_t>(matches) - static_cast<int64_t>(matched);
  }
  changed_.NotifyAll();
}

}  // namespace tokenbroker::zoho_simulator
