// What `bus-mirror diff` and `sync --dry-run` are answered: pages of itemized changes. On a role's
// worker.
#pragma once

#include "proto/value.hpp"
#include "services/tree/index.hpp"
#include "services/tree/itemize.hpp"

#include <memory>
#include <optional>

namespace mirrorbus::mirror {

// A request's "after": the path up to which has been told, in hexadecimal; absent: from the start.
std::optional<proto::Bytes> page_start(const proto::Value& request);

// {"items": [[letters, path, type, target or other name]…], "after": hex}; without "after" it was
// the last page. Paths as tree::printable().
proto::Map diff_page(const tree::Itemizer& itemizer, const std::optional<proto::Bytes>& after);

bool page_follows(const proto::Map& page);

// Two versions of an index. Keeps what the last question needed, for its next page.
class TreeDiffs {
 public:
  explicit TreeDiffs(const tree::Index& index) : index_(index) {}
  // std::runtime_error if either version is not held. Version 0 is the empty tree.
  proto::Value page(std::uint64_t from, std::uint64_t to,
                    const std::optional<proto::Bytes>& after);

 private:
  const tree::Index& index_;
  std::uint64_t from_ = 0, to_ = 0;
  std::unique_ptr<tree::Itemizer> itemizer_;
};

}  // namespace mirrorbus::mirror
