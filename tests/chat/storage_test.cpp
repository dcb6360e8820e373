// The disk under the chat page fails: full, failing, read-only. What was acknowledged stays, what is refused is said to be, and nobody else notices.
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "chat_fixture.h"
#include "faulty_disk.h"

namespace pagemill::test {
namespace {

using Kind = FaultyDisk::Kind;

/// Files of this process grow no further than this, as on a full disk.
class SizeLimit {
 public:
  explicit SizeLimit(rlim_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limited{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limited);
  }
  ~SizeLimit() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

std::string text_of(const json::value& message) { return std::string(message.at("text").as_string()); }
std::string status_of(const json::value& message) { return std::string(message.at("status").as_string()); }

/// The text that the database holds, whoever has it in memory.
std::string stored_text(const std::filesystem::path& folder, const std::string& message) {
  auto db = chat::Database::open(folder / "chat.db", chat::Database::Mode::read_only);
  std::string text;
  if (!db || !(*db)->each("SELECT text FROM parts WHERE message_id = ? ORDER BY seq", [&](const chat::Row& row) { text += row.text(0); }, message)) ADD_FAILURE();
  return text;
}

/// One run of a small workload on a disk whose n-th operation fails: true if none did.
bool run_with_fault(FaultyDisk& disk, const std::filesystem::path& folder, Kind kind, int code, int nth, bool lasting) {
  std::filesystem::remove_all(folder);
  std::set<int> acknowledged;
  disk.fail(kind, code, nth, lasting);
  {
    auto store = chat::Store::open(folder);
    if (!store) {
      EXPECT_FALSE(store.error().message.empty());
    }
    for (int i = 0; store && i < 4; ++i) {
      const auto written = (*store)->write([&](chat::Database& db) -> chat::Outcome<void> {
        PM_TRY(db.run("INSERT INTO meta(key, value) VALUES(?, ?)", "first-" + std::to_string(i), std::string(i * 3'000, 'x')));
        PM_TRY(db.run("INSERT INTO meta(key, value) VALUES(?, 'x')", "second-" + std::to_string(i)));
        return {};
      });
      if (written) acknowledged.insert(i);
      else EXPECT_EQ(written.error().reason, "storage") << written.error().message;
      // A reader gets rows or an error, never half of a write.
      const auto seen = (*store)->read([&](chat::Database& db) { return db.integer("SELECT SUM(key LIKE 'first-%') - SUM(key LIKE 'second-%') FROM meta"); });
      if (seen) EXPECT_EQ(seen->value_or(0), 0);
    }
  }
  const bool untouched = disk.failed() == 0;
  disk.heal();
  auto store = chat::Store::open(folder);
  EXPECT_TRUE(store) << "fault " << nth << ": " << store.error().message;
  if (!store) return true;
  const auto state = (*store)->read([](chat::Database& db) { return db.text("PRAGMA integrity_check"); });
  EXPECT_EQ(state->value_or("unreadable"), "ok") << "fault " << nth;
  for (int i = 0; i < 4; ++i) {
    const auto rows = (*store)->read([&](chat::Database& db) { return db.integer("SELECT COUNT(*) FROM meta WHERE key IN (?, ?)", "first-" + std::to_string(i), "second-" + std::to_string(i)); });
    const int64_t count = rows ? rows->value_or(-1) : -1;
    EXPECT_TRUE(count == 2 || (count == 0 && !acknowledged.contains(i))) << "fault " << nth << ", write " << i << ": " << count << " rows" << (acknowledged.contains(i) ? ", acknowledged" : "");
  }
  return untouched;
}

struct Fault {
  const char* name;
  Kind kind;
  int code;
  bool lasting;
  int stride;                            // which operations: every so many; a test is a few seconds
};

class EveryOperation : public testing::TestWithParam<Fault> {};

TEST_P(EveryOperation, MayFailAndNothingAcknowledgedIsLost) {
  configure_log(LogLevel::off);
  FaultyDisk disk;
  // In memory: what is tested is what SQLite asks of the disk, not how long it takes.
  const TemporaryFolder outer(TemporaryFolder::Where::memory);
  const std::filesystem::path folder = outer.path() / "data";
  int nth = 1;
  while (nth < 2'000 && !run_with_fault(disk, folder, GetParam().kind, GetParam().code, nth, GetParam().lasting)) nth += GetParam().stride;
  EXPECT_GT(nth, 5) << "the workload reached the disk";
  EXPECT_LT(nth, 2'000);
}

INSTANTIATE_TEST_SUITE_P(Faults, EveryOperation,
                         testing::Values(Fault{"WriteOnce", Kind::write, SQLITE_IOERR_WRITE, false, 1}, Fault{"WritesForGood", Kind::write, SQLITE_IOERR_WRITE, true, 5}, Fault{"FullForGood", Kind::write, SQLITE_FULL, true, 7},
                                         Fault{"ReadOnce", Kind::read, SQLITE_IOERR_READ, false, 3}),
                         [](const auto& info) { return info.param.name; });

class FaultyDiskTest : public ChatTest {
 protected:
  ~FaultyDiskTest() override { server.reset(); }  // its files are on this disk
  FaultyDisk disk;
};

TEST_F(FaultyDiskTest, ADiskThatFailsIsSaidToAndNothingIsLost) {
  start();
  Browser a = admin(), other = user(a, "b@example.org");
  const std::string id = a.new_conversation({{"title", "before"}});
  a.ask(id, "kept");
  const std::string before = a.get("/conversations/" + id).body;
  for (const int code : {SQLITE_IOERR_WRITE, SQLITE_FULL, SQLITE_READONLY, SQLITE_IOERR_FSYNC}) {
    disk.fail(Kind::write, code);
    const std::vector<Answer> refused{a.post("/conversations/" + id + "/messages", {{"parent_id", nullptr}, {"text", "lost?"}}), a.patch("/conversations/" + id, {{"title", "lost?"}}), a.put("/drafts/new", {{"text", "x"}, {"documents", json::array{}}}),
                                      a.post("/conversations"), a.upload("x.txt", "text"), a.del("/conversations/" + id), browser().post("/login", {{"email", "b@example.org"}, {"password", "battery staple"}})};
    for (const Answer& one : refused) {
      EXPECT_EQ(one.status, 500) << code << one.body;
      EXPECT_EQ(one.reason(), "storage") << code << one.body;
    }
    EXPECT_EQ(a.get("/conversations/" + id).body, before) << code << ": what is there can be read";
    EXPECT_EQ(other.get("/me").status, 200);
    disk.heal();
    for (const auto& entry : std::filesystem::directory_iterator(data_dir_ / "files")) ADD_FAILURE() << entry.path() << " was left behind";
    EXPECT_EQ(a.get("/conversations/" + id).body, before) << code;
  }
  EXPECT_EQ(text_of(a.ask(id, "again")), "again");
  disk.fail(Kind::read, SQLITE_IOERR_READ);
  const Answer unread = a.get("/conversations/" + id);
  EXPECT_TRUE(unread.status == 200 || unread.reason() == "storage") << unread.body;  // it may be in SQLite's memory
  disk.heal();
  restart();
  Browser after = browser();
  after.cookie = a.cookie;
  EXPECT_EQ(after.get("/conversations/" + id)["messages"].as_array().size(), 4u);
}

/// 1,000 tokens, two milliseconds each.
ScriptedAnswer slow(const EngineRequest&) {
  ScriptedAnswer answer = say(std::string(1'000, 'x'));
  answer.per_token_ns = 2 * kNsPerMs;
  return answer;
}

TEST_F(FaultyDiskTest, AnAnswerOutlivesABadMinuteOfItsDisk) {
  options.engine.script = slow;
  start();
  Browser b = admin();
  const std::string id = b.new_conversation({{"title", "t"}});
  Tab tab(b);
  const Answer sent = b.post("/conversations/" + id + "/messages", {{"parent_id", nullptr}, {"text", "go"}});
  const std::string message(sent["assistant_message"].at("id").as_string());
  ASSERT_TRUE(tab.wait_for("delta"));
  disk.fail(Kind::write, SQLITE_FULL);
  for (int i = 0; i < 6'000 && disk.failed() == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_GT(disk.failed(), 0) << "a part was to be saved";
  disk.heal();
  const json::value ended = b.wait_for_end(id, message);
  EXPECT_EQ(status_of(ended), "done") << json::serialize(ended);
  EXPECT_EQ(stored_text(data_dir_, message), std::string(1'000, 'x'));
}

TEST_F(FaultyDiskTest, AnAnswerThatEndsOnAFullDiskIsKeptUntilThereIsRoom) {
  options.engine.script = slow;
  start();
  Browser b = admin();
  const std::string id = b.new_conversation({{"title", "t"}});
  Tab tab(b);
  const Answer sent = b.post("/conversations/" + id + "/messages", {{"parent_id", nullptr}, {"text", "go"}});
  const std::string message(sent["assistant_message"].at("id").as_string());
  ASSERT_TRUE(tab.wait_for("delta"));
  disk.fail(Kind::write, SQLITE_FULL);
  const json::value ended = b.wait_for_end(id, message);
  EXPECT_EQ(status_of(ended), "failed");
  EXPECT_EQ(ended.at("error").at("reason").as_string(), "storage");
  EXPECT_EQ(text_of(ended), std::string(1'000, 'x')) << "it is there to be read and copied";
  EXPECT_EQ(b.post("/generations/" + std::string(sent["generation"].at("id").as_string()) + "/stop").status, 204);
  EXPECT_EQ(b.post("/conversations/" + id + "/messages", {{"parent_id", nullptr}, {"text", "more"}}).reason(), "storage");
  disk.heal();
  const auto told = [&](const std::vector<Frame>& all) {
    return std::any_of(all.begin(), all.end(), [&](const Frame& one) { return one.event == "message" && one.data.at("message").at("id").as_string() == message && one.data.at("message").at("status").as_string() == "done"; });
  };
  EXPECT_TRUE(tab.wait(told)) << "the page hears that it is saved";
  EXPECT_EQ(status_of(b.message(id, message)), "done");
  EXPECT_EQ(stored_text(data_dir_, message), std::string(1'000, 'x'));
  EXPECT_EQ(text_of(b.ask(id, "next")), std::string(1'000, 'x'));
}

TEST_F(ChatTest, AnUploadThatTheDiskDoesNotTakeLeavesNothing) {
  start();
  Browser b = admin();
  {
    const SizeLimit full(1 << 20);
    EXPECT_EQ(b.upload("big.txt", std::string(2 << 20, 'x')).reason(), "storage");
  }
  for (const auto& entry : std::filesystem::directory_iterator(data_dir_ / "files")) ADD_FAILURE() << entry.path() << " was left behind";
  EXPECT_TRUE(b.get("/documents")["documents"].as_array().empty());
  EXPECT_EQ(b.upload("big.txt", std::string(2 << 20, 'x')).status, 202);
}

TEST_F(ChatTest, ABackupThatTheDiskDoesNotTakeLeavesNothing) {
  start();
  Browser b = admin();
  ASSERT_EQ(b.upload("big.txt", std::string(2 << 20, 'x')).status, 202);
  const std::filesystem::path target = data_dir_.string() + "-backup";
  for (const rlim_t bytes : {rlim_t{1'000}, rlim_t{1 << 20}}) {
    const SizeLimit full(bytes);
    const auto copied = chat::back_up(data_dir_, target);
    ASSERT_FALSE(copied) << bytes;
    EXPECT_FALSE(copied.error().message.empty());
    EXPECT_FALSE(std::filesystem::exists(target)) << bytes << ": half a backup looks like one";
  }
  EXPECT_TRUE(chat::back_up(data_dir_, target));
  std::filesystem::remove_all(target);
  EXPECT_EQ(b.get("/me").status, 200);
}

/// In a child that may not write: what opening the folder says.
std::string opened_without_rights(const std::filesystem::path& folder) {
  int ends[2];
  if (pipe(ends) != 0) return "no pipe";
  const pid_t child = fork();
  if (child == 0) {
    if (geteuid() == 0 && (setgid(65'534) != 0 || setuid(65'534) != 0)) _exit(2);
    const auto opened = chat::Store::open(folder);
    const std::string said = opened ? "opened" : opened.error().message;
    (void)!write(ends[1], said.data(), said.size());
    _exit(0);
  }
  close(ends[1]);
  std::string said;
  char buffer[4'096];
  for (ssize_t got = 0; (got = read(ends[0], buffer, sizeof buffer)) > 0;) said.append(buffer, static_cast<size_t>(got));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return said;
}

TEST(ReadOnlyFolders, AreNamedWithTheWayOut) {
  configure_log(LogLevel::off);
  const TemporaryFolder temporary;
  const std::filesystem::path& outer = temporary.path();
  const std::filesystem::path folder = outer / "data";
  { ASSERT_TRUE(chat::Store::open(folder)); }
  const auto expect_named = [&](const std::filesystem::path& path, const char* what) {
    const std::string said = opened_without_rights(path);
    EXPECT_NE(said.find(path.string()), std::string::npos) << what << ": " << said;
    EXPECT_NE(said.find("--data-dir"), std::string::npos) << what << ": " << said;
  };
  chmod(outer.c_str(), 0555);
  expect_named(outer / "new", "a folder that cannot be made");
  chmod(folder.c_str(), 0555);
  chmod((folder / "files").c_str(), 0555);
  chmod((folder / "lock").c_str(), 0444);
  chmod((folder / "chat.db").c_str(), 0444);
  expect_named(folder, "a folder that is there and cannot be written to");
  chmod(outer.c_str(), 0755);
  std::ofstream(outer / "file") << "x";
  expect_named(outer / "file", "a file in the folder's place");
  chmod(folder.c_str(), 0755);
}

}  // namespace
}  // namespace pagemill::test
