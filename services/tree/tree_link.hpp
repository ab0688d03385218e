// The symbolic link by which a mirror shows a directory of its work folder at the path it was told:
// a version of several, or a part of the tree. Blocking, any thread, one at a time.
#pragma once

#include "services/tree/entry_ops.hpp"

#include <optional>
#include <string>

namespace mirrorbus::tree {

class TreeLink {
 public:
  // `subtree`: what is shown of the directory that the link is said to show; empty: all of it.
  TreeLink(std::string link, std::string work, std::string subtree, const EntryOps& ops)
      : link_(std::move(link)), work_(std::move(work)), subtree_(std::move(subtree)), ops_(ops) {}

  // Why the link must not be made, for people. `adopt`: a link that leads elsewhere is taken over,
  // a directory never.
  std::optional<std::string> unfit(bool adopt) const;
  // Leads to `below`, a path in the work folder: by one rename, on disk when it returns.
  void lead_to(const std::string& below) const;
  // There is something for lead_to() to show.
  bool would_show(const std::string& below) const;

 private:
  std::string with_subtree(const std::string& below) const;
  std::string target(const std::string& below) const;
  std::optional<std::string> read() const;

  const std::string link_, work_, subtree_;
  const EntryOps& ops_;
};

}  // namespace mirrorbus::tree
