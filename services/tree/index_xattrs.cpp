#include "services/tree/index_xattrs.hpp"

#include "services/tree/index_db.hpp"

#include <vector>

namespace mirrorbus::tree {

using proto::Bytes;
using proto::Hash;

void IndexXattrs::keep(const Hash& id, proto::ByteView bytes) {
  db_.sql("INSERT OR IGNORE INTO xattr_sets VALUES (?, ?)")
      .bind_blob(1, id.view())
      .bind_blob(2, bytes)
      .run();
}

std::optional<Bytes> IndexXattrs::find(const Hash& id) const {
  return first_row(db_.sql("SELECT bytes FROM xattr_sets WHERE id = ?").bind_blob(1, id.view()),
                   blob_of);
}

std::uint64_t IndexXattrs::count() const {
  return *first_row(db_.sql("SELECT count(*) FROM xattr_sets"), number_of);
}

std::uint64_t IndexXattrs::keep_only(const std::unordered_set<Hash>& wanted) {
  std::vector<Hash> others;
  for (const Bytes& id : all_rows(db_.sql("SELECT id FROM xattr_sets"), blob_of))
    if (const Hash hash = Hash::from_bytes(id); !wanted.contains(hash)) others.push_back(hash);
  for (const Hash& id : others)
    db_.sql("DELETE FROM xattr_sets WHERE id = ?").bind_blob(1, id.view()).run();
  return others.size();
}

}  // namespace mirrorbus::tree
