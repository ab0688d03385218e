// Marks what a socket sends for the network's queues (RFC 2474).
#pragma once

namespace mirrorbus::net {

// `dscp` 0 to 63. Of IPv4 and IPv6; a socket that is neither stays as it is.
void mark(int socket, int dscp);

}  // namespace mirrorbus::net
