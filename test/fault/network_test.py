#!/usr/bin/python3
"""A publisher and its subscribers in network namespaces of their own, joined by veth pairs that lose packets,
are cut, cut one way, unplugged, or too narrow; and connections that are dead and do not know it. Under
acknowledged traffic all the time; beside them a subscriber that nothing befalls.

MIRRORBUS_ROUNDS: how often every fault (1). MIRRORBUS_SEED: of the order of things.
"""
import re
import sys
import time

import namespaces
from faulty_world import Account, FaultyWorld, caught_up, events_of, main, setting, until

ROUNDS = setting("ROUNDS", 1)
FAULT_S = 5.0
PUBLISH, SERVE = 9940, 9941  # nobody else is in our namespace
NONE = namespaces.enter("net", "mount")


def loss(percent):
    match = f"numgen random mod 100 < {percent}"
    return lambda host: host.drop(there=match, here=match)


def dead_connections(host):
    """Nothing of the connections that are open now ever comes through again; new ones are good."""
    there = re.escape(host.there.strip("[]"))  # IPv4 too is in brackets where one socket takes both
    ports = set(re.findall(rf"{there}\]?:(\d+)", namespaces.run("ss", "-Htn")))
    if not ports:
        raise RuntimeError("there is no connection")
    there = "{ " + ", ".join(sorted(ports)) + " }"
    host.drop(there=f"tcp dport {there}", here=f"tcp sport {there}")


EVERYTHING = "meta l4proto tcp"
FAULTS = {
    "none": None,
    "1 % of packets lost": loss(1),
    "10 % of packets lost": loss(10),
    "30 % of packets lost": loss(30),
    "partition": lambda host: host.drop(there=EVERYTHING, here=EVERYTHING),
    "partition, towards the subscriber": lambda host: host.drop(there=EVERYTHING),
    "partition, towards the publisher": lambda host: host.drop(here=EVERYTHING),
    "unplugged": lambda host: host.unplug(True),
    "256 kbit/s": lambda host: host.slow("256kbit"),
    "dead connections": dead_connections,
}
IPV6 = "IPv6, "
OF_IPV6 = ["none", "10 % of packets lost", "partition", "dead connections"]


class Network(FaultyWorld):
    @classmethod
    def setUpClass(cls):
        namespaces.skip_without_hosts(NONE)
        super().setUpClass()
        cls.faults = dict(FAULTS)
        if namespaces.has_ipv6():
            cls.faults |= {IPV6 + name: FAULTS[name] for name in OF_IPV6}
        else:
            print("this machine has no IPv6: those rows are left out", flush=True)
        cls.any_address = "[::]" if IPV6 + "none" in cls.faults else "0.0.0.0"

    def setUp(self):
        super().setUp()
        self.relay(self.relay_config(
            publish=f"tcp://{self.any_address}:{PUBLISH}", serve=f"tcp://{self.any_address}:{SERVE}"
        ))
        self.hosts, self.tails = {}, {}
        for number, name in enumerate(self.faults, 1):
            host = self.hosts[name] = namespaces.Host(number, name.startswith(IPV6))
            self.addCleanup(host.close)
            self.tails[name] = self.tail_at(
                f"tcp://{host.here}:{PUBLISH}", f"tcp://{host.here}:{SERVE}", f"tail{number}",
                command=host.inside,
            )

    def test_all_at_once(self):
        accounts = {name: Account(f"network: {name}") for name in self.faults}
        load = self.submitter(rate=400)
        until("all hear it", lambda: all(caught_up(t, 1) for t in self.tails.values()))
        behind, dropped = {}, {}
        for _ in range(ROUNDS):
            self.load(load)
            began = time.time()
            for name in self.chance.sample(list(self.faults), len(self.faults)):
                if self.faults[name]:
                    self.faults[name](self.hosts[name])
                accounts[name].runs += 1
            time.sleep(FAULT_S * self.chance.uniform(0.8, 1.6))  # how long it lasts: heartbeats give up at 6 s
            healed, newest = {}, {}
            for name in self.chance.sample(list(self.faults), len(self.faults)):
                # What is dead stays so: there it is to be found out.
                newest[name], healed[name] = load.newest(), time.time()
                had = self.tails[name].events[-1]["seq"]
                behind[name] = max(behind.get(name, 0), newest[name] - had)
                dropped[name] = dropped.get(name, 0) + self.hosts[name].dropped()
                if self.faults[name] == dead_connections:
                    healed[name] = began
                else:
                    self.hosts[name].heal()
            for name, tail in self.tails.items():
                at = until(f"{name}: it has caught up", lambda t=tail, n=newest[name]: caught_up(t, n))
                accounts[name].recovered(at - healed[name])
            for host in self.hosts.values():
                host.heal()
        acknowledged = self.finish(load, self.tails)
        for name, account in accounts.items():
            account.hold([(events_of(self.tails[name]), self.tails[name].gaps)], acknowledged)
        for name, account in accounts.items():
            account.more = f"behind_at_most={behind[name]} packets_dropped={dropped[name]}"
            print(account.line(), flush=True)
        self.assertEqual([c for a in accounts.values() for c in a.complaints][:10], [])
        self.assertGreater(dropped["30 % of packets lost"], 10)
        self.assertLess(accounts["none"].worst, 5, "others' faults are felt by whom nothing befalls")


if __name__ == "__main__":
    main(sys.argv)
