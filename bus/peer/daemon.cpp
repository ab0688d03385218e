#include "bus/peer/daemon.hpp"

#include "bus/base/command_line.hpp"
#include "bus/base/signals.hpp"
#include "bus/base/version.hpp"
#include "bus/peer/loop_watch.hpp"

#include <csignal>
#include <cstdio>
#include <exception>

#include <fmt/core.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

namespace mirrorbus::peer {
namespace {

constexpr unsigned kDestroySeconds = 2;  // with kDrainTime: an end within ten seconds

struct Arguments {
  std::string config;
  bool check_config = false;
};

// The arguments, or the exit code if there is nothing more to do.
std::variant<Arguments, int> parse_command_line(int argc, char** argv, const DaemonInfo& info) {
  Arguments arguments;
  base::CommandLine line(info.name, info.about);
  line.option("--config", arguments.config, "configuration file").required();
  line.flag("--check-config", arguments.check_config, "read the configuration and exit");
  if (const auto exit_code = line.parse(argc, argv)) return *exit_code;
  return arguments;
}

std::string_view publisher_word(std::string_view name) {
  return name.starts_with("bus-") ? name.substr(4) : name;
}

// Everything a daemon's file says, or an exception with file and line.
Settings read_settings(const std::string& path, const DaemonInfo& info, DaemonProgram& program) {
  const base::Config config = base::Config::load(path);
  Settings settings = Settings::read(config, publisher_word(info.name));
  if (settings.bus.state.empty()) config.table("bus").text("state");
  program.read(config, settings);
  config.finish();
  return settings;
}

// What binds, locks or names: changed by a restart only.
void refuse_fixed_changes(const Settings& old, const Settings& now) {
  std::string changed;
  const auto compare = [&changed](std::string_view key, const auto& a, const auto& b) {
    if (a != b) changed += fmt::format("{}{}", changed.empty() ? "" : ", ", key);
  };
  compare("[bus] prefix", old.bus.prefix, now.bus.prefix);
  compare("[bus] environment", old.bus.environment, now.bus.environment);
  compare("[bus] publisher", old.bus.publisher, now.bus.publisher);
  compare("[bus] state", old.bus.state, now.bus.state);
  compare("[bus] publish", old.bus.publish, now.bus.publish);
  compare("[bus] serve", old.bus.serve, now.bus.serve);
  compare("[bus] durability", old.bus.durable, now.bus.durable);
  compare("[signing] scheme", old.signing.scheme, now.signing.scheme);
  compare("[signing] key", old.signing.key, now.signing.key);
  compare("[http] listen", old.http.listen, now.http.listen);
  compare("[content] listen", old.content.listen, now.content.listen);
  if (!changed.empty())
    throw std::runtime_error(changed + " cannot change while the daemon runs: restart it instead");
}

// Still destroying, long after everything was drained: nothing that matters is left (what is not
// durable now was never acknowledged), so go.
void leave_anyway(int) {
  constexpr std::string_view kSay = "still busy ten seconds after being asked to stop: leaving\n";
  (void)!::write(2, kSay.data(), kSay.size());
  ::_exit(0);
}

}  // namespace

// Members in the order they are built; the daemon's own object stands on all of them.
struct Daemon::Impl {
  Impl(const DaemonInfo& i, const Arguments& a, Settings s)
      : info(i),
        config_path(a.config),
        settings(std::move(s)),
        log(base::Log::to_stderr(settings.bus.log_level)),
        state(settings.bus.state),
        control(loop, state / "control.sock"),
        drain_timer(loop) {}

  const DaemonInfo& info;
  const std::string config_path;
  Settings settings;
  base::Log log;
  StateDir state;
  base::SystemClock clock;
  base::Loop loop{clock};
  base::Registry registry;
  net::ZmqContext zmq;
  ControlSocket control;
  std::optional<net::HttpServer> http;
  std::optional<LoopWatch> watch;
  std::vector<std::pair<std::string, std::function<std::optional<std::string>()>>> checks;
  std::optional<base::Signals> signals;
  base::Timer drain_timer;
  bool stopping = false;
  int exit_code = 0;

  std::string problems() const {
    std::string text;
    for (const auto& [name, problem] : checks)
      if (const auto why = problem()) text += fmt::format("{}: {}\n", name, *why);
    if (stopping) text += "daemon: stopping\n";
    return text;
  }
};

base::Loop& Daemon::loop() { return impl_.loop; }
const Settings& Daemon::settings() const { return impl_.settings; }
base::Log Daemon::log(std::string_view area) const { return impl_.log.area(area); }
base::Registry& Daemon::metrics() { return impl_.registry; }
net::ZmqContext& Daemon::zmq() { return impl_.zmq; }
ControlSocket& Daemon::control() { return impl_.control; }
const StateDir& Daemon::state() const { return impl_.state; }
net::HttpServer* Daemon::http() { return impl_.http ? &*impl_.http : nullptr; }

void Daemon::add_ready_check(std::string name,
                             std::function<std::optional<std::string>()> problem) {
  impl_.checks.emplace_back(std::move(name), std::move(problem));
}

void Daemon::add_loop(std::string name, base::Loop& loop) {
  impl_.watch->add(std::move(name), loop);
}

void Daemon::set_status(const std::string& text) { ::sd_notify(0, ("STATUS=" + text).c_str()); }

void Daemon::stop() {
  if (!impl_.stopping) ::raise(SIGTERM);
}

void Daemon::fail(const std::string& why) {
  impl_.log.error("{}", why);
  impl_.exit_code = 1;
  impl_.loop.stop();
}

// One run of a daemon, from its settings to its end.
class DaemonRun {
 public:
  DaemonRun(const DaemonInfo& info, const Arguments& arguments, Settings settings,
            DaemonProgram& program)
      : impl_(info, arguments, std::move(settings)), daemon_(impl_), program_(program) {}

