#include "terminal/conversation.h"

#include <cerrno>
#include <cstring>
#include <fstream>

#include <fmt/format.h>

namespace pagemill {
namespace {

std::string markdown(const json::array& messages, const std::string& model) {
  std::string out = fmt::format("# Conversation with {}\n", model);
  for (const json::value& message : messages) {
    const std::string_view role(message.at("role").as_string());
    const std::string_view title = role == "system" ? "System" : role == "user" ? "You" : "Assistant";
    out += fmt::format("\n## {}\n\n{}\n", title, std::string_view(message.at("content").as_string()));
  }
  return out;
}

}  // namespace

json::array Conversation::messages() const {
  json::array messages;
  if (!system_.empty()) messages.push_back({{"role", "system"}, {"content", system_}});
  for (const Turn& turn : turns_) messages.push_back({{"role", turn.role}, {"content", turn.text}});
  return messages;
}

Result<void> Conversation::save(const std::filesystem::path& path, const std::string& model) const {
  const std::string text = path.extension() == ".json" ? json::serialize(json::object{{"model", model}, {"messages", messages()}}) + "\n"
                                                       : markdown(messages(), model);
  const std::filesystem::path partial = path.string() + ".part";
  std::ofstream file(partial, std::ios::binary);
  file << text;
  file.close();
  std::error_code error;
  if (file) std::filesystem::rename(partial, path, error);
  if (file && !error) return {};
  const std::string reason = error ? error.message() : std::strerror(errno);
  std::filesystem::remove(partial, error);
  return fail(ErrorCode::io, fmt::format("{} cannot be written: {}.", path.string(), reason));
}

}  // namespace pagemill
