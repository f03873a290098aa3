// The operations of RedisTokenStore that only read.
#include <algorithm>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "common/status_macros.h"
#include "storage/protocol.h"
#include "storage/redis/record_codec.h"
#include "storage/redis/redis_token_store.h"
#include "storage/redis/redis_token_store_parts.h"

namespace tokenbroker {
namespace {

using redis::Command;
using redis::Deadline;
using redis::Reply;
using redis::ReplyView;

constexpr absl::Duration kFirstPoll = absl::Milliseconds(100);
constexpr absl::Duration kLongestPoll = absl::Milliseconds(500);
// A page is filled up from further index entries where some have no record; so often at most.
constexpr int kMaxRoundsPerPage = 4;

absl::string_view View(std::string_view s) { return {s.data(), s.size()}; }

// The smallest string that is above all that start with `prefix`; nullopt: there is none.
std::optional<std::string> AfterPrefix(std::string_view prefix) {
  std::string end(prefix);
  while (!end.empty() && end.back() == '\xff') end.pop_back();
  if (end.empty()) return std::nullopt;
  end.back() = static_cast<char>(static_cast<unsigned char>(end.back()) + 1);
  return end;
}

}  // namespace

absl::StatusOr<GrantRecord> RedisTokenStore::Load(const GrantKey& key) {
  const std::string record_key = redis::RecordKey(options_.key_prefix, key);
  // The time comes after the record, so that a token never looks as if it lived longer than it
  // does.
  const Command commands[] = {redis::ReadRecordCommand(record_key), {"TIME"}};
  TB_ASSIGN_OR_RETURN(const std::vector<Reply> replies, parts_->client.Run(record_key, commands));
  TB_ASSIGN_OR_RETURN(absl::Time now, redis::DecodeServerTime(replies[1].view()));
  TB_ASSIGN_OR_RETURN(std::optional<GrantRecord> record,
                      redis::DecodeRecordValues(key, replies[0].view(), now + ClockOffset()));
  if (!IsGrant(record)) return OrgNotFoundError();
  return *std::move(record);
}

absl::StatusOr<GrantPage> RedisTokenStore::ListPage(std::string_view prefix, std::string_view after,
                                                    int limit) {
  limit = std::clamp(limit, 1, 1000);
  const std::optional<std::string> end = AfterPrefix(prefix);
  const std::string max = end ? absl::StrCat("(", *end) : "+";
  std::string min = "-";
  if (!after.empty() && after >= prefix) {
    min = absl::StrCat("(", View(after));
  } else if (!prefix.empty()) {
    min = absl::StrCat("[", View(prefix));
  }
  GrantPage page;
  const auto listed = [&page] { return page.records.size() + page.unreadable.size(); };
  for (int round = 0; round < kMaxRoundsPerPage; ++round) {
    const size_t wanted = static_cast<size_t>(limit) - listed();
    // One more than is wanted tells whether there is a next page.
    const std::string count = absl::StrCat(wanted + 1);
    const Command range[] = {{"ZRANGEBYLEX", index_key_, min, max, "LIMIT", "0", count}};
    TB_ASSIGN_OR_RETURN(const std::vector<Reply> ranges, parts_->client.Run(index_key_, range));
    const ReplyView entries = ranges[0].view();
    const size_t taken = std::min(wanted, entries.size());
    if (taken == 0) {
      page.next.clear();
      return page;
    }
    TB_RETURN_IF_ERROR(ReadEntries(entries, taken, page));
    if (entries.size() <= taken) {
      page.next.clear();
      return page;
    }
    page.next = std::string(entries[taken - 1].text());
    if (listed() == static_cast<size_t>(limit)) return page;
    min = absl::StrCat("(", page.next);
  }
  return page;
}

absl::Status RedisTokenStore::ReadEntries(redis::ReplyView entries, size_t count, GrantPage& page) {
  std::vector<std::optional<GrantKey>> keys;
  std::vector<std::string> record_keys;  // of those that have one
  for (size_t i = 0; i < count; ++i) {
    keys.push_back(DecodeGrantKey(entries[i].text()));
    if (keys.back()) record_keys.push_back(redis::RecordKey(options_.key_prefix, *keys.back()));
  }
  std::vector<redis::Client::KeyedCommand> commands;
  commands.reserve(record_keys.size());
  for (const std::string& record_key : record_keys) {
    commands.push_back({record_key, redis::ReadRecordWithoutTokensCommand(record_key)});
  }
  TB_ASSIGN_OR_RETURN(const std::vector<redis::Client::TimedReply> replies,
                      parts_->client.RunEach(commands));
  auto reply = replies.begin();
  for (size_t i = 0; i < count; ++i) {
    std::string encoded(entries[i].text());
    if (!keys[i]) {
      page.unreadable.push_back({std::nullopt, std::move(encoded)});
      continue;
    }
    const redis::Client::TimedReply& answer = *reply++;
    absl::StatusOr<std::optional<GrantRecord>> record = RecordUnreadableError("not a hash");
    if (answer.reply) {
      record = redis::DecodeRecordValues(*keys[i], answer.reply->view(),
                                         answer.server_time + ClockOffset());
    }
    if (!record.ok()) {
      page.unreadable.push_back({std::move(keys[i]), std::move(encoded)});
    } else if (IsGrant(*record)) {
      page.records.push_back(**std::move(record));
    }
  }
  return absl::OkStatus();
}

void RedisTokenStore::WaitForChange(const GrantKey& key, int64_t generation,
                                    absl::Duration timeout) {
  const std::string record_key = redis::RecordKey(options_.key_prefix, key);
  thread_local std::minstd_rand random(std::random_device{}());
  const Deadline deadline =
      Deadline::In(std::clamp(timeout, absl::ZeroDuration(), absl::Hours(24)));
  redis::ChangeWaiters::Waiter waiter(parts_->waiters, EncodeGrantKey(key));
  absl::Duration poll = kFirstPoll;
  while (true) {
    absl::Duration rest;
    if (ChangedOrFree(record_key, generation, rest) || deadline.Passed()) return;
    // Spread, so that waiters do not all look at the same moment.
    const absl::Duration spread = poll * std::uniform_real_distribution<double>(0.75, 1.25)(random);
    waiter.Wait(std::min({spread, rest, deadline.Left()}));
    poll = std::min(poll * 1.5, kLongestPoll);
  }
}

bool RedisTokenStore::ChangedOrFree(std::string_view record_key, int64_t generation,
                                    absl::Duration& rest) {
  rest = kLongestPoll;
  const Command commands[] = {redis::ReadRecordWithoutTokensCommand(record_key), {"TIME"}};
  absl::Duration quarantine;
  const absl::StatusOr<std::vector<Reply>> replies =
      parts_->client.Run(record_key, commands, &quarantine);
  if (!replies.ok()) return false;  // it may come back in time
  const absl::StatusOr<absl::Time> now = redis::DecodeServerTime((*replies)[1].view());
  if (!now.ok()) return true;
  const absl::StatusOr<std::optional<GrantRecord>> record =
      redis::DecodeRecordValues(GrantKey{}, (*replies)[0].view(), *now + ClockOffset());
  // The caller's own look at the record tells what is wrong with it.
  if (!record.ok() || !*record || (*record)->generation > generation) return true;
  rest = quarantine;
  if (LeaseIsLive(options_.limits, **record, (*record)->store_now)) {
    rest = std::max(rest, (*record)->lease_end - (*record)->store_now);
  }
  return rest <= absl::ZeroDuration();
}

}  // namespace tokenbroker
