#include "test/sim/subscriber.hpp"

namespace mirrorbus::sim {
namespace {

constexpr const char* kTopics[] = {
    "org.example.dev.mirror.tree.kernel.update", "org.example.dev.mirror.tree.debian.update",
    "org.example.dev.mirror.sync.kernel.complete", "org.example.dev.shell.log.line",
    "org.example.dev.shell.cron.done",            "org.example.dev.secret.key.used"};
constexpr const char* kPatterns[] = {"**", "org.example.dev.mirror.**",
                                     "org.example.dev.mirror.tree.kernel.update",
                                     "org.example.dev.*.tree.**", "org.example.dev.shell.log.*"};

// What happens again and again until `end`, after random pauses of `mean` on the average.
struct Repeated {
  World& world;
  base::Duration mean;
  base::MonoTime end;
  std::function<void()> action;

  void later() const {
    const auto pause = 1 + world.below(static_cast<std::uint64_t>(2 * mean / 1us));
    world.at(std::chrono::microseconds(pause), *this);
  }
  void operator()() const {
    if (world.time() >= end) return;
    action();
    later();
  }
};

}  // namespace

Report run_storm(std::uint64_t seed) {
  World world(seed);
  std::vector<std::unique_ptr<Publisher>> publishers;
  std::vector<std::unique_ptr<Subscriber>> subscribers;
  std::vector<Publisher*> all;
  for (int i = 0; i < 1 + static_cast<int>(world.below(2)); ++i) {
    publishers.push_back(std::make_unique<Publisher>(world, i));
    all.push_back(publishers.back().get());
  }
  const auto subscribe = [&](std::vector<std::string> patterns) -> Subscriber& {
    auto& subscriber = *subscribers.emplace_back(
        std::make_unique<Subscriber>(world, std::move(patterns), all));
    for (Publisher* publisher : all)
      publisher->listeners.emplace_back(
          [who = &subscriber](const proto::Bytes& frame) { who->hear(frame); });
    return subscriber;
  };
  for (std::size_t i = 0; i < 1 + world.below(3); ++i) {
    std::vector<std::string> patterns{kPatterns[world.below(std::size(kPatterns))]};
    if (world.chance(0.2)) patterns.emplace_back(kPatterns[world.below(std::size(kPatterns))]);
    subscribe(std::move(patterns));
  }
  if (seed % 3 == 0) {
    const auto when = std::chrono::milliseconds(seed * 7919 % 50'000);
    subscribe({kPatterns[seed / 3 % std::size(kPatterns)]})
        .join_later(when, seed % 2 == 0 ? std::optional<base::Duration>(when / 2) : std::nullopt);
  }
  // Whatever a run is about, it is about a few faults: each is on or off by the seed.
  const bool drops = world.chance(0.6), partitions = world.chance(0.5), crashes = world.chance(0.5),
             restarts = world.chance(0.4), cuts = world.chance(0.25), jumps = world.chance(0.2),
             restores = world.chance(0.12), renewals = world.chance(0.3);
  if (seed % 5 == 0)
    for (auto& subscriber : subscribers) subscriber->echoes = true;
  if (drops)
    for (auto& subscriber : subscribers)
      subscriber->drop = 0.001 + 0.05 * static_cast<double>(world.below(100)) / 100;

  const base::MonoTime storm_end = world.time() + 60s;
  const auto during = [&](base::Duration mean, std::function<void()> action) {
    Repeated{world, mean, storm_end, std::move(action)}.later();
  };
  const auto some_publisher = [&]() -> Publisher& {
    return *publishers[world.below(publishers.size())];
  };
  const auto some_subscriber = [&]() -> Subscriber& {
    return *subscribers[world.below(subscribers.size())];
  };

  during(150ms, [&] {
    Publisher& publisher = some_publisher();
    const std::size_t burst = world.chance(0.05) ? world.below(400) : 1 + world.below(4);
    for (std::size_t i = 0; i < burst; ++i)
      publisher.publish(kTopics[world.below(std::size(kTopics))]);
  });
  if (partitions)
    during(8s, [&] {
      Subscriber* subscriber = &some_subscriber();
      subscriber->partitioned = true;
      // Now and then for longer than a gap is waited for.
      const base::Duration length =
          world.chance(0.1) ? kGapAfter + 5s : std::chrono::milliseconds(10 + world.below(6000));
      world.at(length, [subscriber] { subscriber->partitioned = false; });
    });
  if (crashes)
    during(9s, [&] {
      Publisher* publisher = &some_publisher();
      if (restores && world.chance(0.3))
        publisher->restore_older();
      else
        publisher->crash();
      world.at(std::chrono::milliseconds(1 + world.below(8000)),
               [publisher] { publisher->restart(); });
    });
  if (restarts) during(10s, [&] { some_subscriber().restart(); });
  if (cuts) during(12s, [&] { some_publisher().cut(0.3); });
  if (renewals)
    during(15s, [&] {
      Publisher& publisher = some_publisher();
      if (publisher.alive()) publisher.renew(false);
    });
  if (jumps)
    during(20s, [&] {
      const auto offset = std::chrono::seconds(world.below(1200)) - std::chrono::seconds(600);
      if (world.chance(0.5))
        some_publisher().wall_offset = offset;
      else
        some_subscriber().wall_offset = offset;
    });

  world.run_until(storm_end);
  for (auto& publisher : publishers) {
    publisher->wall_offset = {};
    publisher->restart();
    publisher->renew(false);  // one that was made under a wrong clock may not be valid yet
  }
  for (auto& subscriber : subscribers) {
    subscriber->wall_offset = {};
    subscriber->drop = 0;
    subscriber->partitioned = false;
  }
  // Gaps are given up one after another, each only after its time.
  world.run_until(storm_end + 8 * kGapAfter);

  Report report;
  for (auto& publisher : publishers) {
    report.acknowledged += publisher->acknowledged.size();
    report.crashes += publisher->crashes;
    if (report.problem.empty()) report.problem = publisher->problem;
  }
  for (auto& subscriber : subscribers) {
    subscriber->account(report);
    if (report.problem.empty()) report.problem = subscriber->problem;
  }
  return report;
}

}  // namespace mirrorbus::sim
