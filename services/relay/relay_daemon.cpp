#include "services/relay/relay_daemon.hpp"

#include <exception>

namespace mirrorbus::relay {
namespace {

using namespace std::chrono_literals;

const peer::Settings& publishing(const peer::Settings& settings) {
  if (settings.bus.publish.empty())
    throw std::runtime_error("[bus] publish is needed: a relay publishes what it takes");
  return settings;
}

}  // namespace

RelaySettings RelayDaemon::read(const base::Config& config, const peer::Settings& shared) {
  return RelaySettings::read(config, shared.bus.base());
}

RelayDaemon::RelayDaemon(peer::Daemon& daemon, Settings settings)
    : daemon_(daemon),
      serve_(daemon.loop(), daemon.zmq(), daemon.metrics()),
      publisher_(
          daemon.loop(), daemon.zmq(), publishing(daemon.settings()), serve_,
          daemon.settings().bus.serve.empty() ? "" : serve_.bind(daemon.settings().bus.serve), "",
          daemon.metrics(), daemon.log(""),
          [&daemon](std::exception_ptr error) {
            try {
              std::rethrow_exception(error);
            } catch (const std::exception& cause) {
              daemon.fail(base::describe(cause));
            }
          }),
      idle_(daemon.loop()) {
  daemon.add_ready_check("publisher", [this] { return publisher_.problem(); });
  publisher_.on_ready([this, settings = std::move(settings)]() mutable {
    relay_ = std::make_unique<Relay>(daemon_.loop(), daemon_.zmq(), std::move(settings), publisher_,
                                     daemon_.metrics(), daemon_.log(""));
    proto::Array endpoints{publisher_.endpoint()};
    publisher_.publish(daemon_.settings().bus.base() + ".bus.publisher.start",
                       proto::Map{{"software", "bus-relayd"}, {"endpoints", std::move(endpoints)}});
    daemon_.set_status("taking submissions");
  });
}

base::Task RelayDaemon::prepare_reload(const peer::Settings&, Settings settings) {
  return [this, settings = std::move(settings)]() mutable {
    if (relay_) relay_->set_rules(std::move(settings.allow), std::move(settings.tokens));
  };
}

void RelayDaemon::drain(base::Task done) {
  if (publisher_.ready())
    publisher_.publish(daemon_.settings().bus.base() + ".bus.publisher.stop",
                       proto::Map{{"software", "bus-relayd"}});
  wait_until_idle(std::move(done));
}

void RelayDaemon::wait_until_idle(base::Task done) {
  if (publisher_.idle() && (!relay_ || relay_->idle())) return done();
  idle_.start(20ms, [this, done = std::move(done)]() mutable { wait_until_idle(std::move(done)); });
}

}  // namespace mirrorbus::relay
