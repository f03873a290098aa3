#include "server/issuing/org_directory.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "common/errors.h"
#include "common/status_macros.h"
#include "server/issuing/answer_once.h"

namespace tokenbroker {
namespace {

constexpr char kListLane[] = "list";
constexpr int kStorePage = 500;
// Grants of one org: a few environments times a few OAuth clients.
constexpr int kMaxGrantsOfOrg = 1000;

}  // namespace

bool GrantFilter::Passes(const GrantRecord& record) const {
  if (!dc.empty() && record.info.dc != dc) return false;
  if (environment && record.key.environment != *environment) return false;
  if (state && record.state != *state) return false;
  if (!oauth_client.empty() && record.key.oauth_client != oauth_client) return false;
  return std::all_of(labels.begin(), labels.end(), [&](const auto& label) {
    const auto found = record.info.labels.find(label.first);
    return found != record.info.labels.end() && found->second == label.second;
  });
}

template <typename Answer>
void OrgDirectory::RunOnce(absl::Duration deadline,
                           std::function<void(absl::StatusOr<Answer>)> callback,
                           std::function<absl::StatusOr<Answer>()> read) {
  auto answer = std::make_shared<AnswerOnce<Answer>>(std::move(callback));
  if (deadline <= absl::ZeroDuration()) return answer->Call(DeadlineExceededError());
  executor_->RunAfter(deadline, [answer] { answer->Call(DeadlineExceededError()); });
  const bool accepted = executor_->Run(kListLane, [answer, read = std::move(read)] {
    if (!answer->called()) answer->Call(read());
  });
  if (!accepted && !executor_->stopping()) answer->Call(OverloadedError(absl::Seconds(1)));
}

void OrgDirectory::List(GrantFilter filter, std::string after, int page_size,
                        absl::Duration deadline, ListCallback callback) {
  RunOnce<OrgPage>(deadline, std::move(callback),
                   [this, filter = std::move(filter), after = std::move(after), page_size] {
                     return ListBlocking(filter, after, page_size);
                   });
}

void OrgDirectory::Get(std::string org_id, absl::Duration deadline, GetCallback callback) {
  RunOnce<OrgEntry>(deadline, std::move(callback),
                    [this, org_id = std::move(org_id)] { return GetBlocking(org_id); });
}

absl::StatusOr<OrgPage> OrgDirectory::ListBlocking(const GrantFilter& filter, std::string after,
                                                   int page_size) {
  OrgPage page;
  std::string current_org;  // prefix of the keys of the org whose grants are being read
  std::string org_start = after;
  int read = 0;
  // False: the page ends before the record that has this key.
  const auto take = [&](std::string encoded, const GrantKey* key) {
    const std::string org = key != nullptr                     ? EncodeOrgPrefix(key->org_id)
                            : encoded.starts_with(current_org) ? current_org
                                                               : encoded;
    if (read == 0 || org != current_org) {
      // Only here, between two orgs, may a page end.
      if (static_cast<int>(page.orgs.size()) >= page_size || read >= kMaxRecordsRead) return false;
      current_org = org;
    }
    ++read;
    org_start = std::move(encoded);
    return true;
  };
  while (true) {
    TB_ASSIGN_OR_RETURN(GrantPage grants, store_->ListPage("", after, kStorePage));
    auto unreadable = grants.unreadable.begin();
    // Both lists are in key order: together they are what the store has.
    const auto take_unreadable = [&](std::string_view before) {
      for (; unreadable != grants.unreadable.end() &&
             (before.empty() || unreadable->encoded < before);
           ++unreadable) {
        const GrantKey* key = unreadable->key ? &*unreadable->key : nullptr;
        if (!take(unreadable->encoded, key)) return false;
        page.unreadable.push_back(std::move(*unreadable));
      }
      return true;
    };
    for (GrantRecord& record : grants.records) {
      std::string encoded = EncodeGrantKey(record.key);
      if (!take_unreadable(encoded) || !take(std::move(encoded), &record.key)) {
        page.next = org_start;
        return page;
      }
      if (!filter.Passes(record)) continue;
      if (page.orgs.empty() || page.orgs.back().org_id != record.key.org_id) {
        page.orgs.push_back({.org_id = record.key.org_id});
      }
      page.orgs.back().grants.push_back(std::move(record));
    }
    if (!take_unreadable("")) {
      page.next = org_start;
      return page;
    }
    if (grants.next.empty()) return page;
    after = grants.next;
  }
}

absl::StatusOr<OrgEntry> OrgDirectory::GetBlocking(const std::string& org_id) {
  TB_ASSIGN_OR_RETURN(GrantPage page,
                      store_->ListPage(EncodeOrgPrefix(org_id), "", kMaxGrantsOfOrg));
  if (page.records.empty() && page.unreadable.empty()) return OrgNotFoundError();
  OrgEntry org{org_id, {}, std::move(page.unreadable)};
  for (GrantRecord& record : page.records) {
    // Lists read no tokens. What is not active needs none.
    if (record.state == GrantState::kActive) {
      const absl::Status loaded = store_->Load(record.key).status();
      if (absl::IsDataLoss(loaded)) {
        org.unreadable.push_back({record.key, EncodeGrantKey(record.key)});
        continue;
      }
      if (!loaded.ok() && !absl::IsNotFound(loaded)) return loaded;
    }
    org.grants.push_back(std::move(record));
  }
  return org;
}

}  // namespace tokenbroker
