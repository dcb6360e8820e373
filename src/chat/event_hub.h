// EventHub: what happens, told to every open tab of a user: one channel per user with numbered events, the newest of which are kept so that
// a tab can go on where it was cut off.
//
// Any thread. An event's id is EPOCH-SEQ; the epoch changes with every start of the server.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "http/server.h"

namespace pagemill::chat {

class EventHub {
 public:
  EventHub();

  void publish(const std::string& user_id, std::string_view event, const json::value& data);
  /// To every user that has a tab open; not kept.
  void publish_all(std::string_view event, const json::value& data);
  /// To the streams that asked for live samples; not kept.
  void publish_live(const json::value& sample);
  bool anybody_live() const;

  /// Takes the stream over: it has been started. `after`: the last id it saw; empty = none. False where the user has too many streams.
  bool attach(const std::string& user_id, const std::string& session_id, std::shared_ptr<http::Responder> stream, std::string_view after, bool live);
  /// Tells the session's streams that it has ended, and ends them.
  void end_sessions(const std::vector<std::string>& session_ids);
  /// A comment to every stream, so that proxies and dead peers show; forgets channels that nobody has looked at for a while.
  void heartbeat();
  /// Ends every stream; later ones end at once.
  void close();
  size_t streams() const;

 private:
  struct Stream {
    uint64_t id = 0;
    std::string session_id;
    std::shared_ptr<http::Responder> responder;
    bool live = false;
  };
  struct Event {
    uint64_t seq = 0;
    std::string frame;
  };
  struct Channel {
    uint64_t seq = 0;
    std::deque<Event> events;
    size_t bytes = 0;
    std::vector<Stream> streams;
    int idle_beats = 0;
  };
  void detach(const std::string& user_id, uint64_t stream_id);
  static void write_all(Channel& channel, std::string_view frame);
  void greet(Channel& channel, http::Responder& stream, std::string_view after);
  void take_ended(const std::vector<std::string>* session_ids, std::vector<Stream>& ended);

  const std::string epoch_;
  mutable std::mutex mutex_;
  std::map<std::string, Channel> channels_;
  uint64_t next_seq_ = 1;              // over all channels: a forgotten channel's numbers never come again
  uint64_t next_stream_ = 1;
  bool closed_ = false;
  std::shared_ptr<char> alive_ = std::make_shared<char>();  // callbacks of streams may outlive the hub
};

}  // namespace pagemill::chat
