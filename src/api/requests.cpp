#include "api/requests.h"

#include <charconv>

#include <fmt/format.h>

#include "base/limits.h"

namespace pagemill::api {
namespace {

using Body = GenerationBody;
using Done = Result<void>;

constexpr double kInt32Max = 2147483647;

tl::unexpected<Error> invalid(std::string_view field, std::string_view expected) {
  return fail(ErrorCode::invalid_argument, fmt::format("'{}' must be {}.", field, expected), std::string(field));
}

tl::unexpected<Error> unsupported(std::string_view field, std::string_view what) {
  return fail(ErrorCode::unsupported, fmt::format("'{}': {}.", field, what), std::string(field));
}

template <float SamplingParams::* member>
Done set_number(Body& body, const json::value& value) {
  body.sampling.*member = static_cast<float>(number_of(value));
  return {};
}
template <int32_t SamplingParams::* member>
Done set_integer(Body& body, const json::value& value) {
  body.sampling.*member = static_cast<int32_t>(integer_of(value));
  return {};
}
template <bool Body::* member>
Done set_flag(Body& body, const json::value& value) {
  body.*member = value.get_bool();
  return {};
}
template <std::string Body::* member>
Done set_text(Body& body, const json::value& value) {
  body.*member = text_of(value);
  return {};
}

Done set_stop(Body& body, const json::value& value) {
  body.stop.clear();
  if (value.is_string()) {
    body.stop.push_back(text_of(value));
  } else {
    for (const json::value& one : value.get_array()) {
      if (!one.is_string()) return invalid("stop", "a string or an array of strings");
      body.stop.push_back(text_of(one));
    }
  }
  if (body.stop.size() > limits::kStopStrings) return invalid("stop", fmt::format("at most {} strings", limits::kStopStrings));
  for (const std::string& text : body.stop)
    if (text.empty() || text.size() > limits::kStopStringBytes) return invalid("stop", fmt::format("made of strings of 1 to {} bytes", limits::kStopStringBytes));
  return {};
}

Done set_stop_token_ids(Body& body, const json::value& value) {
  for (const json::value& id : value.get_array()) {
    if (!id.is_int64() || id.get_int64() < 0 || id.get_int64() > INT32_MAX) return invalid("stop_token_ids", "made of token ids (integers from 0)");
    body.sampling.stop_token_ids.push_back(static_cast<int32_t>(id.get_int64()));
    if (body.sampling.stop_token_ids.size() > limits::kStopTokenIds) return invalid("stop_token_ids", fmt::format("at most {} ids", limits::kStopTokenIds));
  }
  return {};
}

Done set_logit_bias(Body& body, const json::value& value) {
  if (value.get_object().size() > limits::kLogitBiasEntries) return invalid("logit_bias", fmt::format("at most {} entries", limits::kLogitBiasEntries));
  for (const auto& [key, bias] : value.get_object()) {
    int32_t token = -1;
    const auto parsed = std::from_chars(key.data(), key.data() + key.size(), token);
    if (parsed.ec != std::errc() || parsed.ptr != key.data() + key.size() || token < 0) return invalid("logit_bias", "an object whose keys are token ids");
    if (!bias.is_number()) return invalid("logit_bias", "an object whose values are numbers");
    body.sampling.logit_bias.emplace_back(token, static_cast<float>(number_of(bias)));
  }
  return {};
}

Done set_bad_words(Body& body, const json::value& value) {
  for (const json::value& word : value.get_array()) {
    if (!word.is_string() || word.get_string().empty() || word.get_string().size() > limits::kStopStringBytes) return invalid("bad_words", "made of strings that are not empty");
    body.bad_words.push_back(text_of(word));
    if (body.bad_words.size() > limits::kBadWords) return invalid("bad_words", fmt::format("at most {} words", limits::kBadWords));
  }
  return {};
}

Done set_seed(Body& body, const json::value& value) {
  const bool large = value.is_uint64();
  if (!large && integer_of(value) < -1) return invalid("seed", "at least -1 (-1 or null = a fresh one)");
  body.sampling.seed = !large && integer_of(value) == -1 ? std::nullopt : std::optional<uint64_t>(large ? value.get_uint64() : static_cast<uint64_t>(integer_of(value)));
  return {};
}

Done set_stream_options(Body& body, const json::value& value) {
  body.stream_options = true;
  for (const auto& [name, member] : {std::pair{"include_usage", &Body::include_usage}, std::pair{"continuous_usage_stats", &Body::continuous_usage}}) {
    const json::value* flag = value.get_object().if_contains(name);
    if (!flag || flag->is_null()) continue;
    if (!flag->is_bool()) return invalid(fmt::format("stream_options.{}", name), "a boolean");
    body.*member = flag->get_bool();
  }
  return {};
}

Done set_response_format(Body&, const json::value& value) {
  const json::value* type = value.get_object().if_contains("type");
  if (!type || !type->is_string()) return invalid("response_format.type", "a string");
  if (type->get_string() == "text") return {};
  return unsupported("response_format", "this build cannot force answers into JSON yet; leave it out or send {\"type\":\"text\"}");
}

Done refuse_constraint(Body&, const json::value&) { return unsupported("structured_outputs", "this build cannot constrain answers yet"); }

Done refuse_template(Body&, const json::value&) {
  return invalid("chat_template", "left out: templates are the server's (pagemill serve --chat-template)");
}

Done set_single(Body&, const json::value& value) { return integer_of(value) == 1 ? Done{} : unsupported("best_of", "only 1 is possible; ask for n choices"); }

Done set_messages(Body& body, const json::value& value) {
  PM_ASSIGN(body.chat.messages, read_messages(value.get_array()));
  return {};
}

Done set_tools(Body& body, const json::value& value) {
  if (value.get_array().empty()) return invalid("tools", "left out, or at least one tool");
  body.chat.tools = value.get_array();
  return {};
}

Done set_tool_choice(Body& body, const json::value& value) {
  // An object names the tool that must be called.
  body.tool_choice = value.is_string() ? text_of(value) : "required";
  return {};
}

Done set_template_arguments(Body& body, const json::value& value) {
  // What a template may be told; names of the template's own context (messages, tools, …) would let a client replace them.
  for (const auto& [name, argument] : value.get_object()) {
    if (name != "enable_thinking" && name != "thinking" && name != "date_string") return invalid(fmt::format("chat_template_kwargs.{}", std::string_view(name.data(), name.size())), "left out: only enable_thinking, thinking and date_string may be set");
    body.chat.template_arguments[name] = argument;
  }
  return {};
}

constexpr FieldInfo info(std::string_view name, FieldType type, std::string_view description = {}, double minimum = -INFINITY, double maximum = INFINITY) {
  return {name, type, description, minimum, maximum, false};
}

constexpr Field<Body> kCommonFields[] = {
    {info("model", FieldType::string, "Which model; the only one where left out."), set_text<&Body::model>},
    {info("stream", FieldType::boolean, "Answer as server-sent events."), set_flag<&Body::stream>},
    {info("stream_options", FieldType::object, "include_usage, continuous_usage_stats."), set_stream_options},
    {info("temperature", FieldType::number, "0 = greedy.", 0, 2), set_number<&SamplingParams::temperature>},
    {info("top_p", FieldType::number, "", 0, 1), set_number<&SamplingParams::top_p>},
    {info("top_k", FieldType::integer, "0 or -1 = off.", -1, kInt32Max), set_integer<&SamplingParams::top_k>},
    {info("min_p", FieldType::number, "", 0, 1), set_number<&SamplingParams::min_p>},
    {info("typical_p", FieldType::number, "", 0, 1), set_number<&SamplingParams::typical_p>},
    {info("repetition_penalty", FieldType::number, "", 0, 2), set_number<&SamplingParams::repetition_penalty>},
    {info("presence_penalty", FieldType::number, "", -2, 2), set_number<&SamplingParams::presence_penalty>},
    {info("frequency_penalty", FieldType::number, "", -2, 2), set_number<&SamplingParams::frequency_penalty>},
    {info("seed", FieldType::integer, "The same seed and parameters give the same answer."), set_seed},
    {info("n", FieldType::integer, "Choices.", 1, limits::kChoices), set_integer<&SamplingParams::n>},
    {info("best_of", FieldType::integer, "Only 1.", 1, limits::kChoices), set_single},
    {info("max_tokens", FieldType::integer, "Of each answer.", 0, kInt32Max),
     [](Body& body, const json::value& value) -> Done { body.sampling.max_tokens = static_cast<int32_t>(integer_of(value)); return {}; }},
    {info("min_tokens", FieldType::integer, "", 0, kInt32Max), set_integer<&SamplingParams::min_tokens>},
    {info("ignore_eos", FieldType::boolean),
     [](Body& body, const json::value& value) -> Done { body.sampling.ignore_eos = value.get_bool(); return {}; }},
    {info("stop", FieldType::text_or_array, "Strings that end an answer."), set_stop},
    {info("stop_token_ids", FieldType::array), set_stop_token_ids},
    {info("include_stop_str_in_output", FieldType::boolean), set_flag<&Body::include_stop>},
    {info("logit_bias", FieldType::object, "Token id to a bias from -100 to 100."), set_logit_bias},
    {info("bad_words", FieldType::array, "Words that must not be written."), set_bad_words},
    {info("prompt_logprobs", FieldType::integer, "", 0, limits::kTopLogprobs), set_integer<&SamplingParams::prompt_logprobs>},
    {info("skip_special_tokens", FieldType::boolean), set_flag<&Body::skip_special_tokens>},
    {info("echo", FieldType::boolean, "The prompt comes first."), set_flag<&Body::echo>},
    {info("add_special_tokens", FieldType::boolean), set_flag<&Body::add_special_tokens>},
    {info("return_token_ids", FieldType::boolean), set_flag<&Body::return_token_ids>},
    {info("return_tokens_as_token_ids", FieldType::boolean), set_flag<&Body::return_tokens_as_ids>},
    {info("priority", FieldType::integer, "Lower runs first.", -kInt32Max, kInt32Max),
     [](Body& body, const json::value& value) -> Done { body.priority = static_cast<int32_t>(integer_of(value)); return {}; }},
    {info("cache_salt", FieldType::string, "Requests share cached prefixes only under the same salt."), set_text<&Body::cache_salt>},
    {info("request_id", FieldType::string), set_text<&Body::request_id>},
    {info("user", FieldType::string), [](Body&, const json::value&) -> Done { return {}; }},
    {info("response_format", FieldType::object, "Only {\"type\":\"text\"}."), set_response_format},
    {info("structured_outputs", FieldType::object, "Refused in this version."), refuse_constraint},
    {info("guided_json", FieldType::object, "Refused in this version."), refuse_constraint},
    {info("guided_regex", FieldType::string, "Refused in this version."), refuse_constraint},
    {info("guided_choice", FieldType::array, "Refused in this version."), refuse_constraint},
    {info("guided_grammar", FieldType::string, "Refused in this version."), refuse_constraint},
};

constexpr FieldInfo required(FieldInfo field) {
  field.required = true;
  return field;
}

constexpr Field<Body> kChatFields[] = {
    {required(info("messages", FieldType::array, "The conversation.")), set_messages},
    {info("max_completion_tokens", FieldType::integer, "As max_tokens, and wins over it.", 0, kInt32Max),
     [](Body& body, const json::value& value) -> Done { body.max_completion_tokens = static_cast<int32_t>(integer_of(value)); return {}; }},
    {info("logprobs", FieldType::boolean), set_flag<&Body::chat_logprobs>},
    {info("top_logprobs", FieldType::integer, "", 0, limits::kTopLogprobs),
     [](Body& body, const json::value& value) -> Done { body.top_logprobs = static_cast<int32_t>(integer_of(value)); return {}; }},
    {info("tools", FieldType::array, "Only with tool_choice \"none\" in this version."), set_tools},
    {info("tool_choice", FieldType::text_or_object, "Only \"none\" in this version."), set_tool_choice},
    {info("add_generation_prompt", FieldType::boolean),
     [](Body& body, const json::value& value) -> Done { body.chat.add_generation_prompt = value.get_bool(); return {}; }},
    {info("continue_final_message", FieldType::boolean),
     [](Body& body, const json::value& value) -> Done { body.chat.continue_final_message = value.get_bool(); return {}; }},
    {info("chat_template_kwargs", FieldType::object), set_template_arguments},
    {info("chat_template", FieldType::string, "Refused."), refuse_template},
};

constexpr Field<Body> kCompletionFields[] = {
    // The prompt is read after all fields: it needs add_special_tokens.
    {required(info("prompt", FieldType::text_or_array, "A text, token ids, or a list of either.")), [](Body&, const json::value&) -> Done { return {}; }},
    {info("logprobs", FieldType::integer, "", 0, limits::kTopLogprobs),
     [](Body& body, const json::value& value) -> Done { body.completion_logprobs = static_cast<int32_t>(integer_of(value)); return {}; }},
    {info("suffix", FieldType::string, "Refused."),
     [](Body&, const json::value& value) -> Done { return value.get_string().empty() ? Done{} : unsupported("suffix", "this model cannot fill in the middle"); }},
};

constexpr Field<EmbeddingBody> kEmbeddingFields[] = {
    {info("model", FieldType::string), [](EmbeddingBody& body, const json::value& value) -> Done { body.model = text_of(value); return {}; }},
    {required(info("input", FieldType::text_or_array, "A text, token ids, or a list of either.")),
     [](EmbeddingBody& body, const json::value& value) -> Done { PM_ASSIGN(body.inputs, read_prompts(value, "input", true)); return {}; }},
    {info("encoding_format", FieldType::string, "\"float\" or \"base64\" (little-endian float32)."),
     [](EmbeddingBody& body, const json::value& value) -> Done {
       body.base64 = value.get_string() == "base64";
       return body.base64 || value.get_string() == "float" ? Done{} : invalid("encoding_format", "\"float\" or \"base64\"");
     }},
    {info("dimensions", FieldType::integer, "Refused.", 1, kInt32Max),
     [](EmbeddingBody&, const json::value&) -> Done { return unsupported("dimensions", "this model's embeddings cannot be shortened"); }},
    {info("user", FieldType::string), [](EmbeddingBody&, const json::value&) -> Done { return {}; }},
};

constexpr Field<TokenizeBody> kTokenizeFields[] = {
    {info("model", FieldType::string), [](TokenizeBody& body, const json::value& value) -> Done { body.model = text_of(value); return {}; }},
    {info("prompt", FieldType::string), [](TokenizeBody& body, const json::value& value) -> Done { body.prompt = text_of(value); return {}; }},
    {info("messages", FieldType::array),
     [](TokenizeBody& body, const json::value& value) -> Done {
       body.chat.emplace();
       PM_ASSIGN(body.chat->messages, read_messages(value.get_array()));
       return {};
     }},
    {info("add_special_tokens", FieldType::boolean),
     [](TokenizeBody& body, const json::value& value) -> Done { body.add_special_tokens = value.get_bool(); return {}; }},
    {info("return_token_strs", FieldType::boolean),
     [](TokenizeBody& body, const json::value& value) -> Done { body.return_token_strings = value.get_bool(); return {}; }},
    {info("add_generation_prompt", FieldType::boolean),
     [](TokenizeBody& body, const json::value& value) -> Done { body.add_generation_prompt = value.get_bool(); return {}; }},
    {info("continue_final_message", FieldType::boolean),
     [](TokenizeBody& body, const json::value& value) -> Done { body.continue_final_message = value.get_bool(); return {}; }},
};

constexpr Field<DetokenizeBody> kDetokenizeFields[] = {
    {info("model", FieldType::string), [](DetokenizeBody& body, const json::value& value) -> Done { body.model = text_of(value); return {}; }},
    {required(info("tokens", FieldType::array)),
     [](DetokenizeBody& body, const json::value& value) -> Done {
       for (const json::value& id : value.get_array()) {
         if (!id.is_int64() || id.get_int64() < 0 || id.get_int64() > INT32_MAX) return invalid("tokens", "made of token ids (integers from 0)");
         body.tokens.push_back(static_cast<int32_t>(id.get_int64()));
       }
       return {};
     }},
};

Result<const json::object*> object_of(const json::value& body) {
  if (!body.is_object()) return fail(ErrorCode::invalid_argument, "the body must be a JSON object.", "body");
  return &body.get_object();
}

/// Checks between fields that both kinds of request share.
Done check_generation(Body& body) {
  if (body.stream && body.sampling.prompt_logprobs >= 0) return invalid("prompt_logprobs", "left out with stream: it is not available there");
  if (body.stream_options && !body.stream) return invalid("stream_options", "left out without stream: true");
  if (body.echo && body.sampling.max_tokens == 0) return {};
  if (body.sampling.max_tokens == 0) return invalid("max_tokens", "at least 1");
  return {};
}

Done check_tools(const Body& body) {
  const std::string& choice = body.tool_choice;
  if (!choice.empty() && choice != "none" && choice != "auto" && choice != "required") return invalid("tool_choice", "none, auto or required");
  if (choice == "required" || (!body.chat.tools.empty() && choice != "none"))
    return unsupported("tools", "this build cannot call tools yet; leave them out or send tool_choice \"none\"");
  return {};
}

}  // namespace

Result<GenerationBody> read_chat_body(const json::value& body, const SamplingDefaults& defaults, std::vector<std::string>& unknown) {
  PM_ASSIGN(const json::object* object, object_of(body));
  Body out;
  out.sampling = default_sampling(defaults);
  out.sampling.max_tokens.reset();
  out.default_max_tokens = defaults.max_new_tokens;
  PM_TRY(read_fields<Body>(*object, {kCommonFields, kChatFields}, out, unknown));
  if (out.max_completion_tokens == 0 && !out.echo) return invalid("max_completion_tokens", "at least 1");
  if (out.max_completion_tokens) out.sampling.max_tokens = out.max_completion_tokens;
  if (out.top_logprobs > 0 && !out.chat_logprobs) return invalid("top_logprobs", "left out without logprobs: true");
  if (out.chat_logprobs) out.sampling.logprobs = out.top_logprobs;
  if (out.chat.continue_final_message && object->contains("add_generation_prompt") && out.chat.add_generation_prompt)
    return invalid("continue_final_message", "false with add_generation_prompt");
  if (out.chat.continue_final_message) out.chat.add_generation_prompt = false;
  PM_TRY(check_tools(out));
  PM_TRY(check_generation(out));
  return out;
}

Result<GenerationBody> read_completion_body(const json::value& body, const SamplingDefaults& defaults, std::vector<std::string>& unknown) {
  PM_ASSIGN(const json::object* object, object_of(body));
  Body out;
  out.sampling = default_sampling(defaults);
  out.sampling.max_tokens.reset();
  out.default_max_tokens = 16;  // OpenAI's
  PM_TRY(read_fields<Body>(*object, {kCommonFields, kCompletionFields}, out, unknown));
  PM_ASSIGN(out.prompts, read_prompts(object->at("prompt"), "prompt", out.add_special_tokens));
  if (out.completion_logprobs) out.sampling.logprobs = *out.completion_logprobs;
  PM_TRY(check_generation(out));
  if (out.echo && out.completion_logprobs) out.sampling.prompt_logprobs = *out.completion_logprobs;
  return out;
}

Result<EmbeddingBody> read_embedding_body(const json::value& body, std::vector<std::string>& unknown) {
  PM_ASSIGN(const json::object* object, object_of(body));
  EmbeddingBody out;
  PM_TRY(read_fields<EmbeddingBody>(*object, {kEmbeddingFields}, out, unknown));
  return out;
}

Result<TokenizeBody> read_tokenize_body(const json::value& body, std::vector<std::string>& unknown) {
  PM_ASSIGN(const json::object* object, object_of(body));
  TokenizeBody out;
  PM_TRY(read_fields<TokenizeBody>(*object, {kTokenizeFields}, out, unknown));
  if (out.prompt.has_value() == out.chat.has_value()) return invalid("prompt", "there, or messages, and not both");
  if (out.chat) {
    out.chat->add_generation_prompt = out.add_generation_prompt && !out.continue_final_message;
    out.chat->continue_final_message = out.continue_final_message;
  }
  return out;
}

Result<DetokenizeBody> read_detokenize_body(const json::value& body, std::vector<std::string>& unknown) {
  PM_ASSIGN(const json::object* object, object_of(body));
  DetokenizeBody out;
  PM_TRY(read_fields<DetokenizeBody>(*object, {kDetokenizeFields}, out, unknown));
  return out;
}

json::object chat_body_schema() { return object_schema<Body>({kCommonFields, kChatFields}); }
json::object completion_body_schema() { return object_schema<Body>({kCommonFields, kCompletionFields}); }
json::object embedding_body_schema() { return object_schema<EmbeddingBody>({kEmbeddingFields}); }
json::object tokenize_body_schema() { return object_schema<TokenizeBody>({kTokenizeFields}); }
json::object detokenize_body_schema() { return object_schema<DetokenizeBody>({kDetokenizeFields}); }

}  // namespace pagemill::api
