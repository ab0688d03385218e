#include "services/tree/index_db.hpp"

#include "proto/limits.hpp"

#include <algorithm>
#include <stdexcept>

namespace mirrorbus::tree {

namespace {

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
  number INTEGER PRIMARY KEY, record BLOB NOT NULL, root BLOB NOT NULL, pack BLOB,
  pack_size INTEGER, index_size INTEGER, index_sha BLOB, body BLOB NOT NULL,
  sealed BLOB NOT NULL, announced INTEGER NOT NULL, incomplete INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS blobs (
  id BLOB PRIMARY KEY, bytes BLOB NOT NULL, last_version INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS xattr_sets (id BLOB PRIMARY KEY, bytes BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS blobs_by_version ON blobs (last_version);
)";

}  // namespace

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

KeyRange below(ByteView key) {
  if (key.empty()) return {Bytes("\0", 1), Bytes(proto::kMaxFileNameSize + 1, '\xff')};
  return {Bytes(key) + '\0', Bytes(key) + '\x01'};
}

IndexDb::IndexDb(const std::string& file, const Index::Options& options)
    : db_(file,
          {.read_only = options.read_only, .full_sync = options.durable, .can_shrink = true}) {
  if (options.read_only) return;
  db_.exec(kTables);
  if (const auto schema = setting("schema"); !schema)
    set("schema", std::to_string(kSchema));
  else if (*schema != std::to_string(kSchema))
    throw std::runtime_error(file + " was written by another release (schema " + *schema +
                             "): remove it to scan anew");
}

base::Statement& IndexDb::sql(const char* text) {
  auto it = statements_.find(text);
  if (it == statements_.end()) it = statements_.emplace(text, db_.prepare(text)).first;
  it->second.reset();
  return it->second;
}

std::optional<Bytes> IndexDb::setting(std::string_view key) {
  return first_row(sql("SELECT value FROM settings WHERE key = ?").bind_text(1, key), blob_of);
}

void IndexDb::set(std::string_view key, ByteView value) {
  sql("INSERT INTO settings VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
      .bind_text(1, key)
      .bind_blob(2, value)
      .run();
}

void IndexDb::unset(std::string_view key) {
  sql("DELETE FROM settings WHERE key = ?").bind_text(1, key).run();
}

void IndexDb::begin() {
  if (batches_ == 0) {
    db_.exec("BEGIN IMMEDIATE");
    spoilt_ = false;
  }
  ++batches_;
}

void IndexDb::commit() {
  if (spoilt_) throw std::logic_error("a batch inside this one was rolled back");
  if (batches_ == 1) db_.exec("COMMIT");
  --batches_;
}

void IndexDb::give_up() {
  spoilt_ = true;
  if (--batches_ > 0) return;
  try {
    db_.exec("ROLLBACK");
  } catch (const std::system_error&) {
    // SQLite has rolled back by itself (a full disk does that); nothing is left to undo.
  }
}

}  // namespace mirrorbus::tree
