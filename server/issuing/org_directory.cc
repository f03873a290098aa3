#include "server/issuing/org_directory.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "common/errors.h"
#include "common/status_macros.h"
#include "server/issuing/answer_once.h"

namespace tokenbroker {
namespace {

constexpr char kStoreLane[] = "store";
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
void OrgDirectory::RunOnce(std::function<void(absl::StatusOr<Answer>)> callback,
                           std::function<absl::StatusOr<Answer>()> read) {
  auto answer = std::make_shared<AnswerOnce<Answer>>(std::move(callback));
  const bool accepted =
      executor_->Run(kStoreLane, [answer, read = std::move(read)] { answer->Call(read()); });
  if (!accepted && !executor_->stopping()) answer->Call(OverloadedError(absl::Seconds(1)));
}

void OrgDirectory::List(GrantFilter filter, std::string after, int page_size,
                        ListCallback callback) {
  RunOnce<OrgPage>(std::move(callback),
                   [this, filter = std::move(filter), after = std::move(after), page_size] {
                     return ListBlocking(filter, after, page_size);
                   });
}

void OrgDirectory::Get(std::string org_id, GetCallback callback) {
  RunOnce<OrgEntry>(std::move(callback),
                    [this, org_id = std::move(org_id)] { return GetBlocking(org_id); });
}

absl::StatusOr<OrgPage> OrgDirectory::ListBlocking(const GrantFilter& filter, std::string after,
                                                   int page_size) {
  OrgPage page;
  std::string current_org;  // whose grants are being read
  std::string org_start = after;
  int read = 0;
  while (true) {
    TB_ASSIGN_OR_RETURN(GrantPage grants, store_->ListPage("", after, kStorePage));
    for (GrantRecord& record : grants.records) {
      if (read == 0 || record.key.org_id != current_org) {
        // Only here, between two orgs, may a page end.
        if (static_cast<int>(page.orgs.size()) >= page_size || read >= kMaxRecordsRead) {
          page.next = org_start;
          return page;
        }
        current_org = record.key.org_id;
      }
      ++read;
      org_start = EncodeGrantKey(record.key);
      if (!filter.Passes(record)) continue;
      if (page.orgs.empty() || page.orgs.back().org_id != current_org) {
        page.orgs.push_back({current_org, {}});
      }
      page.orgs.back().grants.push_back(std::move(record));
    }
    if (grants.next.empty()) return page;
    after = grants.next;
  }
}

absl::StatusOr<OrgEntry> OrgDirectory::GetBlocking(const std::string& org_id) {
  TB_ASSIGN_OR_RETURN(GrantPage page,
                      store_->ListPage(EncodeOrgPrefix(org_id), "", kMaxGrantsOfOrg));
  if (page.records.empty()) return OrgNotFoundError();
  return OrgEntry{org_id, std::move(page.records)};
}

}  // namespace tokenbroker
