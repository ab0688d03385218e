"""An origin and a mirror as real daemons, trees for them, and rsync as the judge of what came of it."""
import os
import pathlib
import random
import subprocess

from world import World, until

ORIGIN = """
[content]
listen = "127.0.0.1:0"
[[tree]]
name = "t"
path = "{dir}/a/tree"
role = "origin"
publish = "manual"
"""
MIRROR = """
[discovery]
static = [{{ publish = "ipc://{dir}/origin.publish", serve = "ipc://{dir}/origin.serve" }}]
[[tree]]
name = "t"
path = "{dir}/m/tree"
role = "mirror"
max_delete = 1000000
"""


class RandomTree:
    """About `entries` entries below `path`; change() does to them what people do. Seeded."""

    def __init__(self, path, entries, seed):
        self.path, self.random = pathlib.Path(path), random.Random(seed)
        self.files, self.dirs, self.count = [], [self.path], 0
        self.path.mkdir(parents=True)
        for _ in range(entries // 20):
            self.add_directory()
        while len(self.files) + len(self.dirs) < entries:
            self.add_file()

    def name(self, where):
        self.count += 1
        return where / f"{self.random.choice('abcdefgh')}{self.count}"

    def add_directory(self):
        made = self.name(self.random.choice(self.dirs))
        made.mkdir()
        self.dirs.append(made)

    def content(self):
        size = self.random.choice([0, 20, 300, 3000, 3000, 20000])
        return self.random.randbytes(size // 4) * 4

    def add_file(self):
        made = self.name(self.random.choice(self.dirs))
        kind = self.random.random()
        if kind < 0.05:
            made.symlink_to(f"../{self.count}")
        elif kind < 0.10 and self.files:
            other = self.random.choice(self.files)
            os.link(other, made, follow_symlinks=False)
        else:
            made.write_bytes(self.content())
            made.chmod(self.random.choice([0o644, 0o600, 0o755, 0o444]))
        self.files.append(made)

    def rewrite(self, file):
        if file.is_symlink():
            return
        beside = file.with_name(file.name + ".new")
        old = file.read_bytes()
        beside.write_bytes(old[: len(old) // 2] + self.content())
        beside.replace(file)

    def change(self, share=0.1):
        for _ in range(int(len(self.files) * share)):
            file = self.random.choice(self.files)
            what = self.random.random()
            if what < 0.4:
                self.rewrite(file)
            elif what < 0.55:
                self.add_file()
            elif what < 0.7:
                file.unlink()
                self.files.remove(file)
            elif what < 0.8:
                moved = self.name(self.random.choice(self.dirs))
                file.rename(moved)
                self.files[self.files.index(file)] = moved
            elif what < 0.95 and not file.is_symlink():
                file.chmod(self.random.choice([0o644, 0o640, 0o755]))
                os.utime(file, ns=(1, self.random.randrange(-(10**17), 10**19)))
            elif what > 0.99:
                self.add_directory()


class TwoTrees:
    """Two unpacked trees, each made of the other in turn by rsync, as an operator would."""

    def __init__(self, path, first, second):
        self.path, self.trees = pathlib.Path(path), [first, second]
        self.path.parent.mkdir(exist_ok=True)
        subprocess.run(["cp", "-a", first, path], check=True)

    def change(self):
        self.trees.reverse()
        subprocess.run(["rsync", "-a", "--delete", f"{self.trees[0]}/", f"{self.path}/"], check=True)


class Mirroring(World):
    """Daemons `origin` and `mirror` of tree t, at <dir>/a/tree and <dir>/m/tree."""

    def setUp(self):
        super().setUp()
        (self.dir / "m").mkdir()
        self.origin_config = self.config("origin", ORIGIN.format(dir=self.dir))
        self.mirror_config = self.config("mirror", MIRROR.format(dir=self.dir))
        self.tree, self.copy = self.dir / "a/tree", self.dir / "m/tree"
        self.running = {}
        self.daemon_of = {}  # another program than bus-mirrord, by name
        self.rsync_options = []

    def up(self, name):
        if name not in self.running or self.running[name].poll() is not None:
            self.running[name] = self.start(
                self.daemon_of.get(name, "bus-mirrord"), self.dir / f"{name}.toml", name
            )
        return self.running[name]

    def bus_mirror(self, name, *words, timeout=120):
        """What the tool says, or nothing if it fails."""
        done = subprocess.run(
            [self.programs["bus-mirror"], "--config", self.dir / f"{name}.toml", "--json",
             "--timeout", str(timeout), *words],
            capture_output=True, text=True, check=False,
        )
        self.last_said = done.stderr
        return done.stdout.strip() if done.returncode == 0 else None

    def publish(self):
        """The version, for certain: a daemon that is still starting is asked again."""
        return int(until(lambda: f"a version is published: {self.last_said}",
                         lambda: self.bus_mirror("origin", "publish", "t")))

    def reaches(self, version):
        until(f"the mirror reaches {version}",
              lambda: self.bus_mirror("mirror", "wait", "t", "--version", str(version)), 300)

    def version(self, name):
        """The committed one, or nothing if the daemon or its tree is still starting."""
        trees = self.control(name, "status")
        return trees[0]["version"] if trees else None

    def assertSame(self, when):
        for one, other in [(self.tree, self.copy), (self.copy, self.tree)]:
            said = subprocess.run(
                ["rsync", "-naHAXc", "-@-1", "--delete", "--itemize-changes",
                 *self.rsync_options, f"{one}/", f"{other}/"],
                capture_output=True, text=True, check=True,
            ).stdout
            self.assertEqual(said, "", f"rsync finds differences {when}")
