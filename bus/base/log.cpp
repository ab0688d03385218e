#include "bus/base/log.hpp"

#include <cstdlib>
#include <exception>

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace mirrorbus::base {

struct Log::Root {
  spdlog::logger logger;
  bool journal;  // journald adds the time and reads the <N> prefix
};

bool parse_log_level(std::string_view text, LogLevel& out) {
  constexpr std::pair<std::string_view, LogLevel> kLevels[] = {{"debug", LogLevel::Debug},
                                                               {"info", LogLevel::Info},
                                                               {"notice", LogLevel::Notice},
                                                               {"warning", LogLevel::Warning},
                                                               {"error", LogLevel::Error}};
  for (const auto& [name, level] : kLevels)
    if (name == text) {
      out = level;
      return true;
    }
  return false;
}

namespace {
// spdlog knows no "notice"; our five levels take five of its six in order.
spdlog::level::level_enum native(LogLevel level) {
  return static_cast<spdlog::level::level_enum>(static_cast<int>(level) + 1);
}
struct Label {
  std::string_view name;
  int syslog;
};
constexpr Label kLabels[] = {
    {"debug", 7}, {"info", 6}, {"notice", 5}, {"warning", 4}, {"error", 3}};
}  // namespace

Log Log::to_stderr(LogLevel least) {
  Log log;
  log.root_ = std::make_shared<Root>(
      Root{spdlog::logger("", std::make_shared<spdlog::sinks::stderr_sink_mt>()),
           std::getenv("JOURNAL_STREAM") != nullptr});
  log.root_->logger.set_pattern(log.root_->journal ? "%v" : "%Y-%m-%dT%H:%M:%S.%e%z %v");
  log.root_->logger.flush_on(spdlog::level::trace);
  log.set_level(least);
  return log;
}

Log Log::area(std::string_view name) const {
  Log log = *this;
  log.area_ = name;
  return log;
}

void Log::set_level(LogLevel least) {
  if (root_) root_->logger.set_level(native(least));
}

bool Log::enabled(LogLevel level) const { return root_ && root_->logger.should_log(native(level)); }

void Log::write(LogLevel level, const std::string& line) const {
  const Label& label = kLabels[static_cast<int>(level)];
  const std::string_view gap = area_.empty() ? "" : ": ";
  if (root_->journal)
    root_->logger.log(native(level), "<{}>{}{}{}", label.syslog, area_, gap, line);
  else
    root_->logger.log(native(level), "{:<7} {}{}{}", label.name, area_, gap, line);
}

std::string describe(const std::exception& error) {
  std::string text = error.what();
  try {
    std::rethrow_if_nested(error);
  } catch (const std::exception& cause) {
    text += ": " + describe(cause);
  } catch (...) {
    text += ": unknown cause";
  }
  return text;
}

}  // namespace mirrorbus::base
