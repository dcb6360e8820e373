// Documents: uploaded files, read in a confined child (extractor.h), kept as text by pages, and cut to what fits.
//
// The file itself lies in the data folder under its id alone; its name is only ever shown.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/worker_pool.h"
#include "chat/database.h"
#include "chat/extractor.h"
#include "chat/problem.h"
#include "chat/prompt.h"

namespace pagemill::chat {

struct Site;

struct Document {
  int64_t seq = 0;
  std::string id, user_id, name, kind = "text", status = "extracting";
  std::string error;                     // JSON {reason, message} or empty
  int64_t bytes = 0, created_ms = 0;
  std::optional<int64_t> characters, tokens, pages;
  std::optional<std::string> encoding;
  std::string warnings = "[]";           // JSON
};
json::object document_json(const Document& document);

namespace rows {

Outcome<Document> document(Database& db, const std::string& user_id, const std::string& id);
/// Newest first.
Outcome<std::vector<Document>> documents(Database& db, const std::string& user_id, int64_t before_seq, size_t limit);
Outcome<std::vector<std::string>> document_pages(Database& db, const std::string& id);
/// Excerpts that the messages of a conversation were sent with, as prompt text: message id → quoted documents.
Outcome<std::vector<std::pair<std::string, Excerpt>>> excerpts(Database& db, const std::string& conversation_id);
Outcome<void> insert_excerpt(Database& db, const std::string& message_id, const std::string& conversation_id, int position, const Excerpt& excerpt);

}  // namespace rows

class Documents {
 public:
  explicit Documents(Site& site);
  ~Documents();
  void close();

  /// Takes a file; reading goes on behind. The same id again gives the same document.
  Outcome<Document> upload(const std::string& user_id, std::string id, std::string name, std::string bytes);
  Outcome<void> remove(const std::string& user_id, const std::string& id);
  /// Once the tokenizer is there: documents that were read before it.
  void count_tokens_of_waiting();
  /// Files whose row is gone.
  void remove_orphans();
  /// What can be read here: {pdf, docx, reason, …} of GET /models.
  json::object abilities() const;

 private:
  void extract(Document document);
  void finish(Document document, std::vector<std::string> pages);
  void tell(const Document& document);

  Site& site_;
  std::mutex upload_mutex_;
  mutable std::once_flag probed_;
  mutable SandboxProbe probe_;           // after probed_
  std::unique_ptr<WorkerPool> pool_;
};

/// Text of the pages that `selection` ("1-3,7") names; an error names what is wrong with it.
Outcome<std::string> select_pages(const std::vector<std::string>& pages, const std::string& selection);
/// Pages of a text that has none: of about 3,000 characters, cut at line ends.
std::vector<std::string> paginate(std::string_view text);

}  // namespace pagemill::chat
