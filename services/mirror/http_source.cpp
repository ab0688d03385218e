#include "services/mirror/http_source.hpp"

#include "proto/content.hpp"

#include <unordered_map>
#include <unordered_set>

#include <fmt/core.h>

namespace mirrorbus::mirror {

HttpSource::HttpSource(std::string base_url, SourceReach reach, TransferLine* line)
    : base_(std::move(base_url)), reach_(std::move(reach)), line_(line) {
  while (base_.ends_with('/')) base_.pop_back();
}

void HttpSource::took(std::uint64_t bytes) {
  bytes_ += bytes;
  if (line_) line_->took(bytes, cancelled_);
}

net::HttpFetch HttpSource::new_fetch() const {
  net::HttpFetch fetch;
  fetch.may_connect = [this](const net::Address& to, const std::optional<net::Address>& from) {
    return reach_.allows(to, from);
  };
  fetch.direct = reach_.handed_on();
  if (line_) {
    fetch.dscp = line_->dscp();
    fetch.authorities = line_->authorities();
  }
  return fetch;
}

// The name first: it ends up in `last_error`.
void HttpSource::fail(proto::Reject why, const std::string& text) {
  ++complaints_[why];
  throw tree::SourceError(fmt::format("{}: {}", to_string(why), text));
}

void HttpSource::fail(const net::HttpFailure& failure) {
  using Kind = net::HttpFailure::Kind;
  if (failure.kind == Kind::Cancelled) throw tree::SourceError(failure.text);
  if (failure.kind == Kind::Forbidden) {
    constexpr auto kWhy = proto::Reject::ForbiddenAddress;
    ++complaints_[kWhy];
    throw ForbiddenSource(fmt::format("{}: {}", to_string(kWhy), failure.text));
  }
  fail(failure.kind == Kind::TooLarge ? proto::Reject::TooLarge : proto::Reject::Unavailable,
       failure.text);
}

void HttpSource::fetch_one(const std::string& folder, const tree::Wanted& thing,
                           std::uint64_t offset, tree::ContentSink& sink) {
  const std::string url = fmt::format("{}/{}/{}", base_, folder, to_hex(thing.hash));
  net::HttpFetch fetch = new_fetch();
  fetch.max_bytes = thing.size_bytes - offset;
  if (offset > 0) fetch.range = {offset, std::nullopt};
  bool begun = false;
  const auto result = client_.get(
      url,
      [&](proto::ByteView bytes) {
        if (!begun) sink.begin(thing.hash);
        begun = true;
        sink.write(bytes);
        took(bytes.size());
        return true;
      },
      fetch);
  if (!result) fail(result.error());
  if (result->status == 404 || result->status == 410)
    return sink.gone(thing.hash, "not held there");
  if (result->status == 416)
    fail(proto::Reject::Truncated, url + ": there is less of it there than was signed");
  if (!result->ok())
    fail(proto::Reject::Unavailable, fmt::format("{}: status {}", url, result->status));
  if (!begun) sink.begin(thing.hash);
  sink.end();
}

void HttpSource::fetch_pack(const tree::Wanted& pack, std::uint64_t offset,
                            tree::ContentSink& sink) {
  fetch_one("packs", pack, offset, sink);
}

void HttpSource::fetch_range(const tree::Wanted& object, std::uint64_t offset,
                             tree::ContentSink& sink) {
  fetch_one("objects", object, offset, sink);
}

void HttpSource::fetch_many(const std::string& folder, const std::vector<proto::Hash>& hashes,
                            const std::function<std::uint64_t(const proto::Hash&)>& limit,
                            tree::ContentSink& sink) {
  if (only_files_) return fetch_each(folder, hashes, limit, sink);
  const std::string url = fmt::format("{}/{}", base_, folder);
  std::string lie;
  auto lie_is = proto::Reject::BadHash;
  // Each that was asked for, once: so an answer has an end.
  std::unordered_set<proto::Hash> open(hashes.begin(), hashes.end());
  const auto asked = [&](const proto::Hash& hash) {
    if (open.erase(hash) == 0) lie = fmt::format("{}: {} was not asked for", url, to_hex(hash));
    return lie.empty();
  };
  proto::ContentParser parser({
      [&](const proto::Hash& hash, std::uint64_t size) {
        if (!asked(hash)) return;
        // More than was signed for is not even looked at.
        if (size > limit(hash)) {
          lie_is = proto::Reject::TooLarge;
          lie = fmt::format("{}: {} has {} bytes, more than it may", url, to_hex(hash), size);
          return;
        }
        sink.begin(hash);
      },
      [&](proto::ByteView bytes) {
        if (lie.empty()) sink.write(bytes);
      },
      [&] {
        if (lie.empty()) sink.end();
      },
      [&](const proto::Hash& hash) {
        if (asked(hash)) sink.gone(hash, "not held there");
      },
  });
  std::optional<proto::Reject> refused;
  const auto result = client_.post(url, proto::encode_content_request(hashes),
                                   "application/octet-stream", [&](proto::ByteView bytes) {
                                     refused = parser.feed(bytes);
                                     took(bytes.size());
                                     return !refused && lie.empty();
                                   },
                                   new_fetch());
  if (!lie.empty()) fail(lie_is, lie);
  if (refused) fail(*refused, url + ": the answer is not one of contents");
  if (!result) fail(result.error());
  // No such place to post to, or no such method: a server that holds files.
  if (result->status == 404 || result->status == 405 || result->status == 501) {
    only_files_ = true;
    return fetch_each(folder, hashes, limit, sink);
  }
  if (!result->ok())
    fail(proto::Reject::Unavailable, fmt::format("{}: status {}", url, result->status));
  if (!parser.at_boundary()) fail(proto::Reject::Truncated, url + ": the answer was cut off");
}

void HttpSource::fetch_each(const std::string& folder, const std::vector<proto::Hash>& hashes,
                            const std::function<std::uint64_t(const proto::Hash&)>& limit,
                            tree::ContentSink& sink) {
  for (const proto::Hash& hash : hashes) fetch_one(folder, {hash, limit(hash)}, 0, sink);
}

void HttpSource::fetch_nodes(std::span<const proto::Hash> ids, std::uint64_t limit_bytes,
                             tree::ContentSink& sink) {
  while (!ids.empty()) {
    const auto some = ids.first(std::min(ids.size(), proto::kMaxContentBatch));
    fetch_many(
        "nodes", {some.begin(), some.end()}, [&](const proto::Hash&) { return limit_bytes; }, sink);
    ids = ids.subspan(some.size());
  }
}

void HttpSource::fetch_objects(std::span<const tree::Wanted> objects, tree::ContentSink& sink) {
  std::vector<proto::Hash> hashes;
  std::unordered_map<proto::Hash, std::uint64_t> sizes;
  for (const tree::Wanted& object : objects)
    if (sizes.emplace(object.hash, object.size_bytes).second) hashes.push_back(object.hash);
  fetch_many("objects", hashes, [&](const proto::Hash& hash) {
    const auto it = sizes.find(hash);
    return it == sizes.end() ? 0 : it->second;
  }, sink);
}

void HttpSource::bad(const proto::Hash& hash, proto::Reject why, const std::string& what) {
  ++complaints_[why];
  last_complaint_ = fmt::format("{}: {} {}", to_string(why), to_hex(hash), what);
}

}  // namespace mirrorbus::mirror
