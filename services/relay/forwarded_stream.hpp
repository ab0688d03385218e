// One stream that is handed over to a relay: which row comes next, what its epochs' beginnings say,
// and which head may be passed on. Pure: what is given in has been verified. Loop thread only. See
// proto/serve.md.
#pragma once

#include "bus/base/clock.hpp"
#include "bus/store/journal.hpp"
#include "proto/batch.hpp"
#include "proto/credential.hpp"
#include "proto/forward.hpp"
#include "proto/head.hpp"

#include <cstdint>
#include <map>
#include <optional>

namespace mirrorbus::relay {

class ForwardedStream {
 public:
  static constexpr base::Duration kSkew = std::chrono::seconds(300);
  // A head that waits for its rows longer than this gives way to the newest.
  static constexpr base::Duration kHeadWaits = std::chrono::seconds(30);
  static constexpr std::size_t kMaxBegun = 1024;

  // `tail`: of what is held. `serial`: of the credential of its last row.
  ForwardedStream(const store::Tail& tail, std::uint32_t serial);

  // A believed credential. If it is the first of a later epoch and says that the stream goes on
  // from before where we are: what is held above this seq must go; then cut_off().
  std::optional<std::uint64_t> begins(const proto::Credential& credential);
  // As if it had not been given in.
  void forget_begun(std::uint64_t epoch) { begun_.erase(epoch); }
  // Nothing that was accepted may be on its way to the disk then.
  void cut_off(const store::Tail& tail, std::uint32_t serial);

  enum class Place {
    Next,       // follows what was accepted
    AfterHole,  // what lies between is gone, by its publisher's word: all that is held goes with it
    Held,       // at or below what was accepted: to be compared with what is held
  };
  // `serial`: of the credential that sealed it.
  proto::Decoded<Place> place(const proto::BatchHeader& header, std::uint32_t serial) const;
  // Next or AfterHole: it is on its way to the disk.
  void accept(const proto::BatchHeader& header, const proto::Hash& hash, std::uint32_t serial);
  // All that was accepted up to this row is on disk and was sent.
  void durable(const proto::BatchHeader& header, const proto::Hash& hash, std::uint32_t serial);
  // What was accepted and is not durable could not be written.
  void take_back() { accepted_ = durable_; }

  // A verified head, as it came. Why it is not taken; taken, release() may have it now or later.
  std::optional<proto::Reject> head(const proto::Head& head, proto::Bytes sealed, base::Now now);
  // A head to be passed on: all that it claims is here and was sent.
  std::optional<proto::Bytes> release(base::Now now);

  proto::ForwardAnswer how_far() const;  // durable
  std::uint64_t last() const { return durable_.last; }
  std::uint64_t newest_epoch() const;
  bool all_durable() const { return accepted_.last == durable_.last; }

 private:
  struct End {
    std::uint64_t epoch = 0, number = 0, last = 0;
    proto::Hash header;
    std::uint32_t serial = 0;
  };
  struct WaitingHead {
    std::uint64_t last = 0;
    base::MonoTime since{};
    proto::Bytes sealed;
  };
  static End end_of(const store::Tail& tail, std::uint32_t serial);
  // By the newest head, its publisher has nothing below this any more.
  bool may_begin_at(std::uint64_t first) const;

  End accepted_, durable_;
  // Later epochs than the accepted row's; zero for a new journal.
  std::map<std::uint64_t, proto::Pin> begun_;
  std::uint64_t head_epoch_ = 0, beat_ = 0;    // of the newest head
  std::uint64_t head_oldest_ = 0;
  // The one that is next to go, and the newest: in a stream that is never quite here, the newest
  // alone would always be replaced before its time.
  std::optional<WaitingHead> next_head_, newest_head_;
};

}  // namespace mirrorbus::relay
