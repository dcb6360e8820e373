// FaultyDisk: a disk under SQLite that fails on request. While one exists it is the default VFS of every connection that is opened; it hands
// everything to the real one, counts, and answers the n-th operation of a kind (or all from the n-th on) with an error of SQLite's.
// One at a time; any thread may operate on the files below it.
#pragma once

#include <sqlite3.h>
#include <unistd.h>

#include <atomic>

namespace pagemill::test {

class FaultyDisk {
 public:
  enum class Kind { write, read };       // write: everything that changes a file or makes it last

  FaultyDisk() {
    the_one() = this;
    real_ = sqlite3_vfs_find(nullptr);
    vfs_ = *real_;
    vfs_.zName = "faulty";
    vfs_.szOsFile = static_cast<int>(sizeof(File)) + real_->szOsFile;
    vfs_.xOpen = open;
    vfs_.xDelete = remove;
    sqlite3_vfs_register(&vfs_, 1);
  }
  ~FaultyDisk() {
    sqlite3_vfs_unregister(&vfs_);
    sqlite3_vfs_register(real_, 1);
    the_one() = nullptr;
  }
  FaultyDisk(const FaultyDisk&) = delete;
  FaultyDisk& operator=(const FaultyDisk&) = delete;

  /// The `nth` operation of this kind from now on (1 = the next) fails with `code`; with `lasting` all after it too.
  void fail(Kind kind, int code, int nth = 1, bool lasting = true) {
    code_ = 0;
    failed_ = 0;
    kind_ = kind;
    lasting_ = lasting;
    left_ = nth;
    code_ = code;
  }
  void heal() { code_ = 0; }
  /// How many operations have failed since fail().
  int failed() const { return failed_; }

 private:
  struct File {
    sqlite3_file base;
    sqlite3_file* real() { return reinterpret_cast<sqlite3_file*>(this + 1); }
  };
  static FaultyDisk*& the_one() {
    static FaultyDisk* one = nullptr;
    return one;
  }
  static sqlite3_file* real(sqlite3_file* file) { return reinterpret_cast<File*>(file)->real(); }

  /// 0, or the error that this operation ends with.
  static int fault(Kind kind) {
    FaultyDisk& disk = *the_one();
    const int code = disk.code_;
    if (code == 0 || disk.kind_ != kind) return 0;
    const int left = --disk.left_;
    if (left > 0 || (left < 0 && !disk.lasting_)) return 0;
    ++disk.failed_;
    return code;
  }

  static int open(sqlite3_vfs*, const char* name, sqlite3_file* file, int flags, int* out) {
    file->pMethods = nullptr;
    // Opening what is there writes nothing: a reader's new connection does not fail on a full disk.
    const bool creates = (flags & SQLITE_OPEN_CREATE) != 0 && (name == nullptr || access(name, F_OK) != 0);
    if (creates && fault(Kind::write)) return SQLITE_CANTOPEN;
    const int code = the_one()->real_->xOpen(the_one()->real_, name, real(file), flags, out);
    if (code == SQLITE_OK) file->pMethods = methods();
    return code;
  }
  static int remove(sqlite3_vfs*, const char* name, int sync) {
    if (const int code = fault(Kind::write)) return code;
    return the_one()->real_->xDelete(the_one()->real_, name, sync);
  }

  /// Calls a method of the real file.
  template <auto Method, class... Args>
  static auto pass(sqlite3_file* file, Args... args) { return (real(file)->pMethods->*Method)(real(file), args...); }
  template <Kind kind, auto Method, class... Args>
  static int checked(sqlite3_file* file, Args... args) {
    if (const int code = fault(kind)) return code;
    return pass<Method>(file, args...);
  }

  static const sqlite3_io_methods* methods() {
    using M = sqlite3_io_methods;
    static const M all = [] {
      M m{};
      m.iVersion = 3;
      m.xClose = [](sqlite3_file* file) { return pass<&M::xClose>(file); };
      m.xRead = [](sqlite3_file* file, void* bytes, int size, sqlite3_int64 at) { return checked<Kind::read, &M::xRead>(file, bytes, size, at); };
      m.xWrite = [](sqlite3_file* file, const void* bytes, int size, sqlite3_int64 at) { return checked<Kind::write, &M::xWrite>(file, bytes, size, at); };
      m.xTruncate = [](sqlite3_file* file, sqlite3_int64 size) { return checked<Kind::write, &M::xTruncate>(file, size); };
      m.xSync = [](sqlite3_file* file, int flags) { return checked<Kind::write, &M::xSync>(file, flags); };
      m.xFileSize = [](sqlite3_file* file, sqlite3_int64* size) { return pass<&M::xFileSize>(file, size); };
      m.xLock = [](sqlite3_file* file, int level) { return pass<&M::xLock>(file, level); };
      m.xUnlock = [](sqlite3_file* file, int level) { return pass<&M::xUnlock>(file, level); };
      m.xCheckReservedLock = [](sqlite3_file* file, int* held) { return pass<&M::xCheckReservedLock>(file, held); };
      m.xFileControl = [](sqlite3_file* file, int op, void* arg) { return pass<&M::xFileControl>(file, op, arg); };
      m.xSectorSize = [](sqlite3_file* file) { return pass<&M::xSectorSize>(file); };
      m.xDeviceCharacteristics = [](sqlite3_file* file) { return pass<&M::xDeviceCharacteristics>(file); };
      m.xShmMap = [](sqlite3_file* file, int page, int size, int extend, void volatile** out) { return extend ? checked<Kind::write, &M::xShmMap>(file, page, size, extend, out) : pass<&M::xShmMap>(file, page, size, extend, out); };
      m.xShmLock = [](sqlite3_file* file, int offset, int count, int flags) { return pass<&M::xShmLock>(file, offset, count, flags); };
      m.xShmBarrier = [](sqlite3_file* file) { pass<&M::xShmBarrier>(file); };
      m.xShmUnmap = [](sqlite3_file* file, int remove) { return pass<&M::xShmUnmap>(file, remove); };
      m.xFetch = [](sqlite3_file* file, sqlite3_int64 at, int size, void** out) { return pass<&M::xFetch>(file, at, size, out); };
      m.xUnfetch = [](sqlite3_file* file, sqlite3_int64 at, void* page) { return pass<&M::xUnfetch>(file, at, page); };
      return m;
    }();
    return &all;
  }

  sqlite3_vfs* real_ = nullptr;
  sqlite3_vfs vfs_{};
  std::atomic<Kind> kind_{Kind::write};
  std::atomic<int> code_{0}, left_{0}, failed_{0};
  std::atomic<bool> lasting_{true};
};

}  // namespace pagemill::test
