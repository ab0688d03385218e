#!/usr/bin/python3
"""bus-check looks at real daemons behind a real DNS server, and names each thing that is not right."""
import glob
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile

from knot import KnotWorld
from world import ENVIRONMENT, end_agent, free_ports, has_address_sanitizer, main, make_key, until

class Check(KnotWorld):
    def bus(self, *names, dns=True):
        """Relays of these names, found through DNS."""
        ports = free_ports(2 * len(names))
        self.ports = dict(zip(names, zip(ports[::2], ports[1::2])))
        self.configs = {
            name: self.relay_config(
                name, publish=f"tcp://127.0.0.1:{publish}", serve=f"tcp://127.0.0.1:{serve}"
            )
            for name, (publish, serve) in self.ports.items()
        }
        self.processes = {name: self.relay(config, name) for name, config in self.configs.items()}
        if dns:
            self.zone(*names)
            _, self.resolver = self.start_dns()
            self.listen = self.listen_config(resolver=self.resolver)

    def check(self, *arguments, timeout=8, environment=None):
        """What it says: {(check, subject): (result, text)}; and its exit code."""
        done = subprocess.run(
            [self.programs["bus-check"], "--json", "--timeout", str(timeout), *arguments],
            capture_output=True, text=True, env=environment or ENVIRONMENT, check=False, timeout=60,
        )
        self.assertEqual(done.stderr, "")
        found = {}
        for line in done.stdout.splitlines():
            said = json.loads(line)
            key = said["check"], said["subject"].partition("@")[0]
            self.assertNotIn(key, found)
            found[key] = said["result"], said["text"]
        self.assertEqual(done.returncode, int(any(result == "wrong" for result, _ in found.values())), found)
        return found

    def serve(self, name):
        return "serve", f"tcp://127.0.0.1:{self.ports[name][1]}"

    def assertFound(self, found, key, result, pattern="."):
        self.assertIn(key, found, found)
        self.assertEqual(found[key][0], result, found[key])
        self.assertRegex(found[key][1], pattern)

    def test_all_is_well_then_one_thing_after_the_other_is_not(self):
        self.bus("one", "two")
        self.publish(self.configs["one"], 10)
        found = self.check("--config", self.listen)
        self.assertEqual({result for result, _ in found.values()}, {"ok"}, found)
        self.assertEqual(len(found), 2 + 2 * len(("publish", "serve", "keys", "clock", "sequences")))
        self.assertFound(found, ("sequences", "one"), "ok", r"holds 1 to 11, the head says 11; no gaps$")
        plain = subprocess.run(
            [self.programs["bus-check"], "--config", self.listen], capture_output=True, text=True,
            env=ENVIRONMENT, check=True,
        ).stdout.splitlines()
        self.assertEqual([line.split()[0] for line in plain], ["ok"] * len(found))

        # A row that is gone from the middle of the journal.
        journal = sqlite3.connect(self.dir / "one" / "journal.sqlite", timeout=20)
        self.addCleanup(journal.close)
        for _ in range(2):
            self.publish(self.configs["one"], 1)
        first, last = journal.execute(
            "SELECT first_seq, last_seq FROM batch ORDER BY first_seq DESC LIMIT 1 OFFSET 1").fetchone()
        journal.execute("DELETE FROM batch WHERE first_seq = ?", (first,))
        journal.commit()
        found = self.check("--config", self.listen)
        self.assertFound(found, ("sequences", "one"), "wrong", f"{first} to {last} are missing")
        self.assertFound(found, ("sequences", "two"), "ok")

        # A second publisher that is not there: its records are, still.
        self.end(self.processes["two"])
        found = self.check("--config", self.listen, timeout=4)
        endpoint = f"tcp://127.0.0.1:{self.ports['two'][0]}"
        self.assertFound(found, ("publish", endpoint), "wrong", "no connection")
        self.assertFound(found, self.serve("two"), "wrong", "no answer")
        self.assertFound(found, self.serve("one"), "ok")
        self.assertNotIn(("keys", "two"), found)

    def test_a_serve_port_that_is_dead_while_the_publisher_lives(self):
        self.bus("one")
        (dead,) = free_ports(1)
        self.ports["one"] = self.ports["one"][0], dead
        self.zone("one")
        self.reload("one")
        found = self.check("--config", self.listen, timeout=4)
        self.assertFound(found, self.serve("one"), "wrong", "no answer")
        # Its credential says where it can be asked all the same.
        self.assertFound(found, ("sequences", "one"), "ok")
        self.assertFound(found, ("publish", f"tcp://127.0.0.1:{self.ports['one'][0]}"), "ok", "one@test")

    def test_what_does_not_answer_in_time(self):
        """Held by SIGSTOP everything connects, by the kernel's word, and says nothing."""
        self.bus("one", dns=False)
        publish, serve = self.ports["one"]
        self.processes["one"].send_signal(signal.SIGSTOP)
        path = self.listen_config()
        path.write_text(path.read_text().replace(
            "static = []",
            f'static = [{{ publish = "tcp://127.0.0.1:{publish}", serve = "tcp://127.0.0.1:{serve}" }}]'))
        found = self.check("--config", path, timeout=1)
        self.assertFound(found, ("publish", f"tcp://127.0.0.1:{publish}"), "wrong", "no connection")
        self.assertFound(found, self.serve("one"), "wrong", "no answer")

    def test_dns_that_has_no_records_or_does_not_answer(self):
        self.bus("one")
        self.zone()
        self.reload()
        found = self.check("--config", self.listen)
        self.assertFound(found, ("dns", "_mirrorbus._tcp.example.org"), "wrong", "no SRV records")
        self.assertFound(found, ("dns", "_mirrorbus-serve._tcp.example.org"), "warning", "no SRV records")
        records = (self.dir / "zone").read_text() + "_mirrorbus._tcp SRV 0 1 9940 nowhere\n"
        (self.dir / "zone").write_text(records.replace("admin 2", "admin 3"))
        subprocess.run(["knotc", "-s", self.dir / "dns" / "knot.sock", "zone-reload", "example.org"],
                       capture_output=True, env=ENVIRONMENT, check=True)
        found = until("the name without an address is seen", lambda: (
            f := self.check("--config", self.listen)) and "address" in f[
                "dns", "_mirrorbus._tcp.example.org"][1] and f)
        self.assertFound(found, ("dns", "_mirrorbus._tcp.example.org"), "wrong", "no address for nowhere")
        (nobody,) = free_ports(1)
        found = self.check("--config", self.listen_config(resolver=nobody), timeout=3)
        self.assertFound(found, ("dns", "_mirrorbus._tcp.example.org"), "wrong", "DNS does not answer")

    def test_keys_that_are_not_trusted_known_or_asked_for(self):
        self.bus("one")
        other = tempfile.mkdtemp(prefix="mirrorbus-world-", dir="/tmp")
        self.addCleanup(shutil.rmtree, other, ignore_errors=True)
        self.addCleanup(end_agent, other)
        stranger = make_key(other, "stranger@example.org")
        good = self.listen.read_text()
        wrongs = {
            "policy_denied": good.replace(f'keys = ["{self.key}"]', f'keys = ["{stranger}"]'),
            "unknown_signer": good.replace(f'home = "{self.home}"', f'home = "{other}"'),
        }
        for reason, text in wrongs.items():
            self.listen.write_text(text)
            found = self.check("--config", self.listen)
            self.assertFound(
                found, ("keys", "one"), "wrong", rf"{self.key.lower()} is not trusted \({reason}\)")
            # Who is not believed is not asked for his history.
            self.assertNotIn(("sequences", "one"), found)
            self.assertFound(found, ("clock", "one"), "ok")
        endpoint = f"tcp://127.0.0.1:{self.ports['one'][0]}"
        found = self.check("--endpoint", endpoint)
        self.assertFound(found, ("keys", "one"), "warning", "not checked")
        self.assertFound(found, ("sequences", "one"), "ok")
        self.assertFound(self.check("--endpoint", endpoint, "--keyring", self.home), ("keys", "one"), "ok")

    def test_what_has_ended_and_a_clock_that_is_wrong(self):
        if has_address_sanitizer(self.programs["bus-check"]):
            self.skipTest("AddressSanitizer and libfaketime do not go together")
        self.bus("one", dns=False)
        endpoint = f"tcp://127.0.0.1:{self.ports['one'][0]}"

        def later(by):
            (library,) = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
            return self.check("--endpoint", endpoint, "--keyring", self.home, environment={
                **ENVIRONMENT, "LD_PRELOAD": library, "FAKETIME": by, "FAKETIME_DONT_FAKE_MONOTONIC": "1"})

        found = later("+60s")
        self.assertFound(found, ("clock", "one"), "warning", r"^6\d\.\d s behind ours")
        self.assertFound(found, ("keys", "one"), "ok")
        self.assertFound(later("+20h"), ("keys", "one"), "warning", "was not renewed")
        found = later("+2d")
        self.assertFound(found, ("clock", "one"), "wrong", "behind ours")
        self.assertFound(found, ("keys", "one"), "wrong", "the credential of .* ended at .* was not renewed")
        self.assertFound(later("-1d"), ("keys", "one"), "wrong", r"\(credential_future\)")
        self.assertFound(later("+360d"), ("clock", "one"), "wrong")
        self.assertFound(later("+400d"), ("keys", "one"), "wrong", f"{self.key.lower()} ended at")

    def test_wrong_usage(self):
        for arguments in ([], ["--endpoint", "not an endpoint"],
                          ["--domain", "example.org", "--timeout", "0"], ["--no-such-option"]):
            done = subprocess.run([self.programs["bus-check"], *arguments], capture_output=True, text=True,
                                  env=ENVIRONMENT, check=False)
            self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
            self.assertIn("bus-check: ", done.stderr)

if __name__ == "__main__":
    main(sys.argv)
