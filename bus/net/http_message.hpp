// What an HTTP request asks and what an answer holds, and the pure parts of understanding one: the
// path, the query, a byte range.
#pragma once

#include "bus/base/fd.hpp"
#include "proto/bytes.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace mirrorbus::net {

struct HttpRequest {
  enum class Method { Get, Head, Post };
  Method method = Method::Get;
  std::string path;   // decoded, begins with "/", without "." and ".." segments and NUL
  std::string query;  // what follows "?", as sent
  std::string range;
  std::string if_range;
  std::string if_none_match;
  std::string authorization;
  std::string content_type;
  std::string accept;
  std::optional<std::string> idempotency_key;
  proto::Bytes body;
  std::string peer;  // the client's address
  bool tls = false;
  std::vector<std::string> client_names;  // of its certificate, which has been checked

  // A parameter of the query, decoded; the first of that name.
  std::optional<std::string> parameter(std::string_view name) const;
};

// A part of a file, sent without being read into memory. The file must not shrink meanwhile.
struct HttpFile {
  base::Fd fd;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

// A body made while it is sent, of a length nobody knows. Called for each next piece once the one
// before is on its way: hands it to `give` at once or later, on the server's loop; nothing = the
// end. Destroyed when the answer is finished or the client has gone.
using HttpGive = std::move_only_function<void(std::optional<proto::Bytes> piece)>;
using HttpProducer = std::move_only_function<void(HttpGive give)>;

struct HttpResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string etag;  // with its quotes; If-None-Match and If-Range are then answered by the server
  std::vector<std::pair<std::string, std::string>> headers;  // further ones; no line breaks
  std::variant<proto::Bytes, HttpFile, HttpProducer> body;

  static HttpResponse text(int status, std::string body);
  static HttpResponse json(int status, std::string body);
};

struct ByteRange {
  std::uint64_t first = 0;
  std::uint64_t length = 0;
};
enum class RangeAnswer { Whole, Part, Unsatisfiable };
// RFC 9110 §14.2 for one range of `size` bytes; what is malformed, in other units or more than one
// range is answered with the whole.
RangeAnswer choose_range(std::string_view header, std::uint64_t size, ByteRange& out);

// Does an If-None-Match list name this ETag (weak comparison, or "*")?
bool etag_matches(std::string_view list, std::string_view etag);

// %XX decoded; nothing if an escape is broken. `plus`: '+' means a space (queries).
std::optional<std::string> percent_decode(std::string_view text, bool plus = false);

// The path and query of a request target; nothing if the path is not as HttpRequest says.
struct HttpTarget {
  std::string path;
  std::string query;
};
std::optional<HttpTarget> parse_target(std::string_view target);

}  // namespace mirrorbus::net
