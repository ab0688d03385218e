#include "services/tree/index.hpp"

#include "services/tree/garbage.hpp"
#include "services/tree/hard_links.hpp"
#include "services/tree/index_db.hpp"
#include "services/tree/index_rows.hpp"
#include "services/tree/index_seal.hpp"
#include "services/tree/index_totals.hpp"
#include "services/tree/index_versions.hpp"
#include "services/tree/index_xattrs.hpp"

#include <cassert>

namespace mirrorbus::tree {

struct Index::Impl {
  Impl(const std::string& file, const Options& options) : db(file, options) {}

  IndexDb db;
  IndexRows rows{db};
  IndexTotals totals{db};
  IndexVersions versions{db};
  HardLinks links{db};
  Garbage garbage{db};
  IndexXattrs xattrs{db};

  Tally pending_tally() const;
  void commit_row(const PendingRow& pending, std::uint64_t newest, Tally& tally);
  void commit_root(Tally& tally);
};

namespace {

void replace(Tally& tally, const std::optional<DirectoryRow>& old, const PendingRow& pending) {
  if (old) tally.add(old->node, -1);
  if (!pending.removed) tally.add(pending.row.node, 1);
}
void replace_root(Tally& tally, const std::optional<RootRow>& old, const RootRow& root) {
  if (old) tally.own(old->entry, -1);
  tally.own(root.entry, 1);
}

}  // namespace

Tally Index::Impl::pending_tally() const {
  Tally tally;
  rows.each_pending(Order::Forward, [&](const PendingRow& p) {
    replace(tally, rows.committed(p.row.path), p);
    return true;
  });
  if (const auto root = rows.pending_root()) replace_root(tally, rows.root(), *root);
  return tally;
}

void Index::Impl::commit_row(const PendingRow& p, std::uint64_t newest, Tally& tally) {
  const auto old = rows.committed(p.row.path);
  if (old && !p.removed && old->id == p.row.id) return rows.put_stats(p.row.path, p.row.stats);
  if (old) versions.keep(old->id, old->node, newest);
  replace(tally, old, p);
  if (p.removed)
    rows.remove(p.row.path);
  else
    rows.put(p.row);
}

void Index::Impl::commit_root(Tally& tally) {
  const auto root = rows.pending_root();
  if (!root) return;
  replace_root(tally, rows.root(), *root);
  rows.set_root(*root);
}

Index::Index(const std::string& file, const Options& options)
    : impl_(std::make_unique<Impl>(file, options)) {}
Index::~Index() = default;

Index::Batch::Batch(Index& index) : index_(index) { index_.impl_->db.begin(); }
Index::Batch::~Batch() {
  if (open_) index_.impl_->db.give_up();
}
void Index::Batch::commit() {
  assert(open_);
  index_.impl_->db.commit();
  open_ = false;
}

std::optional<Bytes> Index::setting(std::string_view key) const { return impl_->db.setting(key); }
void Index::set_setting(std::string_view key, ByteView value) { impl_->db.set(key, value); }

HardLinks& Index::hard_links() { return impl_->links; }
const HardLinks& Index::hard_links() const { return impl_->links; }
Garbage& Index::garbage() { return impl_->garbage; }
IndexXattrs& Index::xattr_sets() { return impl_->xattrs; }
const IndexXattrs& Index::xattr_sets() const { return impl_->xattrs; }
void Index::shrink() { impl_->db.shrink(); }

// ---- the committed tree ----

std::optional<DirectoryRow> Index::directory(ByteView path) const {
  return impl_->rows.committed(path);
}
std::optional<RootRow> Index::root() const { return impl_->rows.root(); }
proto::TreeCounts Index::counts() const { return impl_->totals.counts(); }

void Index::each_directory(ByteView under,
                           const std::function<bool(const DirectoryRow&)>& visit) const {
  impl_->rows.each_directory(under, visit);
}
void Index::each_node(ByteView first, ByteView last,
                      const std::function<bool(const NodeRow&)>& visit) const {
  impl_->rows.each_node(first, last, visit);
}
std::vector<Bytes> Index::paths_of_node(const Hash& id) const {
  return impl_->rows.paths_of_node(id);
}

void Index::put_stats(ByteView path, const std::vector<EntryStat>& stats) {
  if (impl_->rows.pending(path))
    impl_->rows.stage_stats(path, stats);
  else
    impl_->rows.put_stats(path, stats);
}

// ---- the pending layer ----

std::optional<DirectoryRow> Index::latest(ByteView path) const {
  auto pending = impl_->rows.pending(path);
  if (!pending) return impl_->rows.committed(path);
  if (pending->removed) return std::nullopt;
  return std::move(pending->row);
}

std::optional<RootRow> Index::latest_root() const {
  if (auto root = impl_->rows.pending_root()) return root;
  return root();
}

void Index::stage(const DirectoryRow& row) { impl_->rows.stage(row); }
void Index::stage_root(const RootRow& root) { impl_->rows.stage_root(root); }

void Index::stage_removal(ByteView path) {
  Batch batch(*this);
  impl_->rows.stage_removal(path);
  impl_->links.clear_tree(path);
  batch.commit();
}

bool Index::has_pending() const { return impl_->rows.any_pending(); }
void Index::each_pending(Order order, const std::function<bool(const PendingRow&)>& visit) const {
  impl_->rows.each_pending(order, visit);
}
std::optional<PendingRow> Index::pending(ByteView path) const { return impl_->rows.pending(path); }

proto::Decoded<RootRow> Index::seal_pending() {
  Batch batch(*this);
  auto root = tree::seal_pending(impl_->rows);
  if (root) batch.commit();
  return root;
}

void Index::drop_pending() {
  Batch batch(*this);
  impl_->rows.drop_pending();
  batch.commit();
}

Index::Totals Index::latest_totals() const { return impl_->totals.with(impl_->pending_tally()); }

void Index::note_seen(const Hash& content) { impl_->rows.note_seen(content); }
bool Index::seen(const Hash& content) const { return impl_->rows.seen(content); }

// ---- versions ----

void Index::commit_version(const StoredVersion& version, ByteView links, ByteView owners) {
  Batch batch(*this);
  const std::uint64_t newest = impl_->versions.newest_number();
  Tally tally;
  each_pending(Order::Forward, [&](const PendingRow& p) {
    impl_->commit_row(p, newest, tally);
    return true;
  });
  impl_->commit_root(tally);
  impl_->totals.apply(tally);
  impl_->rows.drop_pending();
  impl_->versions.insert(version, links, owners);
  batch.commit();
}

std::optional<StoredVersion> Index::newest() const {
  const std::uint64_t number = impl_->versions.newest_number();
  return number == 0 ? std::nullopt : version(number);
}

std::optional<StoredVersion> Index::version(std::uint64_t number) const {
  return impl_->versions.get(number);
}
std::vector<std::uint64_t> Index::version_numbers() const { return impl_->versions.numbers(); }
std::vector<std::uint64_t> Index::unannounced() const { return impl_->versions.unannounced(); }
void Index::mark_announced(std::uint64_t number, ByteView sealed) {
  impl_->versions.mark_announced(number, sealed);
}

void Index::forget_versions_below(std::uint64_t number) {
  Batch batch(*this);
  impl_->versions.forget_below(number);
  batch.commit();
}

void Index::forget_versions_from(std::uint64_t number) { impl_->versions.forget_from(number); }

std::optional<Bytes> Index::blob(const Hash& id) const {
  if (auto node = impl_->rows.node(id)) return node;
  if (auto kept = impl_->versions.kept(id)) return kept;
  return impl_->xattrs.find(id);
}

void Index::forget_unused_xattr_sets() {
  if (impl_->xattrs.count() == 0) return;
  std::unordered_set<Hash> used;
  const auto use = [&used](const proto::Entry& entry) {
    if (entry.xattrs) used.insert(*entry.xattrs);
  };
  impl_->garbage.each_retained_node([&](ByteView node) {
    proto::NodeReader reader(node);
    proto::Entry entry;
    while (reader.next(entry)) use(entry);
  });
  if (const auto root = impl_->rows.root()) use(root->entry);
  if (const auto root = impl_->rows.pending_root()) use(root->entry);
  for (const std::uint64_t number : impl_->versions.numbers())
    if (const auto version = impl_->versions.get(number)) use(version->root.entry);
  Batch batch(*this);
  impl_->xattrs.keep_only(used);
  batch.commit();
}

}  // namespace mirrorbus::tree
