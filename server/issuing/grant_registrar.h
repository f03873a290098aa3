#ifndef TOKEN_BROKER_SERVER_ISSUING_GRANT_REGISTRAR_H_
#define TOKEN_BROKER_SERVER_ISSUING_GRANT_REGISTRAR_H_

#include <atomic>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "clients/zoho/accounts_server.h"
#include "clients/zoho/oauth_client.h"
#include "common/clock.h"
#include "common/ids.h"
#include "common/mutex.h"
#include "server/issuing/executor.h"
#include "server/issuing/issuing_events.h"
#include "server/issuing/refresher.h"
#include "storage/token_store.h"

namespace tokenbroker {

// What a consent gave.
struct CodeCredential {
  Secret code;
  std::string redirect_uri;             // "" for a Self Client
  std::optional<Secret> code_verifier;  // PKCE
};
struct ImportCredential {
  Secret refresh_token;
};
struct ClientCredentialsCredential {
  std::string soid;
};

struct Registration {
  GrantKey key;
  std::string dc;
  std::variant<CodeCredential, ImportCredential, ClientCredentialsCredential> credential;
  // As asked for (client credentials, consent) or as the caller knows them (imports). Zoho's own
  // word in the reply wins.
  std::vector<std::string> scopes;
  std::string display_name;
  std::map<std::string, std::string> labels;
  bool keep_warm = false;
  std::string request_id;  // "": made up
};

GrantRecord WithoutTokens(GrantRecord record);

struct Registered {
  GrantRecord record;  // without tokens
  bool replaced = false;
};

struct Revoked {
  GrantRecord record;  // without tokens
  bool revoked_at_zoho = false;
};

// Registers and revokes grants. Thread-safe; the work runs on the executor's lanes.
class GrantRegistrar {
 public:
  using RegisterCallback = std::function<void(absl::StatusOr<Registered>)>;
  using RevokeCallback = std::function<void(absl::StatusOr<Revoked>)>;

  // Everything is borrowed and must outlive the registrar, which must outlive the executor's
  // shutdown.
  GrantRegistrar(TokenStore* store, Refresher* refresher, Executor* executor, Clock clock,
                 IssuingEvents* events);

  // Spends the credential at Zoho and stores what comes back. Checks before spending that the
  // client, its secret for the DC and the DC are configured and that the store can be written;
  // after spending, keeps retrying the store until the grant is stored, also when the caller has
  // left. A grant that is alive is replaced only by one that Zoho has honoured. Whatever is sent
  // comes out of the grant's budget, refused or not, also where there is no grant yet; a code waits
  // for nobody's lease.
  //
  // Calls with one request id (and key) are one registration, also when they come at the same time:
  // all get its result.
  //
  // `callback` is called exactly once, at the latest after `deadline`. Errors: those of the RPC.
  void Register(Registration registration, absl::Duration deadline, RegisterCallback callback);

  // Revokes in the store first, so that no replica issues any more, then at Zoho; whoever's
  // deadline comes in between is told what was done until then. NOT_FOUND ORG_NOT_FOUND;
  // UNAVAILABLE STORE_UNAVAILABLE; ABORTED GRANT_CHANGED.
  void Revoke(const GrantKey& key, absl::Duration deadline, RevokeCallback callback);

  // From now on nobody waits: callers get SHUTTING_DOWN, or are told what was done of a revocation.
  // The work under way goes on; new work is refused. Does not block.
  void StopWaiting();
  // Refuses new work (SHUTTING_DOWN) and waits until that under way has ended, at most `timeout`.
  bool Drain(absl::Duration timeout);

 private:
  class RegisterCall;
  class RevokeCall;
  // A credential that Zoho has honoured.
  struct Proof {
    TokenReply reply;
    MonotonicTime answered_at;
    absl::Duration latency;
    std::optional<Consent> found;  // of the grant before it was spent; nullopt: it cannot be read
  };

  // False: no more work is taken on. True: End is to be called when it is done.
  bool Begin();
  void End() { --running_; }
  absl::Status Refusal() const;

  // Adds the caller to the registration under way with this id, or makes one: then true.
  bool JoinOrMake(const std::string& id, RegisterCallback callback, absl::Duration deadline,
                  std::shared_ptr<RegisterCall>& call);
  absl::StatusOr<Registered> RegisterBlocking(const Registration& registration, RegisterCall& call);
  absl::StatusOr<Registered> SpendCode(const Registration& registration,
                                       const CodeCredential& credential,
                                       std::optional<Consent> found, RegisterCall& call);
  absl::StatusOr<Registered> SpendClientCredentials(const Registration& registration,
                                                    const ClientCredentialsCredential& credential,
                                                    RegisterCall& call);
  absl::StatusOr<Registered> Import(const Registration& registration,
                                    const ImportCredential& credential, RegisterCall& call);
  // Under the grant's lease. REFRESH_TOKEN_REJECTED where Zoho calls the credential dead.
  absl::StatusOr<Proof> Prove(const Registration& registration, const TokenRequest& request);
  // In place of the store, where the record cannot be read and so cannot count: the same budget, by
  // this replica's memory alone. MINT_BUDGET_EXHAUSTED.
  absl::Status CountUnreadable(const GrantKey& key) ABSL_LOCKS_EXCLUDED(mutex_);
  // Waits while somebody else has it. The errors of a cooldown and of the budget.
  absl::StatusOr<AcquireResult> AcquireLease(const GrantKey& key, const std::string& attempt_id,
                                             MonotonicTime& acquired_at);
  // GRANT_CHANGED: somebody else registered or revoked the grant since it was found.
  absl::StatusOr<Registered> StoreUntilDone(RegisterRequest request, Proof proof,
                                            RegisterCall& call);
  // Another replica may be storing what the same request id has spent.
  std::optional<Registered> AwaitSibling(const Registration& registration);

  // The consent that the grant has when this is called, or one that came in between.
  absl::StatusOr<RevokeResult> RevokeWhatStands(const GrantKey& key);
  void StopWaitingForRevocations();
  void RevokeInStore(const GrantKey& key, const std::shared_ptr<RevokeCall>& call);

  TokenStore* const store_;
  Refresher* const refresher_;
  Executor* const executor_;
  const Clock clock_;
  IssuingEvents* const events_;
  std::atomic<bool> draining_{false};
  std::atomic<int> running_{0};
  Mutex mutex_;
  // By key and request id, made up where the caller gave none.
  std::map<std::string, std::weak_ptr<RegisterCall>> calls_ ABSL_GUARDED_BY(mutex_);
  std::list<std::weak_ptr<RevokeCall>> revocations_ ABSL_GUARDED_BY(mutex_);
  // By key: in place of records that cannot be read, each with a journal that is not empty and
  // nothing else, by the monotonic clock.
  std::map<std::string, GrantRecord> unreadable_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_ISSUING_GRANT_REGISTRAR_H_
