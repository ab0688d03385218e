#!/usr/bin/python3
"""Delay, stalls, 1 byte a second, half-open connections, RST, connections cut in a frame, flipped bits and missing
bytes on a relay's publish, serve and submit ports, by a proxy in between (chaos_proxy.py). Under acknowledged
traffic; every fault at once, each on a connection of its own.

MIRRORBUS_ROUNDS: how often every fault (1). MIRRORBUS_SEED: of the order of things, and of the proxies.
"""
import sys
import time

from chaos_proxy import ChaosProxy, network_faults
from faulty_world import Account, FaultyWorld, Submitter, caught_up, events_of, main, setting, until

ROUNDS = setting("ROUNDS", 1)
FAULT_S = 4.0
EACH_S = 0.25  # between two that are over at once


FAULTS, REPEATED = network_faults("the daemon", cut="cut in a frame")
# What a submission says is believed as TCP delivers it: there, nothing that changes bytes.
WHOLE = [*FAULTS, "RST", "cut in a frame"]


class ProxyFaults(FaultyWorld):
    def setUp(self):
        super().setUp()
        self.relay(self.relay_config())
        self.load_ = self.submitter(rate=300)

    def proxy(self, what):
        return ChaosProxy.started(self, self.socket(what), self.chance.random())

    def apply(self, proxies, beside=()):
        """Every fault for its time, then none. Meanwhile the connections of the proxies `beside` are reset
        again and again."""
        names = self.chance.sample(sorted(proxies), len(proxies))
        for name in names:
            if name in FAULTS:
                FAULTS[name](proxies[name])
        over = time.monotonic() + FAULT_S * self.chance.uniform(0.8, 2)  # heartbeats give up at 6 s
        while time.monotonic() < over:
            for name in names:
                if name in REPEATED:
                    REPEATED[name](proxies[name])
            for proxy in beside:
                proxy.reset()
            time.sleep(EACH_S * self.chance.uniform(0.5, 1.5))  # the next one
        for name in names:
            proxies[name].heal()
        return time.time()

    def recover(self, accounts, tails, newest, healed):
        for name, tail in tails.items():
            at = until(f"{name}: it has caught up", lambda t=tail: caught_up(t, newest), 90)
            accounts[name].recovered(at - healed)
            accounts[name].runs += 1

    def report(self, accounts):
        for account in accounts.values():
            print(account.line(), flush=True)
        self.assertEqual([c for a in accounts.values() for c in a.complaints][:10], [])

    def test_publish_port(self):
        """Subscribers are new in each round: who sends what does not verify is not heard for a time that
        doubles (source_cut), and that is not what is measured here."""
        names = [*FAULTS, *REPEATED]
        accounts = {name: Account(f"publish port: {name}") for name in names}
        proxies = {name: self.proxy("publish") for name in names}
        for turn in range(ROUNDS):
            first = self.load_.newest() + 1
            tails = {
                name: self.tail_at(proxies[name].endpoint, self.socket("serve"), f"tail{i}-{turn}",
                                   "--since", f"relayd@test.example.org:{first}")
                for i, name in enumerate(names)
            }
            until("all hear it", lambda: all(caught_up(t, first) for t in tails.values()))
            healed, newest = self.apply(proxies), self.load_.newest()
            self.recover(accounts, tails, newest, healed)
            known = {n: seq for n, seq in self.load_.known().items() if seq <= newest}
            for name, tail in tails.items():
                self.end_tail(tail)
                accounts[name].hold([(events_of(tail), tail.gaps)], known, first)
        for name in REPEATED:
            happened = proxies[name].accepted - ROUNDS if name == "RST" else proxies[name].done
            self.assertGreaterEqual(happened, 2 * ROUNDS, name)
            accounts[name].more = f"times={happened}"
        self.report(accounts)

    def test_serve_port(self):
        """On those who come late, and miss much of what is said live: they have everything to ask for."""
        names = [*FAULTS, *REPEATED]
        accounts = {name: Account(f"serve port: {name}") for name in names}
        proxies, replayed = {name: self.proxy("serve") for name in names}, {}
        live = {name: self.proxy("publish") for name in names}
        for turn in range(ROUNDS):
            self.load(self.load_, 500)
            for name in FAULTS:
                FAULTS[name](proxies[name])
            tails = {
                name: self.tail_at(live[name].endpoint, proxies[name].endpoint, f"tail{i}-{turn}")
                for i, name in enumerate(names)
            }
            healed, newest = self.apply(proxies, live.values()), self.load_.newest()
            self.recover(accounts, tails, newest, healed)
            known = {n: seq for n, seq in self.load_.known().items() if seq <= newest}
            for i, (name, tail) in enumerate(tails.items()):
                self.end_tail(tail)
                accounts[name].hold([(events_of(tail), tail.gaps)], known)
                asked = self.said(f"tail{i}-{turn}", r"(\d+) replayed\n")
                replayed[name] = replayed.get(name, 0) + int(asked[1])
            self.assertGreater(min(replayed.values()), 100)
        for name, account in accounts.items():
            account.more = f"replayed={replayed[name]}"
        self.report(accounts)

    def test_submit_port(self):
        accounts = {name: Account(f"submit port: {name}") for name in WHOLE}
        proxies = {name: self.proxy("submit") for name in WHOLE}
        senders = {
            name: Submitter.started(self, proxy.endpoint, self.chance.random(), rate=60)
            for name, proxy in proxies.items()
        }
        tail = self.tail_at(self.socket("publish"), self.socket("serve"), "tail")
        for _ in range(ROUNDS):
            for sender in senders.values():
                self.load(sender, 20)
            self.apply(proxies)
            healed, sent = time.monotonic(), {name: s.sent for name, s in senders.items()}
            for name, sender in senders.items():
                until(f"{name}: all that was sent is acknowledged",
                      lambda s=sender, n=sent[name]: all(i in s.acknowledged for i in range(1, n + 1)), 60)
                accounts[name].recovered(max(sender.at[i] for i in range(1, sent[name] + 1)) - healed)
                accounts[name].runs += 1
        for name, sender in senders.items():
            acknowledged = self.finish(sender, {"tail": tail})
            own = {seq: n for n, seq in acknowledged.items()}
            accounts[name].hold(
                [([e for e in events_of(tail) if own.get(e["seq"])], tail.gaps)], acknowledged
            )
        self.report(accounts)
        # Each event once, also those that were sent again and again.
        total = sum(len(s.acknowledged) for s in senders.values()) + len(self.finish(self.load_, {"tail": tail}))
        self.assertEqual(len(events_of(tail)), total, "more was published than was sent")


if __name__ == "__main__":
    main(sys.argv)
