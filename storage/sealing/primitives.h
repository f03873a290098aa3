#ifndef TOKEN_BROKER_STORAGE_SEALING_PRIMITIVES_H_
#define TOKEN_BROKER_STORAGE_SEALING_PRIMITIVES_H_

#include <cstddef>
#include <string>
#include <string_view>

// The small pieces of cryptography that rooms without OpenSSL need. Thread-safe.
namespace tokenbroker {

// The 32 bytes of SHA-256.
std::string Sha256(std::string_view bytes);

// Unguessable bytes from OpenSSL's generator. Ends the process if the system gives no entropy:
// going on with guessable ones would be worse.
std::string RandomBytes(size_t count);

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_STORAGE_SEALING_PRIMITIVES_H_
