#include "bus/trust/x509.hpp"

#include "proto/sha256.hpp"

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <map>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

namespace mirrorbus::trust {
namespace {

constexpr std::size_t kMaxFiles = 4096;
constexpr std::uintmax_t kMaxFileSize = 16 << 20;  // a CRL of a large CA
constexpr int kMaxDepth = 8;
constexpr int kSecurityLevel = 2;  // 112 bits: RSA from 2048, no SHA-1

template <class T, void (*Free)(T*)>
struct Freer {
  void operator()(T* object) const { Free(object); }
};
template <class T, void (*Free)(T*)>
using Handle = std::unique_ptr<T, Freer<T, Free>>;

void free_bio(BIO* bio) { BIO_free(bio); }
void free_certificates(STACK_OF(X509) * stack) { sk_X509_free(stack); }
void free_crls(STACK_OF(X509_CRL) * stack) { sk_X509_CRL_free(stack); }
void free_infos(STACK_OF(X509_INFO) * stack) { sk_X509_INFO_pop_free(stack, X509_INFO_free); }

using Bio = Handle<BIO, free_bio>;
using Certificate = Handle<X509, X509_free>;
using Crl = Handle<X509_CRL, X509_CRL_free>;
using Key = Handle<EVP_PKEY, EVP_PKEY_free>;
using DigestContext = Handle<EVP_MD_CTX, EVP_MD_CTX_free>;
using Store = Handle<X509_STORE, X509_STORE_free>;
using StoreContext = Handle<X509_STORE_CTX, X509_STORE_CTX_free>;

[[noreturn]] void fail(const std::string& what) {
  const unsigned long error = ERR_peek_last_error();
  char text[256] = "";
  if (error != 0) ERR_error_string_n(error, text, sizeof text);
  ERR_clear_error();
  throw std::runtime_error(error == 0 ? what : fmt::format("{}: {}", what, text));
}

Bio open(const std::string& file) {
  Bio bio(BIO_new_file(file.c_str(), "r"));
  if (!bio) fail("reading " + file);
  return bio;
}

Certificate read_certificate(const std::string& file) {
  Certificate certificate(PEM_read_bio_X509(open(file).get(), nullptr, nullptr, nullptr));
  if (!certificate) fail(file + " does not begin with a certificate in PEM");
  return certificate;
}

proto::Bytes fingerprint_of(const X509* certificate) {
  unsigned char* der = nullptr;
  const int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
  if (size <= 0) fail("encoding a public key");
  const proto::Hash hash =
      proto::sha256({reinterpret_cast<const char*>(der), static_cast<std::size_t>(size)});
  OPENSSL_free(der);
  return proto::Bytes(hash.view());
}

std::int64_t seconds(const ASN1_TIME* time) {
  std::tm parts{};
  if (!time || ASN1_TIME_to_tm(time, &parts) != 1) return 0;
  return timegm(&parts);
}

// Ed25519 hashes by itself.
const EVP_MD* digest_for(const EVP_PKEY* key) {
  return EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519 ? nullptr : EVP_sha256();
}

bool is_signed(EVP_PKEY* key, proto::ByteView document, proto::ByteView signature) {
  const DigestContext context(EVP_MD_CTX_new());
  const bool good =
      context && EVP_DigestVerifyInit(context.get(), nullptr, digest_for(key), nullptr, key) == 1 &&
      EVP_DigestVerify(context.get(), reinterpret_cast<const unsigned char*>(signature.data()),
                       signature.size(), reinterpret_cast<const unsigned char*>(document.data()),
                       document.size()) == 1;
  ERR_clear_error();
  return good;
}

// What the folder holds.
struct Collection {
  std::vector<Certificate> certificates;
  std::vector<Crl> crls;

  explicit Collection(const std::string& folder) {
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (!entry.is_regular_file() || entry.file_size() > kMaxFileSize) continue;
      files.push_back(entry.path());
      if (files.size() > kMaxFiles)
        throw std::runtime_error(fmt::format("{} holds more than {} files", folder, kMaxFiles));
    }
    std::ranges::sort(files);
    for (const auto& file : files) read(file);
  }

