// A mirror of a directory in a temporary folder: what the mirror's tests have in common.
#pragma once

#include "services/tree/mirror_tree.hpp"
#include "test/support/oracle.hpp"
#include "test/support/packed_origin.hpp"
#include "test/support/temp_dir.hpp"
#include "test/support/tree_snapshot.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>

namespace mirrorbus::test {

// tmp/a is the origin's tree, tmp/b the mirror's.
class Mirror {
 public:
  explicit Mirror(const std::string& top) : top_(top) {
    std::filesystem::create_directories(top + "/work");
    settings.path = top + "/b";
    settings.work = top + "/work";
    settings.max_delete.files = 1'000'000;
  }

  tree::MirrorSettings settings;
  tree::WorkControl control;
  SnapshotSource source;

  std::string a() const { return top_ + "/a"; }
  std::string b() const { return top_ + "/b"; }

  tree::Index& index() {
    if (!index_)
      index_ = std::make_unique<tree::Index>(top_ + "/index", tree::Index::Options{false});
    return *index_;
  }
  void close() { index_.reset(); }

  // From now on versions have packs.
  void make_packs() {
    std::filesystem::create_directories(top_ + "/packs");
    packs_ = std::make_unique<PackedOrigin>(top_ + "/packs");
  }
  // The next version of what is in a.
  const TreeSnapshot& publish(bool hold = false) { return publish_from(a(), hold || packs_); }
  const TreeSnapshot& publish_from(const std::string& path, bool hold) {
    auto next = take_snapshot(path, ++number_, snapshot_ ? &*snapshot_ : nullptr, hold);
    snapshot_ = std::move(next);
    source.add(*snapshot_);
    versions_.push_back(snapshot_->version());
    if (packs_) {
      versions_.back() = packs_->publish(*snapshot_);
      const proto::Hash pack = versions_.back().update.pack.value().sha256;
      source.add_pack(pack, packs_->pack_path(pack));
    }
    return *snapshot_;
  }
  const TreeSnapshot& snapshot() const { return *snapshot_; }
  proto::Hash last_pack() const { return versions_.back().update.pack.value().sha256; }

  tree::SyncResult sync(const std::optional<tree::Refusal>& accepted = {}) {
    return tree::MirrorTree(settings, index()).bring_to(versions_, source, control, accepted);
  }
  // As a daemon that starts.
  void settle() { tree::MirrorTree(settings, index()).settle(); }
  tree::MirrorTree tree() { return {settings, index()}; }
  tree::VerifyResult verify() { return tree::MirrorTree(settings, index()).verify(); }
  tree::SyncResult repair() { return tree::MirrorTree(settings, index()).repair(source, control); }
  std::string differences() const { return oracle(a(), b()); }
  // Puts a file into the origin's tree.
  void file(const std::string& name, const std::string& content) {
    std::filesystem::create_directories(std::filesystem::path(a() + "/" + name).parent_path());
    std::ofstream(a() + "/" + name, std::ios::binary) << content;
  }
  tree::SyncResult publish_and_sync() {
    publish();
    return sync();
  }

 private:
  std::string top_;
  std::unique_ptr<tree::Index> index_;
  std::uint64_t number_ = 0;
  std::optional<TreeSnapshot> snapshot_;
  std::unique_ptr<PackedOrigin> packs_;
  std::vector<tree::TargetVersion> versions_;
};

// A small tree with a bit of everything.
inline void small_tree(Mirror& m) {
  m.file("top", "top content");
  m.file("dir/one", "one");
  m.file("dir/two", "two");
  m.file("dir/deep/er/three", std::string(100'000, '3'));
  m.file("empty", "");
  std::filesystem::create_symlink("dir/one", m.a() + "/link");
  std::filesystem::create_hard_link(m.a() + "/dir/one", m.a() + "/hard");
}

// Runs what a test says at the work's steps, and before each change to the file system.
struct ScriptedProbe : tree::Probe {
  std::function<void(Step)> on_step;
  std::function<void(const std::string& call, const proto::Bytes& name)> on_change;
  void step(Step step) override {
    if (on_step) on_step(step);
  }
  void mutating(const char* call, const proto::Bytes& name) override {
    if (on_change) on_change(call, name);
  }
};

// With links, owners and times.
inline void copy_tree(const std::string& from, const std::string& to) {
  if (std::system(("cp -a '" + from + "/.' '" + to + "'").c_str()) != 0)
    throw std::runtime_error("cannot copy " + from);
}

// What went wrong, for a failed check's message.
inline std::string describe(const tree::SyncResult& result) {
  std::string text = "state " + std::to_string(static_cast<int>(result.state));
  if (result.refusal) text += " refused: " + result.refusal->text;
  for (const auto& each : result.mismatches) text += "\n  " + each.path + ": " + each.reason;
  for (const auto& each : result.missing) text += "\n  missing " + each.path + ": " + each.reason;
  for (const auto& each : result.edits.named()) text += "\n  edited " + each.path;
  return text;
}

}  // namespace mirrorbus::test
