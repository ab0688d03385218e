// A content source over HTTP: the content listener of another daemon, or any static server that
// holds the same paths. See proto/content.md. Worker threads; one at a time, but for cancel().
#pragma once

#include "bus/net/http_client.hpp"
#include "services/mirror/source_reach.hpp"
#include "services/mirror/transfer_line.hpp"
#include "services/tree/content_source.hpp"

#include <atomic>
#include <map>
#include <string>

namespace mirrorbus::mirror {

// Not even asked: it leads where it must not.
struct ForbiddenSource : tree::SourceError {
  using tree::SourceError::SourceError;
};

class HttpSource final : public tree::ContentSource {
 public:
  // `reach`: which addresses its URL, and who redirects, may lead to. `line`: what holds it to its
  // rate; outlives it. Null: nothing does.
  HttpSource(std::string base_url, SourceReach reach, TransferLine* line = nullptr);

  std::string name() const override { return base_; }
  void fetch_pack(const tree::Wanted& pack, std::uint64_t offset, tree::ContentSink& sink) override;
  void fetch_nodes(std::span<const proto::Hash> ids, std::uint64_t limit_bytes,
                   tree::ContentSink& sink) override;
  void fetch_objects(std::span<const tree::Wanted> objects, tree::ContentSink& sink) override;
  void fetch_range(const tree::Wanted& object, std::uint64_t offset,
                   tree::ContentSink& sink) override;
  void bad(const proto::Hash& hash, proto::Reject why, const std::string& what) override;
  std::uint64_t bytes_received() const override { return bytes_; }

  void cancel() {  // any thread
    cancelled_ = true;
    client_.cancel();
  }

  // What came and was no good, or did not come: how often for which reason, and the last in words.
  const std::map<proto::Reject, std::uint64_t>& complaints() const { return complaints_; }
  const std::string& last_complaint() const { return last_complaint_; }

 private:
  [[noreturn]] void fail(proto::Reject why, const std::string& text);
  [[noreturn]] void fail(const net::HttpFailure& failure);
  void fetch_one(const std::string& folder, const tree::Wanted& thing, std::uint64_t offset,
                 tree::ContentSink& sink);
  void fetch_many(const std::string& folder, const std::vector<proto::Hash>& hashes,
                  const std::function<std::uint64_t(const proto::Hash&)>& limit,
                  tree::ContentSink& sink);

  // One request for each: what a server that only has files can do.
  void fetch_each(const std::string& folder, const std::vector<proto::Hash>& hashes,
                  const std::function<std::uint64_t(const proto::Hash&)>& limit,
                  tree::ContentSink& sink);

  void took(std::uint64_t bytes);
  net::HttpFetch new_fetch() const;

  std::string base_;  // without a "/" at its end
  const SourceReach reach_;
  TransferLine* const line_;
  std::atomic<bool> cancelled_{false};
  net::HttpClient client_;
  bool only_files_ = false;  // it has said that it takes no POST
  std::atomic<std::uint64_t> bytes_{0};
  std::map<proto::Reject, std::uint64_t> complaints_;
  std::string last_complaint_;
};

}  // namespace mirrorbus::mirror
