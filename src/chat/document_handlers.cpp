// Handlers of /documents.
#include <charconv>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

#include "chat/documents.h"
#include "chat/ids.h"
#include "chat/site.h"
#include "chat/utf8.h"

namespace pagemill::chat {
namespace {

/// What a name looks like in a list: without what would break lines, reverse the writing or hide the suffix.
Outcome<std::string> shown_name(const std::string& name) {
  std::string out;
  for (size_t at = 0; at < name.size();) {
    const size_t begin = at;
    const char32_t c = next_code_point(name, at);
    const bool direction = (c >= 0x200B && c <= 0x200F) || (c >= 0x202A && c <= 0x202E) || (c >= 0x2060 && c <= 0x206F) || c == 0xFEFF || c == 0xFDD0;
    if (c >= 0x20 && c != 0x7F && !(c >= 0x80 && c < 0xA0) && !direction) out.append(name.substr(begin, at - begin));
  }
  // A path's last part, however it is written: the name is shown, never used.
  if (const size_t slash = out.find_last_of("/\\"); slash != std::string::npos && slash + 1 < out.size()) out.erase(0, slash + 1);
  if (out.empty() || utf8_length(out) > 255) return refuse(400, "invalid_argument", "'name' must be a file's name of 1 to 255 characters.", "name");
  return out;
}

Outcome<Reply> post_document(Call& call) {
  const std::string id = call.query("id");
  if (!id.empty() && !is_id(id)) return refuse(400, "invalid_argument", "'id' must be an id: 32 hexadecimal digits.", "id");
  PM_ASSIGN(std::string name, shown_name(call.query("name")));
  PM_ASSIGN(const Document document, call.site.documents->upload(call.user_id(), id, std::move(name), std::move(call.request.body)));
  return reply(document_json(document), 202);
}

Outcome<Reply> get_documents(Call& call) {
  PM_ASSIGN(const size_t limit, call.limit());
  const std::string after = call.query("after");
  int64_t before = INT64_MAX;
  if (!after.empty() && std::from_chars(after.data(), after.data() + after.size(), before).ptr != after.data() + after.size()) return refuse(400, "invalid_argument", "'after' must be the 'next' of an earlier answer.", "after");
  PM_ASSIGN(auto found, call.site.store->read([&](Database& db) { return rows::documents(db, call.user_id(), before, limit + 1); }));
  json::value next = nullptr;
  if (found.size() > limit) {
    found.resize(limit);
    next = std::to_string(found.back().seq);
  }
  json::array documents;
  for (const Document& one : found) documents.push_back(document_json(one));
  return reply(json::object{{"documents", std::move(documents)}, {"next", std::move(next)}});
}

Outcome<Reply> get_document(Call& call) {
  PM_ASSIGN(const Document document, call.site.store->read([&](Database& db) { return rows::document(db, call.user_id(), call.ids[0]); }));
  return reply(document_json(document));
}

Outcome<size_t> number(const Call& call, std::string_view name, size_t otherwise, size_t maximum) {
  const std::string text = call.query(name);
  size_t value = otherwise;
  if (!text.empty() && (std::from_chars(text.data(), text.data() + text.size(), value).ptr != text.data() + text.size() || value > maximum))
    return refuse(400, "invalid_argument", fmt::format("'{}' must be a number up to {}.", name, maximum), std::string(name));
  return value;
}

Outcome<Reply> get_text(Call& call) {
  PM_ASSIGN(const size_t from, number(call, "from", 0, limits::kDocumentTextBytes));
  PM_ASSIGN(const size_t length, number(call, "length", 20'000, 200'000));
  std::string text;
  PM_TRY(call.site.store->read([&](Database& db) -> Outcome<void> {
    PM_TRY(rows::document(db, call.user_id(), call.ids[0]));
    PM_ASSIGN(const auto pages, rows::document_pages(db, call.ids[0]));
    for (const std::string& page : pages) text.append(text.empty() || page.empty() ? "" : "\n").append(page);
    return {};
  }));
  // In UTF-16 units, as the page counts; never through the middle of a character.
  size_t at = 0, units = 0, begin = std::string::npos, end = std::string::npos;
  while (at < text.size()) {
    if (begin == std::string::npos && units >= from) begin = at;
    if (begin != std::string::npos && end == std::string::npos && units >= from + length) end = at;
    units += next_code_point(text, at) > 0xFFFF ? 2 : 1;
  }
  const std::string part = begin == std::string::npos ? std::string() : text.substr(begin, end == std::string::npos ? end : end - begin);
  return reply(json::object{{"text", part}, {"from", from}, {"characters", units}});
}

std::string percent_encoded(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '-' || c == '_';
    if (plain) out += c;
    else out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

Outcome<Reply> get_file(Call& call) {
  PM_ASSIGN(const Document document, call.site.store->read([&](Database& db) { return rows::document(db, call.user_id(), call.ids[0]); }));
  std::ifstream file(call.site.store->file_path(document.id), std::ios::binary);
  std::ostringstream bytes;
  if (!file || !(bytes << file.rdbuf())) return missing("This file");
  Reply answer;
  answer.bytes = bytes.str();
  // Whatever it is, a browser saves it and shows nothing of it.
  answer.headers = {{"Content-Type", "application/octet-stream"}, {"Content-Disposition", "attachment; filename*=UTF-8''" + percent_encoded(document.name)}, {"Content-Security-Policy", "sandbox; default-src 'none'"}};
  return answer;
}

Outcome<Reply> delete_document(Call& call) {
  PM_TRY(call.site.documents->remove(call.user_id(), call.ids[0]));
  return no_content();
}

}  // namespace

std::vector<Route> document_routes() {
  return {
      {"POST", "/documents", Access::user, BodyKind::bytes, post_document, limits::kDocumentBytes},
      {"GET", "/documents", Access::user, BodyKind::none, get_documents},
      {"GET", "/documents/{}", Access::user, BodyKind::none, get_document},
      {"GET", "/documents/{}/text", Access::user, BodyKind::none, get_text},
      {"GET", "/documents/{}/file", Access::user, BodyKind::none, get_file},
      {"DELETE", "/documents/{}", Access::user, BodyKind::none, delete_document},
  };
}

}  // namespace pagemill::chat
