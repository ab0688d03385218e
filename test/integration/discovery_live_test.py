#!/usr/bin/python3
"""A real DNS server names the publishers, and changes its mind while bus-tail listens."""
import pathlib
import subprocess
import sys
import unittest

from world import ENVIRONMENT, World, free_ports, main, until

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
class Live(World):
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

    def test_records_come_and_go_while_it_listens(self):
        ports = free_ports(4)
        self.ports = {"one": ports[:2], "two": ports[2:]}
        configs = {}
        for name, (publish, serve) in self.ports.items():
            configs[name] = self.relay_config(
                name, publish=f"tcp://127.0.0.1:{publish}", serve=f"tcp://127.0.0.1:{serve}"
            )
            self.relay(configs[name], name)
        self.zone("one")
        server, port = self.start_dns()
        tail = self.tail(self.listen_config(resolver=port))

        def publisher(name):
            return [
                e for e in tail.events
                if e["publisher"].startswith(name + "@") and ".shell." in e["topic"]
            ]

        def comes(name):
            """An event of this one is seen: it is sent again until the tail has joined the stream."""
            before = len(publisher(name))
            def seen():
                self.publish(configs[name], 1)
                return len(publisher(name)) > before
            until(f"events of {name}", seen, 30)

        comes("one")
        self.assertEqual(publisher("two"), [])
        self.reload("one", "two")
        comes("two")
        self.reload("one")
        gone = rf"publisher tcp://127.0.0.1:{self.ports['two'][0]} is no longer listed; disconnected"
        until("the second is disconnected", lambda: self.said("tail", gone), 30)
        before = len(publisher("two"))
        self.publish(configs["two"], 5)
        comes("one")
        self.assertEqual(len(publisher("two")), before)

        # Nobody answers any more: what was said last stays, for longer than it was said to hold.
        self.end(server)
        until("the tail has noticed",
              lambda: self.said("tail", r"DNS does not answer for _mirrorbus._tcp"), 30)
        for _ in range(3):
            comes("one")
        self.assertEqual(tail.gaps, [])
        self.assertFalse(self.said("tail", rf"publisher tcp://127.0.0.1:{self.ports['one'][0]} is no longer"))

if __name__ == "__main__":
    main(sys.argv)
