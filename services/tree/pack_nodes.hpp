// The node section of a delta pack: which directories are new, what each frame is compressed against,
// which directories are elsewhere in the base already.
#pragma once

#include "proto/pack.hpp"
#include "services/tree/index.hpp"
#include "services/tree/pack_targets.hpp"

#include <functional>
#include <optional>
#include <vector>

namespace mirrorbus::tree {

class NodeFrames {
 public:
  struct Frame {
    proto::NodeFrame layout;  // without sizes
    Bytes records;
    Bytes prefix;
  };
  using Sink = std::function<void(Frame)>;
  NodeFrames(const Index& index, Sink sink) : index_(index), sink_(std::move(sink)) {}

  // Hands frames on in order, and lists targets (null: nobody wants them) and moves on the way.
  void make(PackTargets* targets, std::vector<proto::PackMove>& moves);

 private:
  // One frame in the making: records of base directories and of new ones.
  struct Open {
    Frame frame;
    std::optional<proto::NodeRecordWriter> records, prefix;
  };
  std::optional<Bytes> moved_from(const Hash& id, ByteView node) const;
  void add(const DirectoryRow& row, const DirectoryRow* old, const Bytes& bare);
  void add_base(const DirectoryRow& old);
  bool bridge(const Bytes& to);
  void flush();

  const Index& index_;
  Sink sink_;
  std::optional<Open> open_;
};

}  // namespace mirrorbus::tree
