#ifndef TOKEN_BROKER_COMMON_UTF8_H_
#define TOKEN_BROKER_COMMON_UTF8_H_

#include <cstddef>
#include <string>
#include <string_view>

// Texts from outside may be any bytes; protobuf's strings and JSON may not.
namespace tokenbroker {

inline constexpr std::string_view kUtf8Replacement = "\xEF\xBF\xBD";  // U+FFFD

// Bytes of the UTF-8 character at the start of `text`, which is not empty, or 0 if there is none.
size_t Utf8CharacterLength(std::string_view text);

// The text with U+FFFD in place of every byte that belongs to no character.
std::string ToUtf8(std::string_view text);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_COMMON_UTF8_H_
