// Counters and gauges that a component holds as members, and the registry that writes them out in
// Prometheus' text format. A component names its metrics once, where it is built:
//
//   struct Metrics {
//     explicit Metrics(base::Registry& r)
//         : published(r.counter("mirrorbus_events_published_total", "Events made durable and sent.")) {}
//     base::Counter& published;
//   };
//
// Values may be changed from any thread; families are made and written on the loop thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace mirrorbus::base {

class Counter {
 public:
  void add(std::uint64_t n = 1) noexcept { value_.fetch_add(n, std::memory_order_relaxed); }
  std::uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

class Gauge {
 public:
  void set(double value) noexcept { value_.store(value, std::memory_order_relaxed); }
  double value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

class Registry {
 public:
  // The same (name, label value) gives the same object. `label` is e.g. {"reason", "bad_path"}.
  // Names follow Prometheus: base units, `_total` on counters, few label values.
  using Label = std::pair<std::string_view, std::string_view>;
  Counter& counter(std::string_view name, std::string_view help, Label label = {});
  Gauge& gauge(std::string_view name, std::string_view help, Label label = {});

  std::string text() const;

 private:
  struct Family {
    std::string help;
    bool is_counter;
    // By the rendered label, e.g. `{reason="bad_path"}`.
    std::map<std::string, std::unique_ptr<Counter>, std::less<>> counters;
    std::map<std::string, std::unique_ptr<Gauge>, std::less<>> gauges;
  };
  Family& family(std::string_view name, std::string_view help, bool is_counter);
  std::map<std::string, Family, std::less<>> families_;
};

}  // namespace mirrorbus::base
