// Jobs: answers being generated. A job belongs to the server, not to a tab: it reads its Session, tells every tab of its user, writes
// the text down as it grows, and ends whether or not anybody looks.
//
// One thread reads all sessions. At most thirty times a second and job it publishes what has come; once a second it hands what is new to the
// store. After a kill the text up to there is kept and the answer is marked interrupted. Where the disk is full or fails, the text is kept in
// memory and offered again every second; an answer that ends meanwhile is shown as failed (`storage`) until the disk takes it.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "chat/conversations.h"
#include "chat/event_hub.h"
#include "chat/store.h"
#include "session/session.h"

namespace pagemill::chat {

struct JobRequest {
  std::string user_id, conversation_id;
  Message message;                       // the assistant's row; its text so far where it goes on
  std::shared_ptr<const TextModel> text;
};

/// What a finished title or answer is followed by.
struct JobEnd {
  std::string user_id, conversation_id;
  Message message;                       // whole, as it is on the disk
};

class Jobs {
 public:
  /// `on_end`: called on the jobs' thread after a chat answer has been written down; must be quick.
  Jobs(Store& store, EventHub& hub, EngineHandle& engine, std::function<void(const JobEnd&)> on_end);
  /// Cancels what runs; each is written down as interrupted.
  ~Jobs();

  // Any thread.
  /// False where this conversation has a job or the user has too many. The job is then `queued`; give it a prepared prompt or an error.
  bool open(JobRequest request);
  void start(const std::string& generation_id, Result<PreparedRequest> prepared);
  /// Takes an opened job back that never came to be: its rows could not be written.
  void abandon(const std::string& generation_id);
  /// Cancels at once; the text stays as it is at this moment.
  void stop(const std::string& generation_id);
  void stop_conversation(const std::string& conversation_id);
  void stop_user(const std::string& user_id);
  /// Whether this conversation is being answered. Waits for an end that is being written down: whoever has read it may go on, and where
  /// this is false, what is read next is whole.
  bool busy(const std::string& conversation_id) const;
  /// Puts the text of running jobs, and of those that the disk has not taken, into messages just read from the store.
  void overlay(std::vector<Message>& messages) const;
  size_t running() const;
  /// One answer without a message, such as a title: collected and given to `done` on the jobs' thread. Empty where it failed.
  void ask(std::shared_ptr<const TextModel> text, PreparedRequest prepared, std::function<void(std::string)> done);
  void close();

 private:
  struct Job;
  using Clock = std::chrono::steady_clock;

  bool closing_asked() const;
  void run();
  void take_events();
  void take(Job& job, SessionEvent& event);
  void take_end(Job& job, const SessionEnd& end);
  void begin(Job& job);
  void publish_delta(Job& job);
  void publish_status(Job& job, std::string_view status);
  static void save_part(Store& store, const std::shared_ptr<Job>& job);
  void finish(Job& job, std::string status, std::string error);
  void write_end(Job& job);
  Outcome<void> store_end(Job& job);
  std::shared_ptr<Job> forget(const Job& job);
  static std::string stats_json(const Job& job);
  Clock::time_point tend(Clock::time_point now);

  Store& store_;
  EventHub& hub_;
  EngineHandle& engine_;
  const std::function<void(const JobEnd&)> on_end_;
  struct WakeFile;
  static void wake(const WakeFile& file);
  void wait_until(Clock::time_point next);
  const std::shared_ptr<WakeFile> wake_file_;
  const std::shared_ptr<EventQueue> events_;
  mutable std::mutex mutex_;
  mutable std::condition_variable ended_;
  bool closing_ = false;                               // under mutex_
  std::unordered_map<std::string, std::shared_ptr<Job>> jobs_;   // by generation id; under mutex_
  std::unordered_map<uint64_t, std::shared_ptr<Job>> by_tag_;    // under mutex_
  uint64_t next_tag_ = 1;
  std::vector<EngineEvent> drained_;                   // jobs' thread
  std::vector<SessionEvent> session_events_;
  std::thread thread_;
};

}  // namespace pagemill::chat
