#include "text/rust_result.h"

namespace pagemill::rust {

Result<void> check(PmtStatus status, const Buffer& message, ErrorCode invalid) {
  if (status == PMT_OK) return {};
  return fail(status == PMT_PANIC ? ErrorCode::internal : invalid, message.text());
}

}  // namespace pagemill::rust
