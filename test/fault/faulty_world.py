"""A World with a relay that is under load, and subscribers at endpoints that a test chooses."""
import pathlib
import random
import os
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
from world import ENVIRONMENT, Tail, World, has_address_sanitizer, main, until  # noqa: E402,F401
from load import Account, Submitter, caught_up, events_of  # noqa: E402,F401

SEED = int(os.environ.get("MIRRORBUS_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)


def setting(name, default):
    return int(os.environ.get(f"MIRRORBUS_{name}", default))


class FaultyWorld(World):
    def setUp(self):
        super().setUp()
        print(f"seed {SEED}", flush=True)
        self.chance = random.Random(f"{SEED} {self.id()}")

    def listen_at(self, publish, serve, name):
        """A tail's configuration with one publisher, given by its endpoints."""
        path = self.dir / f"{name}.toml"
        path.write_text(
            '[bus]\nprefix = "org.example"\nenvironment = "dev"\n[discovery]\nstatic = [{ '
            f'publish = "{publish}", serve = "{serve}" }}]\n[trust]\nhome = "{self.home}"\n'
            f'[[trust.allow]]\ntopics = ["org.example.dev.**"]\nkeys = ["{self.key}"]\n'
        )
        return path

    def tail_at(self, publish, serve, name, *arguments, command=()):
        """From the start, unless the arguments say otherwise. `command`: what runs it, e.g. in another
        namespace."""
        since = () if "--since" in arguments else ("--since", "start")
        config = self.listen_at(publish, serve, name)
        with open(self.dir / f"{name}.log", "a", encoding="utf-8") as out:
            tail = Tail([*command, self.programs["bus-tail"], "--config", config, "--json", "--verbose",
                         *since, *arguments], out)
        self.addCleanup(self.end_tail, tail)
        return tail

    def socket(self, what, name="relayd"):
        """The relay's ipc endpoint: publish, serve or submit."""
        return f"ipc://{self.dir}/{name}.{what}"

    def submitter(self, endpoint=None, **settings):
        return Submitter.started(
            self, endpoint or self.socket("submit"), self.chance.random(), **settings
        )

    def load(self, submitter, more=100, timeout=60):
        """Waits until `more` events have been acknowledged from now on."""
        wanted = len(submitter.acknowledged) + more
        until("acknowledgements come", lambda: len(submitter.acknowledged) >= wanted, timeout)

    def finish(self, submitter, tails, timeout=90):
        """No more traffic: what is under way is acknowledged and comes to every tail. {n: seq}"""
        submitter.pausing.set()
        until(lambda: f"{len(submitter.pending)} are not acknowledged", submitter.idle, timeout)
        self.assertEqual(submitter.wrong, [])
        newest = submitter.newest()
        for name, tail in tails.items():
            until(lambda n=name, t=tail: f"{n} is at {t.events[-1]['seq'] if t.events else None} of "
                  f"{newest}, log:\n{(self.dir / f'{n}.log').read_text()[-2000:]}",
                  lambda t=tail: caught_up(t, newest), timeout)
        return submitter.known()
