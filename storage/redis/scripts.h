#ifndef TOKEN_BROKER_STORAGE_REDIS_SCRIPTS_H_
#define TOKEN_BROKER_STORAGE_REDIS_SCRIPTS_H_

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace tokenbroker::redis {

// One script per operation that changes a record; scripts/<name>.lua.
enum class ScriptId : size_t {
  kAcquire,
  kMarkSent,
  kCountSend,
  kCommit,
  kFail,
  kRegister,
  kRevoke,
  kForgetTokens,
};
inline constexpr size_t kScriptCount = 8;

// Generated from the .lua files.
struct EmbeddedScript {
  const char* name;
  const char* source;
};
extern const char kPrelude[];
extern const EmbeddedScript kEmbeddedScripts[kScriptCount];

// The sources as they are sent to the server, the prelude included.
class ScriptSet {
 public:
  // What the binary was built with.
  static ScriptSet Embedded();

  const std::string& source(ScriptId id) const { return sources_[static_cast<size_t>(id)]; }

  // For the mutation test. The names of all guards, in the order of the sources, each once.
  std::vector<std::string> Guards() const;
  // Removes the line of this guard from every script that has it. False: there is none.
  bool RemoveGuard(std::string_view name);

 private:
  std::array<std::string, kScriptCount> sources_;
};

}  // namespace tokenbroker::redis

#endif  // TOKEN_BROKER_STORAGE_REDIS_SCRIPTS_H_
