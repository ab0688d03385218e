#include "services/mirror/importer.hpp"

#include <fcntl.h>
#include <unistd.h>

namespace mirrorbus::mirror {

Importer::Importer(const TreeContext& context, const TreeSettings& settings, base::Log& log,
                   std::function<bool()> may_run, std::function<void()> done)
    : context_(context),
      settings_(settings),
      log_(log),
      may_run_(std::move(may_run)),
      done_(std::move(done)),
      every_(context.loop),
      after_(context.loop, [this] { ended(result_); }) {
  if (!configured()) return;
  failures_ = &context.registry.counter("mirrorbus_tree_import_failures_total",
                                        "Imports that failed.", {"tree", settings.name});
  unfinished_ = ::access(mark().c_str(), F_OK) == 0;
  if (unfinished_) problem_ = "the last import was not finished";
}

std::string Importer::mark() const {
  return context_.tree_file(settings_.name, ".importing");
}

void Importer::start() {
  if (!configured()) return;
  if (unfinished_) return run();
  if (settings_.import_every > base::Duration::zero())
    every_.start(settings_.import_every, [this] { run(); });
}

void Importer::run() {
  due_ = true;
  consider();
}

void Importer::consider() {
  if (due_ && !running() && may_run_()) begin();
}

void Importer::begin() {
  due_ = false;
  const base::Fd made(::open(mark().c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  if (!made || ::fsync(made.get()) != 0) {
    result_ = "writing " + mark() + ": " + std::generic_category().message(errno);
    return after_.ask();
  }
  unfinished_ = true;
  log_.notice("importing: {}", settings_.import.command.front());
  base::ProcessOptions options;
  options.command = settings_.import.command;
  options.timeout = settings_.import.timeout;
  options.directory = settings_.path;
  options.environment = {"MIRRORBUS_TREE=" + settings_.name, "MIRRORBUS_PATH=" + settings_.path};
  try {
    process_ = std::make_unique<base::Process>(
        context_.loop, options, [this](std::string_view line) { log_.info("import: {}", line); },
        [this](const base::Process::End& end) {
          result_ = end.good() ? "" : end.text();
          after_.ask();
        });
  } catch (const std::system_error& error) {
    result_ = base::describe(error);
    after_.ask();
  }
}

void Importer::ended(const std::string& problem) {
  process_.reset();
  problem_ = problem.empty() ? "" : fmt::format("the import failed: {}", problem);
  if (problem.empty()) {
    unfinished_ = false;
    ::unlink(mark().c_str());
  } else {
    failures_->add();
    log_.error("{}; the old version stays", problem_);
  }
  if (settings_.import_every > base::Duration::zero())
    every_.start(settings_.import_every, [this] { run(); });
  done_();
}

}  // namespace mirrorbus::mirror
