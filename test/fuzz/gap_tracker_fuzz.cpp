// Events of one history come in any order, some never, some twice; epochs end, and histories are
// rolled back. Nothing is taken out of order or twice, and nothing is forgotten.
#include "bus/peer/gap_tracker.hpp"
#include "test/fuzz/fuzz.hpp"

#include <algorithm>

using namespace mirrorbus;

namespace {

constexpr std::uint64_t kLast = 64;

struct Model {
  explicit Model(std::uint64_t mask_) : mask(mask_) {}

  const std::uint64_t mask;  // which numbers are events under the prefix
  std::uint64_t epoch = 1;
  std::uint64_t consumed = 0;
  peer::GapTracker tracker{0};

  bool there(std::uint64_t seq) const { return (mask >> (seq - 1) & 1) != 0; }
  std::uint64_t before(std::uint64_t seq) const {
    do --seq;
    while (seq > 0 && !there(seq));
    return seq;
  }

  void consume(std::uint64_t seq) {
    fuzz::require(seq > consumed, "nothing is consumed twice, or after what comes later");
    fuzz::require(before(seq) <= consumed, "nothing is passed over");
    tracker.advance(seq);
    consumed = tracker.position();
  }
  void drain() {
    while (const auto next = tracker.take_ready(epoch)) {
      fuzz::require(next->second.epoch <= epoch, "no epoch comes before it begins");
      consume(next->first);
    }
    fuzz::require(tracker.first_held() == 0 || tracker.first_held() > tracker.position(),
                  "what is held comes later");
  }
  void hear(std::uint64_t seq, std::uint64_t its_epoch) {
    if (!there(seq) || tracker.seen(seq)) return;
    if (tracker.in_order(before(seq)) && its_epoch == epoch)
      consume(seq);
    else
      tracker.hold(seq, {its_epoch, before(seq), 0, {}, "topic", "body"});
    drain();
    fuzz::require(tracker.seen(seq) || tracker.wanted() >= seq, "what was heard is had or wanted");
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Choices in(fuzz::view(data, size));
  Model model(in.number());
  while (!in.done()) {
    const std::uint64_t seq = 1 + in.below(kLast);
    switch (in.below(6)) {
      case 0: model.hear(seq, model.epoch); break;
      case 1: model.hear(seq, model.epoch + 1); break;
      case 2: model.tracker.want(seq); break;
      case 3:  // named lost
        model.tracker.advance(seq);
        model.consumed = model.tracker.position();
        model.drain();
        break;
      case 4:
        if (seq < model.tracker.position()) break;
        model.tracker.end_epochs_before(++model.epoch, seq);
        model.drain();
        break;
      default:
        model.tracker.rewind(seq);
        model.consumed = seq;
        fuzz::require(model.tracker.held() == 0 && !model.tracker.behind(), "a rewind forgets");
    }
    fuzz::require(model.tracker.position() == model.consumed, "the position is what was consumed");
  }
  return 0;
}
