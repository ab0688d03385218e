// Events and gaps on standard output, as people or programs read them.
#pragma once

#include "bus/peer/subscriber_actions.hpp"
#include "proto/value.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mirrorbus::tools {

struct ShownEvent {
  std::string topic;
  std::string publisher;
  std::string signer;  // "openpgp:FPR", "none"
  std::uint64_t epoch = 0;
  std::uint64_t seq = 0;
  std::uint64_t time_ns = 0;
  std::string id;
  proto::Value body;
  bool verified = false;

  // Nothing if nobody can read the body.
  static std::optional<ShownEvent> of(const peer::Delivery& event);
  // topic, publisher, epoch, seq, time, id, body, verified, signer: one line.
  std::string json() const;
};

std::string gap_json(const peer::Gap& gap);
// "PUBLISHER: 5 to 9 (retention)"
std::string gap_text(const peer::Gap& gap);

class EventPrinter {
 public:
  enum class Style { Line, Pretty, Json };

  // Colours only for people, on a terminal, unless NO_COLOR is set (no-color.org).
  explicit EventPrinter(Style style);

  // Written when it returns. Throws std::system_error.
  void event(const ShownEvent& event) const;
  void gap(const peer::Gap& gap) const;

 private:
  std::string line(const ShownEvent& event) const;
  std::string pretty(const ShownEvent& event) const;
  std::string coloured(const char* colour, std::string_view text) const;

  Style style_;
  bool colours_;
};

}  // namespace mirrorbus::tools
