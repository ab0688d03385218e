#!/usr/bin/python3
"""What a peer on another host says about where to pull. It names our loopback address, our other address, in every
spelling, and a server of its own that redirects there: none of it is ever connected to. It has the version, and says
for ever that we are to wait: others are asked."""
import os
import pathlib
import select
import socket
import subprocess
import sys
import threading
import time

import namespaces
from faulty_trees import Mirroring, RandomTree, free_ports, main, until
from mirroring import ORIGIN

SERVE, HTTP = 9941, 9944  # nobody else is in the other namespace
ANY_VERSION = 1000  # that it has, and more
NONE = namespaces.enter("net")


class Canary:
    """Listens at every address of this host, and counts who comes."""

    def __init__(self, test):
        self.came = []
        self.socket = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        self.port = self.socket.getsockname()[1]
        thread = threading.Thread(target=self.listen)
        thread.start()
        test.addCleanup(thread.join)
        test.addCleanup(self.socket.close)
        test.addCleanup(self.socket.shutdown, socket.SHUT_RDWR)

    def listen(self):
        try:
            while True:
                connection, peer = self.socket.accept()
                connection.close()
                self.came.append(peer[0])
        except OSError:
            pass


class NamedSources(Mirroring):
    @classmethod
    def setUpClass(cls):
        namespaces.skip_without_hosts(NONE)
        super().setUpClass()

    def setUp(self):
        super().setUp()
        self.canary = Canary(self)
        self.host = namespaces.Host(1)
        self.addCleanup(self.host.close)

    def namer(self, urls):
        program = pathlib.Path(__file__).resolve().with_name("hostile_namer.py")
        there = self.host.there
        process = subprocess.Popen(
            [*self.host.inside, sys.executable, program, f"tcp://{there}:{SERVE}", f"{there}:{HTTP}",
             f"http://127.0.0.1:{self.canary.port}", str(ANY_VERSION), *urls],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait, 20)
        self.addCleanup(process.stdin.close)
        self.assertEqual(process.stdout.readline(), "ready\n")
        return process

    def asks_first(self, namer, more=""):
        """The mirror is up, has a version, and has heard the namer: he is asked before the origin for the next one,
        if he was not for this one already."""
        serve = f'{{ serve = "tcp://{self.host.there}:{SERVE}" }}'
        text = self.mirror_config.read_text().replace("static = [", f"static = [{serve}, ", 1)
        self.mirror_config.write_text(text + more)
        self.up("mirror")
        self.reaches(self.publish())
        until("the namer has answered", lambda: select.select([namer.stdout], [], [], 0)[0])
        self.assertEqual(namer.stdout.readline(), "answered\n")
        for number in range(4):  # too much for the event itself
            (self.tree / f"random{number}").write_bytes(os.urandom(30_000))

    def test_who_puts_off_for_ever_is_left(self):
        self.config("origin", ORIGIN.format(dir=self.dir))
        RandomTree(self.tree, 100, 4)
        self.up("origin")
        began = time.monotonic()
        self.asks_first(self.namer([]))
        self.reaches(self.publish())
        took = time.monotonic() - began
        self.assertLess(took, 45)
        self.assertGreater(took, 15, "it was not put off")
        self.assertSame("past one that puts off")

    def test_nothing_of_ours_is_connected_to(self):
        content, dead = free_ports(2)
        self.config("origin", ORIGIN.format(dir=self.dir).replace("127.0.0.1:0", f"127.0.0.1:{content}"),
                    bus=f'advertise_content = "http://127.0.0.1:{dead}"')
        RandomTree(self.tree, 100, 4)
        self.up("origin")
        inward = [f"http://{address}:{self.canary.port}" for address in
                  ("127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", self.host.here)]
        redirecting = f"http://{self.host.there}:{HTTP}"
        good = f"http://127.0.0.1:{content}"
        self.asks_first(self.namer([*inward, redirecting]), f'source = ["{good}"]\n')
        self.reaches(self.publish())
        self.assertSame("past all that was named")
        sources = {s["url"]: s for s in self.control("mirror", "status")[0]["sources"]}
        for url in [*inward, redirecting]:
            self.assertTrue(sources[url]["last_error"].startswith("forbidden_address: "), (url, sources))
        self.assertIn("127.0.0.1", sources[redirecting]["last_error"])
        self.assertEqual(self.canary.came, [])
        until("it is counted", lambda: self.metric(
            "mirror", 'mirrorbus_refused_total{reason="forbidden_address"}') >= len(inward) + 1)


if __name__ == "__main__":
    main(sys.argv)
