#include "chat/titles.h"

#include <algorithm>

#include "base/log.h"
#include "chat/fields.h"
#include "chat/jobs.h"
#include "chat/site.h"
#include "chat/utf8.h"

namespace pagemill::chat {
namespace {

constexpr int32_t kTitlePriority = 100;  // lower runs first; an answer has 0
constexpr size_t kQuotedBytes = 1'500;
constexpr size_t kTitleChars = 100;

std::string first_chars(std::string_view text, size_t chars) {
  size_t at = 0;
  for (size_t count = 0; at < text.size() && count < chars; ++count) next_code_point(text, at);
  return std::string(text.substr(0, at));
}

std::string_view trimmed(std::string_view text, std::string_view what = " \t\r\n") {
  const size_t first = text.find_first_not_of(what);
  return first == std::string_view::npos ? std::string_view() : text.substr(first, text.find_last_not_of(what) - first + 1);
}

/// Quotes come in pairs of their own in Chinese and in French.
void strip_quotes(std::string& title) {
  constexpr std::pair<std::string_view, std::string_view> kQuotes[] = {{"\"", "\""}, {"'", "'"}, {"“", "”"}, {"‘", "’"}, {"「", "」"}, {"《", "》"}, {"«", "»"}, {"**", "**"}, {"*", "*"}, {"`", "`"}};
  for (bool again = true; again;) {
    again = false;
    for (const auto& [open, close] : kQuotes)
      if (title.size() > open.size() + close.size() && title.starts_with(open) && title.ends_with(close)) {
        title = std::string(trimmed(std::string_view(title).substr(open.size(), title.size() - open.size() - close.size())));
        again = true;
      }
  }
}

void set_title(Site& site, const std::string& user_id, const std::string& conversation_id, const std::string& title) {
  const auto changed = site.store->write([&](Database& db) -> Outcome<Conversation> {
    PM_ASSIGN(Conversation before, rows::conversation(db, user_id, conversation_id));
    if (before.title_source != "none") return before;  // a user was faster
    Conversation after = before;
    after.title = title;
    after.title_source = "model";
    PM_TRY(rows::update_conversation(db, before, after));
    return after;
  });
  if (changed) site.hub.publish(user_id, "conversation", list_item_json(*changed));
}

Result<PreparedRequest> title_request(const Site& site, const TextModel& text, const std::string& question, const std::string& answer) {
  SessionRequest request;
  ChatPrompt chat;
  chat.messages.push_back(json::object{{"role", "system"}, {"content", "You name conversations. Answer with the name alone: at most six words, in the language of the conversation, without quotation marks or a full stop."}});
  chat.messages.push_back(json::object{{"role", "user"}, {"content", "Name this conversation.\n\nUser: " + utf8_prefix(question, kQuotedBytes) + "\n\nAssistant: " + utf8_prefix(answer, kQuotedBytes)}});
  request.prompt = std::move(chat);
  request.sampling.temperature = 0.2f;
  request.sampling.max_tokens = 32;
  request.priority = kTitlePriority;
  const auto model = site.model_info();
  if (!model) return fail(ErrorCode::unavailable, model.error().message);
  return prepare(text, *model, std::move(request));
}

void make_title(Site& site, const std::string& user_id, const std::string& conversation_id) {
  struct First {
    Conversation conversation;
    std::string question, answer;
  };
  const auto first = site.store->read([&](Database& db) -> Outcome<First> {
    First found;
    PM_ASSIGN(found.conversation, rows::conversation(db, user_id, conversation_id));
    if (found.conversation.title_source != "none") return found;
    PM_ASSIGN(const auto all, rows::messages(db, conversation_id));
    for (const Message& message : all) {
      std::string& target = message.role == "user" ? found.question : found.answer;
      if (target.empty()) target = message.text;
    }
    return found;
  });
  if (!first || first->conversation.title_source != "none") return;
  const std::string fallback = fallback_title(first->question);
  const auto text = site.text();
  auto prepared = text ? title_request(site, *text, first->question, first->answer) : fail(ErrorCode::unavailable, "");
  if (!prepared) return set_title(site, user_id, conversation_id, fallback);
  site.jobs->ask(text, std::move(*prepared), [&site, user_id, conversation_id, fallback](std::string answer) {
    std::string title = clean_title(answer);
    if (title.empty()) title = fallback;
    (void)site.pool->submit([&site, user_id, conversation_id, title] { set_title(site, user_id, conversation_id, title); });
  });
}

}  // namespace

void after_answer(Site& site, const JobEnd& end) {
  (void)site.pool->submit([&site, user_id = end.user_id, conversation_id = end.conversation_id, wants_title = end.message.status == "done" || end.message.status == "length" || end.message.status == "stopped"] {
    const auto conversation = site.store->read([&](Database& db) { return rows::conversation(db, user_id, conversation_id); });
    if (!conversation) return;
    site.hub.publish(user_id, "conversation", list_item_json(*conversation));
    if (conversation->title_source == "none" && wants_title) make_title(site, user_id, conversation_id);
  });
}

std::string clean_title(std::string_view answer) {
  // What a reasoning model thinks first is not the title.
  if (const size_t end = answer.rfind("</think>"); end != std::string_view::npos) answer.remove_prefix(end + 8);
  else if (answer.find("<think>") != std::string_view::npos) return {};
  answer = trimmed(answer);
  std::string title(trimmed(answer.substr(0, answer.find('\n'))));
  while (title.starts_with('#')) title = std::string(trimmed(std::string_view(title).substr(1)));
  strip_quotes(title);
  for (const std::string_view prefix : {"Title:", "title:", "TITLE:", "Name:", "标题：", "标题:", "名称：", "名称:"})
    if (title.starts_with(prefix)) title = std::string(trimmed(std::string_view(title).substr(prefix.size())));
  strip_quotes(title);
  while (title.ends_with('.') || title.ends_with("。")) title.resize(title.size() - (title.ends_with('.') ? 1 : 3));
  std::erase_if(title, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
  return first_chars(title, kTitleChars);
}

std::string fallback_title(std::string_view message) {
  message = trimmed(message);
  std::string title = first_chars(trimmed(message.substr(0, message.find('\n'))), 50);
  std::erase_if(title, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
  if (title.size() < message.size() && utf8_length(title) == 50) title += "…";
  return title.empty() ? "…" : title;
}

}  // namespace pagemill::chat
