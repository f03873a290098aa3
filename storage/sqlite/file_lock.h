#ifndef TOKEN_BROKER_STORAGE_SQLITE_FILE_LOCK_H_
#define TOKEN_BROKER_STORAGE_SQLITE_FILE_LOCK_H_

#include <string>
#include <utility>

#include "absl/status/statusor.h"

namespace tokenbroker {

// Keeps a database file for one store. The lock is flock(2) on a file beside it, `<file>.lock`,
// which stays: not on the database itself, where closing a descriptor would drop SQLite's own locks
// (sqlite.org/howtocorrupt.html, section 2.2). SQLite's shell does not look at it, so a running
// broker's file can be backed up. The kernel gives the lock back when the process ends, however it
// ends.
class FileLock {
 public:
  // Of a file that exists; symbolic links lead to the same lock. Never waits. UNAVAILABLE
  // STORE_UNAVAILABLE, naming the file: another store has it, or the lock cannot be made.
  static absl::StatusOr<FileLock> Take(const std::string& path);

  FileLock(FileLock&& other) noexcept : file_(std::exchange(other.file_, -1)) {}
  FileLock& operator=(FileLock&& other) noexcept {
    std::swap(file_, other.file_);
    return *this;
  }
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  ~FileLock();

 private:
  explicit FileLock(int file) : file_(file) {}
  int file_;
};

}  // namespace tokenbroker

#endif  // TOKEN_BROKER_STORAGE_SQLITE_FILE_LOCK_H_
