#include "bus/base/signals.hpp"

#include <utility>  // Boost 1.74's asio headers use std::exchange without it

#include <boost/asio/signal_set.hpp>

namespace mirrorbus::base {

struct Signals::State : std::enable_shared_from_this<State> {
  State(Loop& loop, Callback c) : set(loop.context()), callback(std::move(c)) {}

  boost::asio::signal_set set;
  Callback callback;
  bool open = true;

  void wait() {
    set.async_wait([self = shared_from_this()](const boost::system::error_code& error, int signal) {
      if (error || !self->open) return;
      self->callback(signal);
      if (self->open) self->wait();
    });
  }
};

Signals::Signals(Loop& loop, std::initializer_list<int> signals, Callback callback)
    : state_(std::make_shared<State>(loop, std::move(callback))) {
  for (const int signal : signals) state_->set.add(signal);
  state_->wait();
}

Signals::~Signals() {
  state_->open = false;
  // clear() alone leaves the wait, which holds the state, where nobody finds it any more.
  boost::system::error_code ignored;
  state_->set.cancel(ignored);
  state_->set.clear(ignored);
}

}  // namespace mirrorbus::base
