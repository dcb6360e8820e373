#include "chat/compose.h"

#include <algorithm>
#include <unordered_map>

#include <fmt/format.h>

#include "chat/passages.h"
#include "chat/site.h"
#include "text/text_model.h"
#include "text/tokenizer.h"

namespace pagemill::chat {
namespace {

constexpr int64_t kAnswerRoomMin = 16;   // tokens: less is no answer
constexpr int64_t kMessageOverhead = 16; // tokens that a template puts around a message, at most

/// What an answer should have where documents are cut to fit.
int64_t answer_room(int64_t context) { return std::min<int64_t>(1'024, context / 4); }

Outcome<int64_t> count_prompt(const TextModel& text, const json::array& messages) {
  PM_ASSIGN(const auto tokens, text.render_chat(messages, {}, {}, true));
  return static_cast<int64_t>(tokens.size());
}

json::array messages_of(const NewMessage& message, const std::vector<Excerpt>& excerpts) {
  json::array messages = prompt_messages(message.conversation.system_prompt, message.branch);
  messages.push_back(json::object{{"role", "user"}, {"content", with_documents(excerpts, message.text)}});
  return messages;
}

/// A byte is at most a token, so a short conversation need not be counted to know that it fits.
bool surely_fits(const json::array& messages, int64_t context) {
  int64_t bytes = 256;
  for (const json::value& one : messages) bytes += static_cast<int64_t>(one.at("content").get_string().size()) + kMessageOverhead;
  return bytes + answer_room(context) <= context;
}

struct Loaded {
  Document document;
  std::vector<std::string> pages;
};

Outcome<std::vector<Loaded>> load_documents(Site& site, const NewMessage& message) {
  return site.store->read([&](Database& db) -> Outcome<std::vector<Loaded>> {
    std::vector<Loaded> all;
    for (const Attachment& attachment : message.attachments) {
      PM_ASSIGN(Document document, rows::document(db, message.user_id, attachment.id));
      if (document.status != "ready") return refuse(409, "not_ready", fmt::format("The document '{}' {}.", document.name, document.status == "failed" ? "could not be read: remove it" : "is still being read"), "documents");
      PM_ASSIGN(auto pages, rows::document_pages(db, attachment.id));
      all.push_back({std::move(document), std::move(pages)});
    }
    return all;
  });
}

bool cut_to_fit(DocumentMode mode) { return mode == DocumentMode::head_tail || mode == DocumentMode::retrieval; }

std::string joined(const std::vector<std::string>& pages) {
  std::string text;
  for (const std::string& page : pages) text.append(text.empty() || page.empty() ? "" : "\n").append(page);
  return text;
}

/// The excerpts; those that are cut share what the rest leaves of the context.
Outcome<std::vector<Excerpt>> excerpts_of(const TextModel& text, const NewMessage& message, const std::vector<Loaded>& loaded, int64_t context) {
  std::vector<Excerpt> excerpts;
  int64_t to_cut = 0;
  for (size_t i = 0; i < loaded.size(); ++i) {
    const Attachment& attachment = message.attachments[i];
    Excerpt excerpt{loaded[i].document.id, loaded[i].document.name, loaded[i].document.kind, "", "", attachment.mode, 0, loaded[i].document.tokens.value_or(0)};
    if (attachment.mode == DocumentMode::pages) {
      excerpt.pages = attachment.pages;
      PM_ASSIGN(excerpt.text, select_pages(loaded[i].pages, attachment.pages));
    } else if (attachment.mode == DocumentMode::whole) {
      excerpt.text = joined(loaded[i].pages);
    } else {
      ++to_cut;
    }
    excerpts.push_back(std::move(excerpt));
  }
  if (to_cut > 0) {
    PM_ASSIGN(const int64_t rest, count_prompt(text, messages_of(message, excerpts)));
    for (size_t i = 0, left = static_cast<size_t>(to_cut); i < loaded.size(); ++i) {
      if (!cut_to_fit(excerpts[i].mode)) continue;
      int64_t used = rest;
      for (const Excerpt& one : excerpts)
        if (cut_to_fit(one.mode)) used += one.tokens;
      const int64_t room = std::max<int64_t>(0, (context - answer_room(context) - used - 32) / static_cast<int64_t>(left--));
      excerpts[i].text = excerpts[i].mode == DocumentMode::head_tail ? head_and_tail(text.tokenizer(), loaded[i].pages, room) : best_passages(text.tokenizer(), loaded[i].pages, message.text, room);
      PM_ASSIGN(const auto ids, text.tokenizer().encode(excerpts[i].text));
      excerpts[i].tokens = static_cast<int64_t>(ids.size());
    }
  }
  for (Excerpt& excerpt : excerpts) {
    if (excerpt.mode == DocumentMode::whole) excerpt.tokens = excerpt.tokens_whole;
    if (excerpt.mode != DocumentMode::pages) continue;
    PM_ASSIGN(const auto ids, text.tokenizer().encode(excerpt.text));
    excerpt.tokens = static_cast<int64_t>(ids.size());
  }
  return excerpts;
}

}  // namespace

Outcome<std::vector<Message>> load_branch(Database& db, const std::string& conversation_id, const std::optional<std::string>& leaf) {
  if (!leaf) return std::vector<Message>{};
  PM_ASSIGN(auto branch, rows::branch(db, conversation_id, leaf));
  PM_ASSIGN(auto excerpts, rows::excerpts(db, conversation_id));
  std::unordered_map<std::string, std::vector<Excerpt>> of_message;
  for (auto& [message_id, excerpt] : excerpts) of_message[message_id].push_back(std::move(excerpt));
  for (Message& message : branch)
    if (const auto found = of_message.find(message.id); found != of_message.end()) message.text = with_documents(found->second, message.text);
  return branch;
}

Outcome<Composed> compose(Site& site, const NewMessage& message, bool exact) {
  PM_ASSIGN(const EngineModelInfo model, site.model_info());
  const auto text = site.text();
  Composed composed;
  composed.context = model.context_max;
  PM_ASSIGN(const std::vector<Loaded> loaded, load_documents(site, message));
  PM_ASSIGN(composed.excerpts, excerpts_of(*text, message, loaded, composed.context));
  composed.messages = messages_of(message, composed.excerpts);
  if (!exact && surely_fits(composed.messages, composed.context)) return composed;
  PM_ASSIGN(composed.prompt_tokens, count_prompt(*text, composed.messages));
  composed.fits = composed.prompt_tokens + kAnswerRoomMin <= composed.context;
  return composed;
}

Outcome<json::object> fit_json(Site& site, const NewMessage& message, const Composed& composed) {
  PM_ASSIGN(const auto ids, site.text()->tokenizer().encode(message.text));
  json::array documents;
  for (const Excerpt& one : composed.excerpts) documents.push_back(json::object{{"id", one.document_id}, {"tokens_whole", one.tokens_whole}, {"tokens", one.tokens}});
  json::array choices;
  if (!message.attachments.empty()) {
    // Cutting helps where the message fits without its documents.
    NewMessage bare = message;
    bare.attachments.clear();
    PM_ASSIGN(const Composed without, compose(site, bare, true));
    int64_t whole = without.prompt_tokens + 64;
    for (const Excerpt& one : composed.excerpts) whole += one.tokens_whole + 64;
    if (whole + kAnswerRoomMin <= composed.context) choices.emplace_back("whole");
    if (without.prompt_tokens + answer_room(composed.context) + 128 <= composed.context)
      for (const char* mode : {"pages", "head_tail", "retrieval"}) choices.emplace_back(mode);
  }
  return json::object{{"context", composed.context}, {"prompt_tokens", composed.prompt_tokens}, {"answer_room", std::max<int64_t>(0, composed.context - composed.prompt_tokens)}, {"fits", composed.fits},
                      {"text_tokens", ids.size()}, {"documents", std::move(documents)}, {"choices", std::move(choices)}};
}

Result<PreparedRequest> prepare_answer(const Site& site, const TextModel& text, const Conversation& conversation, const User& user, json::array messages, bool continues) {
  auto settings = parse_json(conversation.sampling);
  auto sampling = read_sampling(settings && settings->is_object() ? settings->get_object() : json::object{}, site.options.sampling);
  if (!sampling) return fail(ErrorCode::invalid_argument, sampling.error().message, sampling.error().field);
  const auto model = site.model_info();
  if (!model) return fail(ErrorCode::unavailable, model.error().message);
  SessionRequest request;
  ChatPrompt chat;
  chat.messages = std::move(messages);
  chat.add_generation_prompt = !continues;
  chat.continue_final_message = continues;
  request.prompt = std::move(chat);
  // A page's max_tokens is a wish: it is cut to what the context leaves.
  request.default_max_tokens = sampling->params.max_tokens ? sampling->params.max_tokens : site.options.sampling.max_new_tokens;
  sampling->params.max_tokens.reset();
  request.sampling = std::move(sampling->params);
  request.stop = std::move(sampling->stop);
  request.tenant = request.cache_salt = user.tenant();
  return prepare(text, *model, std::move(request));
}

}  // namespace pagemill::chat
