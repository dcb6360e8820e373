// A conversation in the terminal: a system prompt and the turns so far.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace pagemill {

class Conversation {
 public:
  explicit Conversation(std::string system = {}) : system_(std::move(system)) {}

  const std::string& system() const { return system_; }
  void set_system(std::string text) { system_ = std::move(text); }
  void add_user(std::string text) { turns_.push_back({"user", std::move(text)}); }
  void add_assistant(std::string text) { turns_.push_back({"assistant", std::move(text)}); }
  /// Takes back the newest turn, as when its answer failed.
  void drop_last() { turns_.pop_back(); }
  void clear() { turns_.clear(); }
  bool empty() const { return turns_.empty(); }

  /// As the chat API has them: [{"role": …, "content": …}], the system prompt first where there is one.
  json::array messages() const;

  /// Writes JSON ({"model": …, "messages": […]}) where `path` ends in ".json", else Markdown. An existing file is replaced
  /// only once the new one is whole.
  Result<void> save(const std::filesystem::path& path, const std::string& model) const;

 private:
  struct Turn {
    std::string role, text;
  };
  std::string system_;
  std::vector<Turn> turns_;
};

}  // namespace pagemill
