// How many messages make up so many bytes, by the sizes seen lately. libzmq's water marks count
// messages: 20,000 of them are 12 MB of small events or 1.3 GB of the largest. Pure.
#pragma once

#include <cstddef>
#include <optional>

namespace mirrorbus::net {

class QueueLimit {
 public:
  static constexpr int kFewest = 1'000, kMost = 100'000;

  QueueLimit(std::size_t bytes, int messages) : bytes_(bytes), messages_(messages) {}

  int messages() const { return messages_; }
  // A message of this size has passed. The new limit, if it is no longer about the same.
  std::optional<int> passed(std::size_t size);

 private:
  static constexpr std::size_t kLookEvery = 256;  // messages; also about what the average spans

  std::size_t bytes_;
  int messages_;
  double average_ = 0;
  std::size_t seen_ = 0, sum_ = 0;
};

}  // namespace mirrorbus::net
