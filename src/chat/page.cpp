// The page's files: hashed ones for a year, index.html with an ETag for "/" and every conversation's address.
#include <zlib.h>

#include "chat/assets.h"
#include "chat/ids.h"
#include "chat/site.h"

namespace pagemill::chat {
namespace {

std::string_view text_of(std::span<const std::byte> bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

/// Whether `coding` is accepted: named and not with q=0.
bool accepts(std::string_view header, std::string_view coding) {
  while (!header.empty()) {
    const size_t end = std::min(header.find(','), header.size());
    std::string_view one = header.substr(0, end);
    while (one.starts_with(' ')) one.remove_prefix(1);
    std::string_view name = one.substr(0, one.find(';'));
    while (name.ends_with(' ')) name.remove_suffix(1);
    if (name == coding) {
      const size_t q = one.find("q=");
      return q == std::string_view::npos || one.substr(q + 2).find_first_not_of("0. ") != std::string_view::npos;
    }
    header.remove_prefix(std::min(end + 1, header.size()));
  }
  return false;
}

/// The few clients that take no compression; the sizes are ours, not a stranger's.
std::string inflate_gzip(std::string_view packed) {
  z_stream stream{};
  if (inflateInit2(&stream, 15 + 16) != Z_OK) return {};
  std::string out;
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  int code = Z_OK;
  while (code == Z_OK) {
    char buffer[16384];
    stream.next_out = reinterpret_cast<Bytef*>(buffer);
    stream.avail_out = sizeof buffer;
    code = inflate(&stream, Z_NO_FLUSH);
    out.append(buffer, sizeof buffer - stream.avail_out);
  }
  inflateEnd(&stream);
  return code == Z_STREAM_END ? out : std::string();
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) text.replace(at, from.size(), to);
}

void add_page_headers(http::Response& response, std::string_view policy) {
  const auto add = [&](const char* name, std::string_view value) { response.headers.emplace_back(name, value); };
  add("Content-Security-Policy", policy);
  add("X-Content-Type-Options", "nosniff");
  add("Referrer-Policy", "no-referrer");
  add("Cross-Origin-Opener-Policy", "same-origin");
  add("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()");
}

bool matches(std::string_view if_none_match, std::string_view etag) { return !etag.empty() && (if_none_match == "*" || if_none_match.find(etag) != std::string_view::npos); }

http::Response serve_index(const Site& site, const http::Request& request) {
  const Asset* const asset = find_asset(kIndexPath);
  http::Response response{200, {{"Content-Type", "text/html; charset=utf-8"}, {"Cache-Control", "no-cache"}}, ""};
  add_page_headers(response, kPagePolicy);
  if (!asset) {
    response.body = "<!doctype html><html lang=\"en\"><title>Pagemill</title><p>This build of Pagemill has no chat page. The API is at <code>/v1</code>.";
    return response;
  }
  std::string html = asset->identity.empty() ? inflate_gzip(text_of(asset->gzip)) : std::string(text_of(asset->identity));
  replace_all(html, "\"./assets/", "\"" + site.options.root_path + "/assets/");
  replace_all(html, "data-root=\"\"", "data-root=\"" + site.options.root_path + "\"");
  const std::string etag = "\"" + hex(sha256(html)).substr(0, 24) + "\"";
  response.headers.emplace_back("ETag", etag);
  if (matches(request.header("If-None-Match"), etag)) response.status = 304;
  else response.body = std::move(html);
  return response;
}

http::Response serve_asset(const Asset& asset, const http::Request& request) {
  http::Response response{200, {{"Content-Type", std::string(asset.content_type)}, {"Vary", "Accept-Encoding"}}, ""};
  add_page_headers(response, asset.policy == AssetPolicy::page ? kPagePolicy : kDiagramPolicy);
  // The diagram frame has an origin of its own and loads its script from here.
  response.headers.emplace_back("Cross-Origin-Resource-Policy", asset.policy == AssetPolicy::page && !asset.path.ends_with(".js") ? "same-origin" : "cross-origin");
  response.headers.emplace_back("Cache-Control", asset.immutable ? "public, max-age=31536000, immutable" : "no-cache");
  response.headers.emplace_back("ETag", std::string(asset.etag));
  if (matches(request.header("If-None-Match"), asset.etag)) {
    response.status = 304;
    return response;
  }
  const std::string_view encodings = request.header("Accept-Encoding");
  const bool brotli = !asset.brotli.empty() && accepts(encodings, "br");
  const bool gzip = !brotli && !asset.gzip.empty() && (accepts(encodings, "gzip"));
  if (brotli || gzip) response.headers.emplace_back("Content-Encoding", brotli ? "br" : "gzip");
  if (brotli) response.body = text_of(asset.brotli);
  else if (gzip) response.body = text_of(asset.gzip);
  else response.body = asset.identity.empty() ? inflate_gzip(text_of(asset.gzip)) : std::string(text_of(asset.identity));
  return response;
}

}  // namespace

http::Response serve_page(const Site& site, const http::Request& request) {
  if (request.method != "GET" && request.method != "HEAD") {
    http::Response response = problem_response({405, "method_not_allowed", "The page is only read: GET."});
    response.headers.emplace_back("Allow", "GET, HEAD");
    return response;
  }
  if (request.path == kIndexPath) return serve_index(site, request);
  if (const Asset* const asset = find_asset(request.path)) return serve_asset(*asset, request);
  // An address inside the page has no suffix; a file that is not there is not the page.
  const std::string_view last = std::string_view(request.path).substr(request.path.rfind('/') + 1);
  if (last.find('.') != std::string_view::npos || request.path.starts_with("/assets/") || request.path.starts_with("/chat/"))
    return problem_response({404, "not_found", "There is nothing at this path."});
  return serve_index(site, request);
}

}  // namespace pagemill::chat
