#include "chat/jobs.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include <fmt/format.h>

#include "base/limits.h"
#include "chat/fields.h"
#include "chat/job.h"

namespace pagemill::chat {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kDeltaEvery{33};

}  // namespace

/// An eventfd: waking takes no lock, so the engine's thread may do it.
struct Jobs::WakeFile {
  const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  ~WakeFile() { ::close(fd); }
};

void Jobs::wake(const WakeFile& file) {
  const uint64_t one = 1;
  (void)!::write(file.fd, &one, sizeof one);
}

void Jobs::wait_until(Clock::time_point next) {
  const auto left = std::chrono::ceil<milliseconds>(next - Clock::now()).count();
  pollfd file{wake_file_->fd, POLLIN, 0};
  poll(&file, 1, static_cast<int>(std::clamp<int64_t>(left, 0, 3'600'000)));
  uint64_t count = 0;
  (void)!::read(wake_file_->fd, &count, sizeof count);
}

Jobs::Jobs(Store& store, EventHub& hub, EngineHandle& engine, std::function<void(const JobEnd&)> on_end)
    : store_(store), hub_(hub), engine_(engine), on_end_(std::move(on_end)), wake_file_(std::make_shared<WakeFile>()), events_(std::make_shared<EventQueue>([file = wake_file_] { wake(*file); })) {
  thread_ = std::thread([this] { run(); });
}

Jobs::~Jobs() { close(); }

void Jobs::close() {
  {
    std::lock_guard lock(mutex_);
    if (closing_) return;
    closing_ = true;
  }
  wake(*wake_file_);
  thread_.join();
  events_->close();
}

bool Jobs::open(JobRequest request) {
  std::lock_guard lock(mutex_);
  size_t of_user = 0;
  for (const auto& [id, job] : jobs_) {
    if (job->unsaved) continue;
    if (job->request.conversation_id == request.conversation_id) return false;
    of_user += job->request.user_id == request.user_id;
  }
  if (closing_ || of_user >= limits::kChatGenerationsPerUser) return false;
  auto job = std::make_shared<Job>();
  job->request = std::move(request);
  job->text = job->request.message.text;
  job->start_bytes = job->saved = job->text.size();
  job->published_utf16 = utf16_length(job->text);
  job->published = job->text.size();
  job->opened = Clock::now();
  jobs_.emplace(*job->request.message.generation_id, job);
  return true;
}

void Jobs::start(const std::string& generation_id, Result<PreparedRequest> prepared) {
  {
    std::lock_guard lock(mutex_);
    const auto found = jobs_.find(generation_id);
    if (found == jobs_.end()) return;
    found->second->prepared = std::move(prepared);
    found->second->to_begin = true;
  }
  wake(*wake_file_);
}

void Jobs::abandon(const std::string& generation_id) {
  std::lock_guard lock(mutex_);
  jobs_.erase(generation_id);
}

void Jobs::ask(std::shared_ptr<const TextModel> text, PreparedRequest prepared, std::function<void(std::string)> done) {
  auto job = std::make_shared<Job>();
  job->request.text = std::move(text);
  job->prepared = std::move(prepared);
  job->to_begin = true;
  job->collected = std::move(done);
  {
    std::lock_guard lock(mutex_);
    if (closing_) return;
    jobs_.emplace(fmt::format("ask-{}", next_tag_++), job);
  }
  wake(*wake_file_);
}

void Jobs::stop(const std::string& generation_id) {
  {
    std::lock_guard lock(mutex_);
    if (const auto found = jobs_.find(generation_id); found != jobs_.end()) found->second->stop_asked = true;
  }
  wake(*wake_file_);
}

void Jobs::stop_conversation(const std::string& conversation_id) {
  {
    std::lock_guard lock(mutex_);
    for (auto& [id, job] : jobs_) job->stop_asked |= job->request.conversation_id == conversation_id;
  }
  wake(*wake_file_);
}

