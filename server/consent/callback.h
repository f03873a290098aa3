#ifndef TOKEN_BROKER_SERVER_CONSENT_CALLBACK_H_
#define TOKEN_BROKER_SERVER_CONSENT_CALLBACK_H_

#include <functional>
#include <map>
#include <string>
#include <variant>

#include "absl/time/time.h"
#include "common/clock.h"
#include "server/consent/consent_state.h"
#include "server/issuing/grant_registrar.h"
#include "server/issuing/refresher.h"
#include "storage/sealing/keyring.h"

namespace tokenbroker {

// What the person who consented gets to see. Plain text; never holds a code, a state or a token.
struct CallbackPage {
  int http_status = 200;
  std::string title;
  std::string text;
};

// The page as HTML, escaped, without scripts, styles or links. Its URL holds a code: the headers
// that keep it from caches and referrers are the HTTP listener's.
std::string RenderHtml(const CallbackPage& page);

// Decoded query parameters; a name may be there more than once.
using CallbackParameters = std::multimap<std::string, std::string>;

// The redirect URI's other end: takes what Zoho's consent page sends by way of the browser and
// registers the grant that the state names. Everything in the parameters comes from the browser and
// is believed only as far as the state's seal and the table of DCs go. Thread-safe.
class ConsentCallback {
 public:
  struct Options {
    std::string callback_url;  // as it was in the authorization request
    // How long a browser waits: connecting, Zoho's answer and the first tries to store it.
    absl::Duration timeout = absl::Seconds(20);
  };

  // What is borrowed must outlive this object.
  ConsentCallback(Options options, const Keyring* state_keys, const ZohoSetup* setup,
                  GrantRegistrar* registrar, Clock clock);

  // Does not block: `done` is called once, by this call or by another thread, when the grant is
  // registered, or has failed to be, at the latest after `timeout`. A reload of the page asks again
  // for the same registration and spends nothing.
  void Handle(const CallbackParameters& parameters, std::function<void(CallbackPage)> done) const;

 private:
  // What to register; a page where the parameters do not say so.
  std::variant<Registration, CallbackPage> Read(const CallbackParameters& parameters) const;

  const Options options_;
  const Keyring* const state_keys_;
  const ZohoSetup* const setup_;
  GrantRegistrar* const registrar_;
  const Clock clock_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_CONSENT_CALLBACK_H_
