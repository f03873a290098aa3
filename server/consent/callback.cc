#include "server/consent/callback.h"

#include <iterator>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/errors.h"
#include "common/status_macros.h"
#include "storage/sealing/primitives.h"

namespace tokenbroker {
namespace {

constexpr size_t kMaxCodeBytes = 2048;  // as in RegisterGrant

CallbackPage Page(int http_status, std::string title, std::string text) {
  return {http_status, std::move(title), std::move(text)};
}

CallbackPage NotValidPage(std::string_view what) {
  return Page(
      400, "This link cannot be used",
      absl::StrCat(absl::string_view(what.data(), what.size()), " Please ask for a new link."));
}

CallbackPage ConnectedPage(std::string_view name) {
  return Page(200, "Connected",
              absl::StrCat("Thank you. ", absl::string_view(name.data(), name.size()),
                           " is connected now. You can close this page."));
}

// What a failed registration means for somebody who cannot do anything about most of it.
CallbackPage FailedPage(const absl::Status& status) {
  const std::string reason = ErrorReason(status);
  const std::string tell =
      absl::StrCat(" If this goes on, please tell the people who sent you the link: reason ",
                   reason.empty() ? "INTERNAL" : reason, ".");
  switch (status.code()) {
    case absl::StatusCode::kDeadlineExceeded:
      return Page(
          504, "Still working",
          "Your consent is being stored, but it takes longer than usual. Please reload this "
          "page in a moment to see how it ended.");
    case absl::StatusCode::kUnavailable:
      if (reason == "SHUTTING_DOWN") {
        return Page(
            503, "Not known yet",
            "This service is being restarted. Please reload this page in half a minute, not "
            "sooner, to see whether your consent was stored.");
      }
      [[fallthrough]];
    case absl::StatusCode::kResourceExhausted:
      return Page(503, "Not connected yet",
                  absl::StrCat("Your consent could not be stored at the moment. Please open the "
                               "link again in a few minutes.",
                               tell));
    case absl::StatusCode::kAborted:
      return Page(409, "Not connected",
                  "Somebody changed this connection at the same time. Please open the link again.");
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kInvalidArgument:
      if (reason == "AUTHORIZATION_CODE_REJECTED") {
        return Page(400, "Not connected",
                    "Zoho no longer accepts this consent: it is good once and for one minute. "
                    "Please open the link again.");
      }
      return Page(500, "Not connected",
                  absl::StrCat("Your consent arrived, but Zoho did not accept it in the way this "
                               "service is set up.",
                               tell));
    default:
      return Page(500, "Not connected", absl::StrCat("Something went wrong on our side.", tell));
  }
}

// The one value of a parameter; nullopt: it is there more than once. "": it is not there.
std::optional<std::string> Single(const CallbackParameters& parameters, const std::string& name) {
  const auto [begin, end] = parameters.equal_range(name);
  if (begin == end) return "";
  if (std::next(begin) != end) return std::nullopt;
  return begin->second;
}

// What Zoho's redirect says, as far as the broker looks at it.
struct Redirect {
  std::string state;
  std::string code;
  std::string location;
  std::string accounts_server;
  std::string error;

