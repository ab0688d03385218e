// How much of a signed entry's metadata this mirror reproduces, and how an entry is brought to it.
//
// Content, names, types, permission bits and times always; owners, devices and extended attributes
// as far as the operator wants and the process may. What is left out is counted, never silent.
// Immutable once made: any thread.
#pragma once

#include "proto/node.hpp"
#include "proto/tree_version.hpp"
#include "services/tree/entry_ops.hpp"

#include <functional>
#include <unordered_map>

#include <sys/stat.h>

namespace mirrorbus::tree {

enum class OwnerMode {
  Numeric,  // the ids as signed
  Name,     // the local ids of the names the signed ids had; where there is no such name, numeric
  None,     // whoever writes the tree owns it
};

// What the tree lacks against the signed one, though everything that was asked for is there.
struct Fidelity {
  std::uint64_t owners = 0;   // entries with another owner or group than signed
  std::uint64_t devices = 0;  // device nodes not made
  std::uint64_t xattrs = 0;   // entries whose extended attributes were not set
  std::uint64_t limits = 0;   // times or mode bits this filesystem or user cannot set

  bool full() const { return *this == Fidelity{}; }
  bool operator==(const Fidelity&) const = default;
};

class MetadataPolicy {
 public:
  // Sets the attributes of set `id` on (dir, name); false if it cannot.
  using SetXattrs = std::function<bool(int dir, const proto::Bytes& name, const proto::Hash& id)>;
  struct Settings {
    OwnerMode owner = default_owner();
    bool devices = default_devices();
    SetXattrs set_xattrs;  // empty: extended attributes are left out

    static OwnerMode default_owner();  // Numeric as root, else None
    static bool default_devices();     // as root
  };

  MetadataPolicy(Settings settings, const proto::OwnersTable& owners);

  // Whether the mirror makes an entry of this type at all.
  bool wanted(const proto::Entry& entry) const;
  // Owner, mode and mtime are as they should be. Types are compared by same_type().
  bool matches(const struct stat& st, const proto::Entry& entry) const;
  // Whether what this policy reproduces is equal in both.
  bool same_metadata(const proto::Entry& a, const proto::Entry& b) const;
  // Sets what differs between `now`, the entry's present state, and `entry`: owner, then mode (a
  // change of owner clears bits), extended attributes, then mtime. An empty name is `dir` itself.
  void bring(const EntryOps& ops, int dir, const proto::Bytes& name, const struct stat& now,
             const proto::Entry& entry) const;

  // Adds what this policy leaves out of `entry`.
  void count(const proto::Entry& entry, Fidelity& into) const;

 private:
  uid_t uid(std::uint32_t signed_id) const;
  gid_t gid(std::uint32_t signed_id) const;
  bool owner_matches(const struct stat& st, const proto::Entry& entry) const;

  Settings settings_;
  std::unordered_map<std::uint32_t, uid_t> users_;  // only where they differ
  std::unordered_map<std::uint32_t, gid_t> groups_;
};

bool same_type(const struct stat& st, proto::EntryType type);
bool mtime_matches(const struct stat& st, const proto::Entry& entry);
// As mknod takes it; File and Directory included.
mode_t type_bits(proto::EntryType type);

}  // namespace mirrorbus::tree
