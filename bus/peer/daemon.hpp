// The frame every daemon runs in: command line, configuration, log, state directory, signals,
// systemd, metrics and health. A daemon is its settings and one owning object:
//
//   class Relay {
//    public:
//     struct Settings { … };
//     // Its own tables; the shared ones have been read, finish() is called afterwards.
//     static Settings read(const base::Config& config, const peer::Settings& shared);
//     Relay(peer::Daemon& daemon, Settings settings);  // binds, starts; throws if it cannot
//
//     // Optional. New settings: throws and changes nothing, or returns the change itself, which
//     // must not fail and is made before `shared` goes. Without it only [bus] log_level changes.
//     base::Task prepare_reload(const peer::Settings& shared, Settings settings);
//     // Optional. No new work; `done` once nothing is under way. At most kDrainTime is given.
//     void drain(base::Task done);
//   };
//   int main(int argc, char** argv) {
//     return peer::run_daemon<Relay>(argc, argv, {"bus-relayd", "takes events from scripts …"});
//   }
//
// Exit codes: 0 stopped as asked, 1 failed, 2 wrong usage.
#pragma once

#include "bus/base/log.hpp"
#include "bus/base/loop.hpp"
#include "bus/base/metrics.hpp"
#include "bus/net/http_server.hpp"
#include "bus/net/zmq_handle.hpp"
#include "bus/peer/control_socket.hpp"
#include "bus/peer/settings.hpp"
#include "bus/peer/state_dir.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace mirrorbus::peer {

inline constexpr base::Duration kDrainTime = std::chrono::seconds(8);

struct DaemonInfo {
  std::string name;   // "bus-relayd"
  std::string about;  // for --help
};

// What a daemon's objects find in the frame. Everything here outlives them. Loop thread only.
class Daemon {
 public:
  base::Loop& loop();
  const Settings& settings() const;
  base::Log log(std::string_view area) const;
  base::Registry& metrics();
  net::ZmqContext& zmq();
  ControlSocket& control();
  const StateDir& state() const;
  // [http], if configured: for further private pages.
  net::HttpServer* http();

  // Part of /readyz: gives what is wrong, or nothing.
  void add_ready_check(std::string name, std::function<std::optional<std::string>()> problem);
  // Another loop, with a thread of its own, that must turn for the daemon to be alive. It is asked
  // through post(), and outlives the frame's loop's run.
  void add_loop(std::string name, base::Loop& loop);
  // One line for `systemctl status`.
  void set_status(const std::string& text);
  // Ends the daemon: drains and exits with 0, or, if there is a reason, at once with 1.
  void stop();
  void fail(const std::string& why);

 private:
  friend class DaemonRun;
  struct Impl;
  explicit Daemon(Impl& impl) : impl_(impl) {}
  Impl& impl_;
};

// What run_daemon needs to know of a daemon's object.
class DaemonProgram {
 public:
  virtual ~DaemonProgram() = default;
  virtual void read(const base::Config& config, const Settings& shared) = 0;
  virtual void build(Daemon& daemon) = 0;  // from what was read last
  // To what was read last; nothing if the daemon has no prepare_reload. `shared` lives until the
  // change has been made.
  virtual std::optional<base::Task> prepare_reload(const Settings& shared) = 0;
  virtual void drain(base::Task done) = 0;
  virtual void destroy() = 0;
};

int run_daemon(int argc, char** argv, const DaemonInfo& info, DaemonProgram& program);

template <class Instance>
int run_daemon(int argc, char** argv, const DaemonInfo& info) {
  class Program final : public DaemonProgram {
   public:
    void read(const base::Config& config, const Settings& shared) override {
      settings_.emplace(Instance::read(config, shared));
    }
    void build(Daemon& daemon) override {
      instance_ = std::make_unique<Instance>(daemon, std::move(*settings_));
    }
    std::optional<base::Task> prepare_reload(const Settings& shared) override {
      if constexpr (requires(Instance & i) { i.prepare_reload(shared, std::move(*settings_)); })
        return instance_->prepare_reload(shared, std::move(*settings_));
      else
        return std::nullopt;
    }
    void drain(base::Task done) override {
      if constexpr (requires(Instance & i) { i.drain(std::move(done)); })
        instance_->drain(std::move(done));
      else
        done();
    }
    void destroy() override { instance_.reset(); }

   private:
    std::optional<typename Instance::Settings> settings_;
    std::unique_ptr<Instance> instance_;
  } program;
  return run_daemon(argc, argv, info, program);
}

}  // namespace mirrorbus::peer