  static std::optional<Redirect> From(const CallbackParameters& parameters) {
    std::optional<std::string> state = Single(parameters, "state");
    std::optional<std::string> code = Single(parameters, "code");
    std::optional<std::string> location = Single(parameters, "location");
    std::optional<std::string> accounts_server = Single(parameters, "accounts-server");
    std::optional<std::string> error = Single(parameters, "error");
    if (!state || !code || !location || !accounts_server || !error) return std::nullopt;
    return Redirect{*state, *code, *location, *accounts_server, *error};
  }
};

CallbackPage RefusedPage(const std::string& error) {
  if (error == "access_denied") {
    return Page(403, "Not connected",
                "You did not give your consent, so nothing was connected. If that was a mistake, "
                "open the link again.");
  }
  return Page(400, "Not connected",
              "Zoho's consent page reported an error, so nothing was connected. Please open the "
              "link again.");
}

// Where the code can be exchanged. Redirects that name no DC come from where the consent started.
absl::StatusOr<std::string> DcOf(const Redirect& redirect, const ConsentState& state,
                                 const DataCenterTable& table) {
  if (redirect.location.empty() && redirect.accounts_server.empty()) return state.request.dc;
  TB_ASSIGN_OR_RETURN(const DataCenter* dc,
                      table.FromRedirect(redirect.location, redirect.accounts_server));
  return dc->name;
}

}  // namespace

std::string RenderHtml(const CallbackPage& page) {
  const auto escape = [](const std::string& text) {
    return absl::StrReplaceAll(
        text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}, {"'", "&#39;"}});
  };
  const std::string title = escape(page.title);
  return absl::StrCat(
      "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>",
      title, "</title></head>\n<body>\n<h1>", title, "</h1>\n<p>", escape(page.text),
      "</p>\n</body>\n</html>\n");
}

ConsentCallback::ConsentCallback(Options options, const Keyring* state_keys, const ZohoSetup* setup,
                                 GrantRegistrar* registrar, Clock clock)
    : options_(std::move(options)),
      state_keys_(state_keys),
      setup_(setup),
      registrar_(registrar),
      clock_(std::move(clock)) {}

std::variant<Registration, CallbackPage> ConsentCallback::Read(
    const CallbackParameters& parameters) const {
  const std::optional<Redirect> redirect = Redirect::From(parameters);
  if (!redirect) return NotValidPage("Its address is damaged.");
  if (redirect->state.empty()) return NotValidPage("Its address is incomplete.");
  absl::StatusOr<ConsentState> state =
      OpenConsentState(redirect->state, *state_keys_, clock_.wall());
  if (absl::IsOutOfRange(state.status())) return NotValidPage("It has expired.");
  if (!state.ok()) return NotValidPage("It was not made by this service, or was changed.");
  if (!redirect->error.empty()) return RefusedPage(redirect->error);
  if (redirect->code.empty() || redirect->code.size() > kMaxCodeBytes) {
    return NotValidPage("Its address is incomplete.");
  }
  const absl::StatusOr<std::string> dc = DcOf(*redirect, *state, setup_->data_centers);
  if (!dc.ok()) {
    return NotValidPage("It names an accounts server that is not one of Zoho's.");
  }

  // A reload brings the same code and means the same registration; consenting a second time with
  // the same link brings another code and is a new one.
  const std::string code_digest = absl::BytesToHexString(Sha256(redirect->code)).substr(0, 16);
  return Registration{
      .key = state->request.key,
      .dc = *dc,
      .credential = CodeCredential{.code = Secret(redirect->code),
                                   .redirect_uri = options_.callback_url,
                                   .code_verifier = std::move(state->code_verifier)},
      .scopes = std::move(state->request.scopes),
      .display_name = state->request.display_name,
      .labels = std::move(state->request.labels),
      .keep_warm = state->request.keep_warm,
      .request_id = absl::StrCat(state->request_id, "-", code_digest)};
}

void ConsentCallback::Handle(const CallbackParameters& parameters,
                             std::function<void(CallbackPage)> done) const {
  std::variant<Registration, CallbackPage> read = Read(parameters);
  if (auto* page = std::get_if<CallbackPage>(&read)) return done(std::move(*page));
  auto& registration = std::get<Registration>(read);
  const std::string name =
      registration.display_name.empty() ? "Your organisation" : registration.display_name;
  registrar_->Register(std::move(registration), options_.timeout,
                       [name, done = std::move(done)](const absl::StatusOr<Registered>& result) {
                         done(result.ok() ? ConnectedPage(name) : FailedPage(result.status()));
                       });
}

}  // namespace tokenbroker
