// An origin's own store as a place to get contents from: for a rollback, which asks nobody else.
#pragma once

#include "services/tree/content_source.hpp"
#include "services/tree/content_store.hpp"

namespace mirrorbus::tree {

class StoreSource final : public ContentSource {
 public:
  explicit StoreSource(ContentStore& store) : store_(store) {}

  // Whether the content is held, and is what its name says: reads all of it, drops what is not.
  bool holds(const Wanted& object);

  std::string name() const override { return "the origin's own store"; }
  void fetch_pack(const Wanted& pack, std::uint64_t offset, ContentSink& sink) override;
  void fetch_nodes(std::span<const proto::Hash> ids, std::uint64_t limit_bytes,
                   ContentSink& sink) override;
  void fetch_objects(std::span<const Wanted> objects, ContentSink& sink) override;
  void fetch_range(const Wanted& object, std::uint64_t offset, ContentSink& sink) override;
  void bad(const proto::Hash& hash, proto::Reject, const std::string&) override {
    store_.drop(hash);
  }
  std::uint64_t bytes_received() const override { return 0; }  // nothing comes over a network

 private:
  ContentStore& store_;
};

}  // namespace mirrorbus::tree
