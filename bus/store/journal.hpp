// A publisher's journal: every batch it ever sealed, before it is sent. What is here was published,
// what is not was not.
//
// Threads: append(), put_credential(), begin_epoch() and prune() belong to one thread, the reads to
// one other; an implementation keeps them apart.
#pragma once

#include "proto/credential.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace mirrorbus::store {

// Which event a submission became (see proto::Submission).
struct SubmissionRecord {
  proto::Bytes sender;
  std::uint64_t n = 0;
  std::uint64_t seq = 0;
};

struct JournalRow {
  std::uint64_t epoch = 0;
  std::uint64_t number = 0;
  std::uint64_t first_seq = 0;
  std::uint64_t last_seq = 0;
  std::uint64_t time_ns = 0;
  proto::Hash header;  // its hash
  proto::Bytes bytes;  // proto::BatchRow
  std::vector<SubmissionRecord> submissions;
};

// Where history ends; all zero for an empty journal.
struct Tail {
  std::uint64_t epoch = 0;  // of the last batch
  std::uint64_t number = 0;
  std::uint64_t last_seq = 0;
  proto::Hash header;
  std::uint64_t oldest_seq = 1;  // first still held; last_seq + 1 if none is
};

struct ReadRequest {
  std::uint64_t from = 0;
  std::uint64_t to = 0;
  std::string prefix;  // only rows with an event under it; whole segments, empty = all
  std::size_t max_bytes = 0;
  std::size_t max_scan_bytes = 64 << 20;
};
struct ReadResult {
  std::vector<proto::Bytes> rows;
  std::uint64_t through = 0;  // all that is held of [from, through] has been looked at
  bool more = false;          // through < to, and there may be more behind it
};

class Journal {
 public:
  virtual ~Journal() = default;

  // Durable on return, all rows or none. Throws std::system_error; see base::is_disk_full().
  virtual void append(std::span<const JournalRow> rows) = 0;
  virtual void put_credential(const proto::Credential& credential,
                              const proto::SealedCredential& sealed) = 0;
  // Larger than every epoch before, durable before it is returned.
  virtual std::uint64_t begin_epoch(std::uint64_t at_least) = 0;
  // Takes away a few of the oldest rows while they are older than `before_ns` or the rows together
  // are over `max_bytes`; never the last one. True if there is more to take.
  virtual bool prune(std::uint64_t before_ns, std::uint64_t max_bytes) = 0;

  virtual Tail tail() = 0;
  virtual ReadResult read(const ReadRequest& request) = 0;
  // The last seq before the first event of this time or later; the last of all if there is none. A
  // publisher's clock may have been set back between two epochs.
  virtual std::uint64_t seq_before(std::uint64_t time_ns) = 0;
  virtual std::optional<proto::SealedCredential> credential(const proto::Hash& id) = 0;
  // Newest first, from epochs below `before_epoch`: all, or the one that began each (serial 0).
  virtual std::vector<proto::SealedCredential> credentials(std::uint64_t before_epoch,
                                                           std::size_t limit) = 0;
  virtual std::vector<proto::SealedCredential> first_credentials_before(std::uint64_t before_epoch,
                                                                        std::size_t limit) = 0;
  // Oldest first: the first credential of each epoch above `after_epoch`.
  virtual std::vector<proto::SealedCredential> first_credentials_after(std::uint64_t after_epoch,
                                                                       std::size_t limit) = 0;
  virtual std::optional<std::uint64_t> submission(proto::ByteView sender, std::uint64_t n) = 0;
};

}  // namespace mirrorbus::store
