#include "bus/net/http_client.hpp"

#include "bus/net/dscp.hpp"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <exception>
#include <mutex>
#include <stdexcept>

#include <curl/curl.h>
#include <sys/socket.h>
#include <fmt/core.h>

namespace mirrorbus::net {
namespace {

constexpr std::size_t kErrorText = 4096;

long milliseconds(base::Duration duration) {
  return static_cast<long>(std::chrono::ceil<std::chrono::milliseconds>(duration).count());
}

// What one transfer has come to, for the callbacks.
struct Transfer {
  CURL* curl;
  const HttpFetch& fetch;
  HttpClient::Sink& sink;
  const std::atomic<bool>& cancelled;
  HttpResult result;
  std::uint64_t received = 0;
  std::optional<std::uint64_t> range_first;  // from Content-Range
  bool begun = false;
  std::optional<HttpFailure::Kind> why;
  std::exception_ptr thrown;
  std::optional<Address> answered;  // who did, last; from then on a connection is a redirect's
  std::string forbidden;
};

// "bytes 100-199/1000"
std::optional<std::uint64_t> range_begin(std::string_view value) {
  constexpr std::string_view kBytes = "bytes ";
  if (!value.starts_with(kBytes)) return std::nullopt;
  value.remove_prefix(kBytes.size());
  std::uint64_t first = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), first);
  if (error != std::errc() || end == value.data() + value.size() || *end != '-')
    return std::nullopt;
  return first;
}

std::size_t on_header(char* data, std::size_t, std::size_t size, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  const std::string_view line(data, size);
  if (line.starts_with("HTTP/")) {  // a new answer: after a redirect, or a 100
    transfer.range_first.reset();
    transfer.result.etag.clear();
    if (const char* by = nullptr;
        curl_easy_getinfo(transfer.curl, CURLINFO_PRIMARY_IP, &by) == CURLE_OK && by)
      transfer.answered = parse_address(by);
    return size;
  }
  const std::size_t colon = line.find(':');
  if (colon == line.npos) return size;
  std::string name(line.substr(0, colon));
  std::ranges::transform(name, name.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
  std::string_view value = line.substr(colon + 1);
  while (!value.empty() && (value.front() == ' ' || value.front() == '\t')) value.remove_prefix(1);
  while (!value.empty() && static_cast<unsigned char>(value.back()) <= ' ') value.remove_suffix(1);
  if (name == "etag") transfer.result.etag = value;
  if (name == "content-range") transfer.range_first = range_begin(value);
  return size;
}

bool begin_body(Transfer& t) {
  long status = 0;
  curl_easy_getinfo(t.curl, CURLINFO_RESPONSE_CODE, &status);
  t.result.status = static_cast<int>(status);
  t.begun = true;
  if (!t.fetch.range || !t.result.ok()) return true;
  // A server may answer a range with the whole; that is right if the range began at the beginning.
  const std::uint64_t first = status == 206 ? t.range_first.value_or(UINT64_MAX) : 0;
  if (first == t.fetch.range->first) return true;
  t.why = HttpFailure::Kind::RangeIgnored;
  return false;
}

std::size_t on_body(char* data, std::size_t, std::size_t size, void* user) {
  auto& t = *static_cast<Transfer*>(user);
  constexpr std::size_t kAbort = CURL_WRITEFUNC_PAUSE - 1;  // any count but `size`
  if (!t.begun && !begin_body(t)) return kAbort;
  t.received += size;
  if (!t.result.ok()) {
    t.result.error_text.append(data, std::min(size, kErrorText - t.result.error_text.size()));
    if (t.received <= std::max<std::uint64_t>(t.fetch.max_bytes, kErrorText)) return size;
    t.why = HttpFailure::Kind::TooLarge;
    return kAbort;
  }
  if (t.received > t.fetch.max_bytes) {
    t.why = HttpFailure::Kind::TooLarge;
    return kAbort;
  }
  try {
    if (!t.sink(proto::ByteView(data, size))) {
      t.why = HttpFailure::Kind::Stopped;
      return kAbort;
    }
  } catch (...) {
    t.thrown = std::current_exception();  // not through curl's C frames
    return kAbort;
  }
  t.result.bytes += size;
  return size;
}

int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  auto& t = *static_cast<Transfer*>(user);
  if (!t.cancelled) return 0;
  t.why = HttpFailure::Kind::Cancelled;
  return 1;
}

