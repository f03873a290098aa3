#ifndef TOKEN_BROKER_COMMON_SECRET_H_
#define TOKEN_BROKER_COMMON_SECRET_H_

#include <iosfwd>
#include <string>
#include <string_view>

namespace tokenbroker {

// A value that must never be printed: a client secret, a token, an authorization code, a password.
//
// The type has no stream operator and no conversion to a string, so a secret cannot reach a log,
// an error or a metric by accident; the only way out is `Reveal()`, which reviewers can search for.
// The bytes are overwritten when the value is destroyed or assigned over (best effort: a moved-from
// small string may keep a copy on the stack until it is reused). May hold any bytes, NUL included.
//
//   Secret token(std::move(body));
//   request.AddFormField("refresh_token", token.Reveal());
class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string value) : value_(std::move(value)) {}
  Secret(const Secret&) = default;
  Secret(Secret&& other) noexcept;
  Secret& operator=(const Secret& other);
  Secret& operator=(Secret&& other) noexcept;
  ~Secret();

  // The bytes themselves. Valid until this object changes.
  std::string_view Reveal() const { return value_; }
  bool empty() const { return value_.empty(); }
  size_t size() const { return value_.size(); }

  // Takes time that depends on the lengths only.
  friend bool operator==(const Secret& a, const Secret& b);
  friend bool operator!=(const Secret& a, const Secret& b) { return !(a == b); }

 private:
  void Wipe();

  std::string value_;
};

// Printing a secret is a compile-time error.
std::ostream& operator<<(std::ostream&, const Secret&) = delete;

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_COMMON_SECRET_H_
