#!/usr/bin/python3
"""A tree that changes all the time, for long: the memory of origin and mirror stays what it was, the mirror does
not fall behind, and at the end both are the same.

MIRRORBUS_ENTRIES (20,000), MIRRORBUS_SECONDS (25), MIRRORBUS_CHANGES: entries changed in each burst (300),
MIRRORBUS_SOAK_DIR: where the trees are (/tmp). By hand: ENTRIES=1000000 SECONDS=1200.
"""
import os
import pathlib
import shutil
import statistics
import sys
import tempfile
import time

from faulty_trees import (
    SEED, FaultyTrees, TreeAccount, has_address_sanitizer, main, resident_kib, setting, until,
)

ENTRIES, SECONDS, CHANGES = setting("ENTRIES", 20_000), setting("SECONDS", 25), setting("CHANGES", 300)
WARM_UP = 0.2  # of the time: what is kept for later has been made then
GROWTH = 1.1
LAG_S = setting("LAG", 30)
A_DIRECTORY = 100  # files in one


class ManyFiles:
    """Known by number, so that a million of them cost no memory to speak of."""

    def __init__(self, path, entries, chance):
        self.path, self.chance, self.next = path, chance, 0
        self.directories = max(1, entries // A_DIRECTORY)
        for i in range(self.directories):
            self.directory(i).mkdir(parents=True)
        self.alive = [self.add() for _ in range(entries - self.directories)]

    def directory(self, number):
        return self.path / f"{number // 256:x}" / f"{number % 256:x}"

    def file(self, number):
        return self.directory(number % self.directories) / f"f{number}"

    def content(self):
        return b"%d " % self.chance.randrange(2**40) * self.chance.choice((1, 5, 30, 100))

    def add(self):
        self.next += 1
        self.file(self.next).write_bytes(self.content())
        return self.next

    def change(self, count):
        for _ in range(count):
            at = self.chance.randrange(len(self.alive))
            file, what = self.file(self.alive[at]), self.chance.random()
            if what < 0.5:
                beside = file.with_name(file.name + ".new")
                beside.write_bytes(self.content())
                beside.replace(file)
            elif what < 0.7:
                file.unlink()
                self.alive[at] = self.add()
            elif what < 0.85:
                self.next += 1
                file.rename(self.file(self.next))
                self.alive[at] = self.next
            else:
                file.chmod(self.chance.choice((0o644, 0o640, 0o755)))


class Soak(FaultyTrees):
    def setUp(self):
        super().setUp()
        trees = pathlib.Path(tempfile.mkdtemp(prefix="mirrorbus-soak-",
                                              dir=os.environ.get("MIRRORBUS_SOAK_DIR", "/tmp")))
        self.addCleanup(shutil.rmtree, trees, ignore_errors=True)
        for name, side in (("origin", "a"), ("mirror", "m")):
            (trees / side).mkdir()
            self.edit_config(name, f'"{self.dir}/{side}/tree"', f'"{trees}/{side}/tree"')
        self.edit_config("origin", 'publish = "manual"', 'settle = "500ms"\n[tree.retain]\nversions = 20')
        self.tree, self.copy = trees / "a/tree", trees / "m/tree"

    def test_steady_changes(self):
        began = time.monotonic()
        content = ManyFiles(self.tree, ENTRIES, self.chance)
        self.up("origin")
        self.up("mirror")
        first = until("the first version", lambda: self.version("origin"), 1800)
        until("the mirror has it", lambda: (self.version("mirror") or 0) >= first, 1800)
        print(f"{ENTRIES} entries made and mirrored in {time.monotonic() - began:.0f} s", flush=True)
        account = TreeAccount("soak")
        lags, memory = [], {"origin": [], "mirror": []}
        start = time.monotonic()
        while time.monotonic() < start + SECONDS:
            before = self.version("origin")
            content.change(CHANGES)
            changed = time.monotonic()
            newest = until("a version of it", lambda b=before: (v := self.version("origin")) > b and v, 120)
            until("the mirror has it", lambda v=newest: self.version("mirror") >= v, 120)
            lags.append(time.monotonic() - changed)
            for name, samples in memory.items():
                samples.append(resident_kib(self.running[name]))
        version = self.publish()
        ended = time.monotonic()
        self.until_at(account, version, ended)
        account.runs, account.versions = 1, version
        self.compare(account, f"after {len(lags)} bursts, seed {SEED}")
        lags.sort()
        said = [f"entries={ENTRIES}", f"seconds={SECONDS}", f"bursts={len(lags)} of {CHANGES}",
                f"lag p50={statistics.median(lags):.1f} s max={lags[-1]:.1f} s"]
        for name, samples in memory.items():
            samples = samples[int(len(samples) * WARM_UP):]
            quarter = max(1, len(samples) // 4)
            early, late = statistics.median(samples[:quarter]), statistics.median(samples[-quarter:])
            said.append(f"{name} {early / 1024:.1f} MiB, then {late / 1024:.1f} MiB")
            sanitized = has_address_sanitizer(self.programs["bus-mirrord"])  # keeps what was freed
            if late > early * GROWTH and not sanitized:
                account.complaints.append(f"{name} grew from {early} to {late} KiB: {samples}")
        account.more = ", ".join(said)
        if lags[-1] > LAG_S:
            account.complaints.append(f"the mirror was {lags[-1]:.1f} s behind")
        account.close(self)


if __name__ == "__main__":
    main(sys.argv)
