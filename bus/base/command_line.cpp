#include "bus/base/command_line.hpp"

#include "bus/base/version.hpp"

#include <CLI/CLI.hpp>
#include <fmt/core.h>

namespace mirrorbus::base {
namespace {

template <class T>
CommandOption add(CLI::App& app, const char* name, T& into, const char* help) {
  CLI::Option* option = app.add_option(name, into, help);
  if (into != T{}) option->capture_default_str();
  return CommandOption(option);
}

}  // namespace

CommandOption& CommandOption::required() {
  option_->required();
  return *this;
}

CommandOption& CommandOption::existing_file() {
  option_->check(CLI::ExistingFile);
  return *this;
}

CommandOption& CommandOption::existing_directory() {
  option_->check(CLI::ExistingDirectory);
  return *this;
}

CommandOption& CommandOption::excludes(const CommandOption& other) {
  option_->excludes(other.option_);
  return *this;
}

CommandOption CommandOptions::option(const char* name, std::string& into, const char* help) {
  return add(*app_, name, into, help);
}

CommandOption CommandOptions::option(const char* name, std::optional<std::string>& into,
                                     const char* help) {
  return CommandOption(app_->add_option(name, into, help));
}

CommandOption CommandOptions::option(const char* name, std::vector<std::string>& into,
                                     const char* help) {
  CommandOption option = add(*app_, name, into, help);
  // One value each time it is given: what follows may be a word without dashes.
  app_->get_option(name)->allow_extra_args(false);
  return option;
}

CommandOption CommandOptions::option(const char* name, std::uint64_t& into, const char* help) {
  return add(*app_, name, into, help);
}

CommandOption CommandOptions::option(const char* name, double& into, const char* help) {
  return add(*app_, name, into, help);
}

CommandOption CommandOptions::flag(const char* name, bool& into, const char* help) {
  return CommandOption(app_->add_flag(name, into, help));
}

CommandLine::CommandLine(const std::string& name, const std::string& about)
    : CommandOptions(nullptr), owned_(std::make_unique<CLI::App>(about, name)) {
  app_ = owned_.get();
  app_->set_version_flag("--version", fmt::format("{} {}", name, version()));
  app_->failure_message([](const CLI::App* failed, const CLI::Error& error) {
    return fmt::format("{}: {}\nTry '{} --help'.\n", failed->get_name(), error.what(),
                       failed->get_name());
  });
}

CommandLine::~CommandLine() = default;

CommandOptions CommandLine::subcommand(const char* name, const char* about) {
  app_->require_subcommand(1);
  app_->fallthrough();
  return CommandOptions(app_->add_subcommand(name, about));
}

std::optional<int> CommandLine::parse(int argc, char** argv) {
  try {
    app_->parse(argc, argv);
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    return app_->exit(error) == 0 ? 0 : 2;
  }
}

std::string CommandLine::given_subcommand() const {
  return app_->get_subcommands().front()->get_name();
}

}  // namespace mirrorbus::base
