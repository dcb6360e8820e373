#include "chat/documents.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "base/limits.h"
#include "base/log.h"
#include "chat/extractor.h"
#include "chat/fields.h"
#include "chat/ids.h"
#include "chat/plain_text.h"
#include "chat/site.h"
#include "text/text_model.h"
#include "text/tokenizer.h"

namespace pagemill::chat {
namespace {

constexpr int kReaders = 2;
constexpr size_t kReadersQueued = 64;
constexpr size_t kPageBytes = 9'000;  // about 3,000 Chinese characters, or more Latin ones

/// The name decides nothing but how a text is called.
std::string kind_of(const std::string& extracted_kind, std::string_view name) {
  if (extracted_kind != "text") return extracted_kind;
  const size_t dot = name.rfind('.');
  std::string suffix(dot == std::string_view::npos ? "" : name.substr(dot + 1));
  std::transform(suffix.begin(), suffix.end(), suffix.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (suffix == "md" || suffix == "markdown") return "markdown";
  for (const char* code : {"c", "h", "cc", "cpp", "hpp", "cu", "py", "js", "ts", "tsx", "jsx", "java", "go", "rs", "rb", "php", "cs", "swift", "kt", "scala", "sh", "sql", "html", "css", "json", "yaml", "yml", "toml", "xml", "r", "lua", "pl", "m", "vue", "svelte"})
    if (suffix == code) return "code";
  return "text";
}

/// Written whole and to the disk before the row that names it.
Outcome<void> write_file(const std::filesystem::path& path, std::string_view bytes) {
  const auto failed = [&] {
    unlink(path.c_str());
    return refuse(500, "storage", "The file could not be stored: the disk may be full.");
  };
  const int fd = open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
  if (fd < 0) return refuse(500, "storage", "The file could not be stored.");
  bool good = true;
  for (std::string_view rest = bytes; good && !rest.empty();) {
    const ssize_t written = write(fd, rest.data(), rest.size());
    if (written <= 0) good = false;
    else rest.remove_prefix(static_cast<size_t>(written));
  }
  good = good && fsync(fd) == 0;
  close(fd);
  if (!good) return failed();
  return {};
}

std::string error_json(std::string_view reason, std::string_view message) { return json::serialize(json::object{{"reason", reason}, {"message", message}}); }

}  // namespace

Documents::Documents(Site& site) : site_(site), pool_(std::make_unique<WorkerPool>(WorkerPoolOptions{.threads = kReaders, .queued_max = kReadersQueued})) {
  // What a crash left unread is read now.
  std::vector<Document> waiting;
  (void)site_.store->read([&](Database& db) {
    return db.each("SELECT id, user_id, name FROM documents WHERE status = 'extracting'", [&](const Row& row) {
      Document document;
      document.id = row.text(0);
      document.user_id = row.text(1);
      document.name = row.text(2);
      waiting.push_back(std::move(document));
    });
  });
  for (const Document& one : waiting) (void)pool_->submit([this, one] { extract(one); });
}

Documents::~Documents() { close(); }
void Documents::close() { pool_->stop(); }

void Documents::tell(const Document& document) { site_.hub.publish(document.user_id, "document", document_json(document)); }

Outcome<Document> Documents::upload(const std::string& user_id, std::string id, std::string name, std::string bytes) {
  if (bytes.empty()) return refuse(400, "invalid_argument", "The file is empty.");
  if (id.empty()) id = new_id();
  Document document;
  document.id = id;
  document.user_id = user_id;
  document.name = std::move(name);
  document.bytes = static_cast<int64_t>(bytes.size());
  document.created_ms = now_ms();
  std::lock_guard one(upload_mutex_);  // of two uploads with one id, the second finds the first
  const auto known = site_.store->read([&](Database& db) { return rows::document(db, user_id, id); });
  if (known) return *known;
  PM_ASSIGN(const auto taken, site_.store->read([&](Database& db) { return db.integer("SELECT COUNT(*) FROM documents WHERE id = ?", id); }));
  if (taken.value_or(0) > 0) return refuse(400, "invalid_argument", "This id is taken: choose another.", "id");
  unlink(site_.store->file_path(id).c_str());  // what a crash left before its row
  PM_TRY(write_file(site_.store->file_path(id), bytes));
  const auto written = site_.store->write([&](Database& db) -> Outcome<void> {
    PM_ASSIGN(const auto count, db.integer("SELECT COUNT(*) FROM documents WHERE user_id = ?", user_id));
    PM_ASSIGN(const auto total, db.integer("SELECT coalesce(sum(bytes), 0) FROM documents WHERE user_id = ?", user_id));
    if (count.value_or(0) >= static_cast<int64_t>(limits::kDocumentsPerUser) || total.value_or(0) + document.bytes > static_cast<int64_t>(limits::kDocumentBytesPerUser))
      return refuse(429, "quota", fmt::format("There are too many documents ({} and {} GiB at most): delete some.", limits::kDocumentsPerUser, limits::kDocumentBytesPerUser >> 30));
    PM_TRY(db.run("INSERT INTO documents(id, user_id, name, kind, bytes, status, created_ms) VALUES(?, ?, ?, 'text', ?, 'extracting', ?)", id, user_id, document.name, document.bytes, document.created_ms));
    return {};
  });
  if (!written) {
    unlink(site_.store->file_path(id).c_str());
    return tl::unexpected(written.error());
  }
  tell(document);
  if (!pool_->submit([this, document] { extract(document); })) {
    document.status = "failed";
    document.error = error_json("timeout", "Too many documents are being read; upload it again later.");
    finish(document, {});
  }
  return document;
}

void Documents::extract(Document document) {
  auto extracted = chat::extract(site_.options.extractor, site_.store->file_path(document.id));
  if (!extracted) {
    document.status = "failed";
    document.error = error_json(extracted.error().reason, extracted.error().message);
    return finish(std::move(document), {});
  }
  document.kind = kind_of(extracted->kind, document.name);
  if (!extracted->encoding.empty()) document.encoding = extracted->encoding;
  json::array warnings;
  for (const std::string& one : extracted->warnings) warnings.emplace_back(one);
  document.warnings = json::serialize(warnings);
  std::vector<std::string> pages;
  if (document.kind == "pdf") {
    for (std::string& page : extracted->pages) pages.push_back(tidy_text(page));
    document.pages = static_cast<int64_t>(pages.size());
  } else {
    pages = paginate(extracted->pages.front());
  }
  size_t characters = 0, bytes = 0;
  for (const std::string& page : pages) characters += utf16_length(page), bytes += page.size();
  document.characters = static_cast<int64_t>(characters);
  document.status = "ready";
  if (bytes > limits::kDocumentTextBytes) {
    document.status = "failed";
    document.error = error_json("too_large", "This document holds too much text.");
    pages.clear();
  }
  finish(std::move(document), std::move(pages));
}

namespace {

std::optional<int64_t> count_tokens(const Site& site, const std::vector<std::string>& pages) {
  const auto text = site.text();
  if (!text) return std::nullopt;
  std::string whole;
  for (const std::string& page : pages) whole.append(whole.empty() || page.empty() ? "" : "\n").append(page);
  const auto ids = text->tokenizer().encode(whole);
  return ids ? std::optional(static_cast<int64_t>(ids->size())) : std::nullopt;
}

}  // namespace

void Documents::finish(Document document, std::vector<std::string> pages) {
  if (document.status == "ready") document.tokens = count_tokens(site_, pages);
  const auto written = site_.store->write([&](Database& db) -> Outcome<void> {
    PM_TRY(db.run("UPDATE documents SET kind = ?, status = ?, error = ?, characters = ?, tokens = ?, pages = ?, encoding = ?, warnings = ? WHERE id = ?", document.kind, document.status, document.error, document.characters,
                  document.tokens, document.pages, document.encoding, document.warnings, document.id));
    if (db.changes() == 0) return {};  // deleted meanwhile
    for (size_t i = 0; i < pages.size(); ++i) PM_TRY(db.run("INSERT OR REPLACE INTO document_pages(document_id, page, text) VALUES(?, ?, ?)", document.id, static_cast<int64_t>(i), pages[i]));
    return {};
  });
  if (!written) {
    log_error("chat: a document's text could not be stored: {}", written.error().message);
    document.status = "failed";
    document.error = error_json("storage", written.error().message);
  }
  tell(document);
}

void Documents::count_tokens_of_waiting() {
  (void)pool_->submit([this] {
    std::vector<std::pair<std::string, std::string>> waiting;  // id, user
    (void)site_.store->read([&](Database& db) { return db.each("SELECT id, user_id FROM documents WHERE status = 'ready' AND tokens IS NULL", [&](const Row& row) { waiting.emplace_back(row.text(0), row.text(1)); }); });
    for (const auto& [id, user_id] : waiting) {
      const auto pages = site_.store->read([&, one = id](Database& db) { return rows::document_pages(db, one); });
      const auto tokens = pages ? count_tokens(site_, *pages) : std::nullopt;
      if (!tokens) continue;
      const auto document = site_.store->write([&, one = id, user = user_id](Database& db) -> Outcome<Document> {
        PM_TRY(db.run("UPDATE documents SET tokens = ? WHERE id = ?", *tokens, one));
        return rows::document(db, user, one);
      });
      if (document) tell(*document);
    }
  });
}

Outcome<void> Documents::remove(const std::string& user_id, const std::string& id) {
  auto written = site_.store->write([&](Database& db) -> Outcome<void> {
    PM_TRY(rows::document(db, user_id, id));
    PM_TRY(db.run("DELETE FROM documents WHERE id = ?", id));
    return {};
  });
  PM_TRY(std::move(written));
  unlink(site_.store->file_path(id).c_str());
  return {};
}

void Documents::remove_orphans() {
  std::error_code code;
  for (const auto& entry : std::filesystem::directory_iterator(site_.store->data_dir() / "files", code)) {
    struct stat status{};
    // A file younger than this may be waiting for its row.
    if (stat(entry.path().c_str(), &status) != 0 || now_ms() / 1000 - status.st_mtime < 3'600) continue;
    const std::string id = entry.path().filename();
    const auto there = site_.store->read([&](Database& db) { return db.integer("SELECT COUNT(*) FROM documents WHERE id = ?", id); });
    if (there && there->value_or(1) == 0) unlink(entry.path().c_str());
  }
}

json::object Documents::abilities() const {
  std::call_once(probed_, [&] { probe_ = probe_sandbox(site_.options.extractor); });
  const SandboxProbe& probe = probe_;
  return {{"pdf", probe.pdf}, {"docx", probe.confined}, {"reason", probe.reason.empty() ? json::value(nullptr) : json::value(probe.reason)}, {"bytes_max", limits::kDocumentBytes}, {"per_message_max", limits::kDocumentsPerMessage}};
}

std::vector<std::string> paginate(std::string_view text) {
  std::vector<std::string> pages;
  while (text.size() > kPageBytes) {
    size_t cut = text.rfind('\n', kPageBytes);
    if (cut == std::string_view::npos || cut < kPageBytes / 2) {
      cut = kPageBytes;
      while ((static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) --cut;
      pages.emplace_back(text.substr(0, cut));
      text.remove_prefix(cut);
      continue;
    }
    pages.emplace_back(text.substr(0, cut));
    text.remove_prefix(cut + 1);
  }
  pages.emplace_back(text);
  return pages;
}

Outcome<std::string> select_pages(const std::vector<std::string>& pages, const std::string& selection) {
  const auto wrong = [&] { return refuse(400, "invalid_argument", fmt::format("'pages' must look like 1-3,7 with pages from 1 to {}.", pages.size()), "pages"); };
  std::vector<bool> taken(pages.size());
  std::string_view rest = selection;
  if (rest.empty()) return wrong();
  while (!rest.empty()) {
    const size_t end = std::min(rest.find(','), rest.size());
    std::string_view range = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    while (range.starts_with(' ')) range.remove_prefix(1);
    while (range.ends_with(' ')) range.remove_suffix(1);
    const size_t dash = range.find('-');
    const auto number = [](std::string_view text) {
      size_t value = 0;
      const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
      return parsed.ec == std::errc() && parsed.ptr == text.data() + text.size() ? value : 0;
    };
    const size_t first = number(range.substr(0, dash)), last = dash == std::string_view::npos ? first : number(range.substr(dash + 1));
    if (first < 1 || last < first || last > pages.size()) return wrong();
    for (size_t page = first; page <= last; ++page) taken[page - 1] = true;
  }
  std::string text;
  for (size_t i = 0; i < pages.size(); ++i)
    if (taken[i]) text.append(text.empty() ? "" : "\n").append(pages[i]);
  return text;
}

}  // namespace pagemill::chat
