#include "services/mirror/status_files.hpp"

#include "bus/base/replace_file.hpp"
#include "bus/base/version.hpp"

#include <fmt/chrono.h>

#include <charconv>
#include <filesystem>
#include <fstream>

#include <unistd.h>

namespace mirrorbus::mirror {
namespace {

using namespace std::chrono_literals;

constexpr base::Duration kLook = 1s;
constexpr base::Duration kAtLeast = 60s;
constexpr std::string_view kVersionField = "Version: ";

std::string host_name() {
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  return name;
}

}  // namespace

std::string trace_text(const TreeStatus& status, base::WallTime now, const std::string& host) {
  const auto when = fmt::gmtime(base::to_ns(now) / 1'000'000'000);
  return fmt::format(
      "{0:%a} {0:%b} {0:%e} {0:%H:%M:%S} UTC {0:%Y}\n"
      "Date: {0:%a, %d %b %Y %H:%M:%S} +0000\n"
      "Creator: mirrorbus {1}\n"
      "Running on host: {2}\n"
      "Tree: {3}\n"
      "{4}{5}\n"
      "Tree hash: {6}\n"
      "Upstream-mirror: {7}\n"
      "Fidelity: {8}\n",
      when, base::version(), host, status.name, kVersionField, status.version,
      to_hex(status.tree_hash), status.source, status.fidelity);
}

std::uint64_t trace_version(std::string_view text) {
  const auto at = text.find(std::string("\n") + std::string(kVersionField));
  if (at == std::string_view::npos) return 0;
  text.remove_prefix(at + 1 + kVersionField.size());
  std::uint64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

StatusFiles::StatusFiles(base::Loop& loop, base::Log log, const Trees& trees)
    : loop_(loop), log_(std::move(log)), trees_(trees), every_(loop), worker_(loop, 1) {
  for (const auto& tree : trees_) {
    const TreeSettings& settings = tree->settings();
    if (settings.trace_file.empty()) continue;
    std::ifstream in(settings.trace_file);
    written_[settings.name].version =
        trace_version(std::string(std::istreambuf_iterator<char>(in), {}));
  }
  look();
}

void StatusFiles::look() {
  every_.start(kLook, [this] { look(); });
  const base::Now now = loop_.now();
  for (const auto& tree : trees_) {
    const TreeSettings& settings = tree->settings();
    if (settings.status_file.empty() && settings.trace_file.empty()) continue;
    const TreeStatus status = tree->status();
    Written& was = written_[settings.name];
    std::string text = proto::to_json(to_value(status)) + "\n";
    if (!settings.status_file.empty() &&
        (text != was.status || now.mono - was.at >= kAtLeast)) {
      was.status = text;
      was.at = now.mono;
      write(settings.name, settings.status_file, std::move(text));
    }
    if (!settings.trace_file.empty() && status.version > 0 && status.version != was.version) {
      was.version = status.version;
      write(settings.name, settings.trace_file, trace_text(status, now.wall, host_name()));
    }
  }
}

void StatusFiles::write(const std::string& tree, const std::string& file, std::string text) {
  worker_.submit([file, text = std::move(text)] { base::replace_file(file, text); },
                 [this, tree](const base::Outcome<void>& done) {
                   bool& bad = written_[tree].bad;
                   if (!done && !bad) log_.error("{}", what_failed(done.error()));
                   bad = !done;
                 });
}

}  // namespace mirrorbus::mirror
