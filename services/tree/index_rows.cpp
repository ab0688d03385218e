#include "services/tree/index_rows.hpp"

#include "services/tree/index_db.hpp"

#include <algorithm>
#include <stdexcept>

namespace mirrorbus::tree {

using base::Statement;

namespace {

constexpr std::string_view kRoot = "root";
constexpr std::string_view kPendingRoot = "pending root";

// Of a row of "key, id, node, stats".
DirectoryRow directory_of(const Statement& row) {
  return {path_of(row.blob(0)), Hash::from_bytes(row.blob(1)), Bytes(row.blob(2)),
          stats_of(row.blob(3))};
}

PendingRow pending_of(const Statement& row) {
  if (row.is_null(1)) return {.row = {.path = path_of(row.blob(0))}, .removed = true};
  return {directory_of(row), false};
}

// Bound to a statement of either layer's table.
void put_row(Statement& statement, const DirectoryRow& row) {
  const Bytes key = key_of(row.path);
  statement.bind_blob(1, key)
      .bind_blob(2, row.id.view())
      .bind_blob(3, row.node)
      .bind_blob(4, stats_view(row.stats))
      .run();
}
void put_row_stats(Statement& statement, ByteView path, const std::vector<EntryStat>& stats) {
  const Bytes key = key_of(path);
  statement.bind_blob(1, stats_view(stats)).bind_blob(2, key).run();
}

std::optional<RootRow> read_root(IndexDb& db, std::string_view setting) {
  const auto bytes = db.setting(setting);
  if (!bytes || bytes->size() < sizeof(EntryStat)) return std::nullopt;
  RootRow root;
  root.stat = stats_of(ByteView(*bytes).substr(0, sizeof(EntryStat))).front();
  proto::Reader r(ByteView(*bytes).substr(sizeof(EntryStat)));
  root.entry = proto::decode_root_entry(r);
  if (r.failure()) throw std::runtime_error("the index holds a damaged root entry");
  return root;
}

void write_root(IndexDb& db, std::string_view setting, const RootRow& root) {
  Bytes bytes(stats_view({root.stat}));
  proto::Writer w(bytes);
  proto::encode_root_entry(w, root.entry);
  db.set(setting, bytes);
}

// Rows in pieces, so that no statement is open while the visitor writes. `next(limit)` has the next
// ones, fewer than `limit` at the end.
constexpr std::uint64_t kPiece = 64;
template <class Next, class Visit>
void in_pieces(std::uint64_t limit, const Next& next, const Visit& visit) {
  for (;; limit = std::min(2 * limit, kPiece)) {
    const auto rows = next(limit);
    for (const auto& row : rows)
      if (!visit(row)) return;
    if (rows.size() < limit) return;
  }
}

Bytes key_after(ByteView path) { return key_of(path) + '\0'; }

}  // namespace

// ---- committed ----

std::optional<DirectoryRow> IndexRows::committed(ByteView path) const {
  const Bytes key = key_of(path);
  return first_row(
      db_.sql("SELECT key, id, node, stats FROM directories WHERE key = ?").bind_blob(1, key),
      directory_of);
}

void IndexRows::put(const DirectoryRow& row) {
  put_row(db_.sql("INSERT INTO directories (key, id, node, stats) VALUES (?, ?, ?, ?)"
                  " ON CONFLICT (key) DO UPDATE"
                  " SET id = excluded.id, node = excluded.node, stats = excluded.stats"),
          row);
}

void IndexRows::put_stats(ByteView path, const std::vector<EntryStat>& stats) {
  put_row_stats(db_.sql("UPDATE directories SET stats = ? WHERE key = ?"), path, stats);
}

void IndexRows::remove(ByteView path) {
  const Bytes key = key_of(path);
  db_.sql("DELETE FROM directories WHERE key = ?").bind_blob(1, key).run();
}

std::optional<RootRow> IndexRows::root() const { return read_root(db_, kRoot); }
void IndexRows::set_root(const RootRow& root) { write_root(db_, kRoot, root); }

void IndexRows::each_directory(ByteView under,
                               const std::function<bool(const DirectoryRow&)>& visit) const {
  Bytes from = key_of(under);
  const Bytes end = below(from).last;
  const auto next = [&](std::uint64_t limit) {
    auto& s = db_.sql(
        "SELECT key, id, node, stats FROM directories WHERE key >= ? AND key < ? ORDER BY key"
        " LIMIT ?");
    auto rows = all_rows(s.bind_blob(1, from).bind_blob(2, end).bind(3, limit), directory_of);
    if (!rows.empty()) from = key_after(rows.back().path);
    return rows;
  };
  in_pieces(kPiece, next, visit);
}

void IndexRows::each_node(ByteView first, ByteView last,
                          const std::function<bool(const Index::NodeRow&)>& visit) const {
  Bytes from = key_of(first);
  const Bytes to = key_of(last);
  const auto next = [&](std::uint64_t limit) {
    auto& s = db_.sql(
        "SELECT key, id, node FROM directories WHERE key >= ? AND key <= ? ORDER BY key LIMIT ?");
    auto rows = all_rows(s.bind_blob(1, from).bind_blob(2, to).bind(3, limit),
                         [](const Statement& row) -> Index::NodeRow {
                           return {path_of(row.blob(0)), Hash::from_bytes(row.blob(1)),
                                   Bytes(row.blob(2))};
                         });
    if (!rows.empty()) from = key_after(rows.back().path);
    return rows;
  };
  // The first pieces are small: often only the next directory is wanted.
  in_pieces(4, next, visit);
}

std::optional<Bytes> IndexRows::node(const Hash& id) const {
  return first_row(
      db_.sql("SELECT node FROM directories WHERE id = ? LIMIT 1").bind_blob(1, id.view()),
      blob_of);
}

std::vector<Bytes> IndexRows::paths_of_node(const Hash& id) const {
  return all_rows(
      db_.sql("SELECT key FROM directories WHERE id = ? LIMIT 8").bind_blob(1, id.view()),
      path_of_row);
}

// ---- pending ----

std::optional<PendingRow> IndexRows::pending(ByteView path) const {
  const Bytes key = key_of(path);
  return first_row(
      db_.sql("SELECT key, id, node, stats FROM pending WHERE key = ?").bind_blob(1, key),
      pending_of);
}

void IndexRows::stage(const DirectoryRow& row) {
  put_row(db_.sql("INSERT INTO pending (key, id, node, stats) VALUES (?, ?, ?, ?)"
                  " ON CONFLICT (key) DO UPDATE"
                  " SET id = excluded.id, node = excluded.node, stats = excluded.stats"),
          row);
}

void IndexRows::stage_stats(ByteView path, const std::vector<EntryStat>& stats) {
  put_row_stats(db_.sql("UPDATE pending SET stats = ? WHERE key = ?"), path, stats);
}

void IndexRows::stage_removal(ByteView path) {
  const Bytes key = key_of(path);
  const KeyRange range = below(key);
  for (const char* text : {"DELETE FROM pending WHERE key = ?1 OR key >= ?2 AND key < ?3",
                           "INSERT INTO pending (key) SELECT key FROM directories"
                           " WHERE key = ?1 OR key >= ?2 AND key < ?3"})
    db_.sql(text).bind_blob(1, key).bind_blob(2, range.first).bind_blob(3, range.last).run();
}

void IndexRows::unstage(ByteView path) {
  const Bytes key = key_of(path);
  db_.sql("DELETE FROM pending WHERE key = ?").bind_blob(1, key).run();
}

std::optional<RootRow> IndexRows::pending_root() const { return read_root(db_, kPendingRoot); }
void IndexRows::stage_root(const RootRow& root) { write_root(db_, kPendingRoot, root); }
void IndexRows::unstage_root() { db_.unset(kPendingRoot); }

bool IndexRows::any_pending() const {
  return has_row(db_.sql("SELECT 1 FROM pending LIMIT 1")) || pending_root().has_value();
}

void IndexRows::each_pending(Index::Order order,
                             const std::function<bool(const PendingRow&)>& visit) const {
  const bool forward = order == Index::Order::Forward;
  Bytes from = forward ? Bytes() : below("").last;
  const auto next = [&](std::uint64_t limit) {
    auto& s = db_.sql(
        forward
            ? "SELECT key, id, node, stats FROM pending WHERE key >= ? ORDER BY key LIMIT ?"
            : "SELECT key, id, node, stats FROM pending WHERE key < ? ORDER BY key DESC LIMIT ?");
    auto rows = all_rows(s.bind_blob(1, from).bind(2, limit), pending_of);
    if (!rows.empty())
      from = forward ? key_after(rows.back().row.path) : key_of(rows.back().row.path);
    return rows;
  };
  in_pieces(kPiece, next, visit);
}

void IndexRows::note_seen(const Hash& content) {
  db_.sql("INSERT OR IGNORE INTO seen VALUES (?)").bind_blob(1, content.view()).run();
}

bool IndexRows::seen(const Hash& content) const {
  return has_row(db_.sql("SELECT 1 FROM seen WHERE content = ?").bind_blob(1, content.view()));
}

void IndexRows::drop_pending() {
  db_.sql("DELETE FROM pending").run();
  db_.sql("DELETE FROM seen").run();
  unstage_root();
}

}  // namespace mirrorbus::tree
