// The database's schema as a list of steps, one per version. A step that has been released is never changed: a new one follows it.
#pragma once

#include <span>
#include <string_view>

#include "chat/database.h"

namespace pagemill::chat {

/// Step i brings version i to version i + 1 (PRAGMA user_version).
std::span<const std::string_view> schema_steps();

/// Brings the database to the newest version, each step in a transaction of its own. A database of a newer program is refused.
Result<void> migrate(Database& database);

}  // namespace pagemill::chat
