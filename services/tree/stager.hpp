// Makes the new inodes of a plan in the staging directory: everything that can be done before the
// tree is touched.
//
// Contents come, in this order, from what an earlier run left in staging, from the tree itself
// (links to inodes that are going away, copies of those that stay), from packs, from the source.
// What cannot be had is named, and the rest is staged all the same. Where nobody sees the tree, small
// contents from the source go straight to their places.
#pragma once

#include "services/tree/content_source.hpp"
#include "services/tree/early_sync.hpp"
#include "services/tree/live_tree.hpp"
#include "services/tree/plan.hpp"
#include "services/tree/progress.hpp"
#include "services/tree/staging.hpp"
#include "services/tree/unseen_tree.hpp"

#include <functional>
#include <unordered_map>
#include <unordered_set>

namespace mirrorbus::tree {

struct MissingItem {
  proto::Bytes path;
  std::string reason;
};

// Where each NewInode of a plan is in staging.
class StagedInodes {
 public:
  static constexpr char kPlaced = 'p';
  explicit StagedInodes(std::size_t count) : at_(count) {}
  bool ready(std::uint32_t inode) const { return at_[inode].letter != 0; }
  proto::Bytes name(const Plan& plan, std::uint32_t inode) const;
  // Still the tree's own inode, too: metadata is set when the tree may be changed.
  bool is_link(std::uint32_t inode) const { return at_[inode].letter == 'l'; }
  // It is under its name in the tree, and complete.
  bool is_placed(std::uint32_t inode) const { return at_[inode].letter == kPlaced; }
  void set(std::uint32_t inode, char letter, std::uint32_t number) {
    at_[inode] = {letter, number};
  }

 private:
  struct At {
    char letter = 0;
    std::uint32_t number = 0;
  };
  std::vector<At> at_;
};

class Stager {
 public:
  struct Parts {
    Plan& plan;
    const TargetNodes& nodes;
    LiveTree& live;
    RootDir& root;
    Staging& staging;
    const MetadataPolicy& policy;
    LocalEdits& edits;
    const WorkControl& control;
    UnseenTree* unseen;  // the tree, if nobody sees it
  };
  explicit Stager(const Parts& parts);

  // Leftovers, links, copies, and what needs no content.
  void from_the_tree();
  // What is wanted from elsewhere; a content is asked for once.
  bool wants(const proto::Hash& content) const { return wanted_.contains(content); }
  std::vector<Wanted> wanted() const;
  // A content has come and has this number as a c name.
  void take(const proto::Hash& content, std::uint32_t number);
  // Asks the source for all that is still wanted. The directories of a tree nobody sees are there.
  void fetch(ContentSource& source);
  // Further inodes of a content that has come, owners, modes and times. Call last.
  void finish();

  StagedInodes& staged() { return staged_; }
  // Paths that will not have what they should, and why.
  std::vector<MissingItem> missing();

 private:
  class FetchSink;
  const OldDirectory& old_directory(std::uint32_t dir);
  const proto::Node& target_node(std::uint32_t dir);
  bool take_link(std::uint32_t number);
  bool copy_from_tree(std::uint32_t number);
  void make(std::uint32_t number);
  bool copy(int from, const proto::Bytes& name, std::uint32_t number);
  bool goes_straight(std::uint32_t number) const;
  void has_come(const proto::Hash& content, char letter, std::uint32_t number);
  struct Undressed {
    proto::Bytes name;
    proto::Entry entry;
  };
  void dress(const std::vector<Undressed>& some) const;
  std::vector<std::uint32_t> wanted_numbers() const;
  Wanted wanted(std::uint32_t number) const {
    return {p_.plan.inodes[number].content, p_.plan.inodes[number].size};
  }
  bool by_range(const Wanted& wanted) const;
  void fetch_small(ContentSource& source, const std::vector<std::uint32_t>& numbers);
  void fetch_large(ContentSource& source, const Wanted& wanted);
  void report();

  Parts p_;
  StagedInodes staged_;
  // Numbers of inodes, found by their content: at a first sync these are all there is.
  struct ByContent {
    using is_transparent = void;
    const Plan* plan;
    const proto::Hash& of(std::uint32_t number) const { return plan->inodes[number].content; }
    static const proto::Hash& of(const proto::Hash& hash) { return hash; }
    std::size_t operator()(const auto& key) const { return std::hash<proto::Hash>()(of(key)); }
    bool operator()(const auto& a, const auto& b) const { return of(a) == of(b); }
  };
  std::unordered_set<std::uint32_t, ByContent, ByContent> wanted_;
  std::unordered_set<std::uint32_t> copied_;               // others are copies of these
  std::unordered_map<proto::Hash, std::string> reasons_;   // why one did not come
  std::optional<std::pair<std::uint32_t, OldDirectory>> old_;
  std::optional<std::pair<std::uint32_t, proto::Node>> target_;
  Progress progress_;
  EarlySync early_sync_;
};

}  // namespace mirrorbus::tree
