// The judgements of bus-check: pure, told what was seen and the time.
#pragma once

#include "bus/net/dns.hpp"
#include "bus/peer/credential_book.hpp"
#include "bus/peer/settings.hpp"
#include "proto/serve.hpp"
#include "tools/finding.hpp"

#include <optional>
#include <string>
#include <vector>

namespace mirrorbus::tools {

enum class SrvKind { Publishers, Sources };
// Without a publisher there is no bus; without a replay source there are still the publishers.
Finding judge_srv(SrvKind kind, const std::string& name, const net::SrvAnswer& answer);

// What the rules of [[trust.allow]] let this stream say: their topics, or nothing.
std::vector<std::string> allowed_topics(const peer::TrustSettings& trust,
                                        const proto::StreamName& stream);

// A credential that is believed, or why it is not. `key_expires_s`: 0 = never, or not known.
Finding judge_credential(const proto::Credential& credential, std::int64_t key_expires_s,
                         const std::vector<std::string>& topics, base::WallTime now);
Finding judge_refused(const proto::Credential& credential, proto::Reject why,
                      const std::string& keyring);

Finding judge_clock(const std::string& publisher, std::uint64_t head_time_ns, base::WallTime now);

// What a serve socket says of a stream.
struct ServedRange {
  std::uint64_t epoch = 0;
  std::uint64_t oldest = 0;
  std::uint64_t last = 0;

  static std::optional<ServedRange> read(const proto::Answer& answer);
};

// Reads a journal's range through replay answers and looks for what is not in it.
class RangeReader {
 public:
  // From `oldest` up to `last`.
  RangeReader(std::uint64_t oldest, std::uint64_t last) : next_(oldest), last_(last) {}

  bool done() const { return !fault_.empty() || next_ > last_; }
  // What to ask for next.
  std::uint64_t next() const { return next_; }
  std::uint64_t bytes() const { return bytes_; }  // read so far
  const std::string& fault() const { return fault_; }
  void take(const proto::Answer& answer);

 private:
  void take_row(const proto::BatchRow& row);

  std::uint64_t next_;
  std::uint64_t last_;
  std::uint64_t bytes_ = 0;
  std::string fault_;  // empty: none found
  // The row before: the next one of its epoch names its header's hash.
  std::uint64_t epoch_ = 0, number_ = 0;
  proto::Hash header_;
};

Finding judge_sequences(const std::string& publisher, const proto::Head& head,
                        const std::string& endpoint, const ServedRange& served,
                        const RangeReader& range);

}  // namespace mirrorbus::tools
