"""A real DNS server for the tests of daemons: knot, unprivileged, on loopback."""
import pathlib
import subprocess
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

@unittest.skipUnless(pathlib.Path(KNOTD).exists(), "no knotd here")
class KnotWorld(World):
    """`ports`: the publish and serve port of each name that its zone is to have."""

    serial = 0

    def zone(self, *names):
        self.serial += 1
        records = [
            "$ORIGIN example.org.", "$TTL 1",
            f"@ SOA ns admin {self.serial} 60 60 3600 1", "@ NS ns", "ns A 127.0.0.1", "here A 127.0.0.1",
        ]
        for name in names:
            publish, serve = self.ports[name]
            records.append(f"_mirrorbus._tcp SRV 0 1 {publish} here")
            records.append(f"_mirrorbus-serve._tcp SRV 0 1 {serve} here")
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
