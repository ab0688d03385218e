#include "bus/net/zmq_blocking.hpp"

namespace mirrorbus::net {

bool BlockingZmqSocket::send(std::vector<proto::Bytes> parts, base::Duration timeout) {
  // Waiting first, because a refused message has been moved from.
  return handle_.wait(true, timeout) && handle_.send(std::move(parts));
}

std::optional<std::vector<proto::Bytes>> BlockingZmqSocket::receive(base::Duration timeout) {
  const auto end = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    if (handle_.receive(frame_)) {
      if (auto parts = handle_.receive_rest(frame_, limits_)) return parts;
      continue;
    }
    const base::Duration left = end - std::chrono::steady_clock::now();
    if (left <= base::Duration::zero() || !handle_.wait(false, left)) return std::nullopt;
  }
}

}  // namespace mirrorbus::net
