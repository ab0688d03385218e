#!/usr/bin/python3
"""What networks do, between mirrors and an origin that publishes: delay, stalls, 1 byte a second, half-open
connections, RST, connections cut, flipped bits and missing bytes; on the content, serve or publish port. Every fault
at once, each on a mirror of its own, through a proxy of its own (chaos_proxy.py). In the end all are equal.

MIRRORBUS_ROUNDS: how often every fault (1). MIRRORBUS_SEED: of the tree, the order of things, and of the proxies.
"""
import sys
import time

from chaos_proxy import DOWN, ChaosProxy, network_faults
from faulty_trees import ManyMirrors, TreeAccount, main, setting, until

ROUNDS = setting("ROUNDS", 1)
FAULT_S = 4.0
EACH_S = 0.3
LARGE = 24_000_000  # as large as what is fetched by itself
FAULTS, REPEATED = network_faults("the origin")


class TreeNetwork(ManyMirrors):
    def setUp(self):
        super().setUp()
        self.begin()

    def proxy(self, port):
        return ChaosProxy.started(self, self.direct[port], self.chance.random())

    def change(self):
        self.content.change(0.2)
        (self.tree / f"large{self.chance.randrange(3)}").write_bytes(self.chance.randbytes(400_000))

    def break_all(self, proxies):
        """Every fault for its time, with versions published meanwhile; then none."""
        names = self.chance.sample(sorted(proxies), len(proxies))
        for name in names:
            if name in FAULTS:
                FAULTS[name](proxies[name])
        over = time.monotonic() + FAULT_S * self.chance.uniform(0.8, 1.5)
        before = {name: proxies[name].done for name in names}
        versions, publish_at = 0, 0

        def missed():
            return [n for n in REPEATED if n != "RST" and proxies[n].done == before[n]]

        # Mirrors take turns; what is done to bytes takes bytes.
        while time.monotonic() < over or missed() and time.monotonic() < over + 15:
            if time.monotonic() > over:
                for name in FAULTS:
                    proxies[name].heal()
            for name in names:
                if name in REPEATED:
                    REPEATED[name](proxies[name])
            if time.monotonic() >= publish_at:
                self.change()
                self.newest = self.publish()
                versions += 1
                publish_at = time.monotonic() + FAULT_S / 3
            time.sleep(EACH_S * self.chance.uniform(0.5, 1.5))  # the next one
        self.assertLessEqual(len(missed()), 1, "what is done to bytes was hardly done to any")
        for name in names:
            proxies[name].heal()
        return versions

    def recover(self, accounts, mirrors, since, versions):
        """Each as soon as it is there."""
        missing, deadline = dict(mirrors), time.monotonic() + 150
        for fault in mirrors:
            accounts[fault].runs += 1
            accounts[fault].versions += versions
        while missing and time.monotonic() < deadline:
            for fault, name in list(missing.items()):
                said = self.status(name)
                if said and said["version"] >= self.newest and said["state"] in ("current", "stale"):
                    accounts[fault].recovered(time.monotonic() - since)
                    del missing[fault]
            time.sleep(0.02)
        for fault, name in mirrors.items():
            if fault in missing:
                accounts[fault].lost += 1
                accounts[fault].complaints.append(f"{fault}: {self.status(name)}")
            else:
                self.compare_with(accounts[fault], name, fault)

    def every_fault(self, port):
        accounts = {fault: TreeAccount(f"{port} port: {fault}") for fault in (*FAULTS, *REPEATED)}
        proxies = {fault: self.proxy(port) for fault in accounts}
        mirrors = {fault: f"m{i}" for i, fault in enumerate(accounts)}
        for fault, name in mirrors.items():
            self.mirror(name, **{port: proxies[fault].endpoint})
        for name in mirrors.values():
            self.whole(name, self.newest)
        for _ in range(ROUNDS):
            versions = self.break_all(proxies)
            self.recover(accounts, mirrors, time.monotonic(), versions)
        for fault in REPEATED:
            happened = proxies[fault].accepted if fault == "RST" else proxies[fault].done
            accounts[fault].more = f"times={happened}"
        for account in accounts.values():
            print(account.line(), flush=True)
        self.assertEqual([c for a in accounts.values() for c in a.complaints], [])
        return {fault: name for fault, name in mirrors.items() if fault == "RST" or proxies[fault].done}

    def test_content_port(self):
        harmed = self.every_fault("content")
        if "flipped bit" in harmed:  # else its turn came when all was over: one may be missed
            said = (self.dir / f"{harmed['flipped bit']}.log").read_text()
            self.assertRegex(said, "bad_|malformed|truncated|too_large|unavailable", "no bit was noticed")

    def test_serve_port(self):
        self.every_fault("serve")

    def test_publish_port(self):
        self.every_fault("publish")

    def test_slow_source_is_left_for_the_next(self):
        """1 byte/s that never ends, and half-open for ever: each has another source beside it."""
        faults = {"1 byte/s for ever, another source": dict(rate=1),
                  "half-open for ever, another source": dict(open=False)}
        accounts = {fault: TreeAccount(f"content port: {fault}") for fault in faults}
        proxies = {fault: self.proxy("content") for fault in faults}
        mirrors = {fault: f"m{i}" for i, fault in enumerate(faults)}
        for fault, name in mirrors.items():
            self.mirror(name, [proxies[fault].endpoint, self.direct["content"]])
        for name in mirrors.values():
            self.whole(name, self.newest)
        for fault, settings in faults.items():
            proxies[fault].set(DOWN, **settings)
        (self.tree / "large").write_bytes(self.chance.randbytes(LARGE))  # in no event
        self.newest = self.publish()
        self.recover(accounts, mirrors, time.monotonic(), 1)
        for account in accounts.values():
            self.assertLess(account.worst, 45, "the slow one held it up")
            account.close(self)

    def test_what_came_is_not_fetched_again(self):
        """Connections are reset again and again while a large file comes."""
        account = TreeAccount("content port: RST in a large file")
        proxy = self.proxy("content")
        self.mirror("m0", more='bandwidth = "6MB"', content=proxy.endpoint)
        self.whole("m0", self.newest)
        before = self.status("m0")["bytes_received"]
        (self.tree / "large").write_bytes(self.chance.randbytes(LARGE))
        self.newest = self.publish()
        published, cuts = time.monotonic(), 0
        step = LARGE // 5
        for part in range(1, 5):
            until(f"part {part} is there",
                  lambda p=part: self.status("m0").get("bytes_received", 0) - before > step * p, 60, 0.01)
            proxy.reset()
            cuts += 1
        self.recover({"large": account}, {"large": "m0"}, published, 1)
        received = self.status("m0")["bytes_received"] - before
        account.more = f"resets={cuts} received={received / LARGE:.2f} of its size"
        self.assertLess(received, LARGE * 1.2)
        account.close(self)


if __name__ == "__main__":
    main(sys.argv)
