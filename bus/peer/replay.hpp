// The answer to a replay, once it is proven: rows sealed by one stream's publisher, in order.
#pragma once

#include "bus/peer/credential_intake.hpp"
#include "bus/peer/subscribed_stream.hpp"

namespace mirrorbus::peer {

class Replay {
 public:
  proto::ReplayAnswer fields;  // which anybody may have written
  std::vector<proto::BatchRow> rows;
  std::vector<proto::BatchHeader> headers;  // one for each

  // UnknownCredential: the first row's is being fetched, ask again; the stream is told how far the
  // rows go that cannot be read for it. Where only that of a later row is unknown, the answer ends
  // before it.
  static proto::Decoded<Replay> read(const proto::Answer& answer, SubscribedStream& stream,
                                     CredentialIntake& intake, base::Now now);

 private:
  std::size_t rows_believed(const SubscribedStream& stream, CredentialIntake& intake,
                            base::Now now) const;
  void find_readable(SubscribedStream& stream, CredentialIntake& intake) const;
};

}  // namespace mirrorbus::peer
