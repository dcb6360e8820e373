// From a branch of a conversation to the prompt: messages as the chat template wants them, with documents quoted in front of
// the message that brought them, and exact counts of it all.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "chat/conversations.h"
#include "chat/problem.h"
#include "session/session.h"

namespace pagemill::chat {

enum class DocumentMode : uint8_t { whole, pages, head_tail, retrieval };
std::string_view to_string(DocumentMode mode);
std::optional<DocumentMode> parse_mode(std::string_view text);

/// What a message asks of a document.
struct Attachment {
  std::string id;
  DocumentMode mode = DocumentMode::whole;
  std::string pages;                     // with mode pages: "1-3,7"
};
/// A list of a request body.
Outcome<std::vector<Attachment>> read_attachments(const json::array* list);
json::array attachments_json(const std::vector<Attachment>& attachments);

/// A document's text as the model is to see it.
struct Excerpt {
  std::string document_id, name, kind, pages, text;
  DocumentMode mode = DocumentMode::whole;
  int64_t tokens = 0;                    // of `text`
  int64_t tokens_whole = 0;
};

/// The quoted documents, then the message.
std::string with_documents(const std::vector<Excerpt>& excerpts, std::string_view text);

/// A conversation's settings as the API's sampling parameters; errors name the field. `stop` comes apart.
struct ChatSampling {
  SamplingParams params;
  std::vector<std::string> stop;
};
Outcome<ChatSampling> read_sampling(const json::object& sampling, const SamplingDefaults& defaults);
/// What the page samples with where nothing is said: what the operator or the model's generation config gives; where that is silent, Llama 3's
/// own values (temperature 0.6, top_p 0.9) rather than the API's 1, at which a small model rambles.
SamplingDefaults page_sampling(SamplingDefaults given);
/// The server's own defaults as the page shows them.
json::object sampling_json(const SamplingDefaults& defaults);

/// OpenAI messages of a branch. A user message's `prompt_text` (text with documents) stands in place of its text.
json::array prompt_messages(const std::string& system_prompt, const std::vector<Message>& branch);

}  // namespace pagemill::chat
