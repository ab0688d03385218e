// The tree as it is on disk, as far as a plan has to know: what the index says of each directory,
// after a look whether that still holds.
//
// A directory whose own lstat differs from the index has had names added, removed or replaced
// behind our back, so every entry in it is looked at. A file edited in place in an otherwise
// unchanged directory is found when it is its turn to be changed (apply), or by verify.
#pragma once

#include "services/tree/entry_ops.hpp"
#include "services/tree/index.hpp"
#include "services/tree/metadata_policy.hpp"
#include "services/tree/plan.hpp"
#include "services/tree/root_dir.hpp"
#include "services/tree/spool.hpp"

#include <functional>
#include <string>
#include <unordered_map>
#include <unordered_set>

namespace mirrorbus::tree {

// Somebody else's change to the tree, which the signed state overwrites.
struct LocalEdit {
  enum class Kind { Added, Changed, Removed };
  proto::Bytes path;
  Kind kind;
};

class LocalEdits {
 public:
  static constexpr std::size_t kNamed = 1000;
  void add(proto::Bytes path, LocalEdit::Kind kind) {
    if (named_.size() < kNamed) named_.push_back({std::move(path), kind});
    ++count_;
  }
  const std::vector<LocalEdit>& named() const { return named_; }  // the first ones
  std::uint64_t count() const { return count_; }

 private:
  std::vector<LocalEdit> named_;
  std::uint64_t count_ = 0;
};

class LiveTree : public OldTree {
 public:
  enum class Trust {
    Index,      // a directory that looks as it did is as the index says
    Nothing,    // look at every entry: an interrupted apply, or a failed check
    Contents,   // and hash every file that does not look as it did, to reuse what is there (adopt)
    OwnWrites,  // as Nothing, but a file that already has the target's metadata was finished by us
    Hashes,     // believe no lstat: hash every file (verify)
  };

  // `edits`: where to tell of local edits; null if they cannot be told from what earlier runs left.
  LiveTree(const Index& index, RootDir& root, const EntryOps& ops, const MetadataPolicy& policy,
           Trust trust, int work_dir, LocalEdits* edits);

  // Paths that are no part of the tree.
  void ignore(std::function<bool(proto::ByteView path)> ignored) { ignored_ = std::move(ignored); }
  // Told after each file that was read whole: how many, and their bytes.
  void on_read(std::function<void(std::uint64_t files, std::uint64_t bytes)> told) {
    on_read_ = std::move(told);
  }
  // Enter this directory, and so those above it, whatever node ids say.
  void look_into(proto::ByteView path);
  // Enter all of them.
  void look_everywhere() { everywhere_ = true; }
  // What apply has put there, with what the check saw: this rather than the index.
  void now_is(const DirectoryRow& row);

  std::optional<OldDirectory> directory(proto::ByteView path, const EntryStat& stat,
                                        const proto::Node* target) override;
  bool uncertain(proto::ByteView path) override;
  std::optional<Hash> listed(proto::ByteView path) override;
  void find_contents(const Wanted& wanted, const Found& found) override;

  // The root's extended attributes as they are, named as a node would: see
  // MetadataPolicy::name_xattrs().
  std::optional<Hash> name_root_xattrs(const proto::Entry& target) const;

  // What directory() answered, or what the index says where it was not asked.
  std::optional<OldDirectory> again(proto::ByteView path) const;
  // It is not as the index says.
  bool differs(proto::ByteView path) const { return known_.contains(proto::Bytes(path)); }
  std::uint64_t files_read() const { return files_read_; }
  std::uint64_t bytes_read() const { return bytes_read_; }

 private:
  struct Known {
    Spool::Slot node, stats;
  };
  std::optional<DirectoryRow> row(proto::ByteView path) const;
  OldDirectory observe(proto::ByteView path, int dir, const OldDirectory* known,
                       const proto::Node* target);
  void observe_entry(const Bytes& path, int dir, const proto::Entry* known, const EntryStat& stat,
                     const proto::Entry* target, proto::Entry& entry, EntryStat& now);
  bool content_is(int dir, const proto::Entry& entry);
  void report(const Bytes& path, const proto::Entry* known, const proto::Entry* now,
              bool content_known, bool same_inode, const proto::Entry* target);
  void remember(proto::ByteView path, const OldDirectory& directory);

  const Index& index_;
  RootDir& root_;
  const EntryOps& ops_;
  const MetadataPolicy& policy_;
  Trust trust_;
  LocalEdits* edits_;
  std::function<bool(proto::ByteView path)> ignored_;
  std::function<void(std::uint64_t files, std::uint64_t bytes)> on_read_;
  Spool spool_;
  std::unordered_map<proto::Bytes, Known> known_;  // what is not as the index says
  std::unordered_set<proto::Bytes> uncertain_;
  bool everywhere_ = false;
  std::uint64_t files_read_ = 0, bytes_read_ = 0;
};

}  // namespace mirrorbus::tree
