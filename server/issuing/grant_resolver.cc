#include "server/issuing/grant_resolver.h"

#include <optional>
#include <utility>

#include "common/errors.h"
#include "common/status_macros.h"
#include "server/issuing/issued_token.h"

namespace tokenbroker {
namespace {

// Grants of one org in one environment: one per OAuth client, so a page holds all of them.
constexpr int kMaxGrants = 1000;
constexpr size_t kMaxAnswersPerOrg = 16;

}  // namespace

bool ServesBetter(const GrantRecord& a, const GrantRecord& b) {
  if (a.info.scopes.empty() != b.info.scopes.empty()) return b.info.scopes.empty();
  return a.info.scopes.size() < b.info.scopes.size();
}

std::shared_ptr<const std::string> GrantResolver::Remembered(std::string_view org_id,
                                                             Environment environment,
                                                             const std::vector<std::string>& scopes,
                                                             MonotonicTime now, Age age) const {
  const GrantKeyView org(org_id, environment, "");
  const Shard& shard = shards_[IndexOf(org)];
  MutexLock lock(shard.mutex);
  const auto found = shard.answers.find(org);
  if (found == shard.answers.end()) return nullptr;
  for (const Answer& answer : found->second) {
    if (answer.scopes == scopes && (age == Age::kAny || now < answer.until)) {
      return answer.oauth_client;
    }
  }
  return nullptr;
}

absl::StatusOr<GrantResolver::Grants> GrantResolver::Load(const std::string& org_id,
                                                          Environment environment) {
  Grants grants{org_id, environment};
  {
    const Shard& shard = shards_[IndexOf(GrantKeyView(org_id, environment, ""))];
    MutexLock lock(shard.mutex);
    grants.changes = shard.changes;
  }
  TB_ASSIGN_OR_RETURN(
      GrantPage page,
      store_->ListPage(EncodeOrgEnvironmentPrefix(org_id, environment), "", kMaxGrants));
  if (page.records.empty() && page.unreadable.empty()) return OrgNotFoundError();
  grants.unreadable = !page.unreadable.empty();
  grants.records = std::move(page.records);
  return grants;
}

absl::StatusOr<std::string> GrantResolver::Choose(const Grants& grants,
                                                  const std::vector<std::string>& scopes,
                                                  MonotonicTime now) {
  const GrantRecord* best = nullptr;
  const GrantRecord* dead = nullptr;
  std::optional<std::vector<std::string>> least_missing;
  for (const GrantRecord& record : grants.records) {
    std::vector<std::string> missing = LackingScopes(record.info.scopes, scopes);
    if (!missing.empty()) {
      if (!least_missing || missing.size() < least_missing->size()) {
        least_missing = std::move(missing);
      }
      continue;
    }
    const GrantRecord*& slot = record.state == GrantState::kActive ? best : dead;
    if (slot == nullptr || ServesBetter(record, *slot)) slot = &record;
  }
  if (best == nullptr) best = dead;
  if (best == nullptr && grants.unreadable) return RecordUnreadableError("a grant of this org");
  if (best == nullptr) return ScopeNotGrantedError(*least_missing);

  const GrantKeyView org(grants.org_id, grants.environment, "");
  Shard& shard = shards_[IndexOf(org)];
  auto client = std::make_shared<const std::string>(best->key.oauth_client);
  MutexLock lock(shard.mutex);
  // Something changed while the grants were read, perhaps one of them: good enough for this caller,
  // not for the next half minute.
  if (shard.changes != grants.changes) return *client;
  if (shard.answers.size() >= kMaxOrgsPerShard) shard.answers.clear();
  std::vector<Answer>& answers = shard.answers[org.ToKey()];
  std::erase_if(answers, [&](const Answer& answer) { return answer.scopes == scopes; });
  if (answers.size() >= kMaxAnswersPerOrg) answers.clear();
  answers.push_back({scopes, client, now + kRemembered});
  return *client;
}

void GrantResolver::NoteChange(const GrantKeyView& key, bool alive) {
  const GrantKeyView org(key.org_id, key.environment, "");
  Shard& shard = shards_[IndexOf(org)];
  MutexLock lock(shard.mutex);
  ++shard.changes;
  const auto found = shard.answers.find(org);
  if (found == shard.answers.end()) return;
  std::erase_if(found->second, [&](const Answer& answer) {
    return !alive || *answer.oauth_client != key.oauth_client;
  });
  if (found->second.empty()) shard.answers.erase(found);
}

}  // namespace tokenbroker
