#include "bus/store/cursor.hpp"

namespace mirrorbus::store {

CursorStore::CursorStore(const std::string& path) : db_(path) {
  db_.exec("CREATE TABLE IF NOT EXISTS cursor(stream BLOB PRIMARY KEY, epoch INTEGER NOT NULL,"
           " serial INTEGER NOT NULL, beat INTEGER NOT NULL, position INTEGER NOT NULL,"
           " position_epoch INTEGER NOT NULL, proven INTEGER NOT NULL)");
  auto column = db_.prepare("SELECT count(*) FROM pragma_table_info('cursor') WHERE name='proven'");
  column.step();
  if (column.u64(0) == 0)  // of a version before 0.1.0
    db_.exec("ALTER TABLE cursor ADD COLUMN proven INTEGER NOT NULL DEFAULT 0;"
             "UPDATE cursor SET proven = position");
}

Cursors CursorStore::load() {
  Cursors cursors;
  auto rows = db_.prepare(
      "SELECT stream, epoch, serial, beat, position, position_epoch, proven FROM cursor");
  while (rows.step())
    cursors[proto::Hash::from_bytes(rows.blob(0))] = {
        rows.u64(1), static_cast<std::uint32_t>(rows.u64(2)), rows.u64(3), rows.u64(4),
        rows.u64(5), rows.u64(6)};
  return cursors;
}

void CursorStore::save(const Cursors& cursors) {
  base::Transaction transaction(db_);
  auto insert = db_.prepare("INSERT OR REPLACE INTO cursor VALUES(?,?,?,?,?,?,?)");
  for (const auto& [stream, cursor] : cursors) {
    insert.bind_blob(1, stream.view()).bind(2, cursor.epoch).bind(3, std::uint64_t{cursor.serial});
    insert.bind(4, cursor.beat).bind(5, cursor.position).bind(6, cursor.position_epoch);
    insert.bind(7, cursor.proven).run();
  }
  transaction.commit();
}

}  // namespace mirrorbus::store
