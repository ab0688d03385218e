// Logging: one line per fact, on stderr, that names the next step where there is one.
//
//   error    the daemon cannot do its work; a person must act
//   warning  something was refused, lost or degraded; the daemon goes on
//   notice   what an operator wants in the journal: started, reloaded, version committed
//   info     each normal step of the work
//   debug    for developers
//
// A Log is a cheap value that names its area ("publisher", "tree kernel"). Default-made it is silent,
// which is what the library and the tests want.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <fmt/core.h>

namespace spdlog {
class logger;
}

namespace mirrorbus::base {

enum class LogLevel { Debug, Info, Notice, Warning, Error };

// "debug", "info", "notice", "warning", "error"; false for anything else.
bool parse_log_level(std::string_view text, LogLevel& out);

class Log {
 public:
  Log() = default;
  // To stderr. Under systemd (JOURNAL_STREAM set) lines carry <N> priorities instead of times.
  static Log to_stderr(LogLevel least);

  Log area(std::string_view name) const;
  void set_level(LogLevel least);  // for every Log made from the same root
  bool enabled(LogLevel level) const;

  template <class... Args>
  void debug(fmt::format_string<Args...> f, Args&&... args) const {
    if (enabled(LogLevel::Debug)) write(LogLevel::Debug, fmt::format(f, std::forward<Args>(args)...));
  }
  template <class... Args>
  void info(fmt::format_string<Args...> f, Args&&... args) const {
    if (enabled(LogLevel::Info)) write(LogLevel::Info, fmt::format(f, std::forward<Args>(args)...));
  }
  template <class... Args>
  void notice(fmt::format_string<Args...> f, Args&&... args) const {
    if (enabled(LogLevel::Notice))
      write(LogLevel::Notice, fmt::format(f, std::forward<Args>(args)...));
  }
  template <class... Args>
  void warning(fmt::format_string<Args...> f, Args&&... args) const {
    if (enabled(LogLevel::Warning))
      write(LogLevel::Warning, fmt::format(f, std::forward<Args>(args)...));
  }
  template <class... Args>
  void error(fmt::format_string<Args...> f, Args&&... args) const {
    if (enabled(LogLevel::Error)) write(LogLevel::Error, fmt::format(f, std::forward<Args>(args)...));
  }

 private:
  struct Root;
  void write(LogLevel level, const std::string& line) const;

  std::shared_ptr<Root> root_;  // shared: every component's Log writes to the one sink
  std::string area_;
};

// "copying a: opening b: No such file or directory": the nested causes of an exception on one line.
std::string describe(const std::exception& error);

}  // namespace mirrorbus::base
