#include "bus/net/dscp.hpp"

#include <netinet/in.h>
#include <sys/socket.h>

namespace mirrorbus::net {

void mark(int socket, int dscp) {
  const int field = dscp << 2;  // beside it: ECN, the kernel's own
  // An IPv6 socket with a mapped IPv4 address has both.
  (void)!::setsockopt(socket, IPPROTO_IP, IP_TOS, &field, sizeof field);
  (void)!::setsockopt(socket, IPPROTO_IPV6, IPV6_TCLASS, &field, sizeof field);
}

}  // namespace mirrorbus::net
