// The bodies of mirror.sync.<tree>.start, .complete and .fail: what a mirror says about its own work.
// See tree_update.md.
#pragma once

#include "proto/tree_version.hpp"
#include "proto/value.hpp"

#include <optional>
#include <string>
#include <vector>

namespace mirrorbus::proto {

struct SyncStart {
  TreeId tree;
  std::uint64_t from = 0;  // version committed so far; 0: none
  std::uint64_t to = 0;
  std::string source;  // where the bytes are to come from, for people
  bool operator==(const SyncStart&) const = default;
};

// How the copy relates to the version's nodes. Only `full` is called equal.
struct Fidelity {
  bool full = true;
  std::string owner = "numeric";  // numeric | name | none
  std::string xattrs = "all";     // all | user | none
  bool devices = true;
  std::uint64_t owners_left_out = 0;  // entries that have another owner than their node says
  std::uint64_t xattrs_left_out = 0;
  std::uint64_t devices_left_out = 0;
  // Entries without times, mode bits or a symlink that the mirror cannot or shall not have.
  std::uint64_t limits_left_out = 0;
  std::uint64_t filtered_left_out = 0;  // entries
  std::optional<Hash> filter;  // of patterns and sizes, if there are any
  bool operator==(const Fidelity&) const = default;
};

struct MissingItem {
  Bytes path;
  std::string reason;
  bool operator==(const MissingItem&) const = default;
};

struct SyncComplete {
  TreeId tree;
  std::uint64_t from = 0;
  std::uint64_t to = 0;
  Hash tree_hash;           // of the version committed
  std::uint64_t bytes = 0;  // received for it
  double seconds = 0;       // from noticing to committed
  std::string source;
  Fidelity fidelity;
  std::vector<MissingItem> missing;  // committed as incomplete without these; the first of them
  std::uint64_t missing_total = 0;
  bool operator==(const SyncComplete&) const = default;
};

struct SyncFail {
  TreeId tree;
  std::uint64_t from = 0;
  std::uint64_t to = 0;
  std::uint64_t bytes = 0;
  double seconds = 0;
  std::string source;
  std::string error;
  bool operator==(const SyncFail&) const = default;
};

inline constexpr std::size_t kMaxMissingItems = 1000;
inline constexpr std::size_t kMaxMissingSize = 40 * 1024;  // together, so that a body fits an event
inline constexpr std::size_t kMaxSyncText = 1024;          // source, error, one reason

// Adds `item` if it still fits. Counts it either way.
void add_missing(SyncComplete& complete, MissingItem item);

Bytes encode_sync(const SyncStart& start);
Bytes encode_sync(const SyncComplete& complete);
Bytes encode_sync(const SyncFail& fail);
Decoded<SyncStart> decode_sync_start(const Value& body);
Decoded<SyncComplete> decode_sync_complete(const Value& body);
Decoded<SyncFail> decode_sync_fail(const Value& body);

}  // namespace mirrorbus::proto
