#ifndef TOKEN_BROKER_SERVER_ISSUING_ORG_DIRECTORY_H_
#define TOKEN_BROKER_SERVER_ISSUING_ORG_DIRECTORY_H_

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/ids.h"
#include "server/issuing/executor.h"
#include "storage/token_store.h"

namespace tokenbroker {

// Conditions on a grant; what is not set passes.
struct GrantFilter {
  std::string dc;
  std::optional<Environment> environment;
  std::optional<GrantState> state;
  std::map<std::string, std::string> labels;
  std::string oauth_client;

  bool Passes(const GrantRecord& record) const;
};

struct OrgEntry {
  std::string org_id;
  std::vector<GrantRecord> grants;  // by environment and OAuth client; without tokens
  // What could not be decoded or, in answers of Get, unsealed.
  std::vector<UnreadableRecord> unreadable;
};

struct OrgPage {
  std::vector<OrgEntry> orgs;  // with readable grants
  // What could not be decoded on the way, whatever the filter says; in key order.
  std::vector<UnreadableRecord> unreadable;
  std::string next;  // encoded key to go on after; "": the last page
};

// Orgs and their grants, read from the store on a lane of their own, "list": however many are asked
// for, they take no thread from tokens. Thread-safe.
class OrgDirectory {
 public:
  // Records that one page may read, whatever the filter lets pass: the page is short rather than
  // slow.
  static constexpr int kMaxRecordsRead = 5000;

  OrgDirectory(TokenStore* store, Executor* executor) : store_(store), executor_(executor) {}

  using ListCallback = std::function<void(absl::StatusOr<OrgPage>)>;
  using GetCallback = std::function<void(absl::StatusOr<OrgEntry>)>;

  // Up to `page_size` orgs that have a grant passing `filter`, after `after` ("": from the first).
  // An org is never split over two pages. `callback` is called exactly once, at the
  // latest after `deadline`; what nobody waits for any more is not read. UNAVAILABLE
  // STORE_UNAVAILABLE; DEADLINE_EXCEEDED DEADLINE_EXCEEDED.
  void List(GrantFilter filter, std::string after, int page_size, absl::Duration deadline,
            ListCallback callback);

  // All grants of one org. An active grant that cannot be unsealed is among the unreadable ones, so
  // that `grants` may be empty. `deadline` as for List. NOT_FOUND ORG_NOT_FOUND; UNAVAILABLE
  // STORE_UNAVAILABLE; DEADLINE_EXCEEDED DEADLINE_EXCEEDED.
  void Get(std::string org_id, absl::Duration deadline, GetCallback callback);

 private:
  absl::StatusOr<OrgPage> ListBlocking(const GrantFilter& filter, std::string after, int page_size);
  absl::StatusOr<OrgEntry> GetBlocking(const std::string& org_id);
  template <typename Answer>
  void RunOnce(absl::Duration deadline, std::function<void(absl::StatusOr<Answer>)> callback,
               std::function<absl::StatusOr<Answer>()> read);

  TokenStore* const store_;
  Executor* const executor_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_ISSUING_ORG_DIRECTORY_H_
