#ifndef TOKEN_BROKER_SERVER_CONFIG_REFERENCED_FILES_H_
#define TOKEN_BROKER_SERVER_CONFIG_REFERENCED_FILES_H_

#include <optional>
#include <string>
#include <string_view>

#include "common/secret.h"
#include "server/config/config_file.h"
#include "server/config/problems.h"
#include "server/config/settings.h"

namespace tokenbroker {

// The files that a configuration names. Every function takes the file's name as it was written and
// the path of the key that names it; what is wrong is added to the problems with both, and never
// with anything of the file's content. All pointers are borrowed.
class ReferencedFiles {
 public:
  ReferencedFiles(const ConfigDocument* document, std::string file_root,
                  const FileReader* read_file, Problems* problems);

  // Where the file is: below the file root if there is one, else relative to the configuration's
  // folder.
  std::string Locate(const std::string& name) const;

  // A client secret: one line without white space. nullopt: a problem was added.
  std::optional<Secret> ReadToken(const std::string& key, const std::string& name);
  // Reads a password, one line, now and whenever it is called. Null: a problem was added.
  PasswordReader OpenPassword(const std::string& key, const std::string& name);
  // A key of 32 bytes, written in base64.
  std::optional<Secret> ReadKey(const std::string& key, const std::string& name);
  // PEM that holds at least one block whose label ends with `label`, e.g. "CERTIFICATE".
  std::optional<Secret> ReadPem(const std::string& key, const std::string& name,
                                std::string_view label);

 private:
  // The content less one line end. Not empty.
  std::optional<std::string> Read(const std::string& key, const std::string& name,
                                  size_t max_bytes);
  void Refuse(const std::string& key, const std::string& name, std::string_view text);

  const ConfigDocument* const document_;
  const std::string file_root_;
  const FileReader* const read_file_;
  Problems* const problems_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_SERVER_CONFIG_REFERENCED_FILES_H_
