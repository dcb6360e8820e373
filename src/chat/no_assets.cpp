// The table of the page's files in a build without the page.
#include "chat/assets.h"

namespace pagemill::chat {

const Asset* find_asset(std::string_view) { return nullptr; }
std::span<const Asset> all_assets() { return {}; }

}  // namespace pagemill::chat
