#include "services/relay/relay_daemon.hpp"

#include "bus/peer/subscriber.hpp"
#include "proto/limits.hpp"

#include <exception>

namespace mirrorbus::relay {
namespace {

using namespace std::chrono_literals;

const peer::Settings& publishing(const peer::Settings& settings) {
  if (settings.bus.publish.empty())
    throw std::runtime_error("[bus] publish is needed: a relay publishes what it takes");
  return settings;
}

void fail(peer::Daemon& daemon, std::exception_ptr error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& cause) {
    daemon.fail(base::describe(cause));
  }
}

}  // namespace

RelayDaemon::Settings RelayDaemon::read(const base::Config& config, const peer::Settings& shared) {
  Settings settings{RelaySettings::read(config, shared.bus.base()), {}};
  settings.forward = ForwardRules::read(config, settings.rules->tokens);
  if (!settings.forward.empty() && shared.bus.serve.empty())
    config.table("bus").fail("serve",
                             "is needed for [[relay.forward]]: it is where streams are taken");
  return settings;
}

RelayDaemon::RelayDaemon(peer::Daemon& daemon, Settings settings)
    : daemon_(daemon),
      serve_(daemon.loop(), daemon.zmq(), daemon.metrics(),
             settings.forward.empty() ? proto::kMaxRequestSize : proto::kMaxRowSize),
      publisher_(
          daemon.loop(), daemon.zmq(), publishing(daemon.settings()), serve_,
          daemon.settings().bus.serve.empty() ? "" : serve_.bind(daemon.settings().bus.serve), "",
          daemon.metrics(), daemon.log(""),
          [&daemon](std::exception_ptr error) { fail(daemon, error); }),
      settings_(std::move(settings)),
      idle_(daemon.loop()) {
  daemon.add_ready_check("publisher", [this] { return publisher_.problem(); });
  if (!settings_.forward.empty()) {
    const peer::BusSettings& bus = daemon.settings().bus;
    forwarded_ = std::make_unique<Forwarded>(
        daemon.loop(),
        ForwardedSettings{settings_.forward, settings_.rules->tokens, daemon.settings().trust,
                          bus.state + "/forwarded", bus.retain, bus.retain_bytes},
        serve_, publisher_, daemon.metrics(), daemon.log(""),
        [&daemon](std::exception_ptr error) { fail(daemon, error); });
  }
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

base::Task RelayDaemon::prepare_reload(const peer::Settings& shared, Settings settings) {
  refuse_fixed_changes(settings_, settings);
  if (!forwarded_ && !settings.forward.empty())
    throw std::runtime_error("the first [[relay.forward]] takes a restart");
  peer::policy_from(shared.trust);  // throws, if it is to
  return [this, &shared, settings = std::move(settings)]() mutable {
    settings_ = std::move(settings);
    if (forwarded_)
      forwarded_->set_rules(settings_.forward, settings_.rules->tokens, shared.trust);
    if (intake_) intake_->set_rules(settings_.rules);
    if (http_door_) http_door_->change(*settings_.http, settings_.rules);
  };
}

void RelayDaemon::drain(base::Task done) {
  if (http_door_) http_door_->close();
  if (forwarded_) forwarded_->stop();
  if (publisher_.ready())
    publisher_.publish(daemon_.settings().bus.base() + ".bus.publisher.stop",
                       proto::Map{{"software", "bus-relayd"}});
  wait_until_idle(std::move(done));
}

void RelayDaemon::wait_until_idle(base::Task done) {
  if (publisher_.idle() && publisher_.handed_over() && (!intake_ || intake_->idle()) &&
      (!http_door_ || http_door_->idle()) && (!forwarded_ || forwarded_->idle()))
    return done();
  idle_.start(20ms, [this, done = std::move(done)]() mutable { wait_until_idle(std::move(done)); });
}

}  // namespace mirrorbus::relay
