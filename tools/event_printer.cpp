#include "tools/event_printer.hpp"

#include "bus/base/fd.hpp"
#include "bus/trust/policy.hpp"
#include "tools/time_text.hpp"

#include <cerrno>
#include <cstdlib>

#include <fmt/core.h>
#include <unistd.h>

namespace mirrorbus::tools {
namespace {

// Straight to the descriptor: what is delivered must be out before the cursor says so, and stdio
// loses its buffer when a signal interrupts a write.
void say(const std::string& text) {
  for (std::string_view rest = text; !rest.empty();) {
    const ssize_t written = ::write(STDOUT_FILENO, rest.data(), rest.size());
    if (written > 0)
      rest.remove_prefix(static_cast<std::size_t>(written));
    else if (errno != EINTR)
      base::throw_errno("writing to standard output");
  }
}

// SGR codes (ECMA-48).
constexpr const char *kRed = "31", *kGreen = "32", *kCyan = "36", *kFaint = "2";

bool wants_colours() {
  const char *no_color = std::getenv("NO_COLOR"), *terminal = std::getenv("TERM");
  return isatty(STDOUT_FILENO) && !(no_color && *no_color) && terminal &&
         std::string_view(terminal) != "dumb";
}

}  // namespace

std::optional<ShownEvent> ShownEvent::of(const peer::Delivery& event) {
  auto body = proto::unpack(event.body);
  if (!body) return std::nullopt;
  const bool has_key = event.stream.scheme != proto::Scheme::None;
  return ShownEvent{
      std::string(event.topic),
      event.stream.publisher,
      has_key ? trust::to_string({event.stream.scheme, event.stream.fingerprint}) : "none",
      event.epoch,
      event.seq,
      event.time_ns,
      peer::event_id(event.stream_id, event.epoch, event.seq),
      std::move(*body),
      has_key};
}

std::string ShownEvent::json() const {
  return proto::to_json(proto::Map{{"topic", topic},
                                   {"publisher", publisher},
                                   {"epoch", epoch},
                                   {"seq", seq},
                                   {"time", utc(time_ns)},
                                   {"id", id},
                                   {"body", body},
                                   {"verified", verified},
                                   {"signer", signer}});
}

std::string gap_json(const peer::Gap& gap) {
  return proto::to_json(
      proto::Map{{"gap", proto::Map{{"publisher", gap.stream.publisher},
                                    {"epoch", gap.epoch},
                                    {"from", gap.from},
                                    {"to", gap.to ? proto::Value(*gap.to) : proto::Value()},
                                    {"reason", to_string(gap.reason)}}}});
}

std::string gap_text(const peer::Gap& gap) {
  return fmt::format("{}: {} to {} ({})", gap.stream.publisher, gap.from,
                     gap.to ? std::to_string(*gap.to) : "unknown", to_string(gap.reason));
}

EventPrinter::EventPrinter(Style style)
    : style_(style), colours_(style != Style::Json && wants_colours()) {}

std::string EventPrinter::coloured(const char* colour, std::string_view text) const {
  return colours_ ? fmt::format("\033[{}m{}\033[0m", colour, text) : std::string(text);
}

std::string EventPrinter::line(const ShownEvent& event) const {
  return fmt::format("{} {} {} {}{}\n", coloured(kFaint, utc(event.time_ns).substr(0, 19)),
                     coloured(kCyan, event.topic),
                     coloured(kGreen, fmt::format("{}:{}", event.publisher, event.seq)),
                     proto::to_json(event.body),
                     event.verified ? "" : coloured(kRed, " (not verified)"));
}

std::string EventPrinter::pretty(const ShownEvent& event) const {
  std::string text =
      fmt::format("{} {}\n  from {} seq {} {}\n", coloured(kFaint, utc(event.time_ns)),
                  coloured(kCyan, event.topic), coloured(kGreen, event.publisher), event.seq,
                  event.verified ? "signed by " + event.signer : coloured(kRed, "NOT VERIFIED"));
  if (const proto::Map* map = event.body.as_map())
    for (const auto& [key, value] : *map)
      text += fmt::format("  {}: {}\n", key, proto::to_json(value));
  return text;
}

void EventPrinter::event(const ShownEvent& event) const {
  switch (style_) {
    case Style::Line:
      return say(line(event));
    case Style::Pretty:
      return say(pretty(event));
    case Style::Json:
      return say(event.json() + "\n");
  }
}

void EventPrinter::gap(const peer::Gap& gap) const {
  say((style_ == Style::Json ? gap_json(gap) : coloured(kRed, "--- lost from " + gap_text(gap))) +
      "\n");
}

}  // namespace mirrorbus::tools