 private:
  // Anything else that a PEM file may hold is passed over, and so is what is not PEM.
  void read(const std::string& file) {
    const Handle<STACK_OF(X509_INFO), free_infos> infos(
        PEM_X509_INFO_read_bio(open(file).get(), nullptr, nullptr, nullptr));
    ERR_clear_error();
    for (int i = 0; infos && i < sk_X509_INFO_num(infos.get()); ++i) {
      X509_INFO* info = sk_X509_INFO_value(infos.get(), i);
      if (info->x509) certificates.emplace_back(std::exchange(info->x509, nullptr));
      if (info->crl) crls.emplace_back(std::exchange(info->crl, nullptr));
    }
  }
};

// Time passes for certificates as for OpenPGP keys: what they signed stays signed.
int tolerate_expiry(int good, X509_STORE_CTX* context) {
  return good == 1 || X509_STORE_CTX_get_error(context) == X509_V_ERR_CERT_HAS_EXPIRED;
}

proto::Reject reason(int error) {
  switch (error) {
    case X509_V_ERR_CERT_REVOKED:
      return proto::Reject::KeyRevoked;
    case X509_V_ERR_UNABLE_TO_GET_CRL:
    case X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER:
    case X509_V_ERR_UNABLE_TO_DECRYPT_CRL_SIGNATURE:
    case X509_V_ERR_CRL_SIGNATURE_FAILURE:
    case X509_V_ERR_CRL_NOT_YET_VALID:
    case X509_V_ERR_CRL_HAS_EXPIRED:
    case X509_V_ERR_ERROR_IN_CRL_LAST_UPDATE_FIELD:
    case X509_V_ERR_ERROR_IN_CRL_NEXT_UPDATE_FIELD:
    case X509_V_ERR_KEYUSAGE_NO_CRL_SIGN:
    case X509_V_ERR_UNHANDLED_CRITICAL_CRL_EXTENSION:
    case X509_V_ERR_DIFFERENT_CRL_SCOPE:
    case X509_V_ERR_CRL_PATH_VALIDATION_ERROR:
      return proto::Reject::RevocationUnknown;
    default:
      return proto::Reject::UntrustedSigner;
  }
}

class ChainCheck {
 public:
  ChainCheck(const X509Trust& trust, const Collection& collection)
      : crl_(trust.crl),
        store_(X509_STORE_new()),
        untrusted_(sk_X509_new_null()),
        crls_(sk_X509_CRL_new_null()) {
    if (!store_ || X509_STORE_load_file(store_.get(), trust.authorities.c_str()) != 1)
      fail("reading the authorities in " + trust.authorities);
    for (const Certificate& each : collection.certificates)
      sk_X509_push(untrusted_.get(), each.get());
    for (const Crl& each : collection.crls) {
      sk_X509_CRL_push(crls_.get(), each.get());
    }
  }

  proto::Decoded<Verified> verify(X509* leaf) const {
    const StoreContext context(X509_STORE_CTX_new());
    if (!context || X509_STORE_CTX_init(context.get(), store_.get(), leaf, untrusted_.get()) != 1)
      fail("preparing to verify a certificate");
    X509_VERIFY_PARAM* const rules = X509_STORE_CTX_get0_param(context.get());
    X509_VERIFY_PARAM_set_depth(rules, kMaxDepth);
    X509_VERIFY_PARAM_set_auth_level(rules, kSecurityLevel);
    X509_VERIFY_PARAM_set_flags(
        rules,
        X509_V_FLAG_X509_STRICT | (crl_ ? X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL : 0));
    X509_STORE_CTX_set0_crls(context.get(), crls_.get());
    X509_STORE_CTX_set_verify_cb(context.get(), tolerate_expiry);
    const bool good = X509_verify_cert(context.get()) == 1;
    ERR_clear_error();
    if (!good) return proto::refuse(reason(X509_STORE_CTX_get_error(context.get())));
    if ((X509_get_key_usage(leaf) & KU_DIGITAL_SIGNATURE) == 0)
      return proto::refuse(proto::Reject::UntrustedSigner);

    Verified verified;
    verified.fingerprint = verified.signer = fingerprint_of(leaf);
    const STACK_OF(X509)* const chain = X509_STORE_CTX_get0_chain(context.get());
    for (int i = 0; i < sk_X509_num(chain); ++i) {
      const X509* const each = sk_X509_value(chain, i);
      const std::int64_t end = seconds(X509_get0_notAfter(each));
      if (i == 0 || end < verified.expires_s) verified.expires_s = end;
      if (!crl_) continue;
      const std::int64_t until = crls_good_until(X509_get_issuer_name(each));
      if (verified.recheck_s == 0 || until < verified.recheck_s) verified.recheck_s = until;
    }
    return verified;
  }

 private:
  // Of the issuer's lists the one that lasts longest; an old one may still lie beside it.
  std::int64_t crls_good_until(const X509_NAME* issuer) const {
    std::int64_t until = 0;
    for (int i = 0; i < sk_X509_CRL_num(crls_.get()); ++i) {
      const X509_CRL* const crl = sk_X509_CRL_value(crls_.get(), i);
      if (X509_NAME_cmp(X509_CRL_get_issuer(crl), issuer) == 0)
        until = std::max(until, seconds(X509_CRL_get0_nextUpdate(crl)));
    }
    return until;
  }

  const bool crl_;
  Store store_;
  Handle<STACK_OF(X509), free_certificates> untrusted_;  // the collection's
  Handle<STACK_OF(X509_CRL), free_crls> crls_;           // the collection's
};

}  // namespace

struct X509Signer::Impl {
  Key key;
  proto::Bytes fingerprint;
  std::int64_t expires_s = 0;
};

