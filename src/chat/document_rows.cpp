#include <fmt/format.h>

#include "chat/documents.h"
#include "chat/fields.h"

namespace pagemill::chat {
namespace {

constexpr std::string_view kColumns = "seq, id, user_id, name, kind, bytes, status, error, characters, tokens, pages, encoding, warnings, created_ms";

Document document_of(const Row& row) {
  Document d;
  d.seq = row.integer(0);
  d.id = row.text(1);
  d.user_id = row.text(2);
  d.name = row.text(3);
  d.kind = row.text(4);
  d.bytes = row.integer(5);
  d.status = row.text(6);
  d.error = row.text(7);
  d.characters = row.maybe_integer(8);
  d.tokens = row.maybe_integer(9);
  d.pages = row.maybe_integer(10);
  if (!row.null(11)) d.encoding = row.text(11);
  d.warnings = row.text(12);
  d.created_ms = row.integer(13);
  return d;
}

json::value parsed(const std::string& text, json::value otherwise) {
  if (text.empty()) return otherwise;
  auto value = parse_json(text);
  return value ? std::move(*value) : std::move(otherwise);
}

}  // namespace

json::object document_json(const Document& d) {
  return {{"id", d.id}, {"name", d.name}, {"kind", d.kind}, {"bytes", d.bytes}, {"status", d.status}, {"error", parsed(d.error, nullptr)}, {"characters", json_or_null(d.characters)}, {"tokens", json_or_null(d.tokens)},
          {"pages", json_or_null(d.pages)}, {"encoding", json_or_null(d.encoding)}, {"warnings", parsed(d.warnings, json::array{})}, {"created_ms", d.created_ms}};
}

namespace rows {

Outcome<Document> document(Database& db, const std::string& user_id, const std::string& id) {
  std::optional<Document> found;
  PM_TRY(db.each(fmt::format("SELECT {} FROM documents WHERE id = ? AND user_id = ?", kColumns), [&](const Row& row) { found = document_of(row); }, id, user_id));
  if (!found) return missing("This document");
  return std::move(*found);
}

Outcome<std::vector<Document>> documents(Database& db, const std::string& user_id, int64_t before_seq, size_t limit) {
  std::vector<Document> found;
  PM_TRY(db.each(fmt::format("SELECT {} FROM documents WHERE user_id = ? AND seq < ? ORDER BY seq DESC LIMIT ?", kColumns), [&](const Row& row) { found.push_back(document_of(row)); }, user_id, before_seq, static_cast<int64_t>(limit)));
  return found;
}

Outcome<std::vector<std::string>> document_pages(Database& db, const std::string& id) {
  std::vector<std::string> pages;
  PM_TRY(db.each("SELECT text FROM document_pages WHERE document_id = ? ORDER BY page", [&](const Row& row) { pages.push_back(row.text(0)); }, id));
  return pages;
}

Outcome<std::vector<std::pair<std::string, Excerpt>>> excerpts(Database& db, const std::string& conversation_id) {
  std::vector<std::pair<std::string, Excerpt>> found;
  PM_TRY(db.each("SELECT message_id, document_id, name, kind, mode, pages, tokens, text FROM excerpts WHERE conversation_id = ? ORDER BY message_id, position", [&](const Row& row) {
    Excerpt excerpt{row.text(1), row.text(2), row.text(3), row.text(5), row.text(7), parse_mode(row.text(4)).value_or(DocumentMode::whole), row.integer(6), 0};
    found.emplace_back(row.text(0), std::move(excerpt));
  }, conversation_id));
  return found;
}

Outcome<void> insert_excerpt(Database& db, const std::string& message_id, const std::string& conversation_id, int position, const Excerpt& e) {
  PM_TRY(db.run("INSERT INTO excerpts(conversation_id, message_id, position, document_id, name, kind, mode, pages, tokens, text) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", conversation_id, message_id, position, e.document_id, e.name,
                e.kind, to_string(e.mode), e.pages, e.tokens, e.text));
  return {};
}

}  // namespace rows
}  // namespace pagemill::chat
