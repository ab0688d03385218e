#include "bus/net/http_message.hpp"

#include <algorithm>
#include <charconv>

namespace mirrorbus::net {
namespace {

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  return !text.empty() && error == std::errc() && end == last ? std::optional(value) : std::nullopt;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::string_view without_weakness(std::string_view etag) {
  return etag.starts_with("W/") ? etag.substr(2) : etag;
}

}  // namespace

std::optional<std::string> HttpRequest::parameter(std::string_view name) const {
  std::string_view rest = query;
  while (!rest.empty()) {
    const std::string_view pair = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(rest.size(), pair.size() + 1));
    const std::size_t equals = pair.find('=');
    if (percent_decode(pair.substr(0, equals), true) == name)
      return equals == pair.npos ? std::string() : percent_decode(pair.substr(equals + 1), true);
  }
  return std::nullopt;
}

HttpResponse HttpResponse::text(int status, std::string body) {
  HttpResponse response;
  response.status = status;
  response.body = std::move(body);
  return response;
}

HttpResponse HttpResponse::json(int status, std::string body) {
  HttpResponse response = text(status, std::move(body));
  response.content_type = "application/json";
  return response;
}

RangeAnswer choose_range(std::string_view header, std::uint64_t size, ByteRange& out) {
  constexpr std::string_view kBytes = "bytes=";
  if (!header.starts_with(kBytes)) return RangeAnswer::Whole;
  const std::string_view spec = trimmed(header.substr(kBytes.size()));
  const std::size_t dash = spec.find('-');
  if (dash == spec.npos || spec.find(',') != spec.npos) return RangeAnswer::Whole;
  const std::string_view before = trimmed(spec.substr(0, dash)),
                         after = trimmed(spec.substr(dash + 1));
  const auto from = number(before), to = number(after);
  if ((!before.empty() && !from) || (!after.empty() && !to) || (!from && !to))
    return RangeAnswer::Whole;
  if (!from) {  // the last `to` bytes
    if (*to == 0 || size == 0) return RangeAnswer::Unsatisfiable;
    out.length = std::min(*to, size);
    out.first = size - out.length;
    return RangeAnswer::Part;
  }
  if (to && *to < *from) return RangeAnswer::Whole;
  if (*from >= size) return RangeAnswer::Unsatisfiable;
  out.first = *from;
  out.length = to ? std::min(*to - *from, size - 1 - *from) + 1 : size - *from;
  return RangeAnswer::Part;
}

bool etag_matches(std::string_view list, std::string_view etag) {
  if (trimmed(list) == "*") return true;
  while (!list.empty()) {
    const std::string_view item = list.substr(0, list.find(','));
    list.remove_prefix(std::min(list.size(), item.size() + 1));
    if (without_weakness(trimmed(item)) == without_weakness(etag)) return true;
  }
  return false;
}

std::optional<std::string> percent_decode(std::string_view text, bool plus) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && plus) {
      out += ' ';
    } else if (text[i] != '%') {
      out += text[i];
    } else {
      const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
      const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
      if (high < 0 || low < 0) return std::nullopt;
      out += static_cast<char>(high * 16 + low);
      i += 2;
    }
  }
  return out;
}

std::optional<HttpTarget> parse_target(std::string_view target) {
  // A proxy's clients name the host as well.
  for (const std::string_view scheme : {"http://", "https://"})
    if (target.starts_with(scheme)) {
      const std::size_t slash = target.find('/', scheme.size());
      target = slash == target.npos ? "/" : target.substr(slash);
    }
  const std::size_t mark = target.find('?');
  auto path = percent_decode(target.substr(0, mark));
  if (!path || !path->starts_with('/') || path->find('\0') != path->npos) return std::nullopt;
  std::string_view rest = *path;
  while (!rest.empty()) {
    rest.remove_prefix(1);
    const std::string_view segment = rest.substr(0, rest.find('/'));
    if (segment == "." || segment == "..") return std::nullopt;
    rest.remove_prefix(segment.size());
  }
  return HttpTarget{std::move(*path),
                    mark == target.npos ? "" : std::string(target.substr(mark + 1))};
}

}  // namespace mirrorbus::net
