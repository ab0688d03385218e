#include "bus/api/mirrorbus.hpp"
#include "bus/peer/publisher.hpp"
#include "bus/peer/serve_server.hpp"
#include "bus/peer/settings.hpp"
#include "bus/peer/state_dir.hpp"
#include "proto/value.hpp"

#include <future>
#include <stdexcept>
#include <thread>

namespace mirrorbus {
namespace {

using namespace std::chrono_literals;

peer::Settings read_settings(const std::string& file) {
  const base::Config config = base::Config::load(file);
  peer::Settings settings = peer::Settings::read(config, "publisher");
  for (const char* key : {"state", "publish", "serve"})
    config.table("bus").text(key);  // says where, if it is missing
  return settings;
}

}  // namespace

struct Publisher::Impl {
  explicit Impl(const std::string& file)
      : settings(read_settings(file)), state(settings.bus.state), loop(clock), idle(loop) {
    std::promise<void> begun;
    auto ready = begun.get_future();
    thread = std::thread([this, begun = std::move(begun)]() mutable { run(std::move(begun)); });
    try {
      ready.get();
    } catch (...) {
      thread.join();
      throw;
    }
  }

  ~Impl() {
    loop.post([this] { stop_when_idle(); });
    thread.join();
  }

  // The publisher's thread. `begun` is told when its credential is in use, or why that cannot be.
  void run(std::promise<void> begun) {
    bool told = false;
    try {
      peer::ServeServer serve(loop, context, registry);
      peer::Publisher made(loop, context, settings, serve, serve.bind(settings.bus.serve), "",
                           registry, base::Log(), [this](std::exception_ptr why) {
                             broken = why;
                             loop.stop();
                           });
      publisher = &made;
      made.on_ready([&] {
        told = true;
        begun.set_value();
      });
      loop.run();
      if (broken) std::rethrow_exception(broken);
    } catch (...) {
      broken = std::current_exception();
      if (!told) begun.set_exception(broken);
    }
    publisher = nullptr;
    // Who waits is told, and so is who comes until the program lets go of us.
    while (!told_to_end && told) loop.run_one(1h);
  }

  void stop_when_idle() {
    told_to_end = true;
    if (!publisher || (publisher->idle() && publisher->handed_over())) return loop.stop();
    idle.start(5ms, [this] { stop_when_idle(); });
  }

  std::uint64_t publish(std::string_view topic, std::string_view json) {
    const auto value = proto::from_json(json);
    if (!value) throw std::invalid_argument("the body is not JSON");
    auto result = std::make_shared<std::promise<std::uint64_t>>();
    auto seq = result->get_future();
    loop.post([this, topic = settings.bus.base() + "." + std::string(topic),
               body = proto::pack(*value), result]() mutable {
      if (!publisher) return result->set_exception(broken);
      const auto taken = publisher->publish(
          topic, std::move(body),
          [result](const peer::Publisher::Position& at) { result->set_value(at.seq); });
      if (taken) return;
      const std::string why(peer::to_string(taken.error()));
      const bool never = taken.error() != peer::PublishError::Full &&
                         taken.error() != peer::PublishError::NotReady;
      result->set_exception(never ? std::make_exception_ptr(std::invalid_argument(why))
                                  : std::make_exception_ptr(std::runtime_error(why)));
    });
    try {
      return seq.get();
    } catch (
        const std::future_error&) {  // it was taken, and the publisher ended before it was durable
      throw std::runtime_error(
          "the publisher has ended; whether the event is durable is not known");
    }
  }

  const peer::Settings settings;
  const peer::StateDir state;
  base::SystemClock clock;
  net::ZmqContext context;
  base::Registry registry;
  base::Loop loop;
  base::Timer idle;
  // The publisher's thread only:
  peer::Publisher* publisher = nullptr;
  std::exception_ptr broken;
  bool told_to_end = false;
  std::thread thread;
};

Publisher::Publisher(const std::string& config_file) : impl_(std::make_unique<Impl>(config_file)) {}

Publisher::~Publisher() = default;

std::uint64_t Publisher::publish(std::string_view topic, std::string_view body_json) {
  return impl_->publish(topic, body_json);
}

}  // namespace mirrorbus
