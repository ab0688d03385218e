// [[tree]]: what an operator says about one tree.
#pragma once

#include "bus/base/config.hpp"
#include "bus/net/address_range.hpp"
#include "services/mirror/transfer_settings.hpp"
#include "services/tree/retention.hpp"
#include "services/tree/watch.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mirrorbus::mirror {

struct TreeSettings {
  enum class Role { Origin, Mirror };
  struct Command {
    std::vector<std::string> command;  // a program and its arguments; no shell
    base::Duration timeout;
  };

  std::string name;  // one topic segment
  std::string path;
  Role role = Role::Mirror;
  std::string work;  // empty: beside the tree
  std::vector<std::string> exclude, include;
  std::uint64_t min_size = 0, max_size = UINT64_MAX;  // of files
  std::string xattrs;  // "all" | "user" | "none"; empty: all as root, else user
  std::vector<net::AddressRange> serve_to;  // who may fetch its content; none: everybody

  std::vector<Command> hooks;  // run when a version is in place, or published

  std::string status_file, trace_file;  // outside the tree; empty: none

  // origin
  bool publish_auto = true;
  base::Duration settle = std::chrono::seconds(2);
  base::Duration max_wait = base::Duration::zero();  // zero: never warn
  std::string store = "auto";  // auto | reflink | hardlink | copy | none
  tree::WatchKind watch = tree::WatchKind::Auto;
  bool one_file_system = true;
  bool hold_on_unreadable = false;  // on_unreadable = "hold" | "incomplete"
  tree::Retention retain;
  base::Duration gc_grace = std::chrono::hours(24);
  base::Duration reconcile = std::chrono::hours(24);

  Command import{{}, std::chrono::hours(6)};  // fills the tree; no command: nothing does
  base::Duration import_every = base::Duration::zero();  // zero: only when asked for

  // mirror
  std::string origin;               // publisher's name; empty: the first one heard is pinned
  std::vector<std::string> last;    // patterns of what is put in place last
  std::optional<std::uint64_t> max_delete;  // files; empty: max(1000, 10 %)
  std::uint64_t min_free = 0;       // bytes
  bool adopt = false;
  std::string subtree;              // the directory of the tree that is mirrored; empty: all
  bool snapshot = false;            // apply = "snapshot": the path is a link to one of several
  std::string owner;  // "numeric" | "name" | "none"; empty: numeric as root, else none
  std::optional<bool> devices;      // empty: as root
  bool safe_links = false, nosuid = false, nodev = false;
  std::vector<std::string> source;  // further content sources: http:// or https://
  std::vector<net::AddressRange> source_ranges;  // where sources may lead that others name
  base::Duration stale_after = std::chrono::seconds(30);
  RatePlan rates;                   // of what comes in
  unsigned priority = 5;            // of its share in the site's rate: 1 to 9
  std::uint64_t keep_packs = 1 << 30;  // bytes of packs kept for others; 0 without [content]

  // Raises base::ConfigError; keys of features that are not built are refused, not ignored.
  static std::vector<TreeSettings> read(const base::Config& config);
};

}  // namespace mirrorbus::mirror
