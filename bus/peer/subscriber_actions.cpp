#include "bus/peer/subscriber_actions.hpp"

namespace mirrorbus::peer {

std::string event_id(const proto::Hash& stream, std::uint64_t epoch, std::uint64_t seq) {
  return proto::to_hex(stream.view().substr(0, 8)) + "-" + std::to_string(epoch) + "-" +
         std::to_string(seq);
}

std::string_view to_string(GapReason reason) noexcept {
  switch (reason) {
    case GapReason::Retention:
      return "retention";
    case GapReason::Unavailable:
      return "unavailable";
    case GapReason::Rewound:
      return "rewound";
    case GapReason::NewJournal:
      return "new_journal";
  }
  return "unknown";
}

}  // namespace mirrorbus::peer
