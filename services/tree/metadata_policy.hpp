// How much of a signed entry's metadata this mirror reproduces, and how an entry is brought to it.
//
// Content, names, types, permission bits and times always; owners, devices and extended attributes
// as far as the operator wants and the process may. What is left out is counted, never silent.
// Immutable once made but for xattr sets, which the thread that works looks up first (need); then
// any thread.
#pragma once

#include "proto/node.hpp"
#include "proto/tree_version.hpp"
#include "services/tree/entry_ops.hpp"
#include "services/tree/entry_stat.hpp"
#include "services/tree/path_filter.hpp"
#include "services/tree/xattr_sets.hpp"
#include "services/tree/xattrs.hpp"

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
  std::uint64_t xattrs = 0;   // entries that lack some of their extended attributes
  // Times or mode bits that this filesystem or user cannot set, or the operator does not want;
  // symlinks that lead out of the tree.
  std::uint64_t limits = 0;
  std::uint64_t filtered = 0;  // entries the filter leaves out

  bool full() const { return *this == Fidelity{}; }
  bool operator==(const Fidelity&) const = default;
  Fidelity& operator+=(const Fidelity& other);
  Fidelity& operator-=(const Fidelity& other);
};

class MetadataPolicy {
 public:
  struct Settings {
    OwnerMode owner = default_owner();
    bool devices = default_devices();
    PathFilter filter;        // of what is signed, this much is mirrored
    bool safe_links = false;  // no symlinks that lead out of the tree
    bool nosuid = false;      // files without setuid and setgid bits
    XattrMode xattrs = default_xattr_mode();

    // Whether what this policy reproduces is equal in both.
    bool same_metadata(const proto::Entry& a, const proto::Entry& b) const;

    static OwnerMode default_owner();  // Numeric as root, else None
    static bool default_devices();     // as root
  };

  // `sets`: where signed xattr sets are found; null: extended attributes are nobody's business.
  MetadataPolicy(Settings settings, const proto::OwnersTable& owners, XattrSets* sets = nullptr);

  // A directory whose entries are being judged.
  struct Place {
    proto::ByteView path;
    bool left_out;  // it or one above it is filtered out
  };
  Place place(proto::ByteView directory) const {
    return {directory, settings_.filter.leaves_out(directory)};
  }
  // Whether the mirror makes this entry at all.
  bool wanted(const Place& in, const proto::Entry& entry) const;
  // The mode it gives an entry.
  std::uint32_t mode(const proto::Entry& entry) const;
  // With which a new file may begin, whoever owns it for the moment: nobody else may do more with it
  // than everybody may in the end.
  std::uint32_t mode_at_birth(const proto::Entry& entry) const;
  // For an entry as observed: the signed mode of a candidate, if it has what this policy makes of
  // it. A mode that no candidate has, if it has what this policy would not make.
  std::uint32_t name_mode(const proto::Entry& entry,
                          std::initializer_list<const proto::Entry*> candidates) const;
  // Owner, mode and mtime are as they should be. Types are compared by same_type().
  bool matches(const struct stat& st, const proto::Entry& entry) const;
  bool same_metadata(const proto::Entry& a, const proto::Entry& b) const {
    return settings_.same_metadata(a, b);
  }
  // Sets what differs between `now`, the entry's present state, and `entry`: owner, then plain
  // attributes (a change of owner removes capabilities), mode (it clears bits), ACLs (chmod changes
  // their mask), mtime. An empty name is `dir` itself. False if attributes could not be set that
  // this policy carries. `Known`: what is there of them is what should be, nobody need look.
  enum class Xattrs { Unknown, Known };
  bool bring(const EntryOps& ops, int dir, const proto::Bytes& name, const struct stat& now,
             const proto::Entry& entry, Xattrs attributes = Xattrs::Unknown) const;
  // Makes a new inode what `entry` says. Where that says no attributes it is not looked whether it
  // inherited some: that is for the check to find. Throws std::runtime_error if it is not there.
  void dress(const EntryOps& ops, int dir, const proto::Bytes& name,
             const proto::Entry& entry) const;

  // ---- extended attributes
  bool xattrs() const { return settings_.xattrs != XattrMode::None; }
  // Looks up what `entry` names, for the calls below and bring().
  void need(const proto::Entry& entry) const;
  // What (dir, name) should have of them.
  proto::XattrSet wanted_xattrs(const proto::Entry& entry) const;
  // How what is there compares with the signed set.
  enum class XattrMatch {
    Equal,
    Short,  // as far as this policy carries them
    Differ,
  };
  XattrMatch match_xattrs(int dir, const proto::Bytes& name, const proto::Entry& entry) const;
  // What to call the attributes that are there: the id of the first of these sets that they are (as
  // far as the policy carries it), else their own. `some_missing`: nor do they differ from a set by
  // lacking some. Needs what it compares with.
  std::optional<proto::Hash> name_xattrs(int dir, const proto::Bytes& name,
                                         std::initializer_list<const proto::Entry*> candidates,
                                         bool some_missing) const;

  // Adds what `entry` lacks: by this policy, and as `stat` says.
  void count(const Place& in, const proto::Entry& entry, const EntryStat& stat,
             Fidelity& into) const;
  static void count(const EntryStat& stat, Fidelity& into);

 private:
  uid_t uid(std::uint32_t signed_id) const;
  gid_t gid(std::uint32_t signed_id) const;
  bool filtered(const Place& in, const proto::Entry& entry) const;
  bool leads_out(proto::ByteView directory, const proto::Entry& entry) const;
  bool owner_matches(const struct stat& st, const proto::Entry& entry) const;

  Settings settings_;
  XattrSets* sets_;
  std::unordered_map<std::uint32_t, uid_t> users_;  // only where they differ
  std::unordered_map<std::uint32_t, gid_t> groups_;
};

bool same_type(const struct stat& st, proto::EntryType type);
bool mtime_matches(const struct stat& st, const proto::Entry& entry);
// As mknod takes it; File and Directory included.
mode_t type_bits(proto::EntryType type);

}  // namespace mirrorbus::tree
