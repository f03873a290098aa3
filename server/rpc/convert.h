#ifndef TOKEN_BROKER_SERVER_RPC_CONVERT_H_
#define TOKEN_BROKER_SERVER_RPC_CONVERT_H_

#include "absl/time/time.h"
#include "common/ids.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/timestamp.pb.h"
#include "server/issuing/issued_token.h"
#include "storage/grant_record.h"
#include "storage/protocol_limits.h"
#include "tokenbroker/v1/grant.pb.h"
#include "tokenbroker/v1/token_service.pb.h"

// From the broker's structs to the API's messages. Pure.
namespace tokenbroker {

void SetDuration(absl::Duration duration, google::protobuf::Duration& out);
void SetTimestamp(absl::Time time, google::protobuf::Timestamp& out);

v1::Environment ToProto(Environment environment);
v1::GrantState ToProto(GrantState state);

// What decides about `next_action`, and when "now" is.
struct GrantView {
  const ProtocolLimits& limits;
  absl::Time wall_now;           // on the clock that callers read
  absl::Duration refresh_ahead;  // remaining life at which a token in use is refreshed
};

// Times in the record are on the store's clock: they are shown moved by what `wall_now` is ahead of
// the record's `store_now`, in whole seconds. How long the read took is no part of that, so a grant
// that did not change looks the same every time, or moved by a second where the clocks are about
// half a second apart. No token of the record is looked at.
void FillGrant(const GrantRecord& record, const GrantView& view, v1::Grant& out);

// The only place where an access token leaves the broker.
void FillToken(const TokenAnswer& answer, absl::Time wall_now, v1::GetAccessTokenResponse& out);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_RPC_CONVERT_H_
