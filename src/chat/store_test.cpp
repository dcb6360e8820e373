#include "chat/store.h"

#include <fcntl.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <thread>

#include <fmt/format.h>

#include "base/log.h"
#include "base/test_files.h"
#include "chat/ids.h"
#include "chat/schema.h"

namespace pagemill::chat {
namespace {

class StoreTest : public testing::Test {
 protected:
  StoreTest() { configure_log(LogLevel::off); }
  std::unique_ptr<Store> open() {
    auto store = Store::open(folder_);
    EXPECT_TRUE(store) << store.error().message;
    return store ? std::move(*store) : nullptr;
  }
  static Outcome<void> put(Database& db, const std::string& key) {
    PM_TRY(db.run("INSERT INTO meta(key, value) VALUES(?, 'v')", key));
    return {};
  }
  static int64_t count(Store& store) { return store.read([](Database& db) { return db.integer("SELECT COUNT(*) FROM meta WHERE key LIKE 'k%'"); })->value_or(-1); }

  const TemporaryFolder outer_;
  const std::filesystem::path folder_ = outer_.path() / "data";
};

TEST_F(StoreTest, AFailedWriteTakesNothingOfTheOthersWithIt) {
  const auto store = open();
  std::vector<std::thread> threads;
  std::atomic<int> failed{0};
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) {
        const auto written = store->write([&](Database& db) -> Outcome<void> {
          PM_TRY(put(db, fmt::format("k{}-{}", t, i)));
          if (i % 5 == 0) return refuse(400, "invalid_argument", "no");
          return {};
        });
        failed += !written;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failed, 8 * 4);
  EXPECT_EQ(count(*store), 8 * 16);
}

TEST_F(StoreTest, AReadSeesOneState) {
  const auto store = open();
  const auto keys = [](Database& db) { return db.integer("SELECT COUNT(*) FROM meta WHERE key LIKE 'k%'"); };
  const auto seen = store->read([&](Database& db) -> Outcome<std::pair<int64_t, int64_t>> {
    PM_ASSIGN(const auto before, keys(db));
    PM_TRY(store->write([](Database& writer) { return put(writer, "k"); }));
    PM_ASSIGN(const auto after, keys(db));
    return std::pair{before.value_or(-1), after.value_or(-1)};
  });
  ASSERT_TRUE(seen) << seen.error().message;
  EXPECT_EQ(*seen, std::pair(int64_t{0}, int64_t{0}));
  EXPECT_EQ(count(*store), 1);
}

TEST_F(StoreTest, OneServerHoldsTheFolder) {
  const auto store = open();
  const auto second = Store::open(folder_);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find(folder_.string()), std::string::npos);
  EXPECT_TRUE(Store::open(folder_, Store::Use::command));
}

TEST_F(StoreTest, AFullDiskChangesNothingAndGoesAway) {
  const auto store = open();
  ASSERT_TRUE(store->write([](Database& db) { return put(db, "k0"); }));
  const auto pages = store->read([](Database& db) { return db.integer("PRAGMA page_count"); });
  ASSERT_TRUE(store->write([&](Database& db) -> Outcome<void> {
    PM_TRY(db.script(fmt::format("PRAGMA max_page_count={}", **pages + 1)));
    return {};
  }));
  const auto full = store->write([](Database& db) -> Outcome<void> {
    for (int i = 0; i < 1'000; ++i) PM_TRY(put(db, fmt::format("k{}{}", i, std::string(1'000, 'x'))));
    return {};
  });
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().reason, "storage");
  EXPECT_NE(full.error().message.find("full"), std::string::npos);
  EXPECT_EQ(count(*store), 1);
  ASSERT_TRUE(store->write([](Database& db) -> Outcome<void> {
    PM_TRY(db.script("PRAGMA max_page_count=1000000"));
    return put(db, "k1");
  }));
  EXPECT_EQ(count(*store), 2);
}

