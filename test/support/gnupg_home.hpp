// A GnuPG home of a test's own, filled by gpg itself.
#pragma once

#include "test/support/temp_dir.hpp"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include <catch2/catch.hpp>
#include <sys/stat.h>

namespace mirrorbus::test {

class GnupgHome {
 public:
  GnupgHome() { REQUIRE(chmod(path().c_str(), 0700) == 0); }
  ~GnupgHome() { (void)std::system(("gpgconf --homedir " + path() + " --kill all").c_str()); }
  GnupgHome(const GnupgHome&) = delete;
  GnupgHome& operator=(const GnupgHome&) = delete;

  const std::string& path() const { return dir_.path(); }

  // What `gpg ARGUMENTS` prints; it must succeed.
  std::string gpg(const std::string& arguments) const {
    const std::string line = "exec 2>" + path() + "/stderr; gpg --homedir " + path() +
                             " --batch --quiet --passphrase '' --pinentry-mode loopback " +
                             arguments;
    INFO(line);
    std::FILE* const pipe = popen(line.c_str(), "r");
    REQUIRE(pipe != nullptr);
    std::string text;
    for (int c; (c = std::fgetc(pipe)) != EOF;) text += static_cast<char>(c);
    const int status = pclose(pipe);
    INFO(std::ifstream(path() + "/stderr").rdbuf());
    REQUIRE(status == 0);
    return text;
  }

  // The primary fingerprint of a new key, hexadecimal; a signing key of `subkeys` is asked for with
  // "cert", and made by gpg("--quick-add-key FINGERPRINT ed25519 sign").
  std::string make_key(const std::string& user, const std::string& usage = "sign") const {
    gpg("--quick-gen-key " + user + " ed25519 " + usage + " never");
    return fingerprints(user).at(0);
  }

  // Of the primary key and the subkeys, in this order.
  std::vector<std::string> fingerprints(const std::string& key) const {
    std::istringstream lines(gpg("--with-colons --with-fingerprint --list-keys " + key));
    std::vector<std::string> found;
    for (std::string line; std::getline(lines, line);)
      if (line.starts_with("fpr:::::::::"))
        found.push_back(line.substr(12, line.find(':', 12) - 12));
    return found;
  }

  // By the certificate that gpg wrote when it made the key; a colon guards it.
  void revoke(const std::string& fingerprint) const {
    gpg("--yes --import <<EOF\n$(sed s/^:-/-/ " + path() + "/openpgp-revocs.d/" + fingerprint +
        ".rev)\nEOF\n");
  }

  void delete_key(const std::string& fingerprint) const {
    gpg("--yes --delete-secret-and-public-key " + fingerprint);
  }

  // The `number`th subkey, from 1.
  void revoke_subkey(const std::string& fingerprint, int number) const {
    gpg("--command-fd 0 --edit-key " + fingerprint + " <<'EOF'\nkey " + std::to_string(number) +
        "\nrevkey\ny\n0\n\ny\nsave\nEOF\n");
  }

 private:
  TempDir dir_;
};

}  // namespace mirrorbus::test
