#ifndef TOKEN_BROKER_CLIENTS_ZOHO_REPLY_FIELDS_H_
#define TOKEN_BROKER_CLIENTS_ZOHO_REPLY_FIELDS_H_

#include <string_view>

#include "common/secret.h"

namespace tokenbroker {

// One member of a reply's JSON object.
struct ReplyField {
  enum class Type {
    kAbsent,  // not there, or null
    kString,
    kNumber,
    kOther,  // a boolean, a list or an object
  };
  Type type = Type::kAbsent;
  Secret text;        // kString
  double number = 0;  // kNumber; may be infinite

  bool present() const { return type != Type::kAbsent; }
  // The text, or "" where the field is not a string.
  std::string_view string() const { return text.Reveal(); }
};

// What the body of a reply is, and those members of it that Zoho's accounts servers are known to
// send. Members of inner objects do not count.
struct ReplyFields {
  enum class Shape {
    kObject,
    kEmpty,      // nothing, or white space
    kHtml,       // starts like a page
    kNotJson,    // not JSON, not UTF-8, or nested deeper than any honest reply
    kNotObject,  // JSON, but a list or a bare value
    kAmbiguous,  // one of the known members is there twice: readers would disagree about it
  };
  Shape shape = Shape::kEmpty;
  ReplyField access_token;
  ReplyField refresh_token;
  ReplyField expires_in;
  ReplyField expires_in_sec;
  ReplyField api_domain;
  ReplyField scope;
  ReplyField error;
  ReplyField status;
};

// Pure; takes any bytes; never fails. All fields are absent unless the shape is kObject.
ReplyFields ParseReplyFields(std::string_view body);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_CLIENTS_ZOHO_REPLY_FIELDS_H_