X509Signer::X509Signer(const std::string& key_file, const std::string& certificate_file)
    : impl_(std::make_unique<Impl>()) {
  const auto no_passphrase = [](char*, int, int, void*) { return 0; };
  impl_->key.reset(PEM_read_bio_PrivateKey(open(key_file).get(), nullptr, no_passphrase, nullptr));
  if (!impl_->key) fail(key_file + " holds no private key in PEM without a passphrase");
  const Certificate certificate = read_certificate(certificate_file);
  if (X509_check_private_key(certificate.get(), impl_->key.get()) != 1)
    fail(key_file + " is not the key of " + certificate_file);
  impl_->fingerprint = fingerprint_of(certificate.get());
  impl_->expires_s = seconds(X509_get0_notAfter(certificate.get()));
}

X509Signer::~X509Signer() = default;

const proto::Bytes& X509Signer::fingerprint() const { return impl_->fingerprint; }
std::int64_t X509Signer::expires_s() const { return impl_->expires_s; }

proto::Bytes X509Signer::sign(proto::ByteView document) const {
  const DigestContext context(EVP_MD_CTX_new());
  const auto* bytes = reinterpret_cast<const unsigned char*>(document.data());
  EVP_PKEY* const key = impl_->key.get();
  std::size_t size = 0;
  if (!context || EVP_DigestSignInit(context.get(), nullptr, digest_for(key), nullptr, key) != 1 ||
      EVP_DigestSign(context.get(), nullptr, &size, bytes, document.size()) != 1)
    fail("signing");
  proto::Bytes signature(size, '\0');
  if (EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size,
                     bytes, document.size()) != 1)
    fail("signing");
  signature.resize(size);  // ECDSA's vary
  return signature;
}

proto::Bytes certificate_fingerprint(const std::string& certificate_file) {
  return fingerprint_of(read_certificate(certificate_file).get());
}

proto::Decoded<Verified> verify_by_certificate(const std::string& certificate_file,
                                               proto::ByteView document,
                                               proto::ByteView signature) {
  const Certificate own = read_certificate(certificate_file);
  EVP_PKEY* const key = X509_get0_pubkey(own.get());
  if (!key || !is_signed(key, document, signature))
    return proto::refuse(proto::Reject::BadSignature);
  proto::Bytes fingerprint = fingerprint_of(own.get());
  return Verified{fingerprint, fingerprint, seconds(X509_get0_notAfter(own.get())), 0};
}

struct X509Files::Impl {
  explicit Impl(const X509Trust& trust) : collection(trust.certificates), check(trust, collection) {
    for (const Certificate& each : collection.certificates)
      by_fingerprint.emplace(fingerprint_of(each.get()), each.get());
  }

  // `signed_by`: did this certificate's key make the signature in question?
  template <class SignedBy>
  proto::Decoded<Verified> verify(proto::ByteView fingerprint, SignedBy signed_by) const {
    // A renewed certificate lies beside the one before it. Whichever reaches furthest counts, but
    // one that is revoked takes the key with it.
    std::optional<proto::Decoded<Verified>> best;
    const auto [first, last] = by_fingerprint.equal_range(fingerprint);
    for (auto each = first; each != last; ++each) {
      if (!signed_by(each->second)) return proto::refuse(proto::Reject::BadSignature);
      auto verified = check.verify(each->second);
      if (!verified && verified.error() == proto::Reject::KeyRevoked) return verified;
      const bool better =
          !best || (verified && (!*best || (*best)->expires_s < verified->expires_s));
      if (better) best = std::move(verified);
    }
    return best ? std::move(*best) : proto::refuse(proto::Reject::UnknownSigner);
  }

  const Collection collection;
  const ChainCheck check;
  std::multimap<proto::Bytes, X509*, std::less<>> by_fingerprint;  // the collection's
};

X509Files::X509Files(const X509Trust& trust)
    : impl_(trust.authorities.empty() || trust.certificates.empty()
                ? nullptr
                : std::make_unique<Impl>(trust)) {}

X509Files::~X509Files() = default;

proto::Decoded<Verified> X509Files::verify(proto::ByteView fingerprint, proto::ByteView document,
                                           proto::ByteView signature) const {
  if (!impl_) return proto::refuse(proto::Reject::UnknownSigner);
  return impl_->verify(fingerprint, [&](X509* certificate) {
    EVP_PKEY* const key = X509_get0_pubkey(certificate);
    return key && is_signed(key, document, signature);
  });
}

proto::Decoded<Verified> X509Files::standing(proto::ByteView fingerprint) const {
  if (!impl_) return proto::refuse(proto::Reject::UnknownSigner);
  return impl_->verify(fingerprint, [](X509*) { return true; });
}

proto::Decoded<Verified> X509Trust::verify(proto::ByteView fingerprint, proto::ByteView document,
                                           proto::ByteView signature) const {
  return X509Files(*this).verify(fingerprint, document, signature);
}

}  // namespace mirrorbus::trust
