// What a tree on this machine can hand out by hash: asked by the content server's thread.
#pragma once

#include "bus/base/fd.hpp"
#include "proto/bytes.hpp"

#include <functional>
#include <optional>

#include <sys/stat.h>

namespace mirrorbus::mirror {

struct HeldFile {
  base::Fd fd;
  std::uint64_t size = 0;
  struct stat st {};  // when it was opened

  // What has been read meanwhile is what was opened.
  bool unchanged() const;
};

// An implementation keeps its own connections; every call is on the one content thread.
class ContentHolder {
 public:
  virtual ~ContentHolder() = default;
  virtual std::optional<HeldFile> pack(const proto::Hash& hash) = 0;
  virtual std::optional<HeldFile> object(const proto::Hash& hash) = 0;
  virtual std::optional<proto::Bytes> node(const proto::Hash& hash) = 0;
};

}  // namespace mirrorbus::mirror
