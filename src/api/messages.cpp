#include <fmt/format.h>

#include "api/requests.h"

namespace pagemill::api {
namespace {

std::string at(std::string_view list, size_t i, std::string_view field = {}) {
  return field.empty() ? fmt::format("{}[{}]", list, i) : fmt::format("{}[{}].{}", list, i, field);
}

tl::unexpected<Error> invalid(const std::string& field, std::string_view expected) {
  return fail(ErrorCode::invalid_argument, fmt::format("'{}' must be {}.", field, expected), field);
}

Result<std::string> read_parts(const json::array& parts, const std::string& field) {
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) {
    const json::object* part = parts[i].if_object();
    const json::value* type = part ? part->if_contains("type") : nullptr;
    if (!type || !type->is_string()) return invalid(at(field, i), "an object with a type");
    if (type->get_string() != "text")
      return fail(ErrorCode::invalid_argument, fmt::format("'{}' is of type {}, but this model takes text only.", at(field, i), json_quote(text_of(*type))), at(field, i));
    const json::value* words = part->if_contains("text");
    if (!words || !words->is_string()) return invalid(at(field, i, "text"), "a string");
    if (i > 0) text += '\n';
    text += text_of(*words);
  }
  return text;
}

/// Clients send a call's arguments as JSON in a string; templates print objects.
Result<json::array> read_tool_calls(const json::array& calls, const std::string& field) {
  json::array out;
  for (size_t i = 0; i < calls.size(); ++i) {
    const json::object* call = calls[i].if_object();
    const json::value* function = call ? call->if_contains("function") : nullptr;
    if (!function || !function->is_object() || !function->get_object().contains("name") || !function->at("name").is_string())
      return invalid(at(field, i), "an object with function.name");
    json::object copy = *call;
    json::object& body = copy["function"].as_object();
    if (json::value* arguments = body.if_contains("arguments"); arguments && arguments->is_string()) {
      const std::string text = text_of(*arguments);
      auto parsed = parse_json(text.empty() ? "{}" : text);
      if (!parsed || !parsed->is_object()) return invalid(at(field, i, "function.arguments"), "a JSON object in a string");
      *arguments = std::move(*parsed);
    }
    out.push_back(std::move(copy));
  }
  return out;
}

Result<json::object> read_message(const json::value& value, size_t i) {
  const json::object* message = value.if_object();
  if (!message) return invalid(at("messages", i), "an object");
  const json::value* role = message->if_contains("role");
  if (!role || !role->is_string()) return invalid(at("messages", i, "role"), "a string");
  const std::string name = text_of(*role);
  if (name != "system" && name != "developer" && name != "user" && name != "assistant" && name != "tool")
    return invalid(at("messages", i, "role"), "one of system, developer, user, assistant and tool");
  json::object out = *message;
  if (name == "developer") out["role"] = "system";
  const json::value* content = message->if_contains("content");
  const json::value* calls = message->if_contains("tool_calls");
  if (calls && !calls->is_null()) {
    if (!calls->is_array() || name != "assistant") return invalid(at("messages", i, "tool_calls"), "an array, in a message of the assistant");
    PM_ASSIGN(out["tool_calls"], read_tool_calls(calls->get_array(), at("messages", i, "tool_calls")));
  }
  const bool may_be_empty = name == "assistant";
  if (!content || content->is_null()) {
    if (!may_be_empty) return invalid(at("messages", i, "content"), "a string or an array of parts");
    out["content"] = "";
  } else if (content->is_array()) {
    PM_ASSIGN(std::string text, read_parts(content->get_array(), at("messages", i, "content")));
    out["content"] = text;
  } else if (!content->is_string()) {
    return invalid(at("messages", i, "content"), "a string or an array of parts");
  }
  return out;
}

/// Token ids of a prompt; their range is the vocabulary's, which is checked where it is known.
Result<TokenPrompt> read_tokens(const json::array& ids, const std::string& field) {
  TokenPrompt prompt;
  prompt.tokens.reserve(ids.size());
  for (const json::value& id : ids) {
    const bool fits = id.is_int64() && id.get_int64() >= 0 && id.get_int64() <= INT32_MAX;
    if (!fits) return invalid(field, "made of token ids (integers from 0)");
    prompt.tokens.push_back(static_cast<int32_t>(id.get_int64()));
  }
  if (prompt.tokens.empty()) return invalid(field, "at least one token");
  return prompt;
}

}  // namespace

Result<json::array> read_messages(const json::array& messages) {
  if (messages.empty()) return invalid("messages", "at least one message");
  if (messages.size() > kMessagesMax) return invalid("messages", fmt::format("at most {} messages", kMessagesMax));
  json::array out;
  out.reserve(messages.size());
  for (size_t i = 0; i < messages.size(); ++i) {
    PM_ASSIGN(json::object message, read_message(messages[i], i));
    out.push_back(std::move(message));
  }
  return out;
}

Result<std::vector<Prompt>> read_prompts(const json::value& value, std::string_view field, bool add_special_tokens) {
  const std::string name(field);
  std::vector<Prompt> prompts;
  if (value.is_string()) {
    prompts.push_back(TextPrompt{text_of(value), add_special_tokens});
    return prompts;
  }
  const json::array* list = value.if_array();
  if (!list || list->empty()) return invalid(name, "a string, token ids, or a list of either that is not empty");
  if (list->front().is_number()) {
    PM_ASSIGN(TokenPrompt prompt, read_tokens(*list, name));
    prompts.push_back(std::move(prompt));
    return prompts;
  }
  if (list->size() > kPromptsMax) return invalid(name, fmt::format("a list of at most {}", kPromptsMax));
  for (size_t i = 0; i < list->size(); ++i) {
    const json::value& one = (*list)[i];
    if (one.is_string()) {
      prompts.push_back(TextPrompt{text_of(one), add_special_tokens});
    } else if (one.is_array()) {
      PM_ASSIGN(TokenPrompt prompt, read_tokens(one.get_array(), at(name, i)));
      prompts.push_back(std::move(prompt));
    } else {
      return invalid(at(name, i), "a string or a list of token ids");
    }
  }
  return prompts;
}

}  // namespace pagemill::api
