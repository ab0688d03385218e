// `durability = "off"`: a bounded ring in memory behind the same interface, so that replay works the
// same while the publisher lives. Also what simulations crash and restart.
#pragma once

#include "bus/store/journal.hpp"

#include <deque>
#include <map>
#include <mutex>

namespace mirrorbus::store {

class MemoryJournal final : public Journal {
 public:
  explicit MemoryJournal(std::size_t max_bytes) : max_bytes_(max_bytes) {}

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

 private:
  std::vector<proto::SealedCredential> listed(std::uint64_t before_epoch, std::size_t limit,
                                              bool firsts);
  void drop_oldest();

  const std::size_t max_bytes_;
  std::mutex mutex_;  // the two threads of the interface meet here
  std::deque<JournalRow> rows_;
  std::size_t bytes_ = 0;
  std::uint64_t epoch_ = 0;
  Tail tail_;
  // By (epoch, serial).
  std::map<std::pair<std::uint64_t, std::uint32_t>, proto::SealedCredential> credentials_;
  std::map<std::pair<proto::Bytes, std::uint64_t>, std::uint64_t> submissions_;
};

}  // namespace mirrorbus::store
