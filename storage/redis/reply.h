#ifndef TOKEN_BROKER_STORAGE_REDIS_REPLY_H_
#define TOKEN_BROKER_STORAGE_REDIS_REPLY_H_

#include <hiredis/hiredis.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

namespace tokenbroker::redis {

// A reply as it lies in hiredis's tree: does not own it.
class ReplyView {
 public:
  explicit ReplyView(const redisReply* reply) : reply_(reply) {}

  bool is_error() const { return reply_->type == REDIS_REPLY_ERROR; }
  bool is_nil() const { return reply_->type == REDIS_REPLY_NIL; }
  bool is_array() const { return reply_->type == REDIS_REPLY_ARRAY; }
  // Bytes of a bulk or simple string, or of an error; "" for every other type.
  std::string_view text() const {
    switch (reply_->type) {
      case REDIS_REPLY_STRING:
      case REDIS_REPLY_STATUS:
      case REDIS_REPLY_ERROR:
        return {reply_->str, reply_->len};
      default:
        return {};
    }
  }
  // nullopt: not an integer reply.
  std::optional<int64_t> integer() const {
    if (reply_->type != REDIS_REPLY_INTEGER) return std::nullopt;
    return reply_->integer;
  }
  // Of an array; 0 for every other type.
  size_t size() const { return is_array() ? reply_->elements : 0; }
  ReplyView operator[](size_t i) const { return ReplyView(reply_->element[i]); }

 private:
  const redisReply* reply_;
};

// A reply that is owned. Never empty.
class Reply {
 public:
  explicit Reply(void* reply) : reply_(static_cast<redisReply*>(reply)) {}

  ReplyView view() const { return ReplyView(reply_.get()); }

 private:
  struct Free {
    void operator()(redisReply* reply) const { freeReplyObject(reply); }
  };
  std::unique_ptr<redisReply, Free> reply_;
};

}  // namespace tokenbroker::redis

#endif  // TOKEN_BROKER_STORAGE_REDIS_REPLY_H_
