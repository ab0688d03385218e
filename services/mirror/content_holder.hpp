// What a tree on this machine can hand out by hash: asked by the content server's thread.
#pragma once

#include "proto/bytes.hpp"
#include "services/tree/served_file.hpp"

#include <optional>

namespace mirrorbus::mirror {

// An implementation keeps its own connections; every call is on the one content thread.
class ContentHolder {
 public:
  virtual ~ContentHolder() = default;
  virtual std::optional<tree::ServedFile> pack(const proto::Hash& hash) = 0;
  virtual std::optional<tree::ServedFile> object(const proto::Hash& hash) = 0;
  virtual std::optional<proto::Bytes> node(const proto::Hash& hash) = 0;
};

}  // namespace mirrorbus::mirror
