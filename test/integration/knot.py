"""A real DNS server for the tests of daemons: knot, unprivileged, on loopback."""
import collections
import pathlib
import socket
import subprocess
import threading
import unittest

from world import ENVIRONMENT, World, free_ports, until

KNOTD = "/usr/sbin/knotd"
CONFIG = """
server:
  rundir: "{dir}/dns"
  listen: "127.0.0.1@{port}"
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
log:
  - target: stderr
    any: info
database:
  storage: "{dir}/dns"
zone:
  - domain: example.org
    storage: "{dir}"
    file: zone
    zonefile-load: whole
    journal-content: none
"""

class Questions(threading.Thread):
    """Hands on to the server at `port` what it is asked, and counts each question once: what is only sent again has
    the number that it had before."""

    def __init__(self, test, port):
        super().__init__()
        self.to = ("127.0.0.1", port)
        self.seen = set()
        self.socket = socket.socket(type=socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(0.05)
        self.port = self.socket.getsockname()[1]
        self.over = threading.Event()
        self.start()
        test.addCleanup(self.join)
        test.addCleanup(self.over.set)

    def run(self):
        with self.socket, socket.socket(type=socket.SOCK_DGRAM) as server:
            server.settimeout(5)
            while not self.over.is_set():
                try:
                    question, who = self.socket.recvfrom(4096)
                except TimeoutError:
                    continue
                self.seen.add((who, question[:2], self.asked(question)))
                server.sendto(question, self.to)
                answer = server.recv(4096)
                while answer[:2] != question[:2]:
                    answer = server.recv(4096)
                self.socket.sendto(answer, who)

    @staticmethod
    def asked(question):
        labels, at = [], 12
        while size := question[at]:
            labels.append(question[at + 1:at + 1 + size].decode().lower())
            at += 1 + size
        return ".".join(labels), int.from_bytes(question[at + 1:at + 3], "big")

    def count(self):
        """How often each name was asked for, by name and type of record."""
        return collections.Counter(asked for _, _, asked in set(self.seen))

@unittest.skipUnless(pathlib.Path(KNOTD).exists(), "no knotd here")
class KnotWorld(World):
    """`ports`: the publish and serve port of each name that its zone is to have."""

    serial = 0
    ttl = 1
    serves = "here"  # the host of the serve ports

    def zone(self, *names):
        self.serial += 1
        records = [
            "$ORIGIN example.org.", f"$TTL {self.ttl}",
            f"@ SOA ns admin {self.serial} 60 60 3600 1", "@ NS ns", "ns A 127.0.0.1", "here A 127.0.0.1",
            "there A 127.0.0.1",
        ]
        for name in names:
            publish, serve = self.ports[name]
            records.append(f"_mirrorbus._tcp SRV 0 1 {publish} here")
            records.append(f"_mirrorbus-serve._tcp SRV 0 1 {serve} {self.serves}")
        (self.dir / "zone").write_text("\n".join(records) + "\n")

    def start_dns(self):
        """Somebody else may take the port before knot does: then another one."""
        (self.dir / "dns").mkdir()
        for _ in range(5):
            (port,) = free_ports(1)
            (self.dir / "knot.conf").write_text(CONFIG.format(dir=self.dir, port=port))
            with open(self.dir / "knot.log", "w", encoding="utf-8") as out:
                server = subprocess.Popen(
                    [KNOTD, "-c", self.dir / "knot.conf"], stdout=out, stderr=out, env=ENVIRONMENT
                )
            self.addCleanup(self.end, server)
            until("knotd says something",
                  lambda s=server: self.said("knot", "server started") or s.poll() is not None)
            if server.poll() is None:
                return server, port
        raise AssertionError("knotd does not start")

    def reload(self, *names):
        self.zone(*names)
        done = subprocess.run(
            ["knotc", "-s", self.dir / "dns" / "knot.sock", "zone-reload", "example.org"],
            capture_output=True, text=True, env=ENVIRONMENT, check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
