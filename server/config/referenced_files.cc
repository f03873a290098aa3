#include "server/config/referenced_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace tokenbroker {
namespace {

// Zoho's client secrets have 42 characters, keys 44.
constexpr size_t kMaxSecretBytes = 4096;
// A system's whole CA bundle has a quarter of it.
constexpr size_t kMaxPemBytes = 1024 * 1024;
constexpr size_t kKeyBytes = 32;

void Wipe(std::string& text) { Secret wiped(std::move(text)); }

// Less one line end. The error, as a continuation of the file's name: it cannot be read, or is
// empty.
absl::StatusOr<std::string> ReadContent(const FileReader& read_file, const std::string& path,
                                        size_t max_bytes) {
  absl::StatusOr<std::string> content = read_file(path, max_bytes);
  if (!content.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot be read: ", content.status().message()));
  }
  if (content->ends_with('\n')) content->pop_back();
  if (content->ends_with('\r')) content->pop_back();
  if (content->empty()) return absl::FailedPreconditionError("is empty");
  return content;
}

absl::StatusOr<Secret> ReadPasswordFile(const std::string& path, const FileReader& read_file) {
  const auto error = [&path](absl::string_view text) {
    return absl::FailedPreconditionError(
        absl::StrCat("file '", absl::Utf8SafeCHexEscape(path), "' ", text));
  };
  absl::StatusOr<std::string> content = ReadContent(read_file, path, kMaxSecretBytes);
  if (!content.ok()) return error(content.status().message());
  const bool one_line = content->find_first_of("\r\n") == std::string::npos;
  Secret secret(*std::move(content));
  if (!one_line) return error("must hold one line");
  return secret;
}

}  // namespace

absl::StatusOr<std::string> ReadFileFromDisk(const std::string& path, size_t max_bytes) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const auto error = [](int code) {
    const std::string text = code == ENOENT ? "no such file" : std::strerror(code);
    return code == ENOENT   ? absl::NotFoundError(text)
           : code == EACCES ? absl::PermissionDeniedError(text)
                            : absl::FailedPreconditionError(text);
  };
  if (fd < 0) return error(errno);
  std::string content;
  content.resize(max_bytes + 1);
  size_t size = 0;
  int failure = 0;
  while (size < content.size()) {
    const ssize_t got = read(fd, content.data() + size, content.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) failure = errno;
    if (got <= 0) break;
    size += static_cast<size_t>(got);
  }
  close(fd);
  if (failure != 0) return error(failure);
  if (size > max_bytes) {
    return absl::FailedPreconditionError(absl::StrCat("is larger than ", max_bytes, " bytes"));
  }
  // Copied to its size: the caller keeps it for the life of the process.
  std::string exact = content.substr(0, size);
  Wipe(content);
  return exact;
}

ReferencedFiles::ReferencedFiles(const ConfigDocument* document, std::string file_root,
                                 const FileReader* read_file, Problems* problems)
    : document_(document),
      file_root_(std::move(file_root)),
      read_file_(read_file),
      problems_(problems) {}

std::string ReferencedFiles::Locate(const std::string& name) const {
  if (!file_root_.empty()) {
    return absl::StrCat(file_root_, name.starts_with('/') ? "" : "/", name);
  }
  const size_t folder = document_->file.rfind('/');
  if (name.starts_with('/') || folder == std::string::npos) return name;
  return absl::StrCat(document_->file.substr(0, folder + 1), name);
}

std::optional<Secret> ReferencedFiles::ReadToken(const std::string& key, const std::string& name) {
  std::optional<std::string> content = Read(key, name, kMaxSecretBytes);
  if (!content) return std::nullopt;
  const bool plain = std::all_of(content->begin(), content->end(), [](char c) {
    return absl::ascii_isgraph(static_cast<unsigned char>(c));
  });
  Secret secret(std::move(*content));
  if (plain) return secret;
  Refuse(key, name, "must hold one line without white space");
  return std::nullopt;
}

PasswordReader ReferencedFiles::OpenPassword(const std::string& key, const std::string& name) {
  const PasswordReader reader = [path = Locate(name), read_file = *read_file_] {
    return ReadPasswordFile(path, read_file);
  };
  const absl::StatusOr<Secret> password = reader();
  if (password.ok()) return reader;
  const absl::string_view why = password.status().message();
  problems_->Add(document_->SourceOf(key), key, {why.data(), why.size()});
  return nullptr;
}

std::optional<Secret> ReferencedFiles::ReadKey(const std::string& key, const std::string& name) {
  std::optional<std::string> content = Read(key, name, kMaxSecretBytes);
  if (!content) return std::nullopt;
  std::string bytes;
  const bool decoded = absl::Base64Unescape(*content, &bytes);
  Wipe(*content);
  Secret secret(std::move(bytes));
  if (decoded && secret.size() == kKeyBytes) return secret;
  Refuse(key, name, "must hold 32 random bytes in base64; make them by: openssl rand -base64 32");
  return std::nullopt;
}

std::optional<Secret> ReferencedFiles::ReadPem(const std::string& key, const std::string& name,
                                               std::string_view label) {
  std::optional<std::string> content = Read(key, name, kMaxPemBytes);
  if (!content) return std::nullopt;
  const absl::string_view kind(label.data(), label.size());
  // "-----BEGIN EC PRIVATE KEY-----" has a label before the one that is asked for.
  const size_t begin = content->find("-----BEGIN ");
  const bool found = begin != std::string::npos &&
                     content->find(absl::StrCat(kind, "-----"), begin) != std::string::npos;
  Secret secret(std::move(*content));
  if (found) return secret;
  Refuse(key, name, absl::StrCat("must hold PEM: -----BEGIN ", kind, "-----"));
  return std::nullopt;
}

std::optional<std::string> ReferencedFiles::Read(const std::string& key, const std::string& name,
                                                 size_t max_bytes) {
  absl::StatusOr<std::string> content = ReadContent(*read_file_, Locate(name), max_bytes);
  if (!content.ok()) {
    const absl::string_view why = content.status().message();
    Refuse(key, name, {why.data(), why.size()});
    return std::nullopt;
  }
  return *std::move(content);
}

void ReferencedFiles::Refuse(const std::string& key, const std::string& name,
                             std::string_view text) {
  problems_->Add(document_->SourceOf(key), key,
                 absl::StrCat("file '", absl::Utf8SafeCHexEscape(Locate(name)), "' ",
                              absl::string_view(text.data(), text.size())));
}

}  // namespace tokenbroker
