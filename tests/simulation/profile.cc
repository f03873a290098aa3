#include "tests/simulation/profile.h"

namespace tokenbroker::simulation {

std::string_view DefectName(Defect defect) {
  static constexpr std::array<std::string_view, kDefects> kNames = {
      "none",
      "epoch_fenced_commit",
      "unchecked_ack",
      "reused_connection",
      "lease_unchecked",
      "second_post",
      "commit_given_up",
      "commit_unchecked",
      "fail_unchecked",
      "no_quarantine",
      "verdict_unchecked",
      "send_not_counted",
      "consent_unchecked",
  };
  return kNames[static_cast<size_t>(defect)];
}

std::string_view FaultName(Fault fault) {
  static constexpr std::array<std::string_view, kFaults> kNames = {
      "freeze",
      "freeze_before_mark",
      "freeze_before_first_byte",
      "crash",
      "restart",
      "store_request_lost",
      "store_reply_lost",
      "store_delay",
      "store_cut",
      "primary_killed",
      "primary_partitioned",
      "primary_restarted",
      "replication_stalled",
      "subscription_lost",
      "subscription_silent",
      "event_delayed",
      "connect_failed",
      "reset_before_processing",
      "reset_after_processing",
      "no_answer",
      "server_error",
      "throttled",
      "answer_late",
      "consent",
      "import",
      "revoke",
      "foreign_revoke",
      "rejected_version",
      "cancelled",
  };
  return kNames[static_cast<size_t>(fault)];
}

Profile Profile::Draw(Chance& chance) {
  Profile p;
  p.calm = chance.Percent(8);
  p.processes = static_cast<int>(chance.Between(2, 4));
  p.grants = static_cast<int>(chance.Between(1, 4));
  p.replicas = static_cast<int>(chance.Between(1, 2));
  p.actions = static_cast<int>(chance.Between(30, 90));
  p.rotates = chance.Percent(60);
  if (chance.Percent(40)) p.leeway = 30 * kSecond;
  constexpr Nanos kLifetimes[] = {3600 * kSecond, 3600 * kSecond, 400 * kSecond, 130 * kSecond};
  p.token_lifetime = kLifetimes[chance.Below(4)];
  p.keep_warm = chance.Percent(20);
  p.drift = chance.Percent(50) ? chance.Below(20'000) : 0;
  if (p.calm) return p;

  const auto sometimes = [&](int64_t percent, int64_t low, int64_t high) -> int64_t {
    return chance.Percent(percent) ? chance.Spread(low, high) : 0;
  };
  p.connections_killed = chance.Percent(70);
  p.skew = chance.Percent(70) ? 500 * kMilli : chance.Between(1, 60) * kSecond;
  if (chance.Percent(40)) p.zohos_time = chance.Spread(300, 8'000) * kMilli;
  p.request_lost = sometimes(50, 500, 50'000);
  p.reply_lost = sometimes(50, 500, 50'000);
  p.message_late = sometimes(50, 500, 50'000);
  p.event_late = sometimes(50, 1'000, 300'000);
  p.freeze_at_seam = sometimes(40, 200, 10'000);
  p.crash_at_seam = sometimes(35, 200, 8'000);
  p.freeze_before_mark = sometimes(25, 10'000, 200'000);
  p.freeze_before_first_byte = sometimes(25, 10'000, 200'000);
  p.connect_fails = sometimes(40, 5'000, 200'000);
  p.answer_fails = sometimes(60, 20'000, 500'000);
  p.answer_late = sometimes(40, 5'000, 300'000);
  p.weight_process = static_cast<int>(sometimes(60, 1, 15));
  p.weight_store = static_cast<int>(sometimes(60, 1, 20));
  p.weight_operator = static_cast<int>(sometimes(60, 1, 25));
  return p;
}

void Profile::Favour(Defect defect) {
  if (calm) return;
  switch (defect) {
    case Defect::kLeaseUnchecked:
      freeze_before_mark = 400'000;
      grants = 4;
      processes = 4;
      zohos_time = 8 * kSecond;
      break;
    case Defect::kNoQuarantine:
      skew = 60 * kSecond;
      weight_store = 20;
      zohos_time = 8 * kSecond;
      break;
    case Defect::kVerdictUnchecked:
      weight_store = 20;
      weight_operator = 25;
      zohos_time = 8 * kSecond;
      break;
    default:
      break;
  }
}

}  // namespace tokenbroker::simulation
