// A tree, the index of it and what is kept of its contents, for one Scanner after another.
#pragma once

#include "services/tree/hard_links.hpp"
#include "services/tree/scan.hpp"
#include "services/tree/work_folder.hpp"
#include "test/services/tree/disk_tree.hpp"
#include "test/support/temp_dir.hpp"

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/stat.h>

namespace mirrorbus::test {

struct ScanFixture {
  TempDir tmp;
  std::string root = tmp / "tree";
  tree::ScanSettings settings;
  std::unique_ptr<tree::WorkFolder> work;
  std::unique_ptr<tree::Index> index;
  std::unique_ptr<tree::ContentStore> store;
  tree::StoreKind kind;
  std::uint64_t number = 0;

  explicit ScanFixture(tree::StoreKind k = tree::StoreKind::Hardlink) : kind(k) {
    std::filesystem::create_directory(root);
    settings.settle = std::chrono::nanoseconds(0);
  }
  void open() {
    if (work) return;
    work = std::make_unique<tree::WorkFolder>(root, "t", "", tree::WorkFolder::Mount::Same);
    index = std::make_unique<tree::Index>(work->path() + "/index", tree::Index::Options{.durable = false});
    store = std::make_unique<tree::ContentStore>(work->path() + "/objects", root, kind);
  }
  std::string at(const std::string& path) const { return root + "/" + path; }
  void write(const std::string& path, std::string_view content) const {
    std::filesystem::create_directories(std::filesystem::path(at(path)).parent_path());
    std::ofstream(at(path), std::ios::binary | std::ios::trunc) << content;
  }
  void set_mtime(const std::string& path, std::int64_t s, long ns) const {
    const timespec times[2] = {{0, UTIME_OMIT}, {s, ns}};
    if (::utimensat(AT_FDCWD, at(path).c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
      base::throw_errno(path);
  }
  tree::ScanReport all(bool careful = false) {
    open();
    return tree::Scanner(*index, *store, root, work->fd(), settings).all(careful);
  }
  tree::ScanReport some(const std::vector<proto::Bytes>& dirs, const std::vector<proto::Bytes>& trees = {}) {
    open();
    return tree::Scanner(*index, *store, root, work->fd(), settings).some(dirs, trees);
  }
  // As if the index had been written when the device was another one.
  void pretend_another_device() {
    const std::uint64_t dev = index->root()->stat.dev, other = dev + 77;
    index->hard_links().move(dev, other);
    std::vector<tree::DirectoryRow> rows;
    index->each_directory({}, [&](const tree::DirectoryRow& row) {
      rows.push_back(row);
      return true;
    });
    for (tree::DirectoryRow& row : rows) {
      for (auto& stat : row.stats) stat.dev = other;
      index->put_stats(row.path, row.stats);
    }
    tree::RootRow top = *index->root();
    top.stat.dev = other;
    index->stage_root(top);
    REQUIRE(index->seal_pending());
  }
  // Makes what was scanned the committed version.
  void commit() {
    const tree::RootRow top = index->seal_pending().value();
    tree::StoredVersion v;
    v.root = {top.entry, proto::sha256(proto::encode_links(index->hard_links().table())), proto::sha256("o")};
    v.record.tree = proto::TreeId::from_bytes("0123456789abcdef");
    v.record.number = ++number;
    v.record.tree_hash = proto::tree_hash(v.root);
    v.record.counts = index->latest_totals().counts;
    index->commit_version(v, proto::encode_links(index->hard_links().table()), "o");
  }
  void check_equal() const {
    const DiskTree disk(root);
    const auto top = index->seal_pending();
    REQUIRE(top);
    for (const auto& [path, node] : disk.nodes) {
      const auto row = index->latest(path);
      INFO(path);
      REQUIRE(row);
      const auto want = proto::decode_node(node), have = proto::decode_node(row->node);
      REQUIRE(have);
      REQUIRE(row->stats.size() == have->entries.size());
      CHECK(have->entries.size() == want->entries.size());
      for (const auto& e : want->entries) {
        INFO(e.name);
        const proto::Entry* entry = have->find(e.name);
        REQUIRE(entry);
        CHECK((*entry == e));
      }
      CHECK((row->node == node));
    }
    CHECK(top->entry == disk.root);
    CHECK(index->hard_links().table() == disk.links);
    CHECK(index->latest_totals().counts == disk.counts);
  }
  struct stat stat_of(const std::string& path) const {
    struct stat st {};
    if (::lstat(at(path).c_str(), &st) != 0) base::throw_errno(path);
    return st;
  }
};

}  // namespace mirrorbus::test
