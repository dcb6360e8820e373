// What a time zone's offset is at a moment, read from the system's own files (TZif, RFC 8536): another way would change the whole process's zone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace pagemill::chat {

/// Seconds east of UTC of "Asia/Shanghai" and the like; nothing for a name that is not known or looks like a path.
std::optional<int64_t> zone_offset_s(const std::string& name, int64_t unix_s);

}  // namespace pagemill::chat