void Jobs::stop_user(const std::string& user_id) {
  {
    std::lock_guard lock(mutex_);
    for (auto& [id, job] : jobs_) job->stop_asked |= job->request.user_id == user_id;
  }
  wake(*wake_file_);
}

bool Jobs::busy(const std::string& conversation_id) const {
  std::unique_lock lock(mutex_);
  const auto any = [&](auto&& is) { return std::any_of(jobs_.begin(), jobs_.end(), [&](const auto& entry) { return entry.second->request.conversation_id == conversation_id && is(*entry.second); }); };
  ended_.wait_for(lock, kEndWait, [&] { return !any([](const Job& job) { return job.ending; }); });
  return any([](const Job& job) { return !job.unsaved; });
}

bool Jobs::closing_asked() const {
  std::lock_guard lock(mutex_);
  return closing_;
}

size_t Jobs::running() const {
  std::lock_guard lock(mutex_);
  return static_cast<size_t>(std::count_if(jobs_.begin(), jobs_.end(), [](const auto& entry) { return !entry.second->unsaved; }));
}

void Jobs::overlay(std::vector<Message>& messages) const {
  std::lock_guard lock(mutex_);
  for (Message& message : messages) {
    if (message.status != "generating" || !message.generation_id) continue;
    const auto found = jobs_.find(*message.generation_id);
    if (found == jobs_.end()) continue;
    const Job& job = *found->second;
    message.text = job.text.substr(0, job.published);
    if (job.unsaved) message.status = "failed", message.error = job.shown_error, message.stats = job.end.stats;
  }
}

// ---- the jobs' thread ----

void Jobs::run() {
  Clock::time_point next = Clock::now() + kSaveEvery;
  for (;;) {
    bool closing = false;
    std::vector<std::shared_ptr<Job>> begin_now, stop_now;
    wait_until(next);
    {
      std::lock_guard lock(mutex_);
      closing = closing_;
      for (auto& [id, job] : jobs_) {
        if (job->unsaved) continue;
        if (job->to_begin && !job->stop_asked) begin_now.push_back(job);
        if (job->stop_asked && !job->stopped) stop_now.push_back(job);
      }
    }
    for (const auto& job : begin_now) begin(*job);
    for (const auto& job : stop_now) {
      job->stopped = true;
      job->to_begin = false;
      if (job->session) job->session->cancel();
      else finish(*job, "stopped", "");  // its prompt, if one still comes, finds no job
    }
    take_events();
    next = tend(Clock::now());
    if (!closing) continue;
    std::vector<std::shared_ptr<Job>> left;
    {
      std::lock_guard lock(mutex_);
      for (auto& [id, job] : jobs_) left.push_back(job);
    }
    for (const auto& job : left) {
      if (job->unsaved) write_end(*job);
      else finish(*job, "interrupted", problem_json({503, "shutting_down", "The server was stopped while it was answering."}));
    }
    return;
  }
}

void Jobs::begin(Job& job) {
  job.to_begin = false;
  if (!*job.prepared) return finish(job, "failed", problem_json(Problem(job.prepared->error())));
  {
    std::lock_guard lock(mutex_);
    job.tag = next_tag_++;
  }
  job.prompt_tokens = static_cast<int64_t>((*job.prepared)->prompt_tokens.size());
  auto session = Session::start(engine_, *job.request.text, std::move(**job.prepared), events_, job.tag);
  if (!session) return finish(job, "failed", problem_json(Problem(session.error())));
  job.session = std::move(*session);
  std::lock_guard lock(mutex_);
  for (auto& [id, one] : jobs_)
    if (one.get() == &job) by_tag_.emplace(job.tag, one);
}

void Jobs::take_events() {
  drained_.clear();
  events_->drain(drained_);
  for (EngineEvent& event : drained_) {
    std::shared_ptr<Job> job;
    {
      std::lock_guard lock(mutex_);
      if (const auto found = by_tag_.find(event.user_data); found != by_tag_.end()) job = found->second;
    }
    if (!job || !job->session) continue;
    session_events_.clear();
    job->session->on_event(std::move(event), session_events_);
    for (SessionEvent& one : session_events_) take(*job, one);
  }
}

