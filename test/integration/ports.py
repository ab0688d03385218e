"""Ports for daemons of a test that must know them before they are bound."""
import contextlib
import random
import socket

FIRST, LAST = 10_000, 32_000  # no connection that goes out takes one of these: see ip_local_port_range
held = []  # until this process ends


def reserve(port):
    """Whether it is ours from now on, among all tests on this network. A name in the abstract namespace, as a port,
    belongs to a network namespace, and goes with its process, however that ends."""
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0mirrorbus-test-port-{port}")
    except OSError:
        name.close()
        return False
    held.append(name)
    return True


def is_free(port):
    with contextlib.ExitStack() as stack:
        for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
            probe = stack.enter_context(socket.socket(type=kind))
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def free_ports(count):
    """Free for TCP and UDP, and nobody else's while this process lives. Any: which ones a test has is no part of what
    it does, and two of the same seed run side by side."""
    any_of = random.SystemRandom()
    ports = []
    while len(ports) < count:
        port = any_of.randrange(FIRST, LAST)
        if is_free(port) and reserve(port):
            ports.append(port)
    return ports
