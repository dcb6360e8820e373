// Monitor: once a second, how the machine and the engine are doing; the last five minutes are kept for the panel.
#pragma once

#include <deque>
#include <memory>
#include <mutex>

#include "base/json.h"
#include "chat/event_hub.h"
#include "engine/handle.h"
#include "telemetry/machine_sampler.h"

namespace pagemill::chat {

class Monitor {
 public:
  Monitor(EngineHandle& engine, EventHub& hub);
  /// Takes a sample and sends it to whoever watches. One thread.
  void sample();
  /// The object of GET /machine. Any thread.
  json::object machine_json() const;

 private:
  EngineHandle& engine_;
  EventHub& hub_;
  MachineSampler sampler_;
  EngineStats before_;
  TimeNs before_ns_ = 0;
  mutable std::mutex mutex_;
  std::deque<json::object> samples_;     // under mutex_
};

}  // namespace pagemill::chat
