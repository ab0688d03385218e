// What each endpoint may make us do: how often gpg is started for what it sends, and how many
// proofs that fail are looked at before a stream is no longer heard from there. Pure. See
// proto/credential.md.
#pragma once

#include "bus/base/clock.hpp"
#include "proto/bytes.hpp"

#include <cstdint>
#include <map>
#include <utility>

namespace mirrorbus::peer {

// An endpoint we are connected to, or ask; the driver numbers them.
using SourceId = std::uint32_t;

class SourceBudget {
 public:
  static constexpr double kChecksPerSecond = 1;
  static constexpr double kCheckBurst = 5;
  static constexpr unsigned kFailures = 10;
  static constexpr base::Duration kFirstCut = std::chrono::seconds(5);
  static constexpr base::Duration kLongestCut = std::chrono::minutes(10);
  static constexpr std::size_t kMaxRecords = 4096;

  // May gpg be started once more for this endpoint? Counts it if so.
  bool take_check(SourceId source, base::MonoTime now);

  // Something of this stream that came from there did not prove what it claimed. True if the stream
  // is cut there by this.
  bool failed(SourceId source, const proto::Hash& stream, base::MonoTime now);
  // Is the stream cut there for now?
  bool cut(SourceId source, const proto::Hash& stream, base::MonoTime now) const;

 private:
  struct Checks {
    double tokens = kCheckBurst;
    base::MonoTime at{};
  };
  struct Record {
    unsigned failures = 0;  // since the last cut
    unsigned cuts = 0;
    base::MonoTime until{};  // of the cut
    base::MonoTime last{};   // failure
  };
  void forget_old(base::MonoTime now);

  std::map<SourceId, Checks> checks_;
  std::map<std::pair<SourceId, proto::Hash>, Record> records_;
};

}  // namespace mirrorbus::peer
