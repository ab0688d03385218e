#include "services/mirror/transfer_line.hpp"

#include "services/tree/progress.hpp"

#include <algorithm>
#include <thread>

namespace mirrorbus::mirror {

void TransferLine::took(std::uint64_t bytes, const std::atomic<bool>& cancel) {
  using namespace std::chrono_literals;
  const auto wait = rates_.take(line_, bytes, clock_.now());
  if (!wait) throw tree::Cancelled();
  const base::MonoTime until = clock_.now().mono + *wait;
  for (;;) {
    if (cancel) throw tree::Cancelled();
    const base::Duration left = until - clock_.now().mono;
    if (left <= base::Duration::zero()) return;
    std::this_thread::sleep_for(std::min<base::Duration>(left, 50ms));
  }
}

}  // namespace mirrorbus::mirror
