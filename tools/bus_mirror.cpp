// bus-mirror: operates the trees of a bus-mirrord through its control socket.
#include "bus/base/command_line.hpp"
#include "bus/peer/control_socket.hpp"
#include "tools/tool_config.hpp"

#include <algorithm>

#include <fmt/core.h>

namespace mirrorbus::tools {
namespace {

struct Options {
  std::string config;
  std::string tree;
  std::uint64_t version = 0;
  double timeout_s = 600;
  bool json = false;
  bool repair = false;
};

std::string text_of(const proto::Value& map, std::string_view key) {
  const proto::Value* value = map.find(key);
  if (!value) return "";
  if (const auto* text = value->as_text()) return *text;
  return value->is_null() ? "" : proto::to_json(*value);
}
double number_of(const proto::Value& map, std::string_view key) {
  const proto::Value* value = map.find(key);
  return value ? value->as_number().value_or(0) : 0;
}

std::string human_bytes(double bytes) {
  for (const char* unit : {"B", "kB", "MB", "GB"}) {
    if (bytes < 1000) return fmt::format("{:.{}f} {}", bytes, *unit == 'B' ? 0 : 1, unit);
    bytes /= 1000;
  }
  return fmt::format("{:.1f} TB", bytes);
}

std::string human_seconds(double seconds) {
  if (seconds < 1) return seconds <= 0 ? "-" : fmt::format("{:.0f} ms", seconds * 1000);
  if (seconds < 120) return fmt::format("{:.0f} s", seconds);
  if (seconds < 7200) return fmt::format("{:.0f} min", seconds / 60);
  return fmt::format("{:.1f} h", seconds / 3600);
}

// The worse, the further up.
int badness(const std::string& state) {
  constexpr std::string_view kWorstFirst[] = {"failed",   "fork",     "refused",   "incomplete",
                                              "stale",    "paused",   "starting",  "scanning",
                                              "fetching", "applying", "verifying", "current"};
  return static_cast<int>(std::ranges::find(kWorstFirst, state) - std::begin(kWorstFirst));
}

void print_status(const proto::Value& answer) {
  proto::Array trees = answer.as_array() ? *answer.as_array() : proto::Array{};
  std::ranges::stable_sort(
      trees, {}, [](const proto::Value& tree) { return badness(text_of(tree, "state")); });
  fmt::print("{:<16} {:<6} {:<11} {:>15} {:>8} {:>9} {:>8}\n", "TREE", "ROLE", "STATE", "VERSION",
             "LAG", "RECEIVED", "SYNC");
  for (const proto::Value& tree : trees) {
    const auto version = static_cast<std::uint64_t>(number_of(tree, "version"));
    const auto head = static_cast<std::uint64_t>(number_of(tree, "head_version"));
    fmt::print("{:<16.16} {:<6} {:<11} {:>15} {:>8} {:>9} {:>8}\n", text_of(tree, "name"),
               text_of(tree, "role"), text_of(tree, "state"),
               head > version ? fmt::format("{} of {}", version, head) : std::to_string(version),
               human_seconds(number_of(tree, "lag_seconds")),
               human_bytes(number_of(tree, "bytes_received")),
               human_seconds(number_of(tree, "last_sync_seconds")));
    if (const std::string error = text_of(tree, "last_error"); !error.empty())
      fmt::print("  {}\n", error);
    if (const std::string fidelity = text_of(tree, "fidelity"); fidelity != "full")
      fmt::print("  fidelity: {}\n", fidelity);
  }
}

void print_versions(const proto::Value& answer) {
  if (!answer.as_array()) return;
  for (const proto::Value& version : *answer.as_array())
    fmt::print("{:>8}  {:.16}  {:>9.0f} entries  {:>10}\n", number_of(version, "number"),
               text_of(version, "tree_hash"), number_of(version, "entries"),
               human_bytes(number_of(version, "bytes")));
}

// Exit code 0 equal, 1 differs.
int print_verify(const proto::Value& answer) {
  const proto::Value* equal = answer.find("equal");
  const bool good = equal && equal->as_bool().value_or(false);
  if (const proto::Value* paths = answer.find("paths"); paths && paths->as_array())
    for (const proto::Value& difference : *paths->as_array())
      fmt::print("{}: {}\n", text_of(difference, "path"), text_of(difference, "what"));
  const std::string fidelity = text_of(answer, "fidelity");
  fmt::print("{}: {:.0f} files, {} read{}\n",
             good ? "equal" : fmt::format("{:.0f} differences", number_of(answer, "differences")),
             number_of(answer, "files"), human_bytes(number_of(answer, "bytes")),
             fidelity == "full" ? "" : "; fidelity: " + fidelity);
  const proto::Value* repaired = answer.find("repaired");
  if (!good && repaired && repaired->as_bool().value_or(false)) fmt::print("repaired\n");
  return good ? 0 : 1;
}

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
  line.subcommand("status", "every tree, worst first");
  verb("publish", "an origin: take what is there now as a version, and wait until it is durable");
  verb("wait", "wait until a version is committed")
      .option("--version", options.version, "the version")
      .required();
  verb("versions", "the versions that are known here");
  verb("verify", "read the whole tree and compare it with the signed version; exit 1 if it differs")
      .flag("--repair", options.repair, "and mend what differs");
  verb("sync", "a mirror: look for the newest version now, and wait for it");
  verb("pause", "stop following (mirror) or publishing (origin) until resumed");
  verb("resume", "go on");
  verb("accept", "a mirror: take exactly the version that was refused and shown");
  if (const auto exit_code = line.parse(argc, argv)) return *exit_code;

  const ToolConfig config = load_tool_config(options.config);
  if (config.settings.bus.state.empty())
    throw std::runtime_error(options.config + ": [bus] state is needed to find the daemon");
  const std::string name = line.given_subcommand();
  proto::Map request{{"verb", name}};
  if (!options.tree.empty()) request.emplace_back("tree", options.tree);
  if (options.version > 0) request.emplace_back("version", options.version);
  if (options.repair) request.emplace_back("repair", true);

  peer::ControlClient client(config.settings.bus.state + "/control.sock");
  const base::Duration timeout = base::from_seconds(options.timeout_s);
  const peer::ControlAnswer answer = client.call(proto::Value(std::move(request)), timeout);
  if (!answer) throw std::runtime_error(answer.error());
  if (name == "verify" && !options.json) return print_verify(*answer);
  if (options.json) {
    fmt::print("{}\n", proto::to_json(*answer));
    const proto::Value* equal = answer->find("equal");
    return name == "verify" && !(equal && equal->as_bool().value_or(false)) ? 1 : 0;
  }
  if (name == "status")
    print_status(*answer);
  else if (name == "versions")
    print_versions(*answer);
  else if (const auto number = answer->as_u64())
    fmt::print("{}\n", *number);
  return 0;
}

}  // namespace
}  // namespace mirrorbus::tools

int main(int argc, char** argv) {
  return mirrorbus::tools::run_tool("bus-mirror", mirrorbus::tools::bus_mirror, argc, argv);
}
