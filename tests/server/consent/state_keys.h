#ifndef TOKEN_BROKER_TESTS_SERVER_CONSENT_STATE_KEYS_H_
#define TOKEN_BROKER_TESTS_SERVER_CONSENT_STATE_KEYS_H_

#include <string>

#include "storage/sealing/keyring.h"

namespace tokenbroker {

// A key for states; another letter is another key of the same id.
inline Keyring TestStateKeys(char letter = 'k') {
  return *Keyring::Create({{"state", Secret(std::string(32, letter))}});
}

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_TESTS_SERVER_CONSENT_STATE_KEYS_H_
