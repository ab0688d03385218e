#include "services/tree/index_versions.hpp"

#include "proto/sha256.hpp"
#include "services/tree/index_db.hpp"

#include <algorithm>
#include <cassert>
#include <stdexcept>

namespace mirrorbus::tree {

namespace {

// Of a row of "record, root, pack, pack_size, index_size, index_sha, body, sealed, announced,
// incomplete".
StoredVersion version_of(const base::Statement& row) {
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

void IndexVersions::insert(const StoredVersion& v, ByteView links, ByteView owners) {
  const std::uint64_t number = v.record.number;
  const Bytes root = proto::encode_tree_root(v.root);
  assert(proto::sha256(root) == v.record.tree_hash);
  keep(v.record.tree_hash, root, number);
  keep(v.root.links, links, number);
  keep(v.root.owners, owners, number);
  auto& s = db_.sql(
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

std::uint64_t IndexVersions::newest_number() const {
  return *first_row(db_.sql("SELECT max(number) FROM versions"), number_of);
}

std::optional<StoredVersion> IndexVersions::get(std::uint64_t number) const {
  return first_row(db_.sql("SELECT record, root, pack, pack_size, index_size, index_sha, body,"
                           " sealed, announced, incomplete FROM versions WHERE number = ?")
                       .bind(1, number),
                   version_of);
}

std::vector<std::uint64_t> IndexVersions::numbers() const {
  return all_rows(db_.sql("SELECT number FROM versions ORDER BY number"), number_of);
}

std::vector<std::uint64_t> IndexVersions::unannounced() const {
  return all_rows(db_.sql("SELECT number FROM versions WHERE announced = 0 ORDER BY number"),
                  number_of);
}

void IndexVersions::mark_announced(std::uint64_t number, ByteView sealed) {
  db_.sql("UPDATE versions SET announced = 1, sealed = ? WHERE number = ?")
      .bind_blob(1, sealed)
      .bind(2, number)
      .run();
}

void IndexVersions::forget_below(std::uint64_t number) {
  number = std::min(number, newest_number());
  db_.sql("DELETE FROM versions WHERE number < ?").bind(1, number).run();
  db_.sql("DELETE FROM blobs WHERE last_version < ?").bind(1, number).run();
}

// What only they needed goes when the version before the next one does.
void IndexVersions::forget_from(std::uint64_t number) {
  db_.sql("DELETE FROM versions WHERE number >= ?").bind(1, number).run();
  db_.sql("UPDATE blobs SET last_version = ?1 WHERE last_version > ?1").bind(1, number).run();
}

void IndexVersions::keep(const Hash& id, ByteView bytes, std::uint64_t last_version) {
  if (last_version == 0) return;
  db_.sql("INSERT INTO blobs VALUES (?, ?, ?)"
          " ON CONFLICT (id) DO UPDATE SET last_version = max(last_version, excluded.last_version)")
      .bind_blob(1, id.view())
      .bind_blob(2, bytes)
      .bind(3, last_version)
      .run();
}

std::optional<Bytes> IndexVersions::kept(const Hash& id) const {
  return first_row(db_.sql("SELECT bytes FROM blobs WHERE id = ?").bind_blob(1, id.view()),
                   blob_of);
}

}  // namespace mirrorbus::tree
