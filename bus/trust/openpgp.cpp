#include "bus/trust/openpgp.hpp"

#include <clocale>
#include <mutex>
#include <stdexcept>

#include <gpgme.h>

namespace mirrorbus::trust {
namespace {

void check(gpgme_error_t error, const std::string& doing) {
  if (gpgme_err_code(error) != GPG_ERR_NO_ERROR)
    throw std::runtime_error(doing + ": " + gpgme_strerror(error));
}

template <class T, void (*Release)(T)>
struct Releaser {
  void operator()(T handle) const { Release(handle); }
};
template <class T, void (*Release)(T)>
using Handle = std::unique_ptr<std::remove_pointer_t<T>, Releaser<T, Release>>;
using Data = Handle<gpgme_data_t, gpgme_data_release>;
using Key = Handle<gpgme_key_t, gpgme_key_unref>;

Data data_from(proto::ByteView bytes) {
  gpgme_data_t data = nullptr;
  check(gpgme_data_new_from_mem(&data, bytes.data(), bytes.size(), 0), "gpgme buffer");
  return Data(data);
}

// The earlier of two ends, where 0 means never.
std::int64_t earlier(std::int64_t a, std::int64_t b) {
  if (a == 0 || b == 0) return a + b;
  return std::min(a, b);
}

// What a signature by this key or subkey of `key` is worth; BadSignature where it has none such.
proto::Decoded<Verified> standing(const gpgme_key_t key, const proto::Bytes& signer) {
  if (key->revoked) return proto::refuse(proto::Reject::KeyRevoked);
  if (key->invalid) return proto::refuse(proto::Reject::BadSignature);
  Verified verified;
  verified.signer = signer;
  if (!proto::from_hex(key->subkeys->fpr, verified.fingerprint))
    return proto::refuse(proto::Reject::BadSignature);
  for (gpgme_subkey_t sub = key->subkeys; sub; sub = sub->next) {
    proto::Bytes fingerprint;
    if (!sub->fpr || !proto::from_hex(sub->fpr, fingerprint) || fingerprint != signer) continue;
    if (sub->revoked) return proto::refuse(proto::Reject::KeyRevoked);
    if (sub->invalid) break;
    verified.expires_s = earlier(key->subkeys->expires, sub->expires);
    return verified;
  }
  return proto::refuse(proto::Reject::BadSignature);
}

}  // namespace

struct OpenPgp::Context {
  std::string home;
  gpgme_ctx_t ctx = nullptr;
  ~Context() {
    if (ctx) gpgme_release(ctx);
  }
  Key key(const char* fingerprint, bool secret) const {
    gpgme_key_t key = nullptr;
    const gpgme_error_t error = gpgme_get_key(ctx, fingerprint, &key, secret);
    if (gpgme_err_code(error) == GPG_ERR_EOF || !key)
      throw std::runtime_error("no " + std::string(secret ? "secret " : "") + "key " + fingerprint +
                               " in the GnuPG home " + home);
    check(error, "looking up key " + std::string(fingerprint) + " in " + home);
    return Key(key);
  }
  template <class Visit>
  void each_key(Visit visit) const {
    const std::string doing = "listing keys in " + home;
    check(gpgme_op_keylist_start(ctx, nullptr, 0), doing);
    gpgme_key_t next = nullptr;
    gpgme_error_t error = GPG_ERR_NO_ERROR;
    while (gpgme_err_code(error = gpgme_op_keylist_next(ctx, &next)) == GPG_ERR_NO_ERROR)
      visit(Key(next).get());
    if (gpgme_err_code(error) != GPG_ERR_EOF) check(error, doing);
  }
};

OpenPgp::OpenPgp(const std::string& home) : context_(std::make_unique<Context>()) {
  static std::once_flag once;
  std::call_once(once, [] { gpgme_check_version(nullptr); });
  context_->home = home;
  check(gpgme_new(&context_->ctx), "gpgme");
  check(gpgme_set_protocol(context_->ctx, GPGME_PROTOCOL_OpenPGP), "gpgme has no OpenPGP");
  check(gpgme_ctx_set_engine_info(context_->ctx, GPGME_PROTOCOL_OpenPGP, nullptr, home.c_str()),
        "GnuPG home " + home);
  gpgme_set_offline(context_->ctx, 1);
  gpgme_set_pinentry_mode(context_->ctx, GPGME_PINENTRY_MODE_ERROR);  // nobody is there to ask
}

OpenPgp::~OpenPgp() = default;

proto::Bytes OpenPgp::sign(const std::string& fingerprint, proto::ByteView document) {
  const Key key = context_->key(fingerprint.c_str(), true);
  gpgme_signers_clear(context_->ctx);
  check(gpgme_signers_add(context_->ctx, key.get()), "signing key " + fingerprint);
  const Data plain = data_from(document);
  gpgme_data_t out = nullptr;
  check(gpgme_data_new(&out), "gpgme buffer");
  Data signature(out);
  check(gpgme_op_sign(context_->ctx, plain.get(), out, GPGME_SIG_MODE_DETACH),
        "signing with " + fingerprint + " in " + context_->home +
            " (is its passphrase empty, and does it have a signing subkey that has not expired?)");
  std::size_t size = 0;
  char* bytes = gpgme_data_release_and_get_mem(signature.release(), &size);
  proto::Bytes result(bytes, size);
  gpgme_free(bytes);
  return result;
}

std::int64_t OpenPgp::signing_key_expires(const std::string& fingerprint) {
  const Key key = context_->key(fingerprint.c_str(), true);
  if (key->revoked) throw std::runtime_error("key " + fingerprint + " is revoked");
  // gpg signs with the newest usable signing subkey, or the primary if no subkey can.
  const gpgme_subkey_t primary = key->subkeys;
  gpgme_subkey_t signer = primary->can_sign ? primary : nullptr;
  for (gpgme_subkey_t sub = primary->next; sub; sub = sub->next)
    if (sub->can_sign && !sub->revoked && !sub->expired && !sub->invalid &&
        (!signer || signer == primary || sub->timestamp > signer->timestamp))
      signer = sub;
  if (!signer) throw std::runtime_error("key " + fingerprint + " has no usable signing key");
  return earlier(primary->expires, signer->expires);
}

std::vector<proto::Bytes> OpenPgp::public_keys() {
  std::vector<proto::Bytes> fingerprints;
  context_->each_key([&](gpgme_key_t key) {
    proto::Bytes fingerprint;
    if (!key->revoked && proto::from_hex(key->subkeys->fpr, fingerprint))
      fingerprints.push_back(std::move(fingerprint));
  });
  return fingerprints;
}

std::map<proto::Bytes, proto::Decoded<Verified>> OpenPgp::signers() {
  std::map<proto::Bytes, proto::Decoded<Verified>> signers;
  context_->each_key([&](gpgme_key_t key) {
    for (gpgme_subkey_t sub = key->subkeys; sub; sub = sub->next) {
      proto::Bytes fingerprint;
      if (sub->fpr && proto::from_hex(sub->fpr, fingerprint))
        signers.insert_or_assign(fingerprint, standing(key, fingerprint));
    }
  });
  return signers;
}

proto::Decoded<Verified> OpenPgp::verify(proto::ByteView document, proto::ByteView signature) {
  const Data plain = data_from(document);
  const Data seal = data_from(signature);
  const gpgme_error_t error = gpgme_op_verify(context_->ctx, seal.get(), plain.get(), nullptr);
  if (gpgme_err_code(error) == GPG_ERR_NO_DATA) return proto::refuse(proto::Reject::BadSignature);
  check(error, "gpg cannot verify in " + context_->home);
  const gpgme_verify_result_t result = gpgme_op_verify_result(context_->ctx);
  // Exactly one signature: with several, which one was meant would be anyone's choice.
  if (!result || !result->signatures || result->signatures->next)
    return proto::refuse(proto::Reject::BadSignature);
  const gpgme_signature_t sig = result->signatures;
  switch (gpgme_err_code(sig->status)) {
    case GPG_ERR_NO_ERROR:
    case GPG_ERR_KEY_EXPIRED:
      break;
    case GPG_ERR_NO_PUBKEY:
      return proto::refuse(proto::Reject::UnknownSigner);
    case GPG_ERR_CERT_REVOKED:
      return proto::refuse(proto::Reject::KeyRevoked);
    default:
      return proto::refuse(proto::Reject::BadSignature);
  }
  proto::Bytes signer;
  if (!proto::from_hex(sig->fpr, signer)) return proto::refuse(proto::Reject::BadSignature);
  return standing(context_->key(sig->fpr, false).get(), signer);
}

}  // namespace mirrorbus::trust
