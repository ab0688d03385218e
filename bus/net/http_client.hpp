// HTTP for worker threads: get and post, blocking, with limits. Keeps connections to reuse them.
//
// One thread at a time, except cancel(). The network's failings come back as values; what the sink
// throws goes through to the caller.
#pragma once

#include "bus/base/clock.hpp"
#include "bus/net/address_range.hpp"
#include "proto/bytes.hpp"

#include <cstdint>
#include <expected>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace mirrorbus::net {

struct HttpFailure {
  enum class Kind {
    BadUrl,        // not http:// or https://, or a redirect to something else
    Forbidden,     // may_connect refused every address there is, or the last of them
    Unreachable,   // no such host, connection refused, TLS not trusted
    Timeout,       // not connected or not finished in time
    TooSlow,       // below the low-speed limit for too long
    TooLarge,      // more than max_bytes
    Stopped,       // the sink wanted no more
    Cancelled,     // cancel()
    RangeIgnored,  // the server sent another part than was asked for; nothing went to the sink
    Broken,        // the connection broke, or what came was not HTTP
  };
  Kind kind;
  std::string text;  // for people, with the URL
};

struct HttpResult {
  int status = 0;
  std::string content_type;
  std::string etag;
  std::uint64_t bytes = 0;  // that went to the sink
  std::optional<base::Duration> retry_after;
  std::string error_text;  // the beginning of the body, if the status is not 2xx
  bool ok() const { return status >= 200 && status < 300; }
};

struct HttpFetch {
  // Bytes from `first`, up to and with `last` if given.
  struct Range {
    std::uint64_t first = 0;
    std::optional<std::uint64_t> last;
  };
  std::optional<Range> range;
  base::Duration connect_timeout = std::chrono::seconds(10);
  base::Duration timeout = base::Duration::zero();  // for all of it; zero = no limit
  // Given up below this many bytes a second over so long.
  std::uint32_t low_speed = 1024;
  base::Duration low_speed_time = std::chrono::seconds(30);
  std::uint64_t max_bytes = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t max_rate = 0;  // bytes a second; 0 = no limit
  int dscp = 0;  // of the packets of a connection that this makes; one that is there keeps its own
  std::string authorities;  // file of those that servers' chains must end in; "": the system's
  std::vector<std::pair<std::string, std::string>> headers;
  // Asked with every address before a connection is made to it, so after names are resolved; of a
  // redirect `from` is the address that redirected. Empty: anything goes. A connection that the
  // client still has from before is used again unasked: one client, one rule.
  std::function<bool(const Address& to, const std::optional<Address>& from)> may_connect;
  bool direct = false;  // through no proxy, which resolves names itself
};

class HttpClient {
 public:
  // Takes the body as it comes, only of 2xx answers. False = no more.
  using Sink = std::move_only_function<bool(proto::ByteView)>;
  using Outcome = std::expected<HttpResult, HttpFailure>;

  HttpClient();
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  Outcome get(const std::string& url, Sink sink, const HttpFetch& fetch = {});
  Outcome post(const std::string& url, proto::ByteView body, const std::string& content_type,
               Sink sink, const HttpFetch& fetch = {});

  // Any thread: the transfer under way ends within a second as Cancelled, and so does every later
  // one, until resume().
  void cancel();
  void resume();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mirrorbus::net