TEST_F(StoreTest, EveryEarlierVersionMigrates) {
  const auto steps = schema_steps();
  for (size_t version = 0; version < steps.size(); ++version) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    {
      auto db = Database::open(folder_ / "chat.db", Database::Mode::create);
      ASSERT_TRUE(db);
      for (size_t i = 0; i < version; ++i) ASSERT_TRUE((*db)->script(std::string(steps[i]) + fmt::format("PRAGMA user_version={}", i + 1)));
      if (version > 0) {
        ASSERT_TRUE((*db)->script("INSERT INTO users(id, email, name, role, password, created_ms) VALUES('u', 'e', 'n', 'admin', '!', 1);"
                                  "INSERT INTO conversations(id, user_id, title, title_source, system_prompt, sampling, created_ms, updated_ms) VALUES('c', 'u', 't', 'user', '', '{}', 1, 1);"
                                  "INSERT INTO messages(id, conversation_id, role, created_ms) VALUES('m', 'c', 'user', 1);"
                                  "INSERT INTO parts(conversation_id, message_id, text) VALUES('c', 'm', 'hello');"));
      }
    }
    const auto store = open();
    ASSERT_TRUE(store);
    const auto state = store->read([](Database& db) { return db.text("PRAGMA integrity_check"); });
    EXPECT_EQ(**state, "ok");
    EXPECT_EQ(**store->read([](Database& db) { return db.integer("PRAGMA user_version"); }), static_cast<int64_t>(steps.size()));
    EXPECT_EQ(**store->read([](Database& db) { return db.integer("SELECT COUNT(*) FROM parts WHERE text = 'hello'"); }), version > 0 ? 1 : 0);
    EXPECT_EQ(**store->read([](Database& db) { return db.integer("SELECT COUNT(*) FROM documents"); }), 0);
  }
}

/// Steps that have been released never change: databases that went through them exist.
TEST_F(StoreTest, TheStepsAreAsReleased) {
  const std::vector<std::string> digests{"1708b90596fb705e", "820e0fac15f06941"};
  ASSERT_EQ(schema_steps().size(), digests.size());
  for (size_t i = 0; i < digests.size(); ++i) EXPECT_EQ(hex(sha256(schema_steps()[i])).substr(0, 16), digests[i]) << "step " << i + 1;
}

TEST_F(StoreTest, ANewerDatabaseIsRefused) {
  { ASSERT_TRUE(open()); }
  {
    auto db = Database::open(folder_ / "chat.db", Database::Mode::read_write);
    ASSERT_TRUE((*db)->script("PRAGMA user_version=99"));
  }
  const auto newer = Store::open(folder_);
  ASSERT_FALSE(newer);
  EXPECT_NE(newer.error().message.find("newer"), std::string::npos);
}

TEST_F(StoreTest, ADamagedDatabaseIsSaidToBe) {
  { ASSERT_TRUE(open()); }
  std::filesystem::remove(folder_ / "chat.db-wal");
  {
    const int fd = ::open((folder_ / "chat.db").c_str(), O_WRONLY);
    ASSERT_EQ(pwrite(fd, "this is no database at all, no", 30, 0), 30);
    close(fd);
  }
  const auto damaged = Store::open(folder_);
  ASSERT_FALSE(damaged);
  EXPECT_NE(damaged.error().message.find("backup"), std::string::npos) << damaged.error().message;
}

TEST_F(StoreTest, ABackupIsAWholeDataFolder) {
  const auto target = outer_.path() / "backup";
  const auto store = open();
  ASSERT_TRUE(store->write([](Database& db) { return put(db, "k1"); }));
  {
    const int fd = ::open(store->file_path(new_id()).c_str(), O_CREAT | O_WRONLY, 0600);
    ASSERT_EQ(write(fd, "bytes", 5), 5);
    close(fd);
  }
  const auto made = back_up(folder_, target);
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_FALSE(back_up(folder_, target)) << "it exists";
  auto copy = Store::open(target);
  ASSERT_TRUE(copy) << copy.error().message;
  EXPECT_EQ(count(**copy), 1);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(target / "files"), {}), 1);
  copy->reset();
}

}  // namespace
}  // namespace pagemill::chat
