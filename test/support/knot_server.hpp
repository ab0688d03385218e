// A real DNS server for tests: knot, on a free port of the loopback, serving example.org.
#pragma once

#include "test/support/process.hpp"
#include "test/support/temp_dir.hpp"

#include <filesystem>
#include <memory>
#include <stdexcept>

#include <arpa/inet.h>
#include <fmt/core.h>
#include <sys/socket.h>

namespace mirrorbus::test {

class KnotServer {
 public:
  static constexpr const char* kProgram = "/usr/sbin/knotd";
  static bool available() { return std::filesystem::exists(kProgram); }

  // `records`: the zone's, below its SOA and NS; TTL 2 s, negative TTL 2 s.
  explicit KnotServer(const std::string& records) {
    // Somebody else may take the port before knot does.
    for (int attempt = 0; attempt < 5; ++attempt) {
      port_ = free_port();
      start(records);
      if (process_->wrote("server started")) return;
    }
    throw std::runtime_error("knotd does not start:\n" + process_->output());
  }

  std::string address() const { return fmt::format("127.0.0.1:{}", port_); }
  // Serves other records from when it returns.
  void change(const std::string& records) {
    write_zone(records);
    process_->signal(SIGHUP);
    if (!process_->wrote(fmt::format("-> {}, ", serial_)))
      throw std::runtime_error("knotd does not reload:\n" + process_->output());
  }
  void stop() { process_.reset(); }

 private:
  static int free_port() {
    const base::Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
      base::throw_errno("looking for a free port");
    return ntohs(address.sin_port);
  }

  void write_zone(const std::string& records) {
    dir_.write("zone", fmt::format("$ORIGIN example.org.\n$TTL 2\n"
                                   "@ SOA ns admin {} 60 60 3600 2\n@ NS ns\nns A 127.0.0.1\n{}\n",
                                   ++serial_, records));
  }

  void start(const std::string& records) {
    write_zone(records);
    dir_.write("knot.conf", fmt::format("server:\n  rundir: \"{0}\"\n  listen: \"127.0.0.1@{1}\"\n"
                                        "  udp-workers: 1\n  tcp-workers: 1\n"
                                        "  background-workers: 1\n"
                                        "log:\n  - target: stderr\n    any: info\n"
                                        "database:\n  storage: \"{0}\"\n"
                                        "template:\n  - id: default\n    storage: \"{0}\"\n"
                                        "    zonefile-load: whole\n    journal-content: none\n"
                                        "zone:\n  - domain: example.org\n    file: zone\n",
                                        dir_.path(), port_));
    process_ =
        std::make_unique<Process>(std::vector<std::string>{kProgram, "-c", dir_ / "knot.conf"});
  }

  TempDir dir_;
  int port_ = 0;
  int serial_ = 0;
  std::unique_ptr<Process> process_;
};

}  // namespace mirrorbus::test
