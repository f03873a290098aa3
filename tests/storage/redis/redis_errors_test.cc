// What error replies of Redis mean, and that nothing of them but the code is passed on.
#include "storage/redis/redis_errors.h"

#include <string>

#include "common/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tokenbroker::redis {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

struct Case {
  const char* reply;
  const char* reason;
  const char* text;  // in the message
  bool retry;
  bool close;
};

TEST(RedisErrorsTest, EachKindHasItsMeaning) {
  // As Redis 7.0 words them, and 6.2 where that differs.
  const Case kCases[] = {
      {"LOADING Redis is loading the dataset in memory", "STORE_UNAVAILABLE", "loading", true,
       true},
      {"READONLY You can't write against a read only replica.", "STORE_UNAVAILABLE", "primary",
       true, true},
      {"READONLY You can't write against a read only replica. script: 1a, on @user_script:1.",
       "STORE_UNAVAILABLE", "primary", true, true},
      {"ERR Error running script (call to f_1a): @user_script:88: -READONLY You can't write "
       "against a read only replica.",
       "STORE_UNAVAILABLE", "primary", true, true},
      {"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
       "STORE_UNAVAILABLE", "lost its primary", true, true},
      {"OOM command not allowed when used memory > 'maxmemory'.", "STORE_UNAVAILABLE", "maxmemory",
       false, false},
      {"MISCONF Redis is configured to save RDB snapshots, but", "STORE_UNAVAILABLE", "persist",
       false, false},
      {"NOREPLICAS Not enough good replicas to write.", "STORE_UNAVAILABLE", "min-replicas", false,
       false},
      {"MOVED 866 127.0.0.1:7002", "STORE_UNAVAILABLE", "store.redis.cluster", false, true},
      {"ASK 866 127.0.0.1:7002", "STORE_UNAVAILABLE", "store.redis.cluster", false, true},
      {"CLUSTERDOWN The cluster is down", "STORE_UNAVAILABLE", "cluster is down", true, true},
      {"TRYAGAIN Multiple keys request during rehashing of slot", "STORE_UNAVAILABLE", "moves",
       true, false},
      {"BUSY Redis is busy running a script.", "STORE_UNAVAILABLE", "another script", true, false},
      {"WRONGPASS invalid username-password pair or user is disabled.", "STORE_UNAVAILABLE",
       "user 'broker'", false, true},
      {"NOAUTH Authentication required.", "STORE_UNAVAILABLE", "user 'broker'", true, true},
      {"NOPERM this user has no permissions to run the 'evalsha' command", "STORE_UNAVAILABLE",
       "user 'broker'", false, false},
      {"ERR invalid password", "STORE_UNAVAILABLE", "user 'broker'", false, true},
      {"ERR AUTH <password> called without any password configured for the default user",
       "STORE_UNAVAILABLE", "user 'broker'", false, true},
      {"ERR max number of clients reached", "STORE_UNAVAILABLE", "maxclients", true, true},
      {"WRONGTYPE Operation against a key holding the wrong kind of value", "RECORD_UNREADABLE",
       "something else", false, false},
      {"UNREADABLE ep", "RECORD_UNREADABLE", "field", false, false},
      {"ERR DB index is out of range", "STORE_UNAVAILABLE", "(ERR)", false, true},
      {"SOMETHINGNEW in a later version", "STORE_UNAVAILABLE", "(SOMETHINGNEW)", false, true},
      {"", "STORE_UNAVAILABLE", "(ERR)", false, true},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.reply);
    const ServerErrorVerdict verdict = ServerError(c.reply, "broker");
    EXPECT_EQ(ErrorReason(verdict.status), c.reason);
    EXPECT_THAT(std::string(verdict.status.message()), HasSubstr(c.text));
    EXPECT_EQ(verdict.retry, c.retry);
    EXPECT_EQ(verdict.close, c.close);
  }
}

TEST(RedisErrorsTest, WhatTheServerQuotesGoesNoFurther) {
  for (const char* reply :
       {"ERR unknown command 'EVALSHA', with args beginning with: 'canary'", "canary", "CANARY-",
        "ERR canary", "WRONGTYPE canary", "OOM canary", "NOPERM canary", "-READONLY canary"}) {
    SCOPED_TRACE(reply);
    EXPECT_THAT(ServerError(reply, "").status.ToString(), Not(HasSubstr("canary")));
  }
  EXPECT_THAT(std::string(ServerError("WRONGPASS x", "").status.message()),
              HasSubstr("the default user"));
}

// Whoever answers so may no longer be the primary.
TEST(RedisErrorsTest, SomeErrorsCastDoubtOnTheServer) {
  for (const char* error : {"READONLY x", "MASTERDOWN x", "LOADING x", "CLUSTERDOWN x",
                            "NOREPLICAS Not enough good replicas to write."}) {
    EXPECT_TRUE(ServerError(error, "").doubt) << error;
  }
  for (const char* error : {"OOM x", "MISCONF x", "BUSY x", "NOPERM x", "WRONGTYPE x"}) {
    EXPECT_FALSE(ServerError(error, "").doubt) << error;
  }
}

TEST(RedisErrorsTest, RedirectionsAreThoseOfACluster) {
  EXPECT_TRUE(IsRedirection("MOVED 1 127.0.0.1:7002"));
  EXPECT_TRUE(IsRedirection("ASK 1 127.0.0.1:7002"));
  EXPECT_TRUE(IsRedirection("TRYAGAIN x"));
  EXPECT_FALSE(IsRedirection("CLUSTERDOWN x"));
  EXPECT_FALSE(IsRedirection(""));
}

TEST(RedisErrorsTest, OnlyNoScriptIsNoScript) {
  EXPECT_TRUE(IsNoScript("NOSCRIPT No matching script. Please use EVAL."));
  EXPECT_FALSE(IsNoScript("ERR NOSCRIPT"));
  EXPECT_FALSE(IsNoScript(""));
}

}  // namespace
}  // namespace tokenbroker::redis
