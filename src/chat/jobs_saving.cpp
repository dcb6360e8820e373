// Jobs: how an answer gets to the disk, part by part and at its end.
#include <future>

#include "base/log.h"
#include "chat/job.h"

namespace pagemill::chat {

/// The store's thread runs its work and what follows it one by one: an end that is written behind this part sees whether it was taken.
void Jobs::save_part(Store& store, const std::shared_ptr<Job>& job) {
  const size_t begin = job->saved, end = job->text.size();
  job->saving = true;
  store.post([job, begin, end, part = job->text.substr(begin)](Database& db) -> Outcome<void> {
    PM_TRY(rows::append_part(db, job->request.conversation_id, job->request.message.id, part));
    job->saved = end;
    return {};
  }, [job, begin](const Outcome<void>& written) {
    if (!written) job->saved = begin;
    job->saving = false;
  });
}

std::string Jobs::stats_json(const Job& job) {
  const auto ms = [](auto duration) { return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count(); };
  if (!job.first_token) return {};
  const double seconds = std::chrono::duration<double>(job.last_token - *job.first_token).count();
  json::value rate = nullptr;
  if (job.tokens > 1 && seconds > 0) rate = static_cast<double>(job.tokens - 1) / seconds;
  return json::serialize(json::object{{"ttft_ms", ms(*job.first_token - job.opened)},
                                      {"duration_ms", ms(job.last_token - job.opened)},
                                      {"queued_ms", job.usage.queued_ns / kNsPerMs},
                                      {"tokens_per_second", std::move(rate)},
                                      {"prompt_tokens", job.usage.prompt_tokens ? job.usage.prompt_tokens : job.prompt_tokens},
                                      {"cached_tokens", job.usage.cached_tokens},
                                      {"answer_tokens", job.usage.output_tokens ? job.usage.output_tokens : job.tokens}});
}

std::shared_ptr<Jobs::Job> Jobs::forget(const Job& job) {
  std::lock_guard lock(mutex_);
  by_tag_.erase(job.tag);
  ended_.notify_all();
  for (auto it = jobs_.begin(); it != jobs_.end(); ++it)
    if (it->second.get() == &job) {
      auto kept = std::move(it->second);
      jobs_.erase(it);
      return kept;
    }
  return nullptr;
}

void Jobs::finish(Job& job, std::string status, std::string error) {
  job.session.reset();
  if (job.collected) {
    const auto kept = forget(job);
    return job.collected(status == "done" || status == "length" ? job.text : std::string());
  }
  if (job.published < job.text.size()) publish_delta(job);
  if (auto parsed = parse_json(error); parsed && parsed->is_object()) error = json::serialize(parsed->at("error"));
  job.end = job.request.message;
  job.end.text = job.text;
  job.end.status = std::move(status);
  job.end.error = std::move(error);
  job.end.stats = stats_json(job);
  {
    std::lock_guard lock(mutex_);
    job.ending = true;
  }
  write_end(job);
}

/// The job stays until its end is on the disk, so that whoever asks meanwhile sees the whole text.
void Jobs::write_end(Job& job) {
  const Outcome<void> written = store_end(job);
  if (!written) log_error("an answer could not be written down: {}", written.error().message);
  Message shown = job.end;
  if (!written) {
    shown.status = "failed";
    shown.error = json::serialize(parse_json(problem_json(written.error()))->at("error"));
  }
  std::shared_ptr<Job> kept;
  bool news = true;
  if (!written && !closing_asked()) {
    job.retry_at = Clock::now() + kSaveEvery;
    std::lock_guard lock(mutex_);
    by_tag_.erase(job.tag);
    news = !job.unsaved;
    job.unsaved = true;
    job.ending = false;
    ended_.notify_all();
    job.shown_error = shown.error;
  } else {
    kept = forget(job);
  }
  if (news) hub_.publish(job.request.user_id, "message", json::object{{"conversation_id", job.request.conversation_id}, {"message", message_json(shown)}, {"head_id", nullptr}});
  if (written && on_end_) on_end_({job.request.user_id, job.request.conversation_id, std::move(shown)});
}

Outcome<void> Jobs::store_end(Job& job) {
  const Message& end = job.end;
  std::promise<Outcome<void>> written;
  auto outcome = written.get_future();
  store_.post([&](Database& db) -> Outcome<void> {
    PM_ASSIGN(const auto seq, db.integer("SELECT seq FROM messages WHERE id = ?", end.id));
    if (!seq) return {};  // the user and all that was theirs is gone
    if (job.saved < job.text.size()) PM_TRY(rows::append_part(db, job.request.conversation_id, end.id, std::string_view(job.text).substr(job.saved)));
    PM_TRY(rows::end_generation(db, *end.generation_id, end.status, end.error, end.stats, now_ms()));
    PM_TRY(db.run("UPDATE conversations SET unread = 1 WHERE id = ?", job.request.conversation_id));
    PM_TRY(rows::touch(db, job.request.conversation_id, std::nullopt, now_ms()));
    return rows::index_message(db, job.request.user_id, *seq, std::string_view(job.text).substr(0, job.start_bytes), job.text);
  }, [&](Outcome<void> result) { written.set_value(std::move(result)); });
  return outcome.get();
}

}  // namespace pagemill::chat
