// One answer under way (jobs.h). Members belong to the jobs' thread, but for those marked: under Jobs' mutex.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "chat/jobs.h"

namespace pagemill::chat {

constexpr std::chrono::milliseconds kSaveEvery{1'000};
constexpr std::chrono::seconds kEndWait{5};  // for a disk that takes an end slowly

struct Jobs::Job {
  JobRequest request;
  std::function<void(std::string)> collected;          // of ask(): who gets the text
  std::optional<Result<PreparedRequest>> prepared;     // under mutex until to_begin is taken
  bool to_begin = false;                               // under mutex
  bool stop_asked = false;                             // under mutex
  bool stopped = false;
  std::unique_ptr<Session> session;
  uint64_t tag = 0;
  std::string text;                                    // whole; written under mutex
  size_t start_bytes = 0;                              // of the text: what was there before
  size_t published = 0, published_utf16 = 0;           // written under mutex
  std::atomic<size_t> saved{0};                        // what the store has of it; after the start the store's thread writes it
  std::atomic<bool> saving{false};                     // a part is on its way there
  int64_t prompt_tokens = 0, tokens = 0;
  EngineUsage usage;
  FinishReason reason = FinishReason::stop;
  Clock::time_point opened, last_token, delta_at, saved_at, status_at;
  std::optional<Clock::time_point> first_token;
  Message end;                                         // how it ended
  bool ending = false;                                 // it has ended, and that is being written down; under mutex
  bool unsaved = false;                                // it has ended, and the disk does not take it yet; under mutex
  std::string shown_error;                             // then: why; under mutex
  Clock::time_point retry_at;
};

}  // namespace pagemill::chat
