// The chat page's files, compressed when the program is built and kept inside it. web/CMakeLists.txt generates the table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace pagemill::chat {

/// Which Content-Security-Policy a file is served with.
enum class AssetPolicy : uint8_t {
  page,     // the strict one
  diagram,  // Mermaid's frame: it writes <style> elements, so it is a document of its own with kDiagramPolicy
};

/// One file. Lives as long as the program; never changes. At least one of the three bodies is there.
struct Asset {
  std::string_view path;                 // "/assets/index-B5xW2h1q.js": as in the URL
  std::string_view content_type;         // with charset where it is text
  std::string_view etag;                 // quoted; of the content, the same for each encoding but for a suffix that the server may add
  bool immutable = false;                // its name holds a hash of its content: cache for a year. Otherwise no-cache
  AssetPolicy policy = AssetPolicy::page;
  std::span<const std::byte> identity;   // empty where only compressed forms are kept
  std::span<const std::byte> gzip;       // empty for what does not compress (fonts). Inflate it for a client that takes neither
  std::span<const std::byte> brotli;
};

/// The file at this path, or null. "/" is not a path here: the page itself is kIndexPath, for "/" and every "/c/…".
const Asset* find_asset(std::string_view path);

/// All of them, by path.
std::span<const Asset> all_assets();

inline constexpr std::string_view kIndexPath = "/index.html";

/// For every file with AssetPolicy::page. Scripts set style properties through the CSSOM only, so there is no unsafe-inline;
/// `frame-src 'self'` is for the diagram frame. Trusted Types policies: `pagemill` hands text to DOMPurify (web/src/lib/render/sanitize.ts),
/// `svelte-trusted-html` is the compiler's own, for the page's templates.
inline constexpr std::string_view kPagePolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; font-src 'self'; connect-src 'self'; "
    "frame-src 'self'; manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; "
    "require-trusted-types-for 'script'; trusted-types pagemill svelte-trusted-html";

/// For AssetPolicy::diagram: no origin of its own (sandbox without allow-same-origin), no network, may only be framed by the page.
inline constexpr std::string_view kDiagramPolicy =
    "sandbox allow-scripts; default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src data:; "
    "frame-ancestors 'self'; base-uri 'none'; form-action 'none'";

}  // namespace pagemill::chat
