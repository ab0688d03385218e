#include "bus/store/sqlite_journal.hpp"

#include "bus/store/row_filter.hpp"

#include <fmt/core.h>

namespace mirrorbus::store {
namespace {

constexpr int kPruneRows = 64;
constexpr int kRemoveRows = 1024;

constexpr char kSchema[] = R"(
CREATE TABLE IF NOT EXISTS batch(
  first_seq INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL, epoch INTEGER NOT NULL,
  number INTEGER NOT NULL, time_ns INTEGER NOT NULL, header BLOB NOT NULL, row BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS batch_time ON batch(time_ns);
CREATE TABLE IF NOT EXISTS credential(
  epoch INTEGER NOT NULL, serial INTEGER NOT NULL, id BLOB NOT NULL UNIQUE,
  document BLOB NOT NULL, signature BLOB NOT NULL, PRIMARY KEY(epoch, serial));
CREATE TABLE IF NOT EXISTS epoch(one INTEGER PRIMARY KEY CHECK(one = 1), value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS submission(
  sender BLOB NOT NULL, n INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY(sender, n))
  WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS submission_seq ON submission(seq);
)";

base::Database::Options writing() {
  base::Database::Options options;
  options.auto_checkpoint = false;
  return options;
}

// The schema must stand before the read-only connection opens.
const std::string& with_schema(const std::string& path) {
  base::Database(path, writing()).exec(kSchema);
  return path;
}

base::Database::Options reading() {
  base::Database::Options options;
  options.read_only = true;
  return options;
}

}  // namespace

SqliteJournal::SqliteJournal(const std::string& path)
    : write_(with_schema(path), writing()),
      read_(path, reading()),
      checkpointer_(path, writing()),
      insert_row_(write_.prepare("INSERT INTO batch VALUES(?,?,?,?,?,?,?)")),
      insert_submission_(write_.prepare("INSERT OR IGNORE INTO submission VALUES(?,?,?)")) {
  auto sum = write_.prepare("SELECT coalesce(sum(length(row)),0) FROM batch");
  sum.step();
  bytes_ = sum.u64(0);
}

void SqliteJournal::append(std::span<const JournalRow> rows) {
  base::Transaction transaction(write_);
  std::uint64_t added = 0;
  for (const JournalRow& row : rows) {
    insert_row_.bind(1, row.first_seq).bind(2, row.last_seq).bind(3, row.epoch).bind(4, row.number);
    insert_row_.bind(5, row.time_ns).bind_blob(6, row.header.view()).bind_blob(7, row.bytes);
    insert_row_.run();
    added += row.bytes.size();
    for (const SubmissionRecord& submission : row.submissions)
      insert_submission_.bind_blob(1, submission.sender)
          .bind(2, submission.n)
          .bind(3, submission.seq)
          .run();
  }
  transaction.commit();
  bytes_ += added;
}

void SqliteJournal::put_credential(const proto::Credential& credential,
                                   const proto::SealedCredential& sealed) {
  const proto::Hash id = proto::credential_id(sealed.document);
  write_.prepare("INSERT OR IGNORE INTO credential VALUES(?,?,?,?,?)")
      .bind(1, credential.epoch)
      .bind(2, std::uint64_t{credential.serial})
      .bind_blob(3, id.view())
      .bind_blob(4, sealed.document)
      .bind_blob(5, sealed.signature)
      .run();
}

std::uint64_t SqliteJournal::begin_epoch(std::uint64_t at_least) {
  base::Transaction transaction(write_);
  std::uint64_t last = 0;
  {
    auto select = write_.prepare(
        "SELECT max(coalesce((SELECT value FROM epoch),0), coalesce((SELECT max(epoch) FROM batch),0))");
    select.step();
    last = select.u64(0);
  }
  const std::uint64_t epoch = std::max(last + 1, at_least);
  write_.prepare("INSERT OR REPLACE INTO epoch VALUES(1,?)").bind(1, epoch).run();
  transaction.commit();
  return epoch;
}

bool SqliteJournal::prune(std::uint64_t before_ns, std::uint64_t max_bytes) {
  base::Transaction transaction(write_);
  std::uint64_t freed = 0, through = 0;
  int taken = 0;
  {
    auto oldest = write_.prepare(
        "SELECT last_seq, time_ns, length(row) FROM batch"
        " WHERE first_seq < (SELECT max(first_seq) FROM batch) ORDER BY first_seq LIMIT ?");
    oldest.bind(1, kPruneRows);
    while (oldest.step() && (oldest.u64(1) < before_ns || bytes_ - freed > max_bytes)) {
      through = oldest.u64(0);
      freed += oldest.u64(2);
      ++taken;
    }
  }
  if (taken == 0) return false;
  write_.prepare("DELETE FROM batch WHERE last_seq <= ?").bind(1, through).run();
  write_.prepare("DELETE FROM submission WHERE seq <= ?").bind(1, through).run();
  transaction.commit();
  bytes_ -= freed;
  return taken == kPruneRows;
}

void SqliteJournal::remove_after(std::uint64_t seq) {
  seq = std::min<std::uint64_t>(seq, INT64_MAX);
  for (bool more = true; more;) {
    base::Transaction transaction(write_);
    std::uint64_t first = 0, freed = 0;
    int taken = 0;
    {
      auto newest = write_.prepare(
          "SELECT first_seq, length(row) FROM batch WHERE last_seq > ?"
          " ORDER BY first_seq DESC LIMIT ?");
      newest.bind(1, seq).bind(2, kRemoveRows);
      while (newest.step()) {
        first = newest.u64(0);
        freed += newest.u64(1);
        ++taken;
      }
    }
    if (taken == 0) return;
    write_.prepare("DELETE FROM batch WHERE first_seq >= ?").bind(1, first).run();
    write_.prepare("DELETE FROM submission WHERE seq >= ?").bind(1, first).run();
    transaction.commit();
    bytes_ -= freed;
    more = taken == kRemoveRows;
  }
}

Tail SqliteJournal::tail() {
  Tail tail;
  auto last = read_.prepare(
      "SELECT epoch, number, last_seq, header FROM batch ORDER BY first_seq DESC LIMIT 1");
  if (!last.step()) return tail;
  tail.epoch = last.u64(0);
  tail.number = last.u64(1);
  tail.last_seq = last.u64(2);
  tail.header = proto::Hash::from_bytes(last.blob(3));
  auto first = read_.prepare("SELECT min(first_seq) FROM batch");
  first.step();
  tail.oldest_seq = first.u64(0);
  return tail;
}

ReadResult SqliteJournal::read(const ReadRequest& request) {
  ReadResult result;
  result.through = request.to;
  std::size_t scanned = 0, taken = 0;
  auto rows = read_.prepare(
      "SELECT first_seq, last_seq, row FROM batch WHERE first_seq >="
      " coalesce((SELECT max(first_seq) FROM batch WHERE first_seq <= ?1), 0)"
      " AND first_seq <= ?2 AND last_seq >= ?1 ORDER BY first_seq");
  rows.bind(1, request.from).bind(2, request.to);
  while (rows.step()) {
    const proto::ByteView bytes = rows.blob(2);
    if (scanned > 0 && (taken + bytes.size() > request.max_bytes || scanned > request.max_scan_bytes)) {
      result.through = rows.u64(0) - 1;
      result.more = true;
      break;
    }
    scanned += bytes.size();
    if (!row_has_prefix(bytes, request.prefix)) continue;
    taken += bytes.size();
    result.rows.emplace_back(bytes);
  }
  return result;
}

std::uint64_t SqliteJournal::seq_before(std::uint64_t time_ns) {
  auto select = read_.prepare(
      "SELECT coalesce((SELECT min(first_seq) - 1 FROM batch WHERE time_ns >= ?),"
      " (SELECT max(last_seq) FROM batch), 0)");
  select.bind(1, time_ns);
  select.step();
  return select.u64(0);
}

std::optional<proto::SealedCredential> SqliteJournal::credential(const proto::Hash& id) {
  auto select = read_.prepare("SELECT document, signature FROM credential WHERE id = ?");
  select.bind_blob(1, id.view());
  if (!select.step()) return std::nullopt;
  return proto::SealedCredential{proto::Bytes(select.blob(0)), proto::Bytes(select.blob(1))};
}

std::vector<proto::SealedCredential> SqliteJournal::listed(const char* of, std::uint64_t epoch,
                                                           std::size_t limit) {
  std::vector<proto::SealedCredential> found;
  auto select =
      read_.prepare(fmt::format("SELECT document, signature FROM credential WHERE {} LIMIT ?2", of));
  select.bind(1, std::min<std::uint64_t>(epoch, INT64_MAX)).bind(2, std::uint64_t{limit});
  while (select.step())
    found.push_back({proto::Bytes(select.blob(0)), proto::Bytes(select.blob(1))});
  return found;
}

std::vector<proto::SealedCredential> SqliteJournal::credentials(std::uint64_t before_epoch,
                                                                std::size_t limit) {
  return listed("epoch < ?1 ORDER BY epoch DESC, serial DESC", before_epoch, limit);
}

std::vector<proto::SealedCredential> SqliteJournal::first_credentials_before(
    std::uint64_t before_epoch, std::size_t limit) {
  return listed("epoch < ?1 AND serial = 0 ORDER BY epoch DESC", before_epoch, limit);
}

std::vector<proto::SealedCredential> SqliteJournal::first_credentials_after(
    std::uint64_t after_epoch, std::size_t limit) {
  return listed("epoch > ?1 AND serial = 0 ORDER BY epoch", after_epoch, limit);
}

std::optional<std::uint64_t> SqliteJournal::submission(proto::ByteView sender, std::uint64_t n) {
  auto select = read_.prepare("SELECT seq FROM submission WHERE sender = ? AND n = ?");
  select.bind_blob(1, sender).bind(2, n);
  if (!select.step()) return std::nullopt;
  return select.u64(0);
}

void SqliteJournal::checkpoint() { checkpointer_.checkpoint(false); }

}  // namespace mirrorbus::store
