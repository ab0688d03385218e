#include "services/mirror/hooks.hpp"

#include "bus/base/fd.hpp"
#include "services/tree/spool.hpp"
#include "services/tree/version_changes.hpp"

#include <algorithm>

#include <fcntl.h>
#include <sys/stat.h>

namespace mirrorbus::mirror {

Hooks::Hooks(const TreeContext& context, const TreeSettings& settings, base::Log& log,
             base::WorkerPool& worker, std::function<const tree::Index&()> index)
    : context_(context),
      settings_(settings),
      log_(log),
      worker_(worker),
      index_(std::move(index)),
      go_on_(context.loop, [this] {
        process_.reset();
        run(which_ + 1, all_);
      }) {
  if (!settings.hooks.empty())
    failures_ = &context.registry.counter("mirrorbus_tree_hook_failures_total",
                                          "Hooks that failed.", {"tree", settings.name});
}

std::string Hooks::file() const {
  return context_.tree_file(settings_.name, ".changes");
}

void Hooks::changed(const char* event, std::uint64_t from, const proto::VersionRecord& to) {
  if (settings_.hooks.empty()) return;
  if (next_)
    next_->to = to;
  else
    next_ = Change{event, from, to};
  if (!now_) begin();
}

void Hooks::begin() {
  now_ = std::exchange(next_, std::nullopt);
  if (!now_) return;
  found_.clear();
  worker_.submit(
      [this, from = now_->from, to = now_->to.number, file = file()] {
        return write_changes(index_(), from, to, file);
      },
      [this](base::Outcome<bool> told) {
        if (!told) log_.warning("listing the changes for hooks: {}", what_failed(told.error()));
        run(0, !told || !*told);
      });
}

void Hooks::run(std::size_t which, bool all) {
  which_ = which;
  all_ = all;
  if (which == settings_.hooks.size()) {
    problem_ = found_;
    now_.reset();
    return begin();
  }
  const TreeSettings::Command& hook = settings_.hooks[which];
  base::ProcessOptions options;
  options.command = hook.command;
  options.timeout = hook.timeout;
  options.directory = "/";
  if (!all) options.input = file();
  options.environment = {
      "MIRRORBUS_EVENT=" + std::string(now_->event),
      "MIRRORBUS_TREE=" + settings_.name,
      "MIRRORBUS_PATH=" + settings_.path,
      "MIRRORBUS_FROM=" + std::to_string(now_->from),
      "MIRRORBUS_VERSION=" + std::to_string(now_->to.number),
      "MIRRORBUS_TREE_HASH=" + to_hex(now_->to.tree_hash),
      std::string("MIRRORBUS_CHANGES=") + (all ? "all" : "listed"),
  };
  try {
    process_ = std::make_unique<base::Process>(
        context_.loop, options,
        [this](std::string_view line) {
          log_.info("hook {}: {}", settings_.hooks[which_].command.front(), line);
        },
        [this](const base::Process::End& end) {
          if (!end.good()) failed(which_, end.text());
          go_on_.ask();
        });
  } catch (const std::system_error& error) {
    failed(which, base::describe(error));
    go_on_.ask();
  }
}

void Hooks::failed(std::size_t which, const std::string& why) {
  failures_->add();
  found_ = fmt::format("hook {}: {}", settings_.hooks[which].command.front(), why);
  log_.error("{} (version {})", found_, now_->to.number);
}

bool write_changes(const tree::Index& index, std::uint64_t from, std::uint64_t to,
                   const std::string& file) {
  const auto was = index.version(from), is = index.version(to);
  if (!was || !is) return false;
  // Only for us: paths may tell what is not everybody's to know.
  const base::Fd fd(::open(file.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600));
  if (!fd) base::throw_errno("writing " + file);
  constexpr std::size_t kAtOnce = 256 * 1024;
  proto::Bytes buffer;
  std::uint64_t written = 0;
  const auto flush = [&] {
    tree::write_all_at(fd.get(), buffer, written, file);
    written += buffer.size();
    buffer.clear();
  };
  const auto write = [&](const tree::TreeChange& each) {
    const proto::Change& change = each.change;
    buffer.append(to_string(change.op)).append(1, '\0').append(change.path).append(1, '\0');
    if (change.op == proto::ChangeOp::Move) buffer.append(change.to).append(1, '\0');
    if (buffer.size() >= kAtOnce) flush();
    return true;
  };
  tree::diff_trees(tree::stored_side(index, *was), tree::stored_side(index, *is), write);
  flush();
  return true;
}

}  // namespace mirrorbus::mirror
