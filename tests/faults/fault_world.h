#ifndef TOKEN_BROKER_TESTS_FAULTS_FAULT_WORLD_H_
#define TOKEN_BROKER_TESTS_FAULTS_FAULT_WORLD_H_

#include <cstdint>
#include <functional>
#include <future>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "storage/redis/scripts.h"
#include "tests/e2e/world.h"
#include "tests/testing/lossy_proxy.h"
#include "tests/testing/redis_server.h"

// What the tests of faults have in common: the protocol in small numbers, and means to stop a
// process at an exact point and to see where it stands. No test hits a moment: it holds the
// environment (a command to Redis, a handshake, a reply of Zoho's) and waits for what that leaves
// in the record or in the simulator's log.
namespace tokenbroker::faults {

using e2e::Broker;
using e2e::CallError;
using e2e::Explain;
using e2e::World;

// The protocol's numbers, scaled down. They keep ProtocolLimits::Validate.
struct Scale {
  absl::Duration connect_timeout = absl::Milliseconds(1200);
  absl::Duration pre_send_lease = absl::Milliseconds(1500);
  absl::Duration response_timeout = absl::Milliseconds(1400);
  absl::Duration commit_budget = absl::Milliseconds(400);
  absl::Duration sent_lease = absl::Milliseconds(2000);
  std::string failure_backoff = "[5s, 15s]";
  std::string budget = "[{sends: 100, length: 600s}]";
  absl::Duration unheard_recheck = absl::Seconds(1);
};
// As YAML for World::Options::more_config.
std::string ScaledConfig(const Scale& scale);

// On Redis; what registration brings expires at once, so that the first call after LetTokensLive
// wants a refresh.
World::Options RedisWorld(const Scale& scale = Scale());
// From here on Zoho's tokens live for `life`, everything else stays; the log is emptied.
void LetTokensLive(World& world, absl::Duration life = absl::Hours(1));
// The flags that lead a broker to another Redis.
std::vector<std::string> RedisAt(uint16_t port);

// One field of a grant's record, of the web client in PRODUCTION; "": there is none.
std::string Field(const RedisServer& redis, const std::string& org_id, const std::string& name);
int64_t Number(const RedisServer& redis, const std::string& org_id, const std::string& name);
// Phases of the lease, as they stand in the record's field `ph`.
constexpr char kPhaseHeld[] = "1";
constexpr char kPhaseSent[] = "2";
// By which name a command to Redis calls the script: for LossyProxy::HoldAt.
std::string ScriptDigest(const RedisServer& redis, redis::ScriptId script);

// SIGSTOP, until the process stands still, and SIGCONT.
void Freeze(Broker& broker);
void Thaw(Broker& broker);
// The fault itself is that time goes by; nothing is waited for.
void LetPass(absl::Duration duration);

// Calls in the background.
std::future<Broker::Token> Ask(Broker& broker, const std::string& org_id,
                               std::function<void(v1::GetAccessTokenRequest&)> change = {});
// A request whose caller cannot use `version`: a new token is minted if it still is the current
// one.
std::function<void(v1::GetAccessTokenRequest&)> Rejecting(int64_t version);
// The sum of a metric's samples whose labels contain `labels`; 0: there is none.
double Metric(Broker& broker, const std::string& name, const std::string& labels = "");
// When the lines of its log that contain `text` were written, by the broker's wall clock.
std::vector<absl::Time> LogTimes(Broker& broker, const std::string& text);

// Zoho works on the next `times` refreshes, or codes, of `org_id` (of the simulator's; "": any) and
// keeps the replies until Simulator::ReleaseHung.
void HoldReplies(World& world, int times = 1, const std::string& org_id = "");
// The refreshes in the simulator's log, oldest first.
std::vector<zoho_simulator::RequestEntry> RefreshLog(World& world);
// By the simulator's books.
bool IsAlive(World& world, uint64_t grant_number);
// Whether Zoho's APIs would take the token now.
bool IsGood(World& world, const std::string& access_token);

}  // namespace tokenbroker::faults

#endif  // TOKEN_BROKER_TESTS_FAULTS_FAULT_WORLD_H_
