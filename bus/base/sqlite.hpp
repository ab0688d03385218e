// The one place that speaks to SQLite. A Database and its Statements belong to one thread at a time.
// Errors are std::system_error in sqlite_category(), with SQLite's extended result code and the
// statement or file in the message.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

struct sqlite3;
struct sqlite3_stmt;

namespace mirrorbus::base {

const std::error_category& sqlite_category() noexcept;
// SQLITE_FULL, or an I/O error whose cause is ENOSPC or EDQUOT: worth trying again later.
bool is_disk_full(const std::system_error& error) noexcept;

class Statement;

class Database {
 public:
  struct Options {
    bool read_only = false;
    bool full_sync = true;        // synchronous=FULL: a commit survives a power cut; else OFF
    int page_size_bytes = 16384;  // only for a new file
    bool auto_checkpoint = true;
    bool can_shrink = false;  // only for a new file: shrink() gives unused pages back
  };

  // Opens or creates `path` in WAL mode.
  Database(const std::string& path, const Options& options);
  explicit Database(const std::string& path) : Database(path, Options{}) {}
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  void exec(const std::string& sql);  // any number of statements, no results
  Statement prepare(std::string_view sql);
  // Moves WAL pages into the file; true if all of them went.
  bool checkpoint(bool truncate);
  // Cuts unused pages off the file, if it was made so that it can, and empties the WAL.
  void shrink();
  // After the last commit of this connection. Any thread.
  std::int64_t wal_pages() const noexcept { return wal_pages_; }
  std::int64_t last_insert_rowid() const noexcept;
  std::int64_t changes() const noexcept;

 private:
  friend class Statement;
  sqlite3* db_ = nullptr;
  std::string path_;
  std::atomic<std::int64_t> wal_pages_ = 0;
};

// A prepared statement. Bind by position from 1, step, read columns from 0.
class Statement {
 public:
  Statement(Statement&&) noexcept;
  Statement& operator=(Statement&&) noexcept;
  ~Statement();

  Statement& bind(int at, std::int64_t value);
  Statement& bind(int at, std::uint64_t value) { return bind(at, static_cast<std::int64_t>(value)); }
  Statement& bind(int at, int value) { return bind(at, static_cast<std::int64_t>(value)); }
  Statement& bind_text(int at, std::string_view value);
  // The bytes must outlive the next reset().
  Statement& bind_blob(int at, std::string_view value);
  Statement& bind_null(int at);

  bool step();           // true while there is a row
  void run();            // step to the end and reset
  void reset();          // makes it ready to be bound and stepped again
  std::int64_t integer(int column) const;
  std::uint64_t u64(int column) const { return static_cast<std::uint64_t>(integer(column)); }
  std::string_view blob(int column) const;  // valid until the next step or reset
  std::string_view text(int column) const { return blob(column); }
  bool is_null(int column) const;

 private:
  friend class Database;
  Statement(Database& db, sqlite3_stmt* stmt) : db_(&db), stmt_(stmt) {}
  Database* db_;
  sqlite3_stmt* stmt_;
};

// BEGIN IMMEDIATE; rolls back unless committed.
class Transaction {
 public:
  explicit Transaction(Database& db);
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  void commit();

 private:
  Database& db_;
  bool open_ = true;
};

}  // namespace mirrorbus::base
