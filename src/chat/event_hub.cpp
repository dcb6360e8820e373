#include "chat/event_hub.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "base/limits.h"
#include "chat/ids.h"

namespace pagemill::chat {
namespace {

constexpr int kIdleBeats = 20;  // five minutes

}  // namespace

EventHub::EventHub() : epoch_(new_id().substr(0, 8)) {}

void EventHub::publish(const std::string& user_id, std::string_view event, const json::value& data) {
  const std::string text = json::serialize(data);
  std::lock_guard lock(mutex_);
  Channel& channel = channels_[user_id];
  channel.seq = next_seq_++;
  std::string frame = http::sse_frame(text, event, fmt::format("{}-{}", epoch_, channel.seq));
  write_all(channel, frame);
  channel.bytes += frame.size();
  channel.events.push_back({channel.seq, std::move(frame)});
  while (channel.events.size() > limits::kChatEventsKept || channel.bytes > limits::kChatEventBytesKept) {
    channel.bytes -= channel.events.front().frame.size();
    channel.events.pop_front();
  }
}

void EventHub::publish_all(std::string_view event, const json::value& data) {
  const std::string frame = http::sse_frame(json::serialize(data), event);
  std::lock_guard lock(mutex_);
  for (auto& [user, channel] : channels_) write_all(channel, frame);
}

void EventHub::publish_live(const json::value& sample) {
  const std::string frame = http::sse_frame(json::serialize(sample), "sample");
  std::lock_guard lock(mutex_);
  for (auto& [user, channel] : channels_)
    std::erase_if(channel.streams, [&](const Stream& stream) { return stream.live && !stream.responder->write(frame); });
}

bool EventHub::anybody_live() const {
  std::lock_guard lock(mutex_);
  for (const auto& [user, channel] : channels_)
    for (const Stream& stream : channel.streams)
      if (stream.live) return true;
  return false;
}

/// A stream whose peer is gone or far behind is dropped: its tab comes back with the last id it saw.
void EventHub::write_all(Channel& channel, std::string_view frame) {
  std::erase_if(channel.streams, [&](const Stream& stream) { return !stream.responder->write(frame); });
}

bool EventHub::attach(const std::string& user_id, const std::string& session_id, std::shared_ptr<http::Responder> stream, std::string_view after, bool live) {
  std::lock_guard lock(mutex_);
  Channel& channel = channels_[user_id];
  if (closed_ || channel.streams.size() >= limits::kChatStreamsPerUser) return false;
  const uint64_t id = next_stream_++;
  stream->on_disconnect([this, weak = std::weak_ptr(alive_), user_id, id] {
    if (weak.lock()) detach(user_id, id);
  });
  stream->start(200, {{"Content-Type", "text/event-stream; charset=utf-8"}, {"Cache-Control", "no-store"}, {"X-Accel-Buffering", "no"}, {"X-Content-Type-Options", "nosniff"}});
  channel.idle_beats = 0;
  if (channel.seq == 0) channel.seq = next_seq_++;
  greet(channel, *stream, after);
  channel.streams.push_back({id, session_id, std::move(stream), live});
  return true;
}

/// Replays what came after `after`, or says that this cannot be done.
void EventHub::greet(Channel& channel, http::Responder& stream, std::string_view after) {
  uint64_t seen = 0;
  const std::string prefix = epoch_ + "-";
  const bool known = after.starts_with(prefix) && std::from_chars(after.data() + prefix.size(), after.data() + after.size(), seen).ec == std::errc();
  const bool kept = channel.events.empty() ? seen == channel.seq : seen + 1 >= channel.events.front().seq && seen <= channel.seq;
  if (!known || !kept) {
    stream.write(http::sse_frame("{}", "reset", fmt::format("{}-{}", epoch_, channel.seq)));
    return;
  }
  std::string missed = ":\n\n";
  for (const Event& event : channel.events)
    if (event.seq > seen) missed += event.frame;
  if (missed.size() < limits::kChatEventBytesKept / 2) stream.write(missed);
  else stream.write(http::sse_frame("{}", "reset", fmt::format("{}-{}", epoch_, channel.seq)));
}

void EventHub::detach(const std::string& user_id, uint64_t stream_id) {
  std::lock_guard lock(mutex_);
  if (const auto found = channels_.find(user_id); found != channels_.end()) std::erase_if(found->second.streams, [&](const Stream& stream) { return stream.id == stream_id; });
}

void EventHub::take_ended(const std::vector<std::string>* session_ids, std::vector<Stream>& ended) {
  for (auto& [user, channel] : channels_) {
    for (Stream& stream : channel.streams)
      if (!session_ids || std::find(session_ids->begin(), session_ids->end(), stream.session_id) != session_ids->end()) ended.push_back(stream);
    std::erase_if(channel.streams, [&](const Stream& stream) { return std::any_of(ended.begin(), ended.end(), [&](const Stream& one) { return one.id == stream.id; }); });
  }
}

void EventHub::end_sessions(const std::vector<std::string>& session_ids) {
  std::vector<Stream> ended;
  {
    std::lock_guard lock(mutex_);
    take_ended(&session_ids, ended);
  }
  for (const Stream& stream : ended) {
    stream.responder->write(http::sse_frame("{}", "signed_out"));
    stream.responder->finish();
  }
}

void EventHub::heartbeat() {
  std::lock_guard lock(mutex_);
  for (auto it = channels_.begin(); it != channels_.end();) {
    Channel& channel = it->second;
    write_all(channel, ":\n\n");
    channel.idle_beats = channel.streams.empty() ? channel.idle_beats + 1 : 0;
    it = channel.idle_beats > kIdleBeats ? channels_.erase(it) : std::next(it);
  }
}

void EventHub::close() {
  std::vector<Stream> ended;
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    take_ended(nullptr, ended);
  }
  for (const Stream& stream : ended) stream.responder->finish();
}

size_t EventHub::streams() const {
  std::lock_guard lock(mutex_);
  size_t count = 0;
  for (const auto& [user, channel] : channels_) count += channel.streams.size();
  return count;
}

}  // namespace pagemill::chat
