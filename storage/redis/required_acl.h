#ifndef TOKEN_BROKER_STORAGE_REDIS_REQUIRED_ACL_H_
#define TOKEN_BROKER_STORAGE_REDIS_REQUIRED_ACL_H_

#include <string_view>

// What the broker's users need, as rules of ACL SETUSER. docs/operations.md has the same texts, and
// tests run the store under them: nothing less will do, and nothing more is used.
namespace tokenbroker::redis {

// At the servers that hold the grants, for the default key_prefix "tb:". The commands come from the
// store itself and from inside its scripts. SELECT is used where `database` is not 0, WAIT where
// `replica_acks` is not 0, GET where `quarantine` is not 0, DEL where a grant is registered whose
// key holds something else.
inline constexpr std::string_view kRequiredAcl =
    "~tb:* &tb:changes:* +evalsha +script|load +time +hgetall +hmget +hset +pexpire +persist "
    "+publish +subscribe "
    "+ping +zadd +zrangebylex +set +get +info +wait +select +del";

// On top of it in a cluster.
inline constexpr std::string_view kRequiredClusterAcl =
    "+cluster|info +cluster|slots +asking +dbsize";

// At the Sentinels. Redis 6.2 knows no subcommands there: +sentinel.
inline constexpr std::string_view kRequiredSentinelAcl =
    "+sentinel|master +sentinel|get-master-addr-by-name";

}  // namespace tokenbroker::redis

#endif  // TOKEN_BROKER_STORAGE_REDIS_REQUIRED_ACL_H_
