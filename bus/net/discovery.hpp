// Keeps asking DNS who is there and tells of changes. Loop thread only. The rules are in
// discovery_core.hpp; who may be believed once connected is for signatures to say.
#pragma once

#include "bus/base/log.hpp"
#include "bus/base/loop.hpp"
#include "bus/base/metrics.hpp"
#include "bus/net/discovery_core.hpp"

#include <functional>
#include <set>
#include <string>
#include <vector>

namespace mirrorbus::net {

class Discovery {
 public:
  struct Handlers {
    std::function<void(const std::string& endpoint)> on_publisher;  // "tcp://192.0.2.1:9940"
    std::function<void(const std::string& endpoint)> on_publisher_gone;
    std::function<void(const std::vector<std::string>& endpoints)> on_sources;  // all, best first
    // Whenever it has changed: for remember() after a restart. May be empty.
    std::function<void(std::vector<DiscoveryCore::Held>)> on_held;
  };

  // `resolver` outlives it. Handlers are called from start() on.
  Discovery(base::Loop& loop, Resolver& resolver, DiscoveryOptions options, Handlers handlers,
            base::Registry& registry, base::Log log, RandomUpTo random = system_random());
  ~Discovery();
  Discovery(const Discovery&) = delete;
  Discovery& operator=(const Discovery&) = delete;

  void remember(std::vector<DiscoveryCore::Held> held);  // before start()
  void start();
  void set_options(DiscoveryOptions options);  // for a reload
  const DiscoveryCore& core() const { return core_; }

 private:
  void step();
  template <class Answer>
  void take(const DiscoveryCore::Query& query, Answer answer);
  void tell();

  base::Loop& loop_;
  Resolver& resolver_;
  DiscoveryCore core_;
  Handlers handlers_;
  base::Log log_;
  base::Counter& failures_;
  base::Gauge& count_;
  std::set<std::string> told_publishers_;
  std::vector<std::string> told_sources_;
  std::vector<DiscoveryCore::Held> told_held_;
  std::set<std::string> failing_;
  base::Timer timer_;
  std::shared_ptr<bool> alive_;  // shared with questions under way, which may outlive us
};

}  // namespace mirrorbus::net
