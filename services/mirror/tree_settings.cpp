#include "services/mirror/tree_settings.hpp"

#include "proto/topic.hpp"
#include "proto/tree_path.hpp"
#include "services/tree/path_filter.hpp"

#include <algorithm>

namespace mirrorbus::mirror {
namespace {

TreeSettings::Command read_command(const base::ConfigTable& table, base::Duration timeout) {
  TreeSettings::Command command{table.texts("command"), table.duration("timeout", timeout)};
  if (command.command.empty() || command.command.front().empty())
    table.fail("command", "must be a program and its arguments, [\"/usr/bin/program\", \"-x\"]");
  return command;
}

std::vector<net::AddressRange> read_ranges(const base::ConfigTable& table, const char* key) {
  std::vector<net::AddressRange> ranges;
  for (const std::string& text : table.texts(key)) {
    const auto range = net::AddressRange::parse(text);
    if (!range) table.fail(key, "\"" + text + "\" is not an address or a range like 10.0.0.0/8");
    ranges.push_back(*range);
  }
  return ranges;
}

std::uint64_t file_size(const base::ConfigTable& table, const char* key, std::uint64_t fallback) {
  if (!table.has(key)) return fallback;
  const auto size = tree::parse_file_size(table.text(key));
  if (!size) table.fail(key, "must be a size as rsync has it: \"1.5m\", \"10KB\"");
  return *size;
}

TreeSettings read_one(const base::ConfigTable& table) {
  TreeSettings tree;
  tree.name = table.text("name");
  if (!proto::valid_topic(tree.name) || proto::segment_count(tree.name) != 1)
    table.fail("name", "\"" + tree.name + "\" must be one word of a-z, 0-9, _ and -");
  tree.path = table.text("path");
  if (!tree.path.starts_with('/')) table.fail("path", "must be absolute");
  while (tree.path.size() > 1 && tree.path.ends_with('/')) tree.path.pop_back();
  tree.role = table.choice("role", {"origin", "mirror"}, "mirror") == "origin"
                  ? TreeSettings::Role::Origin
                  : TreeSettings::Role::Mirror;
  tree.work = table.text("work", "");
  if (!tree.work.empty() && !tree.work.starts_with('/')) table.fail("work", "must be absolute");

  tree.serve_to = read_ranges(table, "serve_to");

  tree.publish_auto = table.choice("publish", {"auto", "manual"}, "auto") == "auto";
  tree.settle = table.duration("settle", tree.settle);
  tree.max_wait = table.duration("max_wait", tree.max_wait);
  tree.store = table.choice("store", {"auto", "reflink", "hardlink", "copy", "none"}, "auto");
  tree.exclude = table.texts("exclude");
  tree.include = table.texts("include");
  tree.watch =
      *tree::watch_kind(table.choice("watch", {"auto", "fanotify", "inotify", "none"}, "auto"));
  tree.min_size = file_size(table, "min_size", tree.min_size);
  tree.max_size = file_size(table, "max_size", tree.max_size);
  tree.one_file_system = table.boolean("one_file_system", true);
  tree.hold_on_unreadable =
      table.choice("on_unreadable", {"incomplete", "hold"}, "incomplete") == "hold";
  const base::ConfigTable retain = table.table("retain");
  tree.retain.versions = static_cast<std::uint64_t>(retain.integer("versions", 100, 1));
  tree.retain.time = std::chrono::hours(24) * retain.integer("days", 30, 0, 36500);
  tree.retain.bytes = retain.size("bytes", 0);
  tree.gc_grace = table.duration("gc_grace", tree.gc_grace);
  tree.reconcile = table.duration("reconcile", tree.reconcile, std::chrono::minutes(1));

  for (const base::ConfigTable& hook : table.tables("hooks"))
    tree.hooks.push_back(read_command(hook, std::chrono::minutes(10)));
  if (const base::ConfigTable import = table.table("import"); import.present()) {
    if (tree.role != TreeSettings::Role::Origin)
      import.fail("", "is for an origin; a mirror gets its tree from one");
    tree.import = read_command(import, tree.import.timeout);
    tree.import_every = import.duration("every", tree.import_every);
  }

  tree.status_file = table.text("status_file", "");
  tree.trace_file = table.text("trace_file", "");
  for (const auto& [key, file] : {std::pair{"status_file", &tree.status_file},
                                  std::pair{"trace_file", &tree.trace_file}}) {
    if (file->empty()) continue;
    if (!file->starts_with('/')) table.fail(key, "must be absolute");
    if (file->starts_with(tree.path + "/"))
      table.fail(key, "must be outside the tree, which is only what the origin has");
  }

  tree.origin = table.text("origin", "");
  tree.snapshot = table.choice("apply", {"inplace", "snapshot"}, "inplace") == "snapshot";
  if (tree.snapshot && tree.role == TreeSettings::Role::Origin)
    table.fail("apply", "\"snapshot\" is for a mirror; an origin's tree is what people change");
  tree.last = table.texts("last");
  if (table.has("max_delete"))
    tree.max_delete = static_cast<std::uint64_t>(table.integer("max_delete", 0, 0));
  tree.min_free = table.size("min_free", 0);
  tree.adopt = table.boolean("adopt", false);
  tree.owner = table.choice("owner", {"", "numeric", "name", "none"}, "");
  if (table.has("devices")) tree.devices = table.boolean("devices", false);
  tree.safe_links = table.boolean("safe_links", false);
  tree.nosuid = table.boolean("nosuid", false);
  tree.nodev = table.boolean("nodev", false);
  tree.xattrs = table.choice("xattrs", {"", "all", "user", "none"}, "");
  tree.source = table.texts("source");
  for (const std::string& url : tree.source)
    if (!url.starts_with("http://") && !url.starts_with("https://"))
      table.fail("source", "\"" + url + "\" must begin with http:// or https://");
  tree.source_ranges = read_ranges(table, "source_ranges");
  tree.rates = read_rates(table);
  tree.priority = static_cast<unsigned>(table.integer("priority", tree.priority, 1, 9));
  if (table.has("dscp")) table.fail("dscp", "stands in [transfer], for all trees");
  tree.keep_packs = table.size("keep_packs", tree.keep_packs);
  tree.stale_after = table.duration("stale_after", tree.stale_after);
  tree.subtree = table.text("subtree", "");
  if (!tree.subtree.empty() && !proto::valid_tree_path(tree.subtree))
    table.fail("subtree", "must be a directory's path in the tree: \"pool/main\"");
  if (!tree.subtree.empty() && tree.role == TreeSettings::Role::Origin)
    table.fail("subtree", "is for a mirror; an origin publishes the directory at path");
  return tree;
}

}  // namespace

std::vector<TreeSettings> TreeSettings::read(const base::Config& config) {
  std::vector<TreeSettings> trees;
  for (const base::ConfigTable& table : config.tables("tree")) {
    trees.push_back(read_one(table));
    const TreeSettings& tree = trees.back();
    for (std::size_t i = 0; i + 1 < trees.size(); ++i)
      if (trees[i].name == tree.name || trees[i].path == tree.path)
        table.fail(trees[i].name == tree.name ? "name" : "path", "is used by another [[tree]]");
  }
  return trees;
}

}  // namespace mirrorbus::mirror
