// A content source over HTTP: the content listener of another daemon, or any static server that holds
// the same paths. See proto/content.md. Worker threads; one at a time, but for cancel().
#pragma once

#include "bus/net/http_client.hpp"
#include "services/tree/content_source.hpp"

#include <atomic>
#include <string>

namespace mirrorbus::mirror {

class HttpSource final : public tree::ContentSource {
 public:
  explicit HttpSource(std::string base_url);

  std::string name() const override { return base_; }
  void fetch_pack(const tree::Wanted& pack, std::uint64_t offset, tree::ContentSink& sink) override;
  void fetch_nodes(std::span<const proto::Hash> ids, std::uint64_t limit_bytes,
                   tree::ContentSink& sink) override;
  void fetch_objects(std::span<const tree::Wanted> objects, tree::ContentSink& sink) override;
  void fetch_range(const tree::Wanted& object, std::uint64_t offset, tree::ContentSink& sink) override;
  void bad(const proto::Hash& hash, const std::string& what) override;
  std::uint64_t bytes_received() const override { return bytes_; }

  void cancel() { client_.cancel(); }  // any thread
  std::uint64_t bad_items() const { return bad_items_; }

 private:
  void fetch_one(const std::string& folder, const tree::Wanted& thing, std::uint64_t offset,
                 tree::ContentSink& sink);
  void fetch_many(const std::string& folder, const std::vector<proto::Hash>& hashes,
                  const std::function<std::uint64_t(const proto::Hash&)>& limit,
                  tree::ContentSink& sink);

  std::string base_;  // without a "/" at its end
  net::HttpClient client_;
  std::atomic<std::uint64_t> bytes_{0};
  std::atomic<std::uint64_t> bad_items_{0};
};

}  // namespace mirrorbus::mirror
