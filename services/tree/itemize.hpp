// What leads from one tree to another, entry by entry, in the letters of rsync's --itemize-changes:
// for people who compare versions. From nodes alone; nothing on disk is looked at.
//
//   >f+++++++++  new file            cd+++++++++  new directory     *deleting    gone
//   >fcst......  other content       .f..t......  other time        cLc.t......  other target
//   hf+++++++++  a further name of the file behind "=> "
//
// "a" says that ACLs differ in more than the mode shows, "x" that other extended attributes do; of
// sets that are not at hand it is always "x".
//
// An entry of another type replaces what was there and counts as new, as in rsync. Beyond rsync: a
// name that was one of several of a file and now is a file of its own is ">f.........", and a block
// device is not a character device.
#pragma once

#include "proto/node.hpp"
#include "proto/tree_version.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace mirrorbus::tree {

struct Itemized {
  std::string letters;  // 11 columns; blanks but for the first two: only linked anew
  proto::Bytes path;    // empty: the root
  proto::EntryType type = proto::EntryType::File;
  proto::Bytes target;     // a symlink's, unless it goes
  proto::Bytes linked_to;  // a hard link's, where it is made
};

// One of the two trees.
struct ItemizedTree {
  proto::TreeRoot root;
  proto::LinksTable links;
  std::function<proto::Bytes(const proto::Hash& id)> node;  // encoded; throws if it is not at hand
  // An encoded set of extended attributes; nothing if it is not at hand.
  std::function<std::optional<proto::Bytes>(const proto::Hash& id)> xattrs;
};

class Itemizer {
 public:
  // Without `was`, everything is new. `owners`: whether owners and groups are compared.
  Itemizer(std::optional<ItemizedTree> was, ItemizedTree now, bool owners = true);
  ~Itemizer();

  // In tree order, from the first entry behind `after` (nothing: from the root) until `sink`
  // returns false: that one has been told too. Takes no memory but for the nodes on the way down,
  // so a page costs what it shows and the directories above it.
  void each(std::optional<proto::Bytes> after,
            const std::function<bool(const Itemized&)>& sink) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// A name as rsync prints it: control characters, and what is not UTF-8, as \#ooo; a backslash that
// would look like one of these too.
std::string printable(proto::ByteView name);

// The line rsync would print.
std::string to_line(const Itemized& item);

}  // namespace mirrorbus::tree
