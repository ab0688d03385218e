#include "bus/trust/keyring.hpp"

#include "bus/trust/openpgp.hpp"
#include "bus/trust/policy.hpp"

#include <algorithm>
#include <filesystem>
#include <stdexcept>
#include <vector>

#include <fmt/format.h>
#include <sys/stat.h>

namespace mirrorbus::trust {
namespace {

void add_stamp(std::string& stamp, const std::string& file) {
  struct stat st;
  if (stat(file.c_str(), &st) == 0)
    stamp +=
        fmt::format("{}.{}.{}.{} ", st.st_ino, st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

}  // namespace

proto::Decoded<Verified> Keyring::verify(const proto::StreamName& stream,
                                         const proto::SealedCredential& sealed) const {
  switch (stream.scheme) {
    case proto::Scheme::OpenPgp:
      return OpenPgp(gnupg_home).verify(sealed.document, sealed.signature);
    case proto::Scheme::X509:
      return x509.verify(stream.fingerprint, sealed.document, sealed.signature);
    case proto::Scheme::None:
      break;
  }
  return proto::refuse(proto::Reject::SchemeMismatch);
}

std::optional<proto::Decoded<Verified>> KeyringSnapshot::standing(proto::Scheme scheme,
                                                                  const proto::Bytes& signer) {
  if (scheme == proto::Scheme::X509) {
    if (!x509_) x509_.emplace(keyring_.x509);
    return x509_->standing(signer);
  }
  using Signers = std::map<proto::Bytes, proto::Decoded<Verified>>;
  if (!openpgp_)
    openpgp_ =
        keyring_.gnupg_home.empty() ? Signers() : OpenPgp(keyring_.gnupg_home).signers();
  const auto known = openpgp_->find(signer);
  if (known == openpgp_->end()) return std::nullopt;
  return known->second;
}

std::string Keyring::stamp() const {
  std::string stamp;
  for (const char* file : {"/pubring.kbx", "/pubring.gpg"}) add_stamp(stamp, gnupg_home + file);
  add_stamp(stamp, x509.authorities);
  if (x509.certificates.empty()) return stamp;
  std::error_code none;
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(x509.certificates, none))
    files.push_back(entry.path());
  std::ranges::sort(files);
  for (const std::string& file : files) add_stamp(stamp, file);
  return stamp;
}

proto::Bytes Identity::fingerprint() const {
  if (scheme == proto::Scheme::None) return {};
  if (scheme == proto::Scheme::X509) return certificate_fingerprint(certificate);
  const auto name = KeyName::parse(key);
  if (!name || name->scheme != proto::Scheme::OpenPgp)
    throw std::runtime_error("[signing] key = \"" + key +
                             "\" is not the full fingerprint of an OpenPGP key");
  return name->fingerprint;
}

std::int64_t Identity::expires_s() const {
  if (scheme == proto::Scheme::None) return 0;
  if (scheme == proto::Scheme::X509) return X509Signer(key, certificate).expires_s();
  return OpenPgp(gnupg_home).signing_key_expires(key);
}

proto::Bytes Identity::sign(proto::ByteView document) const {
  if (scheme == proto::Scheme::None) return {};
  if (scheme == proto::Scheme::X509) return X509Signer(key, certificate).sign(document);
  return OpenPgp(gnupg_home).sign(key, document);
}

}  // namespace mirrorbus::trust
