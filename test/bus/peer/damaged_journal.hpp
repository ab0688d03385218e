// A journal on a disk that does not keep what it is given.
#pragma once

#include "bus/store/journal.hpp"
#include "proto/batch.hpp"

namespace mirrorbus::peer::test {

// `good`, of which the disk has changed a byte of the batch that begins with this seq.
struct DamagedJournal final : store::Journal {
  store::Journal& good;
  const std::uint64_t first_seq;
  DamagedJournal(store::Journal& journal, std::uint64_t seq) : good(journal), first_seq(seq) {}

  store::ReadResult read(const store::ReadRequest& request) override {
    store::ReadResult result = good.read(request);
    for (proto::Bytes& row : result.rows) {
      const auto decoded = proto::decode_row(row);
      if (proto::decode_header(decoded->header())->first_seq == first_seq) row.back() ^= 1;
    }
    return result;
  }
  store::Tail tail() override { return good.tail(); }
  void append(std::span<const store::JournalRow> rows) override { good.append(rows); }
  void put_credential(const proto::Credential& credential,
                      const proto::SealedCredential& sealed) override {
    good.put_credential(credential, sealed);
  }
  std::uint64_t begin_epoch(std::uint64_t at_least) override { return good.begin_epoch(at_least); }
  bool prune(std::uint64_t before_ns, std::uint64_t max_bytes) override {
    return good.prune(before_ns, max_bytes);
  }
  std::uint64_t seq_before(std::uint64_t time_ns) override { return good.seq_before(time_ns); }
  std::optional<proto::SealedCredential> credential(const proto::Hash& id) override {
    return good.credential(id);
  }
  std::vector<proto::SealedCredential> credentials(std::uint64_t before_epoch,
                                                   std::size_t limit) override {
    return good.credentials(before_epoch, limit);
  }
  std::vector<proto::SealedCredential> first_credentials_before(std::uint64_t before_epoch,
                                                                std::size_t limit) override {
    return good.first_credentials_before(before_epoch, limit);
  }
  std::vector<proto::SealedCredential> first_credentials_after(std::uint64_t after_epoch,
                                                               std::size_t limit) override {
    return good.first_credentials_after(after_epoch, limit);
  }
  std::optional<std::uint64_t> submission(proto::ByteView sender, std::uint64_t n) override {
    return good.submission(sender, n);
  }
};

}  // namespace mirrorbus::peer::test
