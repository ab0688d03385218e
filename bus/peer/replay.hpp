// The answer to a replay, once it is proven: rows sealed by one stream's publisher, in order.
#pragma once

#include "bus/peer/credential_intake.hpp"
#include "bus/peer/subscribed_stream.hpp"

namespace mirrorbus::peer {

struct Replay {
  proto::ReplayAnswer fields;  // which anybody may have written
  std::vector<proto::BatchRow> rows;
  std::vector<proto::BatchHeader> headers;  // one for each

  // UnknownCredential: it is being fetched, ask again.
  static proto::Decoded<Replay> read(const proto::Answer& answer, const SubscribedStream& stream,
                                     CredentialIntake& intake, base::Now now);
};

}  // namespace mirrorbus::peer
