#include "chat/store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>

#include <fmt/format.h>

#include "base/log.h"
#include "chat/schema.h"

namespace pagemill::chat {
namespace {

namespace fs = std::filesystem;

constexpr size_t kTasksPerCommit = 64;
constexpr size_t kReadersKept = 4;

Outcome<void> outcome_of(Result<void> result) {
  if (!result) return tl::unexpected(Problem(result.error()));
  return {};
}

fs::path database_path(const fs::path& data_dir) { return data_dir / "chat.db"; }

Result<void> make_folder(const fs::path& folder, std::string_view flag = "data-dir") {
  std::error_code code;
  fs::create_directories(folder, code);
  if (!code) fs::permissions(folder, fs::perms::owner_all, code);
  if (code) return fail(ErrorCode::io, fmt::format("the folder {} cannot be made or used: {}. Choose another{}", folder.string(), code.message(), flag == "data-dir" ? " with --data-dir" : ""), std::string(flag));
  return {};
}

Result<std::unique_ptr<Database>> open_writer(const fs::path& data_dir) {
  PM_ASSIGN(auto database, Database::open(database_path(data_dir), Database::Mode::create));
  chmod(database_path(data_dir).c_str(), 0600);
  PM_TRY(database->script("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA journal_size_limit=67108864;"));
  PM_TRY(migrate(*database));
  return database;
}

}  // namespace

Result<std::unique_ptr<Store>> Store::open(const fs::path& data_dir, Use use) {
  PM_TRY(make_folder(data_dir));
  PM_TRY(make_folder(data_dir / "files"));
  std::unique_ptr<Store> store(new Store(data_dir));
  store->lock_file_ = ::open((data_dir / "lock").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  if (store->lock_file_ < 0) return fail(ErrorCode::io, fmt::format("the data folder {} cannot be written to; choose another with --data-dir", data_dir.string()), "data-dir");
  if (use == Use::server && flock(store->lock_file_, LOCK_EX | LOCK_NB) != 0)
    return fail(ErrorCode::unavailable, fmt::format("another server uses the data folder {}: stop it, or choose another with --data-dir", data_dir.string()), "data-dir");
  auto writer = open_writer(data_dir);
  if (!writer) return tl::unexpected(std::move(writer).error().within(fmt::format("the data folder {} (--data-dir)", data_dir.string())));
  store->writer_ = std::move(*writer);
  store->thread_ = std::thread([raw = store.get()] { raw->run_writer(); });
  return store;
}

Store::~Store() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  readers_.clear();
  writer_.reset();
  if (lock_file_ >= 0) ::close(lock_file_);
}

void Store::post(Work work, std::function<void(Outcome<void>)> done) {
  {
    std::lock_guard lock(mutex_);
    tasks_.push_back({std::move(work), std::move(done)});
  }
  wake_.notify_one();
}

void Store::run_writer() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return stopping_ || !tasks_.empty(); });
    if (tasks_.empty()) return;
    std::vector<Task> batch;
    while (!tasks_.empty() && batch.size() < kTasksPerCommit) {
      batch.push_back(std::move(tasks_.front()));
      tasks_.pop_front();
    }
    lock.unlock();
    commit(batch);
    lock.lock();
  }
}

void Store::commit(std::vector<Task>& tasks) {
  std::vector<Outcome<void>> outcomes(tasks.size());
  Outcome<void> whole = outcome_of(writer_->script("BEGIN IMMEDIATE"));
  for (size_t i = 0; whole && i < tasks.size(); ++i) {
    whole = outcome_of(writer_->script("SAVEPOINT task"));
    if (!whole) break;
    outcomes[i] = tasks[i].work(*writer_);
    // Some errors (a full disk) end the whole transaction: then there is nothing to go back to.
    const bool alive = sqlite3_get_autocommit(writer_->handle()) == 0;
    if (!alive) whole = refuse(500, "storage", outcomes[i] ? "the transaction was lost" : outcomes[i].error().message);
    else whole = outcome_of(writer_->script(outcomes[i] ? "RELEASE task" : "ROLLBACK TO task; RELEASE task"));
  }
  if (whole) whole = outcome_of(writer_->script("COMMIT"));
  if (!whole && sqlite3_get_autocommit(writer_->handle()) == 0) (void)writer_->script("ROLLBACK");
  for (size_t i = 0; i < tasks.size(); ++i) {
    if (!whole && outcomes[i]) outcomes[i] = whole;
    if (tasks[i].done) tasks[i].done(std::move(outcomes[i]));
  }
}

Result<std::unique_ptr<Database>> Store::take_reader() {
  {
    std::lock_guard lock(readers_mutex_);
    if (!readers_.empty()) {
      auto reader = std::move(readers_.back());
      readers_.pop_back();
      return reader;
    }
  }
  return Database::open(database_path(data_dir_), Database::Mode::read_only);
}

void Store::give_reader(std::unique_ptr<Database> reader) {
  std::lock_guard lock(readers_mutex_);
  if (readers_.size() < kReadersKept) readers_.push_back(std::move(reader));
}

fs::path default_data_dir() {
  if (const char* xdg = std::getenv("XDG_DATA_HOME"); xdg && *xdg == '/') return fs::path(xdg) / "pagemill";
  const char* home = std::getenv("HOME");
  return fs::path(home && *home ? home : ".") / ".local/share/pagemill";
}

namespace {

Result<void> copy_data(const fs::path& data_dir, const fs::path& target) {
  PM_TRY(make_folder(target / "files", "target"));
  PM_ASSIGN(auto database, Database::open(database_path(data_dir), Database::Mode::read_write));
  PM_TRY(database->run("VACUUM INTO ?", database_path(target).string()));
  chmod(database_path(target).c_str(), 0600);
  // Files are written before the row that names them and never change, so what the copy of the database names is there.
  std::error_code code;
  for (const fs::directory_entry& entry : fs::directory_iterator(data_dir / "files", code)) {
    std::error_code copied;
    fs::copy_file(entry.path(), target / "files" / entry.path().filename(), copied);
    if (copied && fs::exists(entry.path())) return fail(ErrorCode::io, fmt::format("{} cannot be copied to {}: {}", entry.path().string(), target.string(), copied.message()));
  }
  if (code) return fail(ErrorCode::io, fmt::format("{} cannot be read: {}", (data_dir / "files").string(), code.message()));
  return {};
}

}  // namespace

Result<void> back_up(const fs::path& data_dir, const fs::path& target) {
  PM_TRY(check_has_data(data_dir));
  if (fs::exists(target)) return fail(ErrorCode::invalid_argument, fmt::format("{} exists already: name a folder that does not", target.string()), "target");
  auto copied = copy_data(data_dir, target);
  if (!copied) {  // half a copy would look like one
    std::error_code ignored;
    fs::remove_all(target, ignored);
    return tl::unexpected(std::move(copied).error().within(fmt::format("no backup was made in {}", target.string())));
  }
  return {};
}

Result<void> check_has_data(const fs::path& data_dir) {
  std::error_code code;
  if (fs::exists(database_path(data_dir), code)) return {};
  return fail(ErrorCode::not_found, fmt::format("{} holds no chat data; name the server's folder with --data-dir", data_dir.string()), "data-dir");
}

int64_t now_ms() { return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count(); }

}  // namespace pagemill::chat
