#include "tests/faults/fault_world.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"

namespace tokenbroker::faults {
namespace {

using zoho_simulator::Behaviour;
using zoho_simulator::FaultKind;
using zoho_simulator::FaultRule;
using zoho_simulator::RequestEntry;
using zoho_simulator::RequestFilter;

std::string Ms(absl::Duration duration) {
  return absl::StrCat(absl::ToInt64Milliseconds(duration), "ms");
}

// The letter in /proc/PID/stat: 'T' is stopped. Of the process as a whole: a stop signal stops all
// of its threads.
char ProcessState(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const size_t name_end = text.rfind(')');
  return name_end + 2 < text.size() ? text[name_end + 2] : '?';
}

}  // namespace

std::string ScaledConfig(const Scale& scale) {
  return absl::StrCat(
      "issuing:\n  unheard_recheck: ", Ms(scale.unheard_recheck),
      "\nprotocol:\n  connect_timeout: ", Ms(scale.connect_timeout),
      "\n  pre_send_lease: ", Ms(scale.pre_send_lease),
      "\n  response_timeout: ", Ms(scale.response_timeout),
      "\n  commit_budget: ", Ms(scale.commit_budget), "\n  sent_lease: ", Ms(scale.sent_lease),
      "\n  clock_drift: 100ms\n  failure_backoff: ", scale.failure_backoff,
      "\n  budget: ", scale.budget, "\n  accept_risks: [BUDGET_ABOVE_ZOHO_LIMIT]\n");
}

World::Options RedisWorld(const Scale& scale) {
  World::Options options;
  options.dcs = {"us"};
  options.redis = true;
  options.redis_config = absl::StrCat("    quarantine: ", Ms(scale.sent_lease), "\n");
  options.behaviour.access_token_life = absl::Seconds(1);
  options.behaviour.limits.mints = 0;
  options.more_config = ScaledConfig(scale);
  return options;
}

void LetTokensLive(World& world, absl::Duration life) {
  Behaviour behaviour = *world.zoho().accounts().GetBehaviour("us");
  behaviour.access_token_life = life;
  EXPECT_TRUE(world.zoho().accounts().SetBehaviour("", behaviour).ok());
  world.log().Clear();
}

std::vector<std::string> RedisAt(uint16_t port) {
  return {"--set", absl::StrCat("store.redis.address=127.0.0.1:", port)};
}

std::string Field(const RedisServer& redis, const std::string& org_id, const std::string& name) {
  const absl::StatusOr<std::string> value = redis.Command(
      {"HGET", absl::StrCat("tb:{", org_id, ":PRODUCTION:", World::kWebClient, "}"), name});
  return value.ok() ? *value : "";
}

int64_t Number(const RedisServer& redis, const std::string& org_id, const std::string& name) {
  int64_t number = 0;
  if (!absl::SimpleAtoi(Field(redis, org_id, name), &number)) return 0;
  return number;
}

std::string ScriptDigest(const RedisServer& redis, redis::ScriptId script) {
  const absl::StatusOr<std::string> digest =
      redis.Command({"SCRIPT", "LOAD", redis::ScriptSet::Embedded().source(script)});
  EXPECT_TRUE(digest.ok()) << digest.status();
  return digest.value_or("");
}

void Freeze(Broker& broker) {
  broker.process().Signal(SIGSTOP);
  EXPECT_TRUE(WaitUntil([&] { return ProcessState(broker.process().pid()) == 'T'; }));
}

void Thaw(Broker& broker) { broker.process().Signal(SIGCONT); }

void LetPass(absl::Duration duration) { absl::SleepFor(duration); }

std::future<Broker::Token> Ask(Broker& broker, const std::string& org_id,
                               std::function<void(v1::GetAccessTokenRequest&)> change) {
  return std::async(std::launch::async, [&broker, org_id, change = std::move(change)] {
    return broker.GetAccessToken(org_id, change);
  });
}

std::function<void(v1::GetAccessTokenRequest&)> Rejecting(int64_t version) {
  return [version](v1::GetAccessTokenRequest& request) { request.set_rejected_version(version); };
}

double Metric(Broker& broker, const std::string& name, const std::string& labels) {
  const e2e::HttpReply reply =
      e2e::HttpGet(absl::StrCat("http://", broker.ops_address(), "/metrics"));
  double sum = 0;
  for (const absl::string_view line : absl::StrSplit(reply.body, '\n')) {
    const bool is_sample = absl::StartsWith(line, name + "{") || absl::StartsWith(line, name + " ");
    if (!is_sample || !absl::StrContains(line, labels)) continue;
    double value = 0;
    if (absl::SimpleAtod(line.substr(line.rfind(' ') + 1), &value)) sum += value;
  }
  return sum;
}

std::vector<absl::Time> LogTimes(Broker& broker, const std::string& text) {
  std::vector<absl::Time> times;
  for (const absl::string_view line : absl::StrSplit(broker.process().err(), '\n')) {
    if (!absl::StrContains(line, text)) continue;
    const nlohmann::json entry = nlohmann::json::parse(line, nullptr, false);
    absl::Time time;
    std::string error;
    if (!entry.is_discarded() &&
        absl::ParseTime(absl::RFC3339_full, entry.value("time", ""), &time, &error)) {
      times.push_back(time);
    }
  }
  return times;
}

void HoldReplies(World& world, int times, const std::string& org_id) {
  FaultRule rule;
  rule.org_id = org_id;
  rule.path = "/oauth/v2/token";
  rule.times = times;
  rule.fault.kind = FaultKind::kHangAfterProcessing;
  world.zoho().AddFault(rule);
}

std::vector<RequestEntry> RefreshLog(World& world) {
  RequestFilter filter;
  filter.path = "/oauth/v2/token";
  filter.grant_type = "refresh_token";
  return world.log().Entries(filter);
}

bool IsAlive(World& world, uint64_t grant_number) {
  const auto report = world.zoho().accounts().FindGrant(grant_number, world.zoho().now());
  EXPECT_TRUE(report.has_value());
  return report && report->alive;
}

bool IsGood(World& world, const std::string& access_token) {
  return world.zoho().accounts().AccessTokenState(access_token, world.zoho().now()) == "live";
}

}  // namespace tokenbroker::faults
