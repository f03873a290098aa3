#include "storage/redis/cluster_view.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "common/status_macros.h"
#include "storage/redis/hash_slot.h"
#include "storage/redis/info_fields.h"
#include "storage/redis/redis_errors.h"

namespace tokenbroker::redis {
namespace {

absl::string_view View(std::string_view s) { return {s.data(), s.size()}; }

std::optional<uint16_t> Port(int64_t number) {
  if (number <= 0 || number > 65535) return std::nullopt;
  return static_cast<uint16_t>(number);
}

std::optional<uint16_t> Slot(int64_t number) {
  if (number < 0 || number >= kSlotCount) return std::nullopt;
  return static_cast<uint16_t>(number);
}

// A node as CLUSTER SLOTS gives it: host, port, … nullopt: its address is not known.
std::optional<Endpoint> ReadNode(ReplyView node, std::string_view asked_host) {
  if (node.size() < 2) return std::nullopt;
  const std::optional<uint16_t> port = Port(node[1].integer().value_or(0));
  const std::string_view host = node[0].text();
  if (!port || host == "?") return std::nullopt;
  return Endpoint{std::string(host.empty() ? asked_host : host), *port};
}

ClusterState ReadState(std::string_view info) {
  ClusterState state;
  state.healthy = InfoField(info, "cluster_state") == "ok";
  if (!absl::SimpleAtoi(View(InfoField(info, "cluster_current_epoch")), &state.epoch)) {
    state.epoch = 0;
  }
  return state;
}

absl::Status RefusedBy(const Endpoint& endpoint, ReplyView error, const Login& login) {
  if (error.text().find("cluster support disabled") != std::string_view::npos) {
    return StoreUnavailableError(absl::StrCat(
        endpoint.ToString(), " is no Redis Cluster; configure its address instead of the cluster"));
  }
  return ServerError(error.text(), login.username).status;
}

}  // namespace

absl::StatusOr<ClusterView> AskForView(const Endpoint& endpoint, const Login& login,
                                       Deadline deadline) {
  TB_ASSIGN_OR_RETURN(const std::unique_ptr<Connection> connection,
                      Connection::Open(endpoint, login, deadline));
  const Command questions[] = {{"CLUSTER", "INFO"}, {"CLUSTER", "SLOTS"}};
  TB_ASSIGN_OR_RETURN(const std::vector<Reply> answers, connection->Execute(questions, deadline));
  for (const Reply& answer : answers) {
    if (answer.view().is_error()) return RefusedBy(endpoint, answer.view(), login);
  }
  const ClusterState state = ReadState(answers[0].view().text());
  ClusterView view;
  view.healthy = state.healthy;
  view.epoch = state.epoch;
  const ReplyView ranges = answers[1].view();
  for (size_t i = 0; i < ranges.size(); ++i) {
    const ReplyView range = ranges[i];
    if (range.size() < 3) continue;
    const std::optional<uint16_t> first = Slot(range[0].integer().value_or(-1));
    const std::optional<uint16_t> last = Slot(range[1].integer().value_or(-1));
    std::optional<Endpoint> primary = ReadNode(range[2], endpoint.host);
    if (first && last && primary) view.ranges.push_back({*first, *last, *std::move(primary)});
    for (size_t node = 3; node < range.size(); ++node) {
      if (std::optional<Endpoint> replica = ReadNode(range[node], endpoint.host)) {
        view.replicas.push_back(*std::move(replica));
      }
    }
  }
  if (view.ranges.empty()) {
    return StoreUnavailableError(
        absl::StrCat("the Redis cluster of ", endpoint.ToString(), " has no slots yet"));
  }
  return view;
}

absl::StatusOr<ClusterState> AskForState(Connection& connection, const Login& login,
                                         Deadline deadline) {
  TB_ASSIGN_OR_RETURN(const Reply answer, connection.Execute(Command{"CLUSTER", "INFO"}, deadline));
  if (answer.view().is_error()) return ServerError(answer.view().text(), login.username).status;
  return ReadState(answer.view().text());
}

std::optional<Redirection> ParseRedirection(std::string_view error, std::string_view asked_host) {
  Redirection redirection;
  if (error.starts_with("ASK ")) {
    redirection.ask = true;
    error.remove_prefix(4);
  } else if (error.starts_with("MOVED ")) {
    error.remove_prefix(6);
  } else {
    return std::nullopt;
  }
  const size_t space = error.find(' ');
  const size_t colon = error.rfind(':');  // an IPv6 address has more of them
  if (space == error.npos || colon == error.npos || colon < space) return std::nullopt;
  int64_t slot_number = -1;
  int64_t port_number = 0;
  if (!absl::SimpleAtoi(View(error.substr(0, space)), &slot_number) ||
      !absl::SimpleAtoi(View(error.substr(colon + 1)), &port_number)) {
    return std::nullopt;
  }
  const std::optional<uint16_t> slot = Slot(slot_number);
  const std::optional<uint16_t> port = Port(port_number);
  const std::string_view host = error.substr(space + 1, colon - space - 1);
  if (!slot || !port || host == "?") return std::nullopt;
  redirection.slot = *slot;
  redirection.endpoint = {std::string(host.empty() ? asked_host : host), *port};
  return redirection;
}

}  // namespace tokenbroker::redis
