#include "bus/base/sqlite.hpp"

#include <cerrno>
#include <utility>

#include <sqlite3.h>

namespace mirrorbus::base {
namespace {

class SqliteCategory final : public std::error_category {
 public:
  const char* name() const noexcept override { return "sqlite"; }
  std::string message(int code) const override { return sqlite3_errstr(code); }
};

[[noreturn]] void fail(sqlite3* db, int code, const std::string& doing) {
  // The extended code says "disk I/O error"; the system's errno says why.
  std::string what = doing;
  const int system = db ? sqlite3_system_errno(db) : 0;
  if (db) what += std::string(": ") + sqlite3_errmsg(db);
  if (system != 0) what += ": " + std::generic_category().message(system);
  if ((code & 0xff) == SQLITE_IOERR && (system == ENOSPC || system == EDQUOT)) code = SQLITE_FULL;
  throw std::system_error(code, sqlite_category(), what);
}

}  // namespace

const std::error_category& sqlite_category() noexcept {
  static const SqliteCategory category;
  return category;
}

bool is_disk_full(const std::system_error& error) noexcept {
  return (error.code().category() == sqlite_category() &&
          (error.code().value() & 0xff) == SQLITE_FULL) ||
         (error.code().category() == std::generic_category() &&
          (error.code().value() == ENOSPC || error.code().value() == EDQUOT));
}

Database::Database(const std::string& path, const Options& options) : path_(path) {
  const int flags = (options.read_only ? SQLITE_OPEN_READONLY
                                       : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE) |
                    SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  if (const int code = sqlite3_open_v2(path.c_str(), &db_, flags, nullptr); code != SQLITE_OK) {
    sqlite3* failed = std::exchange(db_, nullptr);
    std::string doing = "opening " + path;
    if (failed) doing += std::string(": ") + sqlite3_errmsg(failed);
    sqlite3_close(failed);
    throw std::system_error(code, sqlite_category(), doing);
  }
  try {
    sqlite3_busy_timeout(db_, 10'000);
    if (!options.read_only) {
      exec("PRAGMA page_size=" + std::to_string(options.page_size_bytes));
      if (options.can_shrink) exec("PRAGMA auto_vacuum=INCREMENTAL");
      exec("PRAGMA journal_mode=WAL");
      exec(options.full_sync ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=OFF");
      if (!options.auto_checkpoint) exec("PRAGMA wal_autocheckpoint=0");
    }
    if (!options.auto_checkpoint)
      sqlite3_wal_hook(
          db_,
          [](void* self, sqlite3*, const char*, int pages) {
            static_cast<Database*>(self)->wal_pages_ = pages;
            return SQLITE_OK;
          },
          this);
  } catch (...) {
    sqlite3_close_v2(std::exchange(db_, nullptr));
    throw;
  }
}

Database::~Database() { sqlite3_close_v2(db_); }

void Database::exec(const std::string& sql) {
  if (const int code = sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr); code != SQLITE_OK)
    fail(db_, code, path_ + ": " + sql);
}

Statement Database::prepare(std::string_view sql) {
  sqlite3_stmt* stmt = nullptr;
  if (const int code = sqlite3_prepare_v3(db_, sql.data(), static_cast<int>(sql.size()),
                                          SQLITE_PREPARE_PERSISTENT, &stmt, nullptr);
      code != SQLITE_OK)
    fail(db_, code, path_ + ": " + std::string(sql));
  return Statement(*this, stmt);
}

bool Database::checkpoint(bool truncate) {
  int log = 0, done = 0;
  const int code = sqlite3_wal_checkpoint_v2(
      db_, nullptr, truncate ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE, &log, &done);
  if (code == SQLITE_BUSY) return false;
  if (code != SQLITE_OK) fail(db_, code, path_ + ": checkpoint");
  return log == done;
}

void Database::shrink() {
  exec("PRAGMA incremental_vacuum");
  checkpoint(true);
}

std::int64_t Database::last_insert_rowid() const noexcept { return sqlite3_last_insert_rowid(db_); }
std::int64_t Database::changes() const noexcept { return sqlite3_changes64(db_); }

Statement::Statement(Statement&& other) noexcept
    : db_(other.db_), stmt_(std::exchange(other.stmt_, nullptr)) {}
Statement& Statement::operator=(Statement&& other) noexcept {
  std::swap(db_, other.db_);
  std::swap(stmt_, other.stmt_);
  return *this;
}
Statement::~Statement() { sqlite3_finalize(stmt_); }

Statement& Statement::bind(int at, std::int64_t value) {
  sqlite3_bind_int64(stmt_, at, value);
  return *this;
}
Statement& Statement::bind_text(int at, std::string_view value) {
  sqlite3_bind_text64(stmt_, at, value.data() ? value.data() : "", value.size(), SQLITE_TRANSIENT,
                      SQLITE_UTF8);
  return *this;
}
Statement& Statement::bind_blob(int at, std::string_view value) {
  sqlite3_bind_blob64(stmt_, at, value.data() ? value.data() : "", value.size(), SQLITE_STATIC);
  return *this;
}
Statement& Statement::bind_null(int at) {
  sqlite3_bind_null(stmt_, at);
  return *this;
}

bool Statement::step() {
  const int code = sqlite3_step(stmt_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  const std::string doing = db_->path_ + ": " + sqlite3_sql(stmt_);
  sqlite3_reset(stmt_);
  fail(db_->db_, code, doing);
}

void Statement::run() {
  while (step()) {
  }
  reset();
}

void Statement::reset() {
  sqlite3_reset(stmt_);
  sqlite3_clear_bindings(stmt_);
}

std::int64_t Statement::integer(int column) const { return sqlite3_column_int64(stmt_, column); }
std::string_view Statement::blob(int column) const {
  const void* bytes = sqlite3_column_blob(stmt_, column);
  return {static_cast<const char*>(bytes),
          static_cast<std::size_t>(sqlite3_column_bytes(stmt_, column))};
}
bool Statement::is_null(int column) const {
  return sqlite3_column_type(stmt_, column) == SQLITE_NULL;
}

Transaction::Transaction(Database& db) : db_(db) { db_.exec("BEGIN IMMEDIATE"); }
Transaction::~Transaction() {
  if (!open_) return;
  try {
    db_.exec("ROLLBACK");
  } catch (const std::system_error&) {
    // SQLite has rolled back by itself (a full disk does that); nothing is left to undo.
  }
}
void Transaction::commit() {
  db_.exec("COMMIT");
  open_ = false;
}

}  // namespace mirrorbus::base
