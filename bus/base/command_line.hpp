// What a program takes on its command line. The parser behind it (CLI11) is seven thousand lines of
// headers: it is compiled once, here.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace mirrorbus::base {

// An option that was added; valid while its CommandLine is.
class CommandOption {
 public:
  explicit CommandOption(CLI::Option* option) : option_(option) {}

  CommandOption& required();
  CommandOption& existing_file();
  CommandOption& existing_directory();
  CommandOption& excludes(const CommandOption& other);

 private:
  CLI::Option* option_;
};

// Options of a program or of one of its subcommands. What is parsed is written to `into`, which
// must outlive the parsing; a value it already has is shown as the default, unless it is empty or
// 0.
class CommandOptions {
 public:
  explicit CommandOptions(CLI::App* app) : app_(app) {}

  // `name`: "--name" for an option, "name" for a word without dashes.
  CommandOption option(const char* name, std::string& into, const char* help);
  CommandOption option(const char* name, std::optional<std::string>& into, const char* help);
  // May be given any number of times.
  CommandOption option(const char* name, std::vector<std::string>& into, const char* help);
  CommandOption option(const char* name, std::uint64_t& into, const char* help);
  CommandOption option(const char* name, double& into, const char* help);
  CommandOption flag(const char* name, bool& into, const char* help);

 protected:
  CLI::App* app_;
};

class CommandLine : public CommandOptions {
 public:
  CommandLine(const std::string& name, const std::string& about);
  ~CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  // From the first on, exactly one must be given; options of the program may follow it.
  CommandOptions subcommand(const char* name, const char* about);

  // Nothing if the program should go on, else its exit code: 0 for --help and --version, 2 for what
  // cannot be understood, with what to do on stderr.
  std::optional<int> parse(int argc, char** argv);

  // Of the subcommand that was given.
  std::string given_subcommand() const;

 private:
  std::unique_ptr<CLI::App> owned_;
};

}  // namespace mirrorbus::base