void Jobs::take(Job& job, SessionEvent& event) {
  if (auto* text = std::get_if<TextEvent>(&event)) {
    const auto now = Clock::now();
    job.tokens += static_cast<int64_t>(text->tokens.size());
    if (!job.first_token && !text->tokens.empty()) {
      job.first_token = now;
      if (!job.collected) publish_status(job, "running");
    }
    job.last_token = now;
    if (job.stopped || text->text.empty()) return;  // a stopped answer does not grow any more
    std::lock_guard lock(mutex_);                   // overlay() reads it
    job.text += text->text;
  } else if (auto* finished = std::get_if<ChoiceFinished>(&event)) {
    job.reason = finished->reason;
  } else if (auto* end = std::get_if<SessionEnd>(&event)) {
    take_end(job, *end);
  }
}

void Jobs::take_end(Job& job, const SessionEnd& end) {
  job.usage = end.usage;
  std::string status = "done", error;
  if (job.stopped) status = "stopped";
  else if (end.reason == FinishReason::error) {
    status = "failed";
    error = problem_json(Problem(end.error));
  } else if (end.reason == FinishReason::cancelled || end.reason == FinishReason::deadline) {
    status = "interrupted";
    error = problem_json({503, end.reason == FinishReason::deadline ? "cancelled" : "shutting_down", "The server ended this answer."});
  } else if (job.reason == FinishReason::length) {
    status = "length";
  }
  finish(job, std::move(status), std::move(error));
}

/// Publishes and saves what is due; returns when something will be due next.
Jobs::Clock::time_point Jobs::tend(Clock::time_point now) {
  std::vector<std::shared_ptr<Job>> all;
  {
    std::lock_guard lock(mutex_);
    for (auto& [id, job] : jobs_) all.push_back(job);
  }
  Clock::time_point next = now + std::chrono::hours(1);
  for (const auto& job : all) {
    if (job->collected) continue;
    if (job->unsaved) {
      if (now >= job->retry_at) write_end(*job);
      next = std::min(next, now + kSaveEvery);
      continue;
    }
    if (job->published < job->text.size()) {
      if (now - job->delta_at >= kDeltaEvery) publish_delta(*job), job->delta_at = now;
      else next = std::min(next, job->delta_at + kDeltaEvery);
    }
    if (job->saved < job->text.size()) {
      if (now - job->saved_at >= kSaveEvery && !job->saving) save_part(store_, job), job->saved_at = now;
      next = std::min(next, std::max(now, job->saved_at) + kSaveEvery);
    }
    if (!job->first_token && job->session && now - job->status_at >= kSaveEvery) publish_status(*job, "queued"), job->status_at = now;
    if (!job->first_token) next = std::min(next, now + kSaveEvery);
  }
  return next;
}

void Jobs::publish_delta(Job& job) {
  const std::string_view text = std::string_view(job.text).substr(job.published);
  hub_.publish(job.request.user_id, "delta",
               json::object{{"conversation_id", job.request.conversation_id}, {"message_id", job.request.message.id}, {"generation_id", *job.request.message.generation_id}, {"offset", job.published_utf16}, {"text", text}});
  std::lock_guard lock(mutex_);
  job.published_utf16 += utf16_length(text);
  job.published = job.text.size();
}

void Jobs::publish_status(Job& job, std::string_view status) {
  json::value ahead = nullptr;
  if (status == "queued") ahead = engine_.stats().waiting;
  hub_.publish(job.request.user_id, "generation",
               json::object{{"id", *job.request.message.generation_id}, {"conversation_id", job.request.conversation_id}, {"message_id", job.request.message.id}, {"status", status}, {"ahead", std::move(ahead)}});
}

}  // namespace pagemill::chat
