#ifndef TOKEN_BROKER_SERVER_CONFIG_COMMAND_LINE_H_
#define TOKEN_BROKER_SERVER_CONFIG_COMMAND_LINE_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

// What the process was told by its arguments and its environment. Neither can carry a secret: the
// configuration names secrets by file only.
namespace tokenbroker {

// One option that overrides the configuration file.
struct ConfigOverride {
  std::string origin;  // for messages: "--listen", "--set", "TOKENBROKER_GRPC_LISTEN"
  std::string path;    // e.g. "grpc.listen", "oauth_clients[0].client_id"
  std::string value;   // as in YAML; strings as they are
};

struct CommandLine {
  enum class Action {
    kServe,
    kValidateConfig,  // load everything that serving would load, say so, end
    kPrintConfig,     // print Settings::effective_yaml, end
    kPrintVersion,
    kPrintHelp,
  };
  Action action = Action::kServe;
  std::string config_file;  // "": none was given, which is among the problems if one is needed
  // Prefixed to every file that the configuration names with a *_file key: a configuration that was
  // rendered for another machine can be checked here. "": none.
  std::string file_root;
  bool insecure = false;  // allows plaintext gRPC on addresses that are not loopback
  // In the order to apply them: the environment first, then flags as they were given.
  std::vector<ConfigOverride> overrides;
  // What is wrong with the arguments and the environment, one line each. LoadSettings reports it
  // with what is wrong in the file.
  std::vector<std::string> problems;
};

// "0.1.0".
std::string_view ProgramVersion();
// What every option means, for --help. Ends with a newline.
std::string HelpText();

// `arguments` without the program's name. Flags are written `--name=value` or `--name value`.
// Problems are every unknown flag, every flag without its value, every variable that begins with
// TOKENBROKER_ and names no option (except those that Kubernetes makes for a Service called
// tokenbroker…), and no file where one is needed; with --help there are none.
CommandLine ParseCommandLine(const std::vector<std::string>& arguments,
                             const std::map<std::string, std::string>& environment);

// The process's environment.
std::map<std::string, std::string> ProcessEnvironment();

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_CONFIG_COMMAND_LINE_H_