curl_socket_t on_open(void* user, curlsocktype, curl_sockaddr* where) {
  auto& t = *static_cast<Transfer*>(user);
  try {
    const auto to = address_of(where->addr);
    if (to && t.fetch.may_connect(*to, t.answered))
      return ::socket(where->family, where->socktype | SOCK_CLOEXEC, where->protocol);
    t.forbidden = to ? to_text(*to) : "an address of no known family";
  } catch (...) {
    t.thrown = std::current_exception();
  }
  return CURL_SOCKET_BAD;
}

int on_socket(void* user, curl_socket_t socket, curlsocktype) {
  mark(socket, *static_cast<const int*>(user));
  return CURL_SOCKOPT_OK;
}

HttpFailure::Kind kind_of(CURLcode code, bool low_speed) {
  switch (code) {
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_TOO_MANY_REDIRECTS: return HttpFailure::Kind::BadUrl;
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION: return HttpFailure::Kind::Unreachable;
    case CURLE_OPERATION_TIMEDOUT:
      return low_speed ? HttpFailure::Kind::TooSlow : HttpFailure::Kind::Timeout;
    case CURLE_FILESIZE_EXCEEDED: return HttpFailure::Kind::TooLarge;
    default: return HttpFailure::Kind::Broken;
  }
}

std::string_view words(HttpFailure::Kind kind) {
  switch (kind) {
    case HttpFailure::Kind::TooLarge: return "more bytes than allowed";
    case HttpFailure::Kind::Stopped: return "stopped";
    case HttpFailure::Kind::Cancelled: return "cancelled";
    case HttpFailure::Kind::RangeIgnored: return "another range than asked for";
    default: return "";
  }
}

}  // namespace

struct HttpClient::Impl {
  CURL* curl = nullptr;
  std::atomic<bool> cancelled = false;

  Outcome perform(const std::string& url, const proto::ByteView* body,
                  const std::string& content_type, Sink& sink, const HttpFetch& fetch);
};

HttpClient::HttpClient() : impl_(std::make_unique<Impl>()) {
  static const CURLcode global = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (global != CURLE_OK || !(impl_->curl = curl_easy_init()))
    throw std::runtime_error("cannot start libcurl");
}

HttpClient::~HttpClient() { curl_easy_cleanup(impl_->curl); }

HttpClient::Outcome HttpClient::get(const std::string& url, Sink sink, const HttpFetch& fetch) {
  return impl_->perform(url, nullptr, {}, sink, fetch);
}

HttpClient::Outcome HttpClient::post(const std::string& url, proto::ByteView body,
                                     const std::string& content_type, Sink sink,
                                     const HttpFetch& fetch) {
  return impl_->perform(url, &body, content_type, sink, fetch);
}

void HttpClient::cancel() { impl_->cancelled = true; }
void HttpClient::resume() { impl_->cancelled = false; }