  int run() {
    try {
      start();
      if (impl_.exit_code == 0) impl_.loop.run();
    } catch (const std::exception& error) {
      impl_.log.error("{}", base::describe(error));
      impl_.exit_code = 1;
    }
    ::signal(SIGALRM, leave_anyway);
    ::alarm(kDestroySeconds);
    program_.destroy();
    ::alarm(0);
    impl_.log.notice("stopped");
    return impl_.exit_code;
  }

 private:
  void start() {
    ::signal(SIGPIPE, SIG_IGN);
    impl_.signals.emplace(impl_.loop, std::initializer_list<int>{SIGTERM, SIGINT, SIGHUP},
                          [this](int signal) { signal == SIGHUP ? reload() : drain(); });
    impl_.registry
        .gauge("mirrorbus_build_info", "1, labelled with the version.",
               {"version", base::version()})
        .set(1);
    std::uint64_t usec = 0;
    const bool supervised = ::sd_watchdog_enabled(0, &usec) > 0;
    base::Duration interval = std::chrono::seconds(1);
    if (supervised)
      interval = std::min<base::Duration>(interval, std::chrono::microseconds(usec / 3));
    impl_.watch.emplace(impl_.loop, interval, [supervised] {
      if (supervised) ::sd_notify(0, "WATCHDOG=1");
    });
    add_control_verbs();
    if (!impl_.settings.http.listen.empty()) listen();
    program_.build(daemon_);
    impl_.log.notice("{} {} started as {}", impl_.info.name, base::version(),
                     impl_.settings.bus.publisher);
    ::sd_notify(0, "READY=1");
  }

  void listen() {
    net::HttpOptions options;
    options.name = "http";
    options.listen = impl_.settings.http.listen;
    options.max_connections = impl_.settings.http.connections;
    options.max_connections_per_peer = impl_.settings.http.connections_per_peer;
    options.idle_timeout = impl_.settings.http.idle_timeout;
    net::HttpServer& http =
        impl_.http.emplace(impl_.loop, options, impl_.registry, impl_.log.area("http"));
    http.route("/metrics", [this](const net::HttpRequest&, net::HttpReply reply) {
      net::HttpResponse response = net::HttpResponse::text(200, impl_.registry.text());
      response.content_type = "text/plain; version=0.0.4; charset=utf-8";
      reply(std::move(response));
    });
    http.route("/healthz", [this](const net::HttpRequest&, net::HttpReply reply) {
      const auto stuck = impl_.watch->stuck();
      reply(stuck ? net::HttpResponse::text(503, *stuck + " loop does not turn\n")
                  : net::HttpResponse::text(200, "ok\n"));
    });
    http.route("/readyz", [this](const net::HttpRequest&, net::HttpReply reply) {
      const std::string problems = impl_.problems();
      reply(net::HttpResponse::text(problems.empty() ? 200 : 503,
                                    problems.empty() ? "ready\n" : problems));
    });
  }

  void add_control_verbs() {
    impl_.control.add("info", [this](const proto::Value&, ControlReply reply) {
      proto::Array problems;
      for (const auto& [name, problem] : impl_.checks)
        if (const auto why = problem()) problems.emplace_back(fmt::format("{}: {}", name, *why));
      reply(proto::Map{{"daemon", impl_.info.name},
                       {"version", base::version()},
                       {"publisher", impl_.settings.bus.publisher},
                       {"pid", static_cast<std::int64_t>(::getpid())},
                       {"http_port", impl_.http ? impl_.http->port() : 0},
                       {"problems", std::move(problems)}});
    });
  }

  void reload() {
    if (impl_.stopping) return;
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    ::sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu",
                 static_cast<unsigned long long>(now.tv_sec) * 1'000'000 +
                     static_cast<unsigned long long>(now.tv_nsec) / 1000);
    try {
      Settings settings = read_settings(impl_.config_path, impl_.info, program_);
      refuse_fixed_changes(impl_.settings, settings);
      std::optional<base::Task> apply = program_.prepare_reload(settings);
      // Everything has agreed: from here on nothing may fail.
      impl_.log.set_level(settings.bus.log_level);
      if (apply) (*apply)();
      impl_.settings = std::move(settings);
      impl_.log.notice("reloaded {}{}", impl_.config_path,
                       apply ? "" : ": this daemon takes only [bus] log_level without a restart");
    } catch (const std::exception& error) {
      impl_.log.error("not reloaded, everything stays as it was: {}", base::describe(error));
    }
    ::sd_notify(0, "READY=1");
  }

  void drain() {
    impl_.stopping = true;
    impl_.signals.reset();  // the next signal ends the process at once
    ::sd_notify(0, "STOPPING=1");
    impl_.log.notice("stopping");
    impl_.drain_timer.start(kDrainTime, [this] {
      impl_.log.warning("not everything under way could be finished in time");
      impl_.loop.stop();
    });
    program_.drain([this] { impl_.loop.stop(); });
  }

  Daemon::Impl impl_;
  Daemon daemon_;
  DaemonProgram& program_;
};

int run_daemon(int argc, char** argv, const DaemonInfo& info, DaemonProgram& program) {
  try {
    const auto parsed = parse_command_line(argc, argv, info);
    if (const int* code = std::get_if<int>(&parsed)) return *code;
    const auto& arguments = std::get<Arguments>(parsed);
    Settings settings = read_settings(arguments.config, info, program);
    if (arguments.check_config) {
      fmt::print("{}: good\n", arguments.config);
      return 0;
    }
    return DaemonRun(info, arguments, std::move(settings), program).run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: {}\n", info.name, base::describe(error));
    return 1;
  }
}

}  // namespace mirrorbus::peer
