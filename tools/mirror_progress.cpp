#include "tools/mirror_progress.hpp"

#include "tools/mirror_views.hpp"

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include <fmt/format.h>
#include <unistd.h>

namespace mirrorbus::tools {
namespace {

using namespace std::chrono_literals;

constexpr auto kLook = 250ms;
constexpr auto kWatch = 1s;
constexpr std::size_t kBar = 16;
constexpr std::string_view kClearLine = "\r\033[K";
constexpr std::string_view kClearScreen = "\033[H\033[J";

const proto::Value* find_tree(const proto::Value& trees, const std::string& name) {
  if (!trees.as_array()) return nullptr;
  for (const proto::Value& tree : *trees.as_array())
    if (text_of(tree, "name") == name) return &tree;
  return nullptr;
}

// The call on a thread of its own, for whoever looks at something else meanwhile.
class Call {
 public:
  Call(const std::string& socket, const proto::Value& request, base::Duration timeout)
      : client_(socket), thread_([this, request, timeout] {
          try {
            end(client_.call(request, timeout), nullptr);
          } catch (...) {
            end(std::nullopt, std::current_exception());
          }
        }) {}

  bool done_within(base::Duration time) {
    std::unique_lock lock(mutex_);
    return ended_.wait_for(lock, time, [this] { return answer_ || error_; });
  }
  peer::ControlAnswer take() {
    thread_.join();
    if (error_) std::rethrow_exception(error_);
    return std::move(*answer_);
  }

 private:
  void end(std::optional<peer::ControlAnswer> answer, std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    answer_ = std::move(answer);
    error_ = std::move(error);
    ended_.notify_all();
  }

  peer::ControlClient client_;
  std::mutex mutex_;
  std::condition_variable ended_;
  std::optional<peer::ControlAnswer> answer_;
  std::exception_ptr error_;
  std::jthread thread_;
};

}  // namespace

std::string ProgressLine::show(const proto::Value& tree,
                               std::chrono::steady_clock::time_point at) {
  const std::string state = text_of(tree, "state"), named = text_of(tree, "phase");
  const std::string phase = named.empty() ? state : named;
  const double bytes = number_of(tree, "bytes_done"), bytes_total = number_of(tree, "bytes_total");
  const double files = number_of(tree, "files_done"), files_total = number_of(tree, "files_total");
  if (!first_ || first_->phase != phase || first_->bytes > bytes) first_ = {phase, bytes, at};
  const double total = bytes_total > 0 ? bytes_total : files_total;
  const double done = bytes_total > 0 ? bytes : files;
  std::string line = fmt::format("{:<10.10}", phase);
  if (total <= 0) return line;
  const double share = std::min(1.0, done / total);
  const auto filled = static_cast<std::size_t>(share * kBar);
  line += fmt::format(" [{}{}] {:>3.0f}%", std::string(filled, '#'),
                      std::string(kBar - filled, '.'), share * 100);
  if (bytes_total > 0) line += " " + human_bytes(bytes);
  if (files_total > 0) line += fmt::format(" {:.0f}/{:.0f}", files, files_total);
  const double seconds = std::chrono::duration<double>(at - first_->at).count();
  if (const double rate = seconds > 0 ? (bytes - first_->bytes) / seconds : 0; rate > 0) {
    line += fmt::format(" {}/s", human_bytes(rate));
    if (bytes < bytes_total)
      line += fmt::format(" eta {}", human_seconds((bytes_total - bytes) / rate));
  }
  return line.substr(0, 79);
}

peer::ControlAnswer call_with_progress(const std::string& socket, const proto::Value& request,
                                       const std::string& tree, base::Duration timeout) {
  if (!::isatty(STDERR_FILENO)) return peer::ControlClient(socket).call(request, timeout);
  Call call(socket, request, timeout);
  peer::ControlClient looking(socket);
  ProgressLine line;
  bool shown = false;
  while (!call.done_within(kLook)) {
    const auto trees = looking.call(proto::Map{{"verb", "status"}}, timeout);
    const proto::Value* status = trees ? find_tree(*trees, tree) : nullptr;
    if (!status) continue;
    fmt::print(stderr, "{}{}", kClearLine, line.show(*status, std::chrono::steady_clock::now()));
    shown = true;
  }
  if (shown) fmt::print(stderr, "{}", kClearLine);
  return call.take();
}

int watch_status(const std::string& socket, base::Duration timeout,
                 const std::function<std::string(const proto::Value&)>& text) {
  const bool terminal = ::isatty(STDOUT_FILENO) != 0;
  peer::ControlClient client(socket);
  std::string last;
  for (;; std::this_thread::sleep_for(kWatch)) {
    const auto trees = client.call(proto::Map{{"verb", "status"}}, timeout);
    if (!trees) throw std::runtime_error(trees.error());
    std::string now = text(*trees);
    if (terminal)
      fmt::print("{}{}", kClearScreen, now);
    else if (now != last)
      fmt::print("{}", now);
    std::fflush(stdout);
    last = std::move(now);
  }
}

}  // namespace mirrorbus::tools