HttpClient::Outcome HttpClient::Impl::perform(const std::string& url, const proto::ByteView* body,
                                              const std::string& content_type, Sink& sink,
                                              const HttpFetch& fetch) {
  const auto failure = [&url](HttpFailure::Kind kind, std::string_view text) {
    return std::unexpected(HttpFailure{kind, fmt::format("{}: {}", url, text)});
  };
  const bool secure = url.starts_with("https://");
  if (!secure && !url.starts_with("http://"))
    return failure(HttpFailure::Kind::BadUrl, "neither http:// nor https://");
  if (cancelled) return failure(HttpFailure::Kind::Cancelled, words(HttpFailure::Kind::Cancelled));

  Transfer transfer{curl, fetch, sink, cancelled};
  char message[CURL_ERROR_SIZE] = "";
  curl_slist* headers = nullptr;
  const auto add_header = [&headers](const std::string& line) {
    if (curl_slist* const longer = curl_slist_append(headers, line.c_str())) headers = longer;
  };
  for (const auto& [name, value] : fetch.headers) add_header(name + ": " + value);

  curl_easy_reset(curl);  // options only: connections stay
  const auto set = [this](CURLoption option, auto value) {
    if (curl_easy_setopt(curl, option, value) != CURLE_OK)
      throw std::logic_error(fmt::format("libcurl refuses option {}", static_cast<int>(option)));
  };
  set(CURLOPT_URL, url.c_str());
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_ERRORBUFFER, message);
  set(CURLOPT_USERAGENT, "mirrorbus");
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_FOLLOWLOCATION, 1L);
  set(CURLOPT_MAXREDIRS, 5L);
  set(CURLOPT_REDIR_PROTOCOLS_STR, secure ? "https" : "http,https");  // never down to plain
  set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_2TLS));
  set(CURLOPT_TCP_KEEPALIVE, 1L);
  // Only for speed, and refused while a buffer of a transfer that failed early is still about.
  curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 256L * 1024);
  set(CURLOPT_CONNECTTIMEOUT_MS, milliseconds(fetch.connect_timeout));
  set(CURLOPT_TIMEOUT_MS, milliseconds(fetch.timeout));
  set(CURLOPT_LOW_SPEED_LIMIT, static_cast<long>(fetch.low_speed));
  set(CURLOPT_LOW_SPEED_TIME, std::max(1L, milliseconds(fetch.low_speed_time) / 1000));
  if (fetch.dscp > 0) {
    set(CURLOPT_SOCKOPTFUNCTION, &on_socket);
    set(CURLOPT_SOCKOPTDATA, const_cast<int*>(&fetch.dscp));
  }
  if (fetch.may_connect) {
    set(CURLOPT_OPENSOCKETFUNCTION, &on_open);
    set(CURLOPT_OPENSOCKETDATA, &transfer);
  }
  if (fetch.direct) set(CURLOPT_PROXY, "");
  if (!fetch.authorities.empty()) {
    set(CURLOPT_CAINFO, fetch.authorities.c_str());
    set(CURLOPT_CAPATH, static_cast<const char*>(nullptr));  // instead of the system's
  }
  if (fetch.max_rate > 0)
    set(CURLOPT_MAX_RECV_SPEED_LARGE, static_cast<curl_off_t>(fetch.max_rate));
  if (fetch.range) {
    const std::string range = fetch.range->last
                                  ? fmt::format("{}-{}", fetch.range->first, *fetch.range->last)
                                  : fmt::format("{}-", fetch.range->first);
    set(CURLOPT_RANGE, range.c_str());
  }
  if (body) {
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body->size()));
    set(CURLOPT_POSTFIELDS, body->data() ? body->data() : "");
    add_header("Content-Type: " + content_type);
  }
  set(CURLOPT_HTTPHEADER, headers);
  set(CURLOPT_HEADERFUNCTION, &on_header);
  set(CURLOPT_HEADERDATA, &transfer);
  set(CURLOPT_WRITEFUNCTION, &on_body);
  set(CURLOPT_WRITEDATA, &transfer);
  set(CURLOPT_NOPROGRESS, 0L);
  set(CURLOPT_XFERINFOFUNCTION, &on_progress);
  set(CURLOPT_XFERINFODATA, &transfer);

  const CURLcode code = curl_easy_perform(curl);
  curl_slist_free_all(headers);
  if (transfer.thrown) std::rethrow_exception(transfer.thrown);
  if (transfer.why) return failure(*transfer.why, words(*transfer.why));
  if (code == CURLE_COULDNT_CONNECT && !transfer.forbidden.empty())
    return failure(HttpFailure::Kind::Forbidden,
                   fmt::format("leads to {}, which is not to be connected to from there",
                               transfer.forbidden));
  if (code != CURLE_OK) {
    // curl has one code for both; only its words tell a transfer that was too slow.
    const bool low_speed = std::string_view(message).find("too slow") != std::string_view::npos;
    return failure(kind_of(code, low_speed), *message ? message : curl_easy_strerror(code));
  }
  if (!transfer.begun && !begin_body(transfer))  // an answer without a body
    return failure(*transfer.why, words(*transfer.why));

  HttpResult& result = transfer.result;
  if (const char* type = nullptr;
      curl_easy_getinfo(curl, CURLINFO_CONTENT_TYPE, &type) == CURLE_OK && type)
    result.content_type = type;
  if (curl_off_t seconds = 0;
      curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &seconds) == CURLE_OK && seconds > 0)
    result.retry_after = std::chrono::seconds(std::min<curl_off_t>(seconds, 86'400));
  return result;
}

}  // namespace mirrorbus::net
