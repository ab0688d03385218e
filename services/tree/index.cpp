#include "services/tree/index.hpp"

#include "bus/base/sqlite.hpp"
#include "proto/limits.hpp"
#include "proto/sha256.hpp"

#include <algorithm>
#include <cassert>
#include <map>
#include <stdexcept>
#include <utility>

namespace mirrorbus::tree {

using base::Statement;
using proto::Entry;
using proto::EntryType;
using proto::TreeCounts;

namespace {

// Keys sort bytewise as paths do in tree order: '/' becomes NUL, which no name has.
Bytes key_of(ByteView path) {
  Bytes key(path);
  std::ranges::replace(key, '/', '\0');
  return key;
}
Bytes path_of(ByteView key) {
  Bytes path(key);
  std::ranges::replace(path, '\0', '/');
  return path;
}
// Everything strictly below `key` is in [first, last).
struct KeyRange {
  Bytes first, last;
};
KeyRange below(ByteView key) {
  if (key.empty()) return {Bytes("\0", 1), Bytes(proto::kMaxFileNameSize + 1, '\xff')};
  return {Bytes(key) + '\0', Bytes(key) + '\x01'};
}

constexpr int kSchema = 1;
constexpr const char* kTables = R"(
CREATE TABLE IF NOT EXISTS settings (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS directories (
  row INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, id BLOB NOT NULL, node BLOB NOT NULL,
  stats BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS directories_by_id ON directories (id);
CREATE TABLE IF NOT EXISTS pending (
  row INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, id BLOB, node BLOB, stats BLOB);
CREATE TABLE IF NOT EXISTS owners (
  kind INTEGER NOT NULL, id INTEGER NOT NULL, uses INTEGER NOT NULL, PRIMARY KEY (kind, id))
  WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS links (
  key BLOB PRIMARY KEY, dev INTEGER NOT NULL, ino INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS links_by_inode ON links (dev, ino, key);
CREATE TABLE IF NOT EXISTS garbage (
  content BLOB PRIMARY KEY, since INTEGER NOT NULL, looked INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (content BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS versions (
  number INTEGER PRIMARY KEY, record BLOB NOT NULL, root BLOB NOT NULL, pack BLOB, pack_size INTEGER,
  index_size INTEGER, index_sha BLOB, body BLOB NOT NULL, sealed BLOB NOT NULL,
  announced INTEGER NOT NULL, incomplete INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS blobs (
  id BLOB PRIMARY KEY, bytes BLOB NOT NULL, last_version INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS blobs_by_version ON blobs (last_version);
)";

// What a set of rows adds to the tree's totals, or takes away.
struct Tally {
  std::int64_t entries = 0, files = 0, directories = 0, symlinks = 0, bytes = 0;
  std::map<std::pair<int, std::uint32_t>, std::int64_t> owners;  // kind: 0 user, 1 group

  void add(const Entry& entry, int sign) {
    entries += sign;
    if (entry.type == EntryType::File) {
      files += sign;
      bytes += sign * static_cast<std::int64_t>(entry.size);
    } else if (entry.type == EntryType::Directory) {
      directories += sign;
    } else if (entry.type == EntryType::Symlink) {
      symlinks += sign;
    }
    own(entry, sign);
  }
  void own(const Entry& entry, int sign) {
    owners[{0, entry.uid}] += sign;
    owners[{1, entry.gid}] += sign;
  }
  void add(ByteView node, int sign) {
    proto::NodeReader reader(node);
    Entry entry;
    while (reader.next(entry)) add(entry, sign);
    if (reader.failure()) throw std::runtime_error("the index holds a damaged node");
  }
};

TreeCounts operator+(const TreeCounts& counts, const Tally& t) {
  const auto sum = [](std::uint64_t a, std::int64_t b) { return a + static_cast<std::uint64_t>(b); };
  return {sum(counts.entries, t.entries), sum(counts.files, t.files),
          sum(counts.directories, t.directories), sum(counts.symlinks, t.symlinks),
          sum(counts.bytes, t.bytes)};
}

constexpr const char* kVersionColumns =
    "record, root, pack, pack_size, index_size, index_sha, body, sealed, announced, incomplete";

StoredVersion version_of(const Statement& row) {
  StoredVersion v;
  auto record = proto::decode_version(row.blob(0));
  auto root = proto::decode_tree_root(row.blob(1));
  if (!record || !root) throw std::runtime_error("the index holds a damaged version");
  v.record = std::move(*record);
  v.root = std::move(*root);
  if (!row.is_null(2))
    v.pack = proto::PackRef{Hash::from_bytes(row.blob(2)), row.u64(3), row.u64(4),
                            Hash::from_bytes(row.blob(5))};
  v.body = row.blob(6);
  v.sealed = row.blob(7);
  v.announced = row.integer(8) != 0;
  v.incomplete = row.integer(9) != 0;
  return v;
}

}  // namespace

struct Index::Impl {
  base::Database db;
  int batches = 0;
  bool spoilt = false;  // an inner batch gave up: the outer one must too

  Impl(const std::string& file, const Options& options)
      : db(file, {.read_only = options.read_only, .full_sync = options.durable, .can_shrink = true}) {
    if (options.read_only) return;
    db.exec(kTables);
    if (const auto schema = get_setting("schema"); !schema)
      set("schema", std::to_string(kSchema));
    else if (*schema != std::to_string(kSchema))
      throw std::runtime_error(file + " was written by another release (schema " + *schema +
                               "): remove it to scan anew");
  }

  // Prepared once each, by their text's address.
  std::map<const char*, Statement> statements;
  Statement& sql(const char* text) {
    auto it = statements.find(text);
    if (it == statements.end()) it = statements.emplace(text, db.prepare(text)).first;
    it->second.reset();
    return it->second;
  }

  std::optional<Bytes> get_setting(std::string_view key) {
    auto& s = sql("SELECT value FROM settings WHERE key = ?");
    s.bind_text(1, key);
    std::optional<Bytes> value;
    if (s.step()) value = s.blob(0);
    s.reset();
    return value;
  }
  void set(std::string_view key, ByteView value) {
    sql("INSERT INTO settings VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
        .bind_text(1, key)
        .bind_blob(2, value)
        .run();
  }
  void unset(std::string_view key) {
    sql("DELETE FROM settings WHERE key = ?").bind_text(1, key).run();
  }

  // ---- totals
  TreeCounts counts() {
    TreeCounts c;
    if (const auto bytes = get_setting("counts")) {
      proto::Reader r(*bytes);
      for (std::uint64_t* n : {&c.entries, &c.files, &c.directories, &c.symlinks, &c.bytes})
        *n = r.u64();
    }
    return c;
  }
  void apply(const Tally& tally) {
    const TreeCounts c = counts() + tally;
    Bytes bytes;
    proto::Writer(bytes).u64(c.entries).u64(c.files).u64(c.directories).u64(c.symlinks).u64(c.bytes);
    set("counts", bytes);
    for (const auto& [owner, uses] : tally.owners) {
      if (uses == 0) continue;
      sql("INSERT INTO owners VALUES (?, ?, ?)"
          " ON CONFLICT (kind, id) DO UPDATE SET uses = uses + excluded.uses")
          .bind(1, owner.first)
          .bind(2, std::uint64_t{owner.second})
          .bind(3, uses)
          .run();
    }
    sql("DELETE FROM owners WHERE uses <= 0").run();
  }

  // ---- rows
  static DirectoryRow row_of(const Statement& s) {
    return {path_of(s.blob(0)), Hash::from_bytes(s.blob(1)), Bytes(s.blob(2)), stats_of(s.blob(3))};
  }
  std::optional<DirectoryRow> committed(ByteView key) {
    auto& s = sql("SELECT key, id, node, stats FROM directories WHERE key = ?");
    s.bind_blob(1, key);
    std::optional<DirectoryRow> row;
    if (s.step()) row = row_of(s);
    s.reset();
    return row;
  }
  static PendingRow pending_of(const Statement& s) {
    PendingRow p;
    p.removed = s.is_null(1);
    if (p.removed)
      p.row.path = path_of(s.blob(0));
    else
      p.row = row_of(s);
    return p;
  }
  std::optional<PendingRow> pending(ByteView key) {
    auto& s = sql("SELECT key, id, node, stats FROM pending WHERE key = ?");
    s.bind_blob(1, key);
    std::optional<PendingRow> row;
    if (s.step()) row = pending_of(s);
    s.reset();
    return row;
  }
  void stage(ByteView key, const DirectoryRow& row) {
    sql("INSERT INTO pending (key, id, node, stats) VALUES (?, ?, ?, ?) ON CONFLICT (key)"
        " DO UPDATE SET id = excluded.id, node = excluded.node, stats = excluded.stats")
        .bind_blob(1, key)
        .bind_blob(2, row.id.view())
        .bind_blob(3, row.node)
        .bind_blob(4, stats_view(row.stats))
        .run();
  }
  void unstage(ByteView key) { sql("DELETE FROM pending WHERE key = ?").bind_blob(1, key).run(); }
  void put_stats(ByteView key, const std::vector<EntryStat>& stats, bool committed) {
    sql(committed ? "UPDATE directories SET stats = ? WHERE key = ?"
                  : "UPDATE pending SET stats = ? WHERE key = ?")
        .bind_blob(1, stats_view(stats))
        .bind_blob(2, key)
        .run();
  }

  // ---- blobs
  std::uint64_t newest_number() {
    auto& s = sql("SELECT max(number) FROM versions");
    s.step();
    const std::uint64_t number = s.u64(0);
    s.reset();
    return number;
  }
  void keep(const Hash& id, ByteView bytes, std::uint64_t last_version) {
    if (last_version == 0) return;
    sql("INSERT INTO blobs VALUES (?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET last_version = max(last_version, excluded.last_version)")
        .bind_blob(1, id.view())
        .bind_blob(2, bytes)
        .bind(3, last_version)
        .run();
  }

  // One committed row is replaced, made or (without `row`) removed.
  void put(ByteView key, const DirectoryRow* row, std::uint64_t newest, Tally& tally) {
    const auto old = committed(key);
    if (old && row && old->id == row->id) return put_stats(key, row->stats, true);
    if (old) {
      keep(old->id, old->node, newest);
      tally.add(old->node, -1);
    }
    if (!row) {
      sql("DELETE FROM directories WHERE key = ?").bind_blob(1, key).run();
      return;
    }
    tally.add(row->node, 1);
    sql("INSERT INTO directories (key, id, node, stats) VALUES (?, ?, ?, ?) ON CONFLICT (key)"
        " DO UPDATE SET id = excluded.id, node = excluded.node, stats = excluded.stats")
        .bind_blob(1, key)
        .bind_blob(2, row->id.view())
        .bind_blob(3, row->node)
        .bind_blob(4, stats_view(row->stats))
        .run();
  }

  // ---- the root
  std::optional<RootRow> get_root(std::string_view setting) {
    const auto bytes = get_setting(setting);
    if (!bytes || bytes->size() < sizeof(EntryStat)) return std::nullopt;
    RootRow root;
    root.stat = stats_of(ByteView(*bytes).substr(0, sizeof(EntryStat))).front();
    proto::Reader r(ByteView(*bytes).substr(sizeof(EntryStat)));
    root.entry = proto::decode_root_entry(r);
    if (r.failure()) throw std::runtime_error("the index holds a damaged root entry");
    return root;
  }
  void set_root(std::string_view setting, const RootRow& root) {
    Bytes bytes(stats_view({root.stat}));
    proto::Writer w(bytes);
    proto::encode_root_entry(w, root.entry);
    set(setting, bytes);
  }
  void put_root(const RootRow& root, Tally& tally) {
    if (const auto old = get_root("root")) tally.own(old->entry, -1);
    tally.own(root.entry, 1);
    set_root("root", root);
  }

  void insert_version(const StoredVersion& v, ByteView links, ByteView owners) {
    const std::uint64_t number = v.record.number;
    const Bytes root = proto::encode_tree_root(v.root);
    assert(proto::sha256(root) == v.record.tree_hash);
    keep(v.record.tree_hash, root, number);
    keep(v.root.links, links, number);
    keep(v.root.owners, owners, number);
    auto& s = sql(
        "INSERT OR REPLACE INTO versions (number, record, root, pack, pack_size, index_size,"
        " index_sha, body, sealed, announced, incomplete) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    const Bytes record = proto::encode_version(v.record);
    s.bind(1, number).bind_blob(2, record).bind_blob(3, root);
    if (v.pack)
      s.bind_blob(4, v.pack->sha256.view())
          .bind(5, v.pack->size)
          .bind(6, v.pack->index_size)
          .bind_blob(7, v.pack->index_sha256.view());
    s.bind_blob(8, v.body).bind_blob(9, v.sealed).bind(10, v.announced ? 1 : 0);
    s.bind(11, v.incomplete ? 1 : 0).run();
  }

  Tally pending_tally(const Index& index) {
    Tally tally;
    index.each_pending(Order::Forward, [&](const PendingRow& p) {
      const auto old = committed(key_of(p.row.path));
      if (old) tally.add(old->node, -1);
      if (!p.removed) tally.add(p.row.node, 1);
      return true;
    });
    if (const auto root = get_root("pending root")) {
      if (const auto old = get_root("root")) tally.own(old->entry, -1);
      tally.own(root->entry, 1);
    }
    return tally;
  }
};

Index::Index(const std::string& file, const Options& options)
    : impl_(std::make_unique<Impl>(file, options)) {}
Index::~Index() = default;

Index::Batch::Batch(Index& index) : index_(index) {
  if (index_.impl_->batches == 0) {
    index_.impl_->db.exec("BEGIN IMMEDIATE");
    index_.impl_->spoilt = false;
  }
  ++index_.impl_->batches;
}

Index::Batch::~Batch() {
  if (!open_) return;
  Impl& impl = *index_.impl_;
  impl.spoilt = true;
  if (--impl.batches > 0) return;
  try {
    impl.db.exec("ROLLBACK");
  } catch (const std::system_error&) {
    // SQLite has rolled back by itself (a full disk does that); nothing is left to undo.
  }
}

void Index::Batch::commit() {
  Impl& impl = *index_.impl_;
  assert(open_);
  if (impl.spoilt) throw std::logic_error("a batch inside this one was rolled back");
  if (impl.batches == 1) impl.db.exec("COMMIT");
  --impl.batches;
  open_ = false;
}

std::optional<Bytes> Index::setting(std::string_view key) const { return impl_->get_setting(key); }
void Index::set_setting(std::string_view key, ByteView value) { impl_->set(key, value); }

std::optional<DirectoryRow> Index::directory(ByteView path) const {
  return impl_->committed(key_of(path));
}
std::optional<RootRow> Index::root() const { return impl_->get_root("root"); }
TreeCounts Index::counts() const { return impl_->counts(); }

void Index::each_directory(ByteView under,
                           const std::function<bool(const DirectoryRow&)>& visit) const {
  // In pieces, so that no statement is open while the visitor writes.
  constexpr std::size_t kPiece = 64;
  const Bytes top = key_of(under);
  const KeyRange range = below(top);
  Bytes next = top;
  std::vector<DirectoryRow> rows;
  do {
    rows.clear();
    auto& s = impl_->sql(
        "SELECT key, id, node, stats FROM directories WHERE key >= ? AND key < ? ORDER BY key"
        " LIMIT ?");
    s.bind_blob(1, next).bind_blob(2, range.last).bind(3, std::uint64_t{kPiece});
    while (s.step()) rows.push_back(Impl::row_of(s));
    s.reset();
    for (const DirectoryRow& row : rows)
      if (!visit(row)) return;
    if (!rows.empty()) next = key_of(rows.back().path) + '\0';
  } while (rows.size() == kPiece);
}

void Index::each_node(ByteView first, ByteView last,
                      const std::function<bool(const NodeRow&)>& visit) const {
  // The first pieces are small: often only the next directory is wanted.
  std::uint64_t piece = 2;
  Bytes next = key_of(first);
  const Bytes end = key_of(last);
  std::vector<NodeRow> rows;
  do {
    rows.clear();
    piece = std::min<std::uint64_t>(2 * piece, 64);
    auto& s = impl_->sql(
        "SELECT key, id, node FROM directories WHERE key >= ? AND key <= ? ORDER BY key LIMIT ?");
    s.bind_blob(1, next).bind_blob(2, end).bind(3, piece);
    while (s.step())
      rows.push_back({path_of(s.blob(0)), Hash::from_bytes(s.blob(1)), Bytes(s.blob(2))});
    s.reset();
    for (const NodeRow& row : rows)
      if (!visit(row)) return;
    if (!rows.empty()) next = key_of(rows.back().path) + '\0';
  } while (rows.size() == piece);
}

std::vector<Bytes> Index::paths_of_node(const Hash& id) const {
  auto& s = impl_->sql("SELECT key FROM directories WHERE id = ? LIMIT 8");
  s.bind_blob(1, id.view());
  std::vector<Bytes> paths;
  while (s.step()) paths.push_back(path_of(s.blob(0)));
  s.reset();
  return paths;
}

void Index::put_stats(ByteView path, const std::vector<EntryStat>& stats) {
  const Bytes key = key_of(path);
  impl_->put_stats(key, stats, !impl_->pending(key));
}

std::optional<DirectoryRow> Index::latest(ByteView path) const {
  const Bytes key = key_of(path);
  if (auto pending = impl_->pending(key)) {
    if (pending->removed) return std::nullopt;
    return std::move(pending->row);
  }
  return impl_->committed(key);
}

std::optional<RootRow> Index::latest_root() const {
  if (auto root = impl_->get_root("pending root")) return root;
  return root();
}

void Index::stage(const DirectoryRow& row) { impl_->stage(key_of(row.path), row); }
void Index::stage_root(const RootRow& root) { impl_->set_root("pending root", root); }

void Index::stage_removal(ByteView path) {
  Batch batch(*this);
  const Bytes key = key_of(path);
  const KeyRange range = below(key);
  for (const char* text : {"DELETE FROM pending WHERE key = ?1 OR key >= ?2 AND key < ?3",
                           "INSERT INTO pending (key) SELECT key FROM directories"
                           " WHERE key = ?1 OR key >= ?2 AND key < ?3",
                           "DELETE FROM links WHERE key >= ?2 AND key < ?3 OR key = ?1"})
    impl_->sql(text).bind_blob(1, key).bind_blob(2, range.first).bind_blob(3, range.last).run();
  batch.commit();
}

bool Index::has_pending() const {
  auto& s = impl_->sql("SELECT 1 FROM pending LIMIT 1");
  const bool any = s.step();
  s.reset();
  return any || impl_->get_root("pending root").has_value();
}

void Index::each_pending(Order order, const std::function<bool(const PendingRow&)>& visit) const {
  constexpr std::size_t kPiece = 64;
  const bool forward = order == Order::Forward;
  Bytes next = forward ? Bytes() : below("").last;
  std::vector<PendingRow> rows;
  do {
    rows.clear();
    auto& s = impl_->sql(
        forward ? "SELECT key, id, node, stats FROM pending WHERE key >= ? ORDER BY key LIMIT ?"
                : "SELECT key, id, node, stats FROM pending WHERE key < ? ORDER BY key DESC LIMIT ?");
    s.bind_blob(1, next).bind(2, std::uint64_t{kPiece});
    while (s.step()) rows.push_back(Impl::pending_of(s));
    s.reset();
    if (!rows.empty()) next = key_of(rows.back().row.path) + (forward ? Bytes(1, '\0') : Bytes());
    for (const PendingRow& row : rows)
      if (!visit(row)) return;
  } while (rows.size() == kPiece);
}

std::optional<PendingRow> Index::pending(ByteView path) const {
  return impl_->pending(key_of(path));
}

proto::Decoded<RootRow> Index::seal_pending() {
  Batch batch(*this);
  bool whole = true;
  // Against tree order every child comes before its parent, so the ids still to be written into
  // parents are those of one chain of open directories and their siblings.
  std::map<Bytes, std::map<Bytes, Hash>, proto::PathLess> open;
  std::optional<Hash> root_id;

  const auto close = [&](DirectoryRow row, bool was_pending) {
    const auto ids = open.extract(row.path);
    std::size_t used = 0;
    Bytes node;
    proto::NodeWriter writer(node);
    proto::NodeReader reader(row.node);
    Entry entry;
    while (reader.next(entry)) {
      if (entry.type == EntryType::Directory && ids) {
        if (const auto it = ids.mapped().find(entry.name); it != ids.mapped().end()) {
          entry.content = it->second;
          ++used;
        }
      }
      if (entry.type == EntryType::Directory && entry.content == kUnsealedId) whole = false;
      writer.add(entry);
    }
    if (reader.failure()) throw std::runtime_error("the index holds a damaged node: " + row.path);
    if (ids && used != ids.mapped().size()) whole = false;
    row.node = std::move(node);
    row.id = proto::node_id(row.node);
    const Bytes key = key_of(row.path);
    const auto old = impl_->committed(key);
    if (old && old->id == row.id) {
      if (was_pending) {
        impl_->unstage(key);
        impl_->put_stats(key, row.stats, true);
      }
    } else {
      impl_->stage(key, row);
    }
    if (row.path.empty())
      root_id = row.id;
    else
      open[Bytes(proto::parent_path(row.path))][Bytes(proto::last_name(row.path))] = row.id;
  };
  // Directories that wait for ids and come after `path` in tree order have no pending row.
  const auto close_open_after = [&](const Bytes* path) {
    while (!open.empty() && (!path || proto::path_less(*path, open.rbegin()->first))) {
      const Bytes next = open.rbegin()->first;
      auto row = impl_->committed(key_of(next));
      if (!row) return whole = false;
      close(std::move(*row), false);
    }
    return whole;
  };

  each_pending(Order::Backward, [&](const PendingRow& p) {
    if (!close_open_after(&p.row.path)) return false;
    if (!p.removed)
      close(p.row, true);
    else if (!impl_->committed(key_of(p.row.path)))
      impl_->unstage(key_of(p.row.path));
    return whole;
  });
  auto root = latest_root();
  if (!close_open_after(nullptr) || !root) return proto::refuse(proto::Reject::BadHash);
  if (!root_id)
    if (const auto top = impl_->committed("")) root_id = top->id;
  if (!root_id) return proto::refuse(proto::Reject::BadHash);
  root->entry.content = *root_id;
  const auto old = this->root();
  if (old && old->entry == root->entry) {
    impl_->set_root("root", *root);
    impl_->unset("pending root");
  } else {
    impl_->set_root("pending root", *root);
  }
  batch.commit();
  return *root;
}

void Index::drop_pending() {
  Batch batch(*this);
  impl_->sql("DELETE FROM pending").run();
  impl_->sql("DELETE FROM seen").run();
  impl_->unset("pending root");
  batch.commit();
}

Index::Totals Index::latest_totals() const {
  const Tally tally = impl_->pending_tally(*this);
  Totals totals{impl_->counts() + tally, {}, {}};
  std::map<std::pair<int, std::uint32_t>, std::int64_t> uses = tally.owners;
  auto& s = impl_->sql("SELECT kind, id, uses FROM owners");
  while (s.step())
    uses[{static_cast<int>(s.integer(0)), static_cast<std::uint32_t>(s.u64(1))}] += s.integer(2);
  s.reset();
  for (const auto& [owner, count] : uses)
    if (count > 0) (owner.first == 0 ? totals.users : totals.groups).push_back(owner.second);
  return totals;
}

void Index::set_link(ByteView path, std::uint64_t dev, std::uint64_t ino) {
  const Bytes key = key_of(path);
  impl_->sql("INSERT OR REPLACE INTO links VALUES (?, ?, ?)")
      .bind_blob(1, key)
      .bind(2, dev)
      .bind(3, ino)
      .run();
}

void Index::clear_link(ByteView path) {
  const Bytes key = key_of(path);
  impl_->sql("DELETE FROM links WHERE key = ?").bind_blob(1, key).run();
}

void Index::move_links(std::uint64_t from_dev, std::uint64_t to_dev) {
  impl_->sql("UPDATE links SET dev = ? WHERE dev = ?").bind(1, to_dev).bind(2, from_dev).run();
}

bool Index::any_links() const {
  auto& s = impl_->sql("SELECT 1 FROM links LIMIT 1");
  const bool any = s.step();
  s.reset();
  return any;
}

void Index::note_seen(const Hash& content) {
  impl_->sql("INSERT OR IGNORE INTO seen VALUES (?)").bind_blob(1, content.view()).run();
}

bool Index::seen(const Hash& content) const {
  auto& s = impl_->sql("SELECT 1 FROM seen WHERE content = ?");
  s.bind_blob(1, content.view());
  const bool any = s.step();
  s.reset();
  return any;
}

std::vector<Bytes> Index::links_of(std::uint64_t dev, std::uint64_t ino) const {
  auto& s = impl_->sql("SELECT key FROM links WHERE dev = ? AND ino = ? ORDER BY key");
  s.bind(1, dev).bind(2, ino);
  std::vector<Bytes> paths;
  while (s.step()) paths.push_back(path_of(s.blob(0)));
  s.reset();
  return paths;
}

std::vector<std::pair<std::uint64_t, std::uint64_t>> Index::linked_inodes(ByteView path) const {
  const Bytes key = key_of(path);
  const KeyRange range = below(key);
  auto& s = impl_->sql("SELECT dev, ino FROM links WHERE key = ?1 OR key >= ?2 AND key < ?3");
  s.bind_blob(1, key).bind_blob(2, range.first).bind_blob(3, range.last);
  std::vector<std::pair<std::uint64_t, std::uint64_t>> inodes;
  while (s.step()) inodes.emplace_back(s.u64(0), s.u64(1));
  s.reset();
  return inodes;
}

proto::LinksTable Index::links() const {
  auto& s = impl_->sql("SELECT dev, ino, key FROM links ORDER BY dev, ino, key");
  proto::LinksTable table;
  std::pair<std::uint64_t, std::uint64_t> inode;
  std::vector<Bytes> group;
  const auto close = [&] {
    if (group.size() >= 2) table.groups.push_back(std::move(group));
    group.clear();
  };
  while (s.step()) {
    const std::pair next{s.u64(0), s.u64(1)};
    if (next != inode) close();
    inode = next;
    group.push_back(path_of(s.blob(2)));
  }
  close();
  s.reset();
  std::ranges::sort(table.groups, proto::PathLess{}, [](const auto& g) -> const Bytes& {
    return g.front();
  });
  return table;
}

void Index::commit_version(const StoredVersion& version, ByteView links, ByteView owners) {
  Batch batch(*this);
  const std::uint64_t newest = impl_->newest_number();
  Tally tally;
  each_pending(Order::Forward, [&](const PendingRow& p) {
    impl_->put(key_of(p.row.path), p.removed ? nullptr : &p.row, newest, tally);
    return true;
  });
  if (const auto root = impl_->get_root("pending root")) impl_->put_root(*root, tally);
  impl_->apply(tally);
  drop_pending();
  impl_->insert_version(version, links, owners);
  batch.commit();
}

std::optional<StoredVersion> Index::newest() const {
  const std::uint64_t number = impl_->newest_number();
  return number == 0 ? std::nullopt : version(number);
}

std::optional<StoredVersion> Index::version(std::uint64_t number) const {
  static const std::string text =
      std::string("SELECT ") + kVersionColumns + " FROM versions WHERE number = ?";
  auto& s = impl_->sql(text.c_str());
  s.bind(1, number);
  std::optional<StoredVersion> version;
  if (s.step()) version = version_of(s);
  s.reset();
  return version;
}

std::vector<std::uint64_t> Index::version_numbers() const {
  auto& s = impl_->sql("SELECT number FROM versions ORDER BY number");
  std::vector<std::uint64_t> numbers;
  while (s.step()) numbers.push_back(s.u64(0));
  s.reset();
  return numbers;
}

std::vector<std::uint64_t> Index::unannounced() const {
  auto& s = impl_->sql("SELECT number FROM versions WHERE announced = 0 ORDER BY number");
  std::vector<std::uint64_t> numbers;
  while (s.step()) numbers.push_back(s.u64(0));
  s.reset();
  return numbers;
}

void Index::mark_announced(std::uint64_t number, ByteView sealed) {
  impl_->sql("UPDATE versions SET announced = 1, sealed = ? WHERE number = ?")
      .bind_blob(1, sealed)
      .bind(2, number)
      .run();
}

void Index::forget_versions_below(std::uint64_t number) {
  Batch batch(*this);
  number = std::min(number, impl_->newest_number());
  impl_->sql("DELETE FROM versions WHERE number < ?").bind(1, number).run();
  impl_->sql("DELETE FROM blobs WHERE last_version < ?").bind(1, number).run();
  batch.commit();
}

void Index::each_retained_node(const std::function<void(ByteView node)>& visit) const {
  for (const char* text : {"SELECT node FROM directories",
                           "SELECT node FROM pending WHERE node IS NOT NULL",
                           "SELECT bytes FROM blobs"}) {
    auto& s = impl_->sql(text);
    while (s.step()) visit(s.blob(0));
    s.reset();
  }
}

std::uint64_t Index::garbage_since(const Hash& content, std::uint64_t now_ns) {
  auto& s = impl_->sql(
      "INSERT INTO garbage VALUES (?1, ?2, ?2) ON CONFLICT (content)"
      " DO UPDATE SET looked = excluded.looked RETURNING since");
  s.bind_blob(1, content.view()).bind(2, now_ns);
  s.step();
  const std::uint64_t since = s.u64(0);
  while (s.step()) {
  }
  s.reset();
  return since;
}

void Index::forget_garbage(const Hash& content) {
  impl_->sql("DELETE FROM garbage WHERE content = ?").bind_blob(1, content.view()).run();
}

void Index::shrink() { impl_->db.shrink(); }

void Index::forget_garbage_before(std::uint64_t now_ns) {
  impl_->sql("DELETE FROM garbage WHERE looked < ?").bind(1, now_ns).run();
}

std::optional<Bytes> Index::blob(const Hash& id) const {
  for (const char* text : {"SELECT node FROM directories WHERE id = ? LIMIT 1",
                           "SELECT bytes FROM blobs WHERE id = ?"}) {
    auto& s = impl_->sql(text);
    s.bind_blob(1, id.view());
    std::optional<Bytes> bytes;
    if (s.step()) bytes = s.blob(0);
    s.reset();
    if (bytes) return bytes;
  }
  return std::nullopt;
}

}  // namespace mirrorbus::tree
