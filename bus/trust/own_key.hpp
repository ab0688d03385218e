// Was something signed by this daemon's own key? For what comes back to its publisher.
#pragma once

#include "bus/trust/keyring.hpp"

namespace mirrorbus::trust {

// By the key that `own` signs with, whoever else's keys lie beside it. WrongSigner: another's.
// Otherwise as Keyring::verify(); of X.509 the certificate's key counts, not its chain, which is
// for others to believe. Throws as Identity does. Worker threads only.
proto::Decoded<Verified> verify_own(const Identity& own, proto::ByteView document,
                                    proto::ByteView signature);

}  // namespace mirrorbus::trust
