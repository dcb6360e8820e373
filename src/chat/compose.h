// Compose: what is sent to the model for a message: the branch, the documents in the way their attachments say, and how many tokens
// that is, exactly.
#pragma once

#include <string>
#include <vector>

#include "chat/accounts.h"
#include "chat/conversations.h"
#include "chat/documents.h"
#include "chat/prompt.h"

namespace pagemill {
class TextModel;
}

namespace pagemill::chat {

struct Site;

/// A message before it is one.
struct NewMessage {
  std::string user_id;
  Conversation conversation;             // a fresh one where there is none yet
  std::vector<Message> branch;           // up to and with the parent; texts with their documents (load_branch())
  std::string text;
  std::vector<Attachment> attachments;
};

struct Composed {
  json::array messages;                  // for the template
  std::vector<Excerpt> excerpts;
  int32_t context = 0;
  int64_t prompt_tokens = -1;            // -1: not counted, for it fits in any case
  bool fits = true;
};

/// The branch with the documents that its messages were sent with.
Outcome<std::vector<Message>> load_branch(Database& db, const std::string& conversation_id, const std::optional<std::string>& leaf);

/// `exact`: counts also where the text is so short that it must fit.
Outcome<Composed> compose(Site& site, const NewMessage& message, bool exact);
/// The object of POST /fit, also the detail of 409 context_too_long.
Outcome<json::object> fit_json(Site& site, const NewMessage& message, const Composed& composed);

/// Template and tokens; on a pool.
Result<PreparedRequest> prepare_answer(const Site& site, const TextModel& text, const Conversation& conversation, const User& user, json::array messages, bool continues);

}  // namespace pagemill::chat
