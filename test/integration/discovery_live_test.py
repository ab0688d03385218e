#!/usr/bin/python3
"""A real DNS server names the publishers, and changes its mind while bus-tail listens."""
import sys

from knot import KnotWorld, Questions
from world import free_ports, main, until

class Live(KnotWorld):
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

    def tree(self, role, name):
        path = self.dir / f"{name}.tree"
        path.mkdir()
        return f"""
[content]
listen = "127.0.0.1:0"
[[tree]]
name = "t"
path = "{path}"
role = "{role}"
"""

    def version(self, state):
        status = self.control(state, "status")
        return status and status[0]["version"]

    def test_a_mirror_that_starts_while_dns_is_away_goes_on_with_what_it_knew(self):
        self.ports = {"origin": free_ports(2)}
        publish, serve = (f"tcp://127.0.0.1:{port}" for port in self.ports["origin"])
        self.start("bus-mirrord", self.config(
            "origin", self.tree("origin", "origin"), publish=publish, serve=serve), "origin")
        self.ready("origin")
        self.zone("origin")
        server, port = self.start_dns()
        follower = self.config("follower", f"""
[discovery]
domains = ["example.org"]
resolvers = ["127.0.0.1:{port}"]
""" + self.tree("mirror", "follower"))
        process = self.start("bus-mirrord", follower, "follower")
        until("the first version", lambda: self.version("follower") == 1)
        until("what DNS said is kept", (self.dir / "follower/discovery.json").exists)

        self.end(server)
        self.end(process)
        self.start("bus-mirrord", follower, "follower")
        (self.dir / "origin.tree/file").write_text("two")
        self.control("origin", "publish", tree="t")
        until("the second version", lambda: self.version("follower") == 2)
        until("it has noticed that DNS is away",
              lambda: self.said("follower", r"DNS does not answer for _mirrorbus._tcp"))

    def test_an_origin_with_a_mirror_beside_it_asks_dns_once_for_each_name(self):
        self.ports = {"one": free_ports(2)}
        self.ttl = 3600
        self.serves = "there"  # or that name would be asked for by the records of both kinds
        publish, serve = (f"tcp://127.0.0.1:{port}" for port in self.ports["one"])
        self.start("bus-mirrord", self.config(
            "one", self.tree("origin", "one"), publish=publish, serve=serve), "one")
        self.ready("one")
        self.zone("one")
        questions = Questions(self, self.start_dns()[1])
        (self.dir / "two.tree").mkdir()
        self.start("bus-mirrord", self.config("two", f"""
[discovery]
domains = ["example.org"]
resolvers = ["127.0.0.1:{questions.port}"]
{self.tree("mirror", "follower")}
[[tree]]
name = "u"
path = "{self.dir}/two.tree"
role = "origin"
"""), "two")
        # The origin has heard from those whom DNS names that nobody knows its tree.
        until("both trees have a version",
              lambda: [tree["version"] for tree in self.control("two", "status") or []] == [1, 1])
        asked = questions.count()
        names = {name for name, _ in asked}
        self.assertEqual(names, {"_mirrorbus._tcp.example.org", "_mirrorbus-serve._tcp.example.org",
                                 "here.example.org", "there.example.org"})
        self.assertEqual(set(asked.values()), {1}, asked)

if __name__ == "__main__":
    main(sys.argv)
