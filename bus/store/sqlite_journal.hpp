// The durable journal: one SQLite file in WAL mode, one row per batch.
#pragma once

#include "bus/base/sqlite.hpp"
#include "bus/store/journal.hpp"

namespace mirrorbus::store {

class SqliteJournal final : public Journal {
 public:
  explicit SqliteJournal(const std::string& path);

  void append(std::span<const JournalRow> rows) override;
  void put_credential(const proto::Credential& credential,
                      const proto::SealedCredential& sealed) override;
  std::uint64_t begin_epoch(std::uint64_t at_least) override;
  bool prune(std::uint64_t before_ns, std::uint64_t max_bytes) override;

  Tail tail() override;
  ReadResult read(const ReadRequest& request) override;
  std::uint64_t seq_before(std::uint64_t time_ns) override;
  std::optional<proto::SealedCredential> credential(const proto::Hash& id) override;
  std::vector<proto::SealedCredential> credentials(std::uint64_t before_epoch,
                                                   std::size_t limit) override;
  std::vector<proto::SealedCredential> first_credentials_before(std::uint64_t before_epoch,
                                                                std::size_t limit) override;
  std::vector<proto::SealedCredential> first_credentials_after(std::uint64_t after_epoch,
                                                               std::size_t limit) override;
  std::optional<std::uint64_t> submission(proto::ByteView sender, std::uint64_t n) override;

  // Takes away every row with events above `seq`; the writing thread's. The newest go first, so that
  // what a crash leaves has no hole.
  void remove_after(std::uint64_t seq);

  // Moves the write-ahead log into the file; a checkpoint inside a commit would stall publishing for
  // up to half a second. Any one thread at a time, also while append() runs.
  void checkpoint();
  // Pages of 16 KiB in the write-ahead log after the last commit.
  std::int64_t wal_pages() const { return write_.wal_pages(); }

 private:
  std::vector<proto::SealedCredential> listed(const char* of, std::uint64_t epoch,
                                              std::size_t limit);

  base::Database write_;
  base::Database read_;
  base::Database checkpointer_;
  base::Statement insert_row_;
  base::Statement insert_submission_;
  std::uint64_t bytes_ = 0;  // of all rows together
};

}  // namespace mirrorbus::store
