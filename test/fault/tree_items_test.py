#!/usr/bin/python3
"""What one tree must stand: an object that nobody can deliver, versions that come faster than they can be brought in,
readers that follow an index while everything is replaced.

MIRRORBUS_ROUNDS (1), MIRRORBUS_VERSIONS: published under readers (100). MIRRORBUS_SEED.
"""
import hashlib
import http.server
import sys
import threading
import time
import urllib.error
import urllib.request

from faulty_trees import ManyMirrors, TreeAccount, main, setting, until
from hostile_tree import record

ROUNDS, VERSIONS = setting("ROUNDS", 1), setting("VERSIONS", 100)
AGAIN_S = 70  # a mirror looks for what it lacks once a minute


class Withholding(http.server.ThreadingHTTPServer):
    """Hands on what `onward` has, without packs and without the objects in `withheld`."""

    daemon_threads = True

    def __init__(self, onward):
        super().__init__(("127.0.0.1", 0), WithholdingHandler)
        self.onward, self.withheld, self.refused = onward, set(), 0
        threading.Thread(target=self.serve_forever, args=[0.05], daemon=True).start()

    @property
    def endpoint(self):
        return f"tcp://127.0.0.1:{self.server_port}"

    def end(self):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """Who asked may hang up."""


class WithholdingHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        folder, name = self.path.strip("/").split("/")
        if folder == "packs" or bytes.fromhex(name) in self.server.withheld:
            self.server.refused += folder != "packs"
            return self.say(404, b"")
        self.onward(None)

    def do_POST(self):
        asked = self.rfile.read(int(self.headers["Content-Length"]))
        hashes = [asked[at : at + 32] for at in range(0, len(asked), 32)]
        held = [each for each in hashes if each not in self.server.withheld]
        lacking = b"".join(record(each, None) for each in hashes if each in self.server.withheld)
        self.server.refused += len(hashes) - len(held)
        if not held:
            return self.say(200, lacking)
        self.onward(b"".join(held), lacking)

    def onward(self, body, more=b""):
        request = urllib.request.Request(self.server.onward + self.path, data=body)
        request.add_header("Content-Type", "application/octet-stream")
        if "Range" in self.headers:
            request.add_header("Range", self.headers["Range"])
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                self.say(answer.status, answer.read() + more)
        except urllib.error.HTTPError as error:
            self.say(error.code, b"")

    def say(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Poison(ManyMirrors):
    def test_object_that_nobody_delivers(self):
        account = TreeAccount("an object that nobody can deliver")
        front = Withholding(f"http://127.0.0.1:{self.content_port}")
        self.addCleanup(front.end)
        # The only place there is: one that is down might still have it.
        self.edit_config("origin", "http://127.0.0.1:1", front.endpoint.replace("tcp", "http"))
        self.begin()
        poison = self.tree / "poison"
        for turn in range(ROUNDS):
            poison.write_bytes(self.chance.randbytes(3000))
            front.withheld = {hashlib.sha256(poison.read_bytes()).digest()}
            self.newest = self.publish()
            name = f"m{turn}"
            self.mirror(name, [front.endpoint])
            tail = self.tail(self.listen_config(name), "--since", "start", log=f"tail{turn}")
            for _ in range(3):
                at = self.newest
                said = self.until_status(
                    f"incomplete at {at}",
                    lambda s, v=at: (s["version"], s["state"]) == (v, "incomplete"), name, 60)
                self.assertIn("1 entries are missing", said["last_error"])
                self.assertFalse((self.copies[name] / "poison").exists())
                self.rsync_options = ["--exclude=/poison"]
                self.compare_with(account, name, "but for the poison")
                self.rsync_options = []
                complete = until(
                    "the version is said to be incomplete",
                    lambda v=at: [e["body"] for e in tail.events if e["topic"].endswith("sync.t.complete")
                                  and e["body"]["to"] == v])
                self.assertIn("poison", str(complete[-1]["missing"]))
                self.content.change(0.2)
                self.newest = self.publish()
                account.versions += 1
            # The last of them, too; and then somebody has it.
            self.until_status("it goes on", lambda s: s["version"] == self.newest, name)
            self.assertGreater(front.refused, 3)
            front.withheld = set()
            freed = time.monotonic()
            if turn == 0:
                self.ask(f"{name}/state", "sync", tree="t")
            self.whole(name, self.newest, AGAIN_S)
            account.recovered(time.monotonic() - freed)
            self.compare_with(account, name, "with what was poison")
            self.assertEqual(self.status("origin")["version"], self.newest, "that took another version")
            account.runs += 1
            self.end_tail(tail)
        account.close(self)


class Bursts(ManyMirrors):
    def test_versions_during_a_sync(self):
        """The sync is held to a rate; what comes meanwhile is brought in together, and nothing is lost."""
        account = TreeAccount("versions during a sync")
        self.begin()
        self.mirror("m0", more='bandwidth = "1MB"')
        self.whole("m0", self.newest)
        brought_in = 0
        for _ in range(ROUNDS):
            before = self.metric("m0/state", "mirrorbus_tree_syncs_total")
            (self.tree / "large").write_bytes(self.chance.randbytes(3_000_000))
            first = self.publish()
            self.until_status("a sync runs", lambda s: s["state"] == "fetching", "m0")
            for _ in range(12):
                self.content.change(0.05)
                (self.tree / "counter").write_text(str(self.chance.random()))
                self.newest = self.publish()
            self.assertLess(self.status("m0")["version"], first, "the sync was over too early")
            published = time.monotonic()
            self.whole("m0", self.newest)
            account.recovered(time.monotonic() - published)
            self.compare_with(account, "m0", "after a burst")
            account.runs += 1
            account.versions += self.newest - first + 1
            brought_in += int(self.metric("m0/state", "mirrorbus_tree_syncs_total") - before)
        account.more = f"syncs={brought_in}"
        self.assertLessEqual(brought_in, 3 * ROUNDS, "they were not put together")
        account.close(self)


class Repository:
    """An index that names files by hash, as a package archive has it; version after version."""

    def __init__(self, path, chance, keep):
        self.path, self.chance, self.keep = path, chance, keep
        self.files, self.retired = [], []
        (path / "pool").mkdir(parents=True)
        for _ in range(12):
            self.add()
        self.write_index()

    def add(self):
        content = self.chance.randbytes(2000)
        name = f"pool/{hashlib.sha256(content).hexdigest()}"
        (self.path / name).write_bytes(content)
        self.files.append(name)

    def next(self):
        """Two files new, two no longer named; these go now, or, with `keep`, a version later."""
        for name in self.retired:
            (self.path / name).unlink()
        self.retired = [self.files.pop(0) for _ in range(2)]
        if not self.keep:
            for name in self.retired:
                (self.path / name).unlink()
            self.retired = []
        for _ in range(2):
            self.add()
        self.write_index()

    def write_index(self):
        beside = self.path / "index.new"
        beside.write_text("".join(f"{name}\n" for name in self.files) + "end\n")
        beside.replace(self.path / "index")


class Reader(threading.Thread):
    """Reads the index, then every file that it names, without end. `dangling`: a file that the index names, and goes
    on naming, is not there or is another one. `late`: it is not there, for the index is a newer one meanwhile."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.passes, self.late, self.dangling, self.torn = path, 0, 0, [], 0
        self.stopping = threading.Event()
        self.start()

    def run(self):
        while not self.stopping.is_set():
            index = (self.path / "index").read_text()
            self.torn += not index.endswith("end\n")
            for name in index.splitlines()[:-1]:
                if not self.good(name):
                    if (self.path / "index").read_text() == index:
                        self.dangling.append(name)
                    else:
                        self.late += 1
                    break
            self.passes += 1

    def good(self, name):
        try:
            content = (self.path / name).read_bytes()
        except FileNotFoundError:
            return False
        return hashlib.sha256(content).hexdigest() == name.partition("/")[2]

    def end(self):
        self.stopping.set()
        self.join(30)


class Readers(ManyMirrors):
    entries = 60

    def test_index_and_what_it_names(self):
        account = TreeAccount("readers of an index")
        self.fill()
        at_once = Repository(self.tree / "at-once", self.chance, keep=False)
        kept = Repository(self.tree / "kept", self.chance, keep=True)
        self.up("origin")
        self.newest = self.publish()
        self.mirror("m0", more='last = ["index"]')
        self.whole("m0", self.newest)
        readers = {each: Reader(self.copies["m0"] / each.path.name) for each in (at_once, kept)}
        for reader in readers.values():
            self.addCleanup(reader.end)
        for _ in range(VERSIONS):
            at_once.next()
            kept.next()
            self.newest = self.publish()
            self.whole("m0", self.newest)
            account.versions += 1
        for reader in readers.values():
            reader.end()
            self.assertGreater(reader.passes, VERSIONS)
            self.assertEqual((reader.dangling, reader.torn), ([], 0))
        self.assertEqual(readers[kept].late, 0, "a file went that the index before this one named")
        account.runs = sum(reader.passes for reader in readers.values())
        account.more = (f"dangling=0, of {readers[at_once].passes} passes {readers[at_once].late} read an old index "
                        f"and came too late; of {readers[kept].passes} none where files stay a version longer")
        self.compare_with(account, "m0", "after all versions")
        account.close(self)


if __name__ == "__main__":
    main(sys.argv)
