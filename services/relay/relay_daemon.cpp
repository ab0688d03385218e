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
      settings_(std::move(settings)),
      idle_(daemon.loop()) {
  daemon.add_ready_check("publisher", [this] { return publisher_.problem(); });
  publisher_.on_ready([this] { open(); });
}

void RelayDaemon::open() {
  intake_.emplace(settings_.rules, publisher_, daemon_.metrics(), daemon_.log(""));
  if (!settings_.submit.empty())
    zmq_door_.emplace(daemon_.loop(), daemon_.zmq(), settings_.submit, *intake_, daemon_.metrics(),
                      daemon_.log(""));
  if (settings_.http) {
    http_door_.emplace(daemon_.loop(), *settings_.http, settings_.rules, *intake_,
                       daemon_.metrics(), daemon_.log(""));
    daemon_.add_loop("submit", http_door_->loop());
  }
  proto::Array endpoints{publisher_.endpoint()};
  publisher_.publish(daemon_.settings().bus.base() + ".bus.publisher.start",
                     proto::Map{{"software", "bus-relayd"}, {"endpoints", std::move(endpoints)}});
  daemon_.set_status("taking submissions");
}

base::Task RelayDaemon::prepare_reload(const peer::Settings&, Settings settings) {
  refuse_fixed_changes(settings_, settings);
  return [this, settings = std::move(settings)]() mutable {
    settings_ = std::move(settings);
    if (intake_) intake_->set_rules(settings_.rules);
    if (http_door_) http_door_->change(*settings_.http, settings_.rules);
  };
}

void RelayDaemon::drain(base::Task done) {
  if (http_door_) http_door_->close();
  if (publisher_.ready())
    publisher_.publish(daemon_.settings().bus.base() + ".bus.publisher.stop",
                       proto::Map{{"software", "bus-relayd"}});
  wait_until_idle(std::move(done));
}

void RelayDaemon::wait_until_idle(base::Task done) {
  if (publisher_.idle() && (!intake_ || intake_->idle()) && (!http_door_ || http_door_->idle()))
    return done();
  idle_.start(20ms, [this, done = std::move(done)]() mutable { wait_until_idle(std::move(done)); });
}

}  // namespace mirrorbus::relay
