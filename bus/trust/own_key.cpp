#include "bus/trust/own_key.hpp"

#include "bus/trust/openpgp.hpp"

namespace mirrorbus::trust {

proto::Decoded<Verified> verify_own(const Identity& own, proto::ByteView document,
                                    proto::ByteView signature) {
  switch (own.scheme) {
    case proto::Scheme::OpenPgp: {
      auto verified = OpenPgp(own.gnupg_home).verify(document, signature);
      if (verified && verified->fingerprint != own.fingerprint())
        return proto::refuse(proto::Reject::WrongSigner);
      return verified;
    }
    case proto::Scheme::X509:
      return verify_by_certificate(own.certificate, document, signature);
    case proto::Scheme::None:
      break;
  }
  return proto::refuse(proto::Reject::SchemeMismatch);
}

}  // namespace mirrorbus::trust
