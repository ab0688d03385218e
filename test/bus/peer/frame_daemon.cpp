// The smallest daemon: what daemon_test starts.
#include "bus/peer/daemon.hpp"

#include <stdexcept>
#include <thread>

using namespace mirrorbus;

class Sample {
 public:
  struct Settings {
    std::string word;
    std::string trouble;
  };
  static Settings read(const base::Config& config, const peer::Settings&) {
    const base::ConfigTable table = config.table("sample");
    return {table.text("word", "none"), table.text("trouble", "")};
  }

  Sample(peer::Daemon& daemon, Settings settings)
      : daemon_(daemon), log_(daemon.log("sample")), settings_(std::move(settings)) {
    if (settings_.trouble == "start") throw std::runtime_error("cannot start");
    daemon.add_ready_check("word", [this]() -> std::optional<std::string> {
      if (settings_.word == "bad") return "is bad";
      return std::nullopt;
    });
    daemon.control().add("word", [this](const proto::Value&, peer::ControlReply reply) {
      reply(proto::Value(settings_.word));
    });
    daemon.control().add(
        "fail", [this](const proto::Value&, peer::ControlReply) { daemon_.fail("told to fail"); });
    daemon.control().add("stop",
                         [this](const proto::Value&, peer::ControlReply) { daemon_.stop(); });
    daemon.control().add("throw-on-loop", [this](const proto::Value&, peer::ControlReply) {
      daemon_.loop().post([] { throw std::runtime_error("broken world"); });
    });
  }
  ~Sample() {
    if (settings_.trouble == "never ends")
      for (;;) std::this_thread::sleep_for(std::chrono::seconds(1));
  }

  base::Task prepare_reload(const peer::Settings&, Settings settings) {
    if (settings.word == "refused") throw std::runtime_error("that word is refused");
    return [this, settings = std::move(settings)] {
      settings_ = settings;
      log_.notice("word is now {}", settings_.word);
    };
  }
  void drain(base::Task done) {
    if (settings_.trouble == "never drains") return;
    log_.notice("drained");
    done();
  }

 private:
  peer::Daemon& daemon_;
  base::Log log_;
  Settings settings_;
};

int main(int argc, char** argv) {
  return peer::run_daemon<Sample>(argc, argv, {"bus-sampled", "does nothing, well"});
}
