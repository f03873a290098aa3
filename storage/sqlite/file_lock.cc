#include "storage/sqlite/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "common/errors.h"

namespace tokenbroker {

absl::StatusOr<FileLock> FileLock::Take(const std::string& path) {
  std::error_code error;
  const std::string real = std::filesystem::canonical(path, error).string();
  if (error) return StoreUnavailableError(absl::StrCat("database file ", path, ": is not there"));
  const std::string name = real + ".lock";
  FileLock lock(open(name.c_str(), O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (lock.file_ < 0) {
    return StoreUnavailableError(
        absl::StrCat("lock file ", name, ": cannot be made: ", std::strerror(errno)));
  }
  int result;
  do {
    result = flock(lock.file_, LOCK_EX | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  if (result == 0) return lock;
  if (errno == EWOULDBLOCK) {
    return StoreUnavailableError(absl::StrCat("database file ", path,
                                              ": is in use by another broker (it holds ", name,
                                              "); one broker per file: end that one first, give "
                                              "this one a file of its own, or use Redis"));
  }
  return StoreUnavailableError(absl::StrCat("lock file ", name, ": ", std::strerror(errno)));
}

FileLock::~FileLock() {
  if (file_ >= 0) close(file_);
}

}  // namespace tokenbroker
