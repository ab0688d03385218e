#include "bus/base/loop.hpp"

#include <utility>  // Boost 1.74's asio headers use std::exchange without it

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

namespace mirrorbus::base {
namespace asio = boost::asio;

struct Loop::Impl {
  asio::io_context context{1};
  asio::executor_work_guard<asio::io_context::executor_type> work{context.get_executor()};
};

Loop::Loop(const Clock& clock) : clock_(clock), impl_(std::make_unique<Impl>()) {}
Loop::~Loop() = default;

void Loop::run() {
  impl_->context.run();
  impl_->context.restart();  // afterwards, so that a stop() that came before run() is not lost
}

bool Loop::run_one(Duration at_most) {
  // run_one_for(0) would not even look.
  if (impl_->context.poll_one() > 0) return true;
  return at_most > Duration::zero() && impl_->context.run_one_for(at_most) > 0;
}

void Loop::stop() { impl_->context.stop(); }

void Loop::post(Task task) { asio::post(impl_->context, std::move(task)); }

asio::io_context& Loop::context() { return impl_->context; }

// A wait that has completed but not yet been called cannot be taken back, so each wait knows the
// generation it was started in and does nothing in a later one.
struct Timer::State {
  explicit State(Loop& loop) : timer(loop.context()) {}
  asio::steady_timer timer;
  Task task;
  std::uint64_t generation = 0;
};

Timer::Timer(Loop& loop) : state_(std::make_shared<State>(loop)) {}
Timer::~Timer() { cancel(); }

void Timer::start(Duration after, Task task) {
  start_at(std::chrono::steady_clock::now() + after, std::move(task));
}

void Timer::start_at(MonoTime when, Task task) {
  const std::uint64_t generation = ++state_->generation;
  state_->task = std::move(task);
  state_->timer.expires_at(std::chrono::time_point_cast<std::chrono::steady_clock::duration>(when));
  state_->timer.async_wait([state = state_, generation](const boost::system::error_code&) {
    if (state->generation != generation) return;
    ++state->generation;
    Task task = std::exchange(state->task, nullptr);
    task();
  });
}

void Timer::cancel() {
  ++state_->generation;
  state_->task = nullptr;
  state_->timer.cancel();
}

bool Timer::running() const { return state_->task != nullptr; }

struct Later::State {
  Task task;
  bool asked = false;
  bool alive = true;
};

Later::Later(Loop& loop, Task task) : loop_(loop), state_(std::make_shared<State>()) {
  state_->task = std::move(task);
}

Later::~Later() { state_->alive = false; }

void Later::ask() {
  if (std::exchange(state_->asked, true)) return;
  loop_.post([state = state_] {
    state->asked = false;
    if (state->alive) state->task();
  });
}

struct FdWatch::State : std::enable_shared_from_this<State> {
  State(Loop& loop, int watched, Callback cb)
      : descriptor(loop.context()), fd(watched), callback(std::move(cb)) {}

  asio::posix::stream_descriptor descriptor;  // open while anything is wanted
  const int fd;
  Callback callback;
  bool want_read = false, want_write = false;
  bool waiting_read = false, waiting_write = false;
  bool open = true;

  void arm() {
    using Descriptor = asio::posix::stream_descriptor;
    // Nothing wanted: out of the reactor, or each thing that happens there would wake the loop.
    if (!want_read && !want_write) {
      if (descriptor.is_open()) descriptor.release();
      return;
    }
    if (!descriptor.is_open()) descriptor.assign(fd);
    if (want_read && !waiting_read) {
      waiting_read = true;
      descriptor.async_wait(Descriptor::wait_read, [self = shared_from_this()](const auto& error) {
        self->waiting_read = false;
        self->ready(error, true);
      });
    }
    if (want_write && !waiting_write) {
      waiting_write = true;
      descriptor.async_wait(Descriptor::wait_write, [self = shared_from_this()](const auto& error) {
        self->waiting_write = false;
        self->ready(error, false);
      });
    }
  }

  void ready(const boost::system::error_code& error, bool read) {
    if (!open) return;
    if (error == asio::error::operation_aborted) return arm();  // taken out, and maybe back in
    if (error) throw boost::system::system_error(error, "waiting for a descriptor");
    // Interest may have gone while the wait was under way.
    if (read ? want_read : want_write) callback(read, !read);
    if (open) arm();
  }
};

FdWatch::FdWatch(Loop& loop, int fd, Callback callback)
    : state_(std::make_shared<State>(loop, fd, std::move(callback))) {}

FdWatch::~FdWatch() {
  state_->open = false;
  if (state_->descriptor.is_open()) state_->descriptor.release();
}

void FdWatch::want(bool readable, bool writable) {
  state_->want_read = readable;
  state_->want_write = writable;
  state_->arm();
}

}  // namespace mirrorbus::base
