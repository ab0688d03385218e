#include "test/support/oracle.hpp"

#include <cstdio>
#include <stdexcept>

#include <sys/wait.h>

namespace mirrorbus::test {

namespace {

std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) c == '\'' ? out += "'\\''" : out += c;
  return out + '\'';
}

}  // namespace

std::string itemized(const std::string& from, const std::string& to,
                     const std::string& options) {
  const std::string command = "rsync -naHAXc -@-1 --delete --itemize-changes " + options + " " +
                              quoted(from + "/") + " " + quoted(to + "/") + " 2>&1";
  FILE* pipe = ::popen(command.c_str(), "re");
  if (!pipe) throw std::runtime_error("cannot run rsync");
  std::string said;
  char buffer[4096];
  for (std::size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) said.append(buffer, n);
  const int status = ::pclose(pipe);
  if (status != 0) said += "rsync ended with status " + std::to_string(WEXITSTATUS(status)) + "\n";
  return said;
}

std::string oracle(const std::string& a, const std::string& b, const std::string& options) {
  return itemized(a, b, options) + itemized(b, a, options);
}

}  // namespace mirrorbus::test
