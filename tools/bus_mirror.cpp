// bus-mirror: operates the trees of a bus-mirrord through its control socket.
#include "bus/base/command_line.hpp"
#include "bus/peer/control_socket.hpp"
#include "tools/mirror_diff.hpp"
#include "tools/mirror_progress.hpp"
#include "tools/mirror_views.hpp"
#include "tools/tool_config.hpp"

#include <fmt/core.h>

namespace mirrorbus::tools {
namespace {

struct Options {
  std::string config;
  std::string tree;
  std::string source;
  std::uint64_t version = 0, from = 0, to = 0;
  double timeout_s = 600;
  bool json = false;
  bool repair = false;
  bool dry_run = false;
  bool watch = false;
};

int bus_mirror(int argc, char** argv) {
  Options options;
  base::CommandLine line("bus-mirror", "Shows and steers the trees of a bus-mirrord.");
  line.option("--config", options.config, "the daemon's configuration file")
      .required()
      .existing_file();
  line.flag("--json", options.json, "print JSON");
  line.option("--timeout", options.timeout_s, "seconds to wait for the answer");
  const auto verb = [&](const char* name, const char* about) {
    base::CommandOptions sub = line.subcommand(name, about);
    sub.option("tree", options.tree, "name of the tree").required();
    return sub;
  };
  line.subcommand("status", "every tree, worst first")
      .flag("--watch", options.watch, "again and again, until interrupted");
  verb("publish", "an origin: take what is there now as a version, and wait until it is durable");
  verb("wait", "wait until a version is committed")
      .option("--version", options.version, "the version")
      .required();
  verb("versions", "the versions that are known here");
  verb("verify", "read tree and store, compare them with their hashes; exit 1 if anything differs")
      .flag("--repair", options.repair, "and mend what differs");
  base::CommandOptions diff = verb("diff", "what leads from one version to another, as rsync -i");
  diff.option("from", options.from, "the earlier version; 0: nothing yet").required();
  diff.option("to", options.to, "the later version").required();
  verb("sync", "a mirror: look for the newest version now, and wait for it")
      .flag("--dry-run", options.dry_run, "only say what would be done");
  verb("import", "an origin: run [tree.import] now, and wait for the version that comes of it");
  verb("pause", "stop following (mirror) or publishing (origin) until resumed");
  verb("resume", "go on");
  verb("rollback", "an origin: publish what a version was as a new one; a mirror with snapshots: show it")
      .option("version", options.version, "the version")
      .required();
  base::CommandOptions adopt = verb("adopt", "an origin: go on after a version that others know");
  adopt.option("--from", options.version, "that version").required();
  adopt.option("--source", options.source, "whom to ask for it: a serve socket");
  verb("accept", "a mirror: take exactly the version that was refused and shown");
  if (const auto exit_code = line.parse(argc, argv)) return *exit_code;

  const ToolConfig config = load_tool_config(options.config);
  if (config.settings.bus.state.empty())
    throw std::runtime_error(options.config + ": [bus] state is needed to find the daemon");
  const std::string name = line.given_subcommand();
  proto::Map request{{"verb", name}};
  if (!options.tree.empty()) request.emplace_back("tree", options.tree);
  if (options.version > 0) request.emplace_back("version", options.version);
  if (!options.source.empty()) request.emplace_back("source", options.source);
  if (options.repair) request.emplace_back("repair", true);

  const std::string socket = config.settings.bus.state + "/control.sock";
  const base::Duration timeout = base::from_seconds(options.timeout_s);
  if (options.watch)
    return watch_status(socket, timeout, [json = options.json](const proto::Value& trees) {
      return json ? proto::to_json(trees) + "\n" : status_text(trees);
    });
  if (name == "diff" || options.dry_run) {
    if (name == "diff")
      request.insert(request.end(), {{"from", options.from}, {"to", options.to}});
    else
      request.front().second = "dry_run";
    peer::ControlClient client(socket);
    return print_diff(client, request, timeout, options.json);
  }
  const peer::ControlAnswer answer =
      call_with_progress(socket, proto::Value(std::move(request)), options.tree, timeout);
  if (!answer) throw std::runtime_error(answer.error());
  if (options.json)
    fmt::print("{}\n", proto::to_json(*answer));
  else if (name == "status")
    fmt::print("{}", status_text(*answer));
  else if (name == "versions")
    fmt::print("{}", versions_text(*answer));
  else if (name == "verify")
    fmt::print("{}", verify_text(*answer));
  else if (const auto number = answer->as_u64())
    fmt::print("{}\n", *number);
  return name == "verify" && !verified_equal(*answer) ? 1 : 0;
}

}  // namespace
}  // namespace mirrorbus::tools

int main(int argc, char** argv) {
  return mirrorbus::tools::run_tool("bus-mirror", mirrorbus::tools::bus_mirror, argc, argv);
}
