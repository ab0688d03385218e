// The file an Index lives in: tables, prepared statements, nested batches, settings; and how a path
// becomes a key. Internal to Index: its parts share one.
#pragma once

#include "bus/base/sqlite.hpp"
#include "services/tree/index.hpp"

#include <map>
#include <type_traits>

namespace mirrorbus::tree {

// Keys sort bytewise as paths do in tree order: '/' becomes NUL, which no name has.
Bytes key_of(ByteView path);
Bytes path_of(ByteView key);
// Everything strictly below `key` is in [first, last).
struct KeyRange {
  Bytes first, last;
};
KeyRange below(ByteView key);

class IndexDb {
 public:
  IndexDb(const std::string& file, const Index::Options& options);

  // To be bound and stepped. Prepared once, by the text's address.
  base::Statement& sql(const char* text);

  std::optional<Bytes> setting(std::string_view key);
  void set(std::string_view key, ByteView value);
  void unset(std::string_view key);

  // Batches nest: the outermost commits, unless one inside it gave up.
  void begin();
  void commit();
  void give_up();

  void shrink() { db_.shrink(); }

 private:
  base::Database db_;
  std::map<const char*, base::Statement> statements_;
  int batches_ = 0;
  bool spoilt_ = false;  // an inner batch gave up: the outer one must too
};

// What a bound statement finds, as `read` makes it of a row; then it is at rest again.
template <class Read>
auto first_row(base::Statement& statement, Read read) {
  std::optional<std::invoke_result_t<Read, const base::Statement&>> row;
  if (statement.step()) row = read(statement);
  statement.reset();
  return row;
}
template <class Read>
auto all_rows(base::Statement& statement, Read read) {
  std::vector<std::invoke_result_t<Read, const base::Statement&>> rows;
  while (statement.step()) rows.push_back(read(statement));
  statement.reset();
  return rows;
}
inline bool has_row(base::Statement& statement) {
  const bool any = statement.step();
  statement.reset();
  return any;
}

// How the columns of a row are read most often.
inline Bytes blob_of(const base::Statement& row) { return Bytes(row.blob(0)); }
inline Bytes path_of_row(const base::Statement& row) { return path_of(row.blob(0)); }
inline std::uint64_t number_of(const base::Statement& row) { return row.u64(0); }

}  // namespace mirrorbus::tree
