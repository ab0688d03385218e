// Makes the delta pack from an index's committed tree to its sealed pending layer. See proto/pack.md.
//
// Blocking; reads contents and compresses on a few threads of its own. Errors of the file system
// throw; a content that cannot be had, or is not what it was, is left out and costs bytes only.
#pragma once

#include "bus/base/fd.hpp"
#include "proto/pack.hpp"
#include "services/tree/index.hpp"
#include "services/tree/pack_pieces.hpp"
#include "services/tree/pack_targets.hpp"

#include <functional>
#include <optional>
#include <string>

namespace mirrorbus::tree {

struct PackInput {
  const Index& index;           // pending layer sealed
  const proto::TreeRoot& root;  // of the target
  Bytes links, owners;          // encoded tables of the target

  // Contents of the base's and the target's files; nothing if not held. They are hashed here before
  // they are used. Called from several threads.
  std::function<std::optional<Bytes>(const FileRef&)> read_base;
  std::function<std::optional<Bytes>(const FileRef&)> read_target;
  // The same files, opened, for those that are too large to be taken whole; nothing if not held.
  // Empty: such files are left out.
  std::function<base::Fd(const FileRef&)> open_base, open_target;
  // Whether the base tree may have a file with this content: each that it may have costs a share of
  // one pass over the tree. Empty: always.
  std::function<bool(const Hash&)> maybe_in_base;

  PieceSizes sizes;
  unsigned threads = 2;
};

struct PackStats {
  std::uint64_t node_bytes = 0;     // stored
  std::uint64_t content_bytes = 0;  // stored
  std::uint64_t targets = 0;
  std::uint64_t copied = 0;    // targets that are no bytes
  std::uint64_t left_out = 0;  // targets to be fetched by hash
};

// Writes the pack into directory `folder` under its hash (64 hex digits), durable when this returns.
proto::PackRef write_pack(const PackInput& input, const std::string& folder,
                          PackStats* stats = nullptr);

}  // namespace mirrorbus::tree
