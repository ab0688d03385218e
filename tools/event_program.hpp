// A program that is run for each event, without a shell. One thread.
#pragma once

#include "tools/event_printer.hpp"

#include <string>
#include <vector>

namespace mirrorbus::tools {

class EventProgram {
 public:
  // `command`: the program and its arguments. A name without a slash is looked for in PATH.
  explicit EventProgram(std::vector<std::string> command) : command_(std::move(command)) {}

  // Waits until it ends. On its standard input the event as a line of JSON, and in its environment
  // MIRRORBUS_TOPIC, _PUBLISHER, _SIGNER, _EPOCH, _SEQ, _TIME and _ID. Empty if it ended with 0,
  // else what became of it. Throws std::system_error if it cannot be tried at all.
  std::string run(const ShownEvent& event) const;

 private:
  const std::vector<std::string> command_;
};

}  // namespace mirrorbus::tools
