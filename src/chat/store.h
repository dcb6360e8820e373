// Store: the chat page's data on disk: a SQLite database in WAL mode with one writer thread, and the folder of uploaded files.
//
// Writes run on the writer thread, several in one transaction where several wait (each behind a savepoint, so that one that fails takes
// nothing of the others with it). write() returns when the transaction is on the disk (synchronous=FULL): what has been
// acknowledged survives kill -9 and a power cut. Reads run on the caller's thread, on connections of their own, and never wait for writes.
//
// Any thread, but not the writer's own: a write inside a write would wait for itself.
#pragma once

#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "chat/database.h"
#include "chat/problem.h"

namespace pagemill::chat {

class Store {
 public:
  /// Makes the folder (mode 0700) and migrates the database. Only one server may hold it: another one is an error (`unavailable`) that names the
  /// folder. A command (`pagemill user`) may work beside a server.
  enum class Use { server, command };
  static Result<std::unique_ptr<Store>> open(const std::filesystem::path& data_dir, Use use = Use::server);
  ~Store();

  const std::filesystem::path& data_dir() const { return data_dir_; }
  std::filesystem::path file_path(const std::string& id) const { return data_dir_ / "files" / id; }

  using Work = std::function<Outcome<void>(Database&)>;
  /// Runs `work` in a transaction; an error undoes it.
  template <class F>
  auto write(F&& work) -> decltype(work(std::declval<Database&>())) {
    using R = decltype(work(std::declval<Database&>()));
    std::promise<Outcome<void>> done;
    auto future = done.get_future();
    std::optional<R> result;
    post(
        [&](Database& database) -> Outcome<void> {
          result = work(database);
          if (!*result) return tl::unexpected(Problem(result->error()));
          return {};
        },
        [&](Outcome<void> outcome) { done.set_value(std::move(outcome)); });
    Outcome<void> outcome = future.get();
    if (!outcome && (!result || *result)) return tl::unexpected(typename R::error_type(outcome.error()));
    return std::move(*result);
  }
  /// The same without waiting; `done` is called on the writer thread and must be quick.
  void post(Work work, std::function<void(Outcome<void>)> done = {});
  /// Runs `work` with a read-only connection, on one snapshot: all of its statements see the same state.
  template <class F>
  auto read(F&& work) -> decltype(work(std::declval<Database&>())) {
    auto reader = take_reader();
    if (!reader) return tl::unexpected(typename decltype(work(std::declval<Database&>()))::error_type(reader.error()));
    using Failure = typename decltype(work(std::declval<Database&>()))::error_type;
    if (auto begun = (*reader)->script("BEGIN"); !begun) return tl::unexpected(Failure(begun.error()));
    auto result = work(**reader);
    // A connection whose snapshot cannot be let go of is not used again.
    if ((*reader)->script("COMMIT")) give_reader(std::move(*reader));
    return result;
  }

 private:
  explicit Store(std::filesystem::path data_dir) : data_dir_(std::move(data_dir)) {}
  struct Task {
    Work work;
    std::function<void(Outcome<void>)> done;
  };
  void run_writer();
  void commit(std::vector<Task>& tasks);
  Result<std::unique_ptr<Database>> take_reader();
  void give_reader(std::unique_ptr<Database> reader);

  const std::filesystem::path data_dir_;
  int lock_file_ = -1;
  std::unique_ptr<Database> writer_;  // writer thread
  std::mutex readers_mutex_;
  std::vector<std::unique_ptr<Database>> readers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Task> tasks_;
  bool stopping_ = false;
  std::thread thread_;
};

/// $XDG_DATA_HOME/pagemill, or ~/.local/share/pagemill.
std::filesystem::path default_data_dir();
/// An error that names --data-dir where no server has kept anything.
Result<void> check_has_data(const std::filesystem::path& data_dir);
/// A consistent copy of database and files in the new folder `target`; a server may be running. Where it fails, `target` is gone again.
Result<void> back_up(const std::filesystem::path& data_dir, const std::filesystem::path& target);

int64_t now_ms();

}  // namespace pagemill::chat
