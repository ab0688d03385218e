#!/usr/bin/python3
"""Mirrors that serve mirrors: one that cannot reach the origin; sources that fail or lie; who is sent
where."""
import hashlib
import http.server
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import serving
from mirroring import RandomTree
from world import World, free_ports, main, until

MIRROR = """
[discovery]
static = [{sources}]
[content]
listen = "127.0.0.1:{content}"
[[tree]]
name = "t"
path = "{dir}/{name}/tree"
role = "mirror"
max_delete = 1000000
{more}
"""
ORIGIN = """
[content]
listen = "127.0.0.1:{content}"
[[tree]]
name = "t"
path = "{dir}/a/tree"
role = "origin"
publish = "manual"
{more}
"""


class Sharing(World):
    def origin(self, bus="", content=0, more=""):
        (self.dir / "a").mkdir(exist_ok=True)
        return self.config("origin", ORIGIN.format(dir=self.dir, content=content, more=more), bus=bus)

    def mirror(self, name, of, content=0, more="", bus=""):
        """The configuration of a mirror that knows of nobody but the daemons `of`."""
        (self.dir / name).mkdir(exist_ok=True)
        listed = ", ".join(
            f'{{ publish = "ipc://{self.dir}/{o}.publish", serve = "ipc://{self.dir}/{o}.serve" }}' for o in of
        )
        text = MIRROR.format(dir=self.dir, name=name, sources=listed, content=content, more=more)
        return self.config(name, text, bus=bus, state=f"{name}.state")

    def up(self, name, config):
        process = self.start("bus-mirrord", config, name)
        self.ready(name if name == "origin" else f"{name}.state")
        if name == "origin":
            self.origin_process = process
        return process

    def status(self, name):
        return self.control(f"{name}.state", "status")[0]

    def publish(self):
        return until("a version is published", lambda: self.control("origin", "publish", tree="t"))

    def reaches(self, name, version, seconds=60):
        until(lambda: f"{name} reaches {version}: {self.control(f'{name}.state', 'status')}",
              lambda: (self.control(f"{name}.state", "status") or [{"version": 0}])[0]["version"] >= version,
              seconds)

    def assertSame(self, name, when):
        one, other = self.dir / "a/tree", self.dir / name / "tree"
        for a, b in [(one, other), (other, one)]:
            said = subprocess.run(
                ["rsync", "-naHAXc", "-@-1", "--delete", "--itemize-changes", f"{a}/", f"{b}/"],
                capture_output=True, text=True, check=True,
            ).stdout
            self.assertEqual(said, "", f"{name}, {when}: {a} -> {b}")


class SecondTier(Sharing):
    def test_a_mirror_follows_one_that_reaches_the_origin(self):
        dead, content = free_ports(2)
        # What the origin says of itself nobody can reach; only the first mirror is told another way.
        origin = self.origin(bus=f'advertise_content = "http://127.0.0.1:{dead}"', content=content)
        first = self.mirror("m1", ["origin"], more=f'source = ["http://127.0.0.1:{content}"]')
        second = self.mirror("m2", ["m1"])
        tree = RandomTree(self.dir / "a/tree", 300, 7)
        self.up("origin", origin)
        self.up("m1", first)
        self.up("m2", second)
        version = self.publish()
        self.reaches("m2", version)
        self.assertSame("m2", "after the first sync")

        for _ in range(3):
            tree.change()
            version = self.publish()
            self.reaches("m2", version)
        self.assertSame("m2", "after following")
        status = self.status("m2")
        self.assertEqual(status["state"], "current")
        self.assertGreater(status["bytes_received"], 0)
        used = [s for s in status["sources"] if s["bytes"] > 0]
        self.assertEqual(len(used), 1, status["sources"])
        port = int(used[0]["url"].rsplit(":", 1)[1])
        self.assertNotIn(port, (dead, content))

        # The first one has what a third asks for, packs too, also after both were away.
        third = self.mirror("m3", ["m2"])
        self.up("m3", third)
        self.reaches("m3", version)
        self.assertSame("m3", "through two others")
        self.assertEqual(self.status("m3")["tree_hash"], status["tree_hash"])

    def test_what_a_mirror_is_asked(self):
        self.origin()
        tree = RandomTree(self.dir / "a/tree", 100, 3)
        self.up("origin", self.dir / "origin.toml")
        self.up("m1", self.mirror("m1", ["origin"]))
        self.reaches("m1", self.publish())
        tree.change()
        for number in range(4):  # too much for the event itself
            (self.dir / f"a/tree/random{number}").write_bytes(os.urandom(30_000))
        version = self.publish()
        self.reaches("m1", version)
        # Its packs are kept, whole ones only, and the index forgets no version of these few.
        kept = {p.name for p in (self.dir / "m1/.mirrorbus-t/packs").iterdir()}
        self.assertTrue(kept and all(len(name) == 64 for name in kept), kept)

        # The event, and who sealed it. Had it come by a replay, its seal is asked for first: busy.
        parts = until("the seal is there", lambda: self.ask("m1", "tree", name="t", number=version)[1:])
        self.assertEqual(len(parts), 2)
        origins, *event = self.ask("origin", "tree", name="t", number=version)
        self.assertEqual((origins["status"], parts[0]), ("ok", event[0]))
        both = [self.ask(one, "changes", name="t", number=version)[0]["changes"] for one in ("m1", "origin")]
        self.assertEqual(*both)
        self.assertIn(["add", "random0"], both[0])
        self.assertEqual(self.ask("m1", "tree", name="t", number=version + 1)[0]["status"], "not_held")
        run = {"run": b"r" * 16, "content": "http://127.0.0.1:1"}
        said = self.ask("m1", "have", name="t", number=0, want=version, **run)[0]
        self.assertEqual((said["status"], said["number"], said["pull"]), ("ok", version, "here"))
        self.assertTrue(said["content"].startswith("http://127.0.0.1:"))
        said = self.ask("m1", "have", name="t", number=0, want=version + 1, **run)[0]
        self.assertEqual((said["pull"], said["sources"]), ("later", []))
        self.assertEqual(self.ask("m1", "have", name="u", number=0, want=0, **run)[0]["status"], "not_held")
        # A pack that it keeps is what it is named after.
        for name in kept:
            with urllib.request.urlopen(f"{said['content']}/packs/{name}") as answer:
                self.assertEqual(hashlib.sha256(answer.read()).hexdigest(), name)

    def test_a_mirror_that_starts_again_is_the_one_it_was(self):
        """Or it would wait until the place that its last run was given at the origin is free."""
        (self.dir / "a/tree").mkdir(parents=True)
        self.up("origin", self.origin())
        heard = []

        def answer(asked):
            if asked["verb"] == "have":
                heard.append(asked["run"])
            return [{"status": "not_held"}]

        listener = serving.answering(self, answer)

        def asks(name):
            before = len(heard)
            mirror = self.mirror(name, ["origin"])
            mirror.write_text(mirror.read_text().replace("static = [", f'static = [{{ serve = "{listener}" }}, ', 1))
            process = self.up(name, mirror)
            until(f"{name} asks", lambda: len(heard) > before)
            self.end(process, signal.SIGKILL)
            return heard[-1]

        first = asks("m1")
        self.assertEqual(len(first), 16)
        self.assertEqual(asks("m1"), first)
        self.assertNotEqual(asks("m2"), first)

    def ask(self, daemon, verb, **fields):
        """The answer of a daemon's serve socket: its map, then its parts."""
        return serving.ask(self, f"ipc://{self.dir}/{daemon}.serve", verb, **fields)


class ServeTo(Sharing):
    def test_content_is_for_those_who_may_have_it(self):
        (content,) = free_ports(1)
        url = f"http://127.0.0.1:{content}"
        RandomTree(self.dir / "a/tree", 50, 3)
        (self.dir / "other").mkdir()
        (self.dir / "other/file").write_text("for others")
        second = f"""serve_to = ["{{whom}}"]
            [[tree]]
            name = "u"
            path = "{self.dir}/other"
            role = "origin"
            """
        self.up("origin", self.origin(content=content, more=second.format(whom="192.0.2.0/24")))
        mirror = self.mirror("m1", ["origin"])
        version = self.publish()
        hash_of_other = hashlib.sha256(b"for others").hexdigest()
        # Another tree is open to all, so it is 404 for what this one may not have …
        self.up("m1", mirror)
        until("not all is had of it", lambda: self.status("m1")["state"] in ("failed", "incomplete"))
        self.assertEqual(self.get(f"{url}/objects/{hash_of_other}"), 200)
        with open(next(p for p in (self.dir / "a/tree").rglob("*") if p.is_file() and p.stat().st_size), "rb") as f:
            hash_of_mine = hashlib.sha256(f.read()).hexdigest()
        self.assertEqual(self.get(f"{url}/objects/{hash_of_mine}"), 404)
        # … and 403 where all is for somebody else.

        closed = self.dir / "origin.toml"
        closed.write_text(closed.read_text() + 'serve_to = ["198.51.100.7"]\n')
        self.end(self.origin_process)
        self.up("origin", closed)
        self.assertEqual(self.get(f"{url}/objects/{hash_of_other}"), 403)

        closed.write_text(closed.read_text().replace("192.0.2.0/24", "127.0.0.0/8"))
        self.end(self.origin_process)
        self.up("origin", closed)
        self.up("m2", self.mirror("m2", ["origin"]))
        self.reaches("m2", version)
        self.assertSame("m2", "that may have it")
        self.assertEqual(self.get(f"{url}/objects/{hash_of_mine}"), 200)
        self.assertEqual(self.get(f"{url}/objects/{hash_of_other}"), 404)

    def get(self, url):
        try:
            with urllib.request.urlopen(url) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code


class Pause(Sharing):
    def test_a_transfer_stops_at_once_and_goes_on_from_what_has_come(self):
        tree = self.dir / "a/tree"
        tree.mkdir(parents=True)
        sizes = [9_000_000, *[200_000] * 10]  # one by range, and some together
        for number, size in enumerate(sizes):
            (tree / f"file{number}").write_bytes(os.urandom(size))
        self.up("origin", self.origin())
        version = self.publish()
        self.up("m1", self.mirror("m1", ["origin"], more='bandwidth = "3MiB"'))
        for part in (0.15, 0.4, 0.7, 0.85):
            until("some of it has come", lambda p=part: self.status("m1")["bytes_received"] > p * sum(sizes))
            began = time.monotonic()
            self.assertEqual(self.control("m1.state", "pause", tree="t"), "paused")
            until("the transfer has stopped", lambda: self.control("m1.state", "status")[0]["state"] == "paused"
                  and self.said("m1", "paused: the sync under way was stopped"))
            self.assertLess(time.monotonic() - began, 1)
            stopped = self.status("m1")["bytes_received"]
            self.assertEqual(self.status("m1")["version"], 0)
            self.assertEqual(self.status("m1")["bytes_received"], stopped)
            (self.dir / "m1.log").write_text("")
            self.control("m1.state", "resume", tree="t")
        self.reaches("m1", version)
        self.assertSame("m1", "after four pauses")
        received = self.status("m1")["bytes_received"]
        print(f"{sum(sizes)} bytes of content, {received} received")
        # Headers, nodes; and for each pause at most the one small object that was under way.
        self.assertLess(received, sum(sizes) + 4 * 200_000 + 20_000)


class Liar(http.server.BaseHTTPRequestHandler):
    """Hands on what `server.origin` says, but for the last byte of every object."""

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.send_error(405)

    def do_GET(self):
        try:
            with urllib.request.urlopen(self.server.origin + self.path) as answer:
                body = answer.read()
        except urllib.error.HTTPError as error:
            return self.send_error(error.code)
        if body and "/objects/" in self.path:
            body = body[:-1] + bytes([body[-1] ^ 1])
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Redirects(http.server.BaseHTTPRequestHandler):
    """Sends everybody to `server.to`."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.send_response(302)
        self.send_header("Location", self.server.to + self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET


class Empty(http.server.BaseHTTPRequestHandler):
    """Has nothing of what it is asked for."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.send_error(404)

    def do_POST(self):
        self.send_error(405)


class Namer:
    """A serve socket that has version `number`, and once it `sends_on` has whoever asks pull from `sources`."""

    def __init__(self, test, number, sources):
        self.number, self.sources = number, sources
        self.wanted = []  # what it was asked for
        self.sends_on = threading.Event()
        self.endpoint = serving.answering(test, self.answer)

    def answer(self, asked):
        if asked["verb"] != "have":
            return [{"status": "not_held"}]
        self.wanted.append(asked["want"])
        pull, sources = ("others", self.sources) if self.sends_on.is_set() else ("none", [])
        return [{"status": "ok", "number": self.number, "content": "", "pull": pull, "sources": sources,
                 "again_ms": 1000}]


class SeveralSources(Sharing):
    def liar(self, origin):
        return self.serve_http(Liar, origin=origin)

    def test_one_that_lies_is_set_aside_and_the_sync_goes_on(self):
        dead, content = free_ports(2)
        good = f"http://127.0.0.1:{content}"
        lies = self.liar(good)
        RandomTree(self.dir / "a/tree", 200, 5)
        self.up("origin", self.origin(bus=f'advertise_content = "http://127.0.0.1:{dead}"', content=content))
        mirror = self.mirror("m1", ["origin"], more=f'source = ["{lies}", "{good}"]')
        version = self.publish()
        self.up("m1", mirror)
        self.reaches("m1", version)
        self.assertSame("m1", "past a liar")
        sources = {s["url"]: s for s in self.status("m1")["sources"]}
        self.assertEqual(sources[lies]["state"], "set_aside", sources)
        self.assertGreaterEqual(sources[lies]["bad_items"], 3)
        self.assertIn("bad_hash", sources[lies]["last_error"])
        self.assertEqual(sources[good]["state"], "ready")
        self.assertFalse(self.said("m1", "sync failed"))
        self.assertTrue(self.said("m1", f"none of that was taken: {lies}: bad_hash"))
        self.assertEqual(self.metric("m1.state", "mirrorbus_tree_sources_set_aside_total"), 1)

    def serve_http(self, handler, **attributes):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        for name, value in attributes.items():
            setattr(server, name, value)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f"http://127.0.0.1:{server.server_address[1]}"

    def follows(self, name, namer, number, **more):
        """A mirror, up and at version `number`, that asks the namer before the origin."""
        mirror = self.mirror(name, ["origin"], **more)
        listed = f'static = [{{ serve = "{namer.endpoint}" }}, '
        mirror.write_text(mirror.read_text().replace("static = [", listed, 1))
        self.up(name, mirror)
        self.reaches(name, number)
        # Only who has answered is asked before the origin, and a second question follows the first's answer.
        until(f"{name} is answered by who is listed first", lambda: len(namer.wanted) > 1)

    def test_where_all_fails_that_one_names_others_are_asked_in_the_same_try(self):
        """Who is listed first names places that have nothing, or are not there: so it is asked last next time."""
        (dead,) = free_ports(1)
        RandomTree(self.dir / "a/tree", 100, 8)
        self.up("origin", self.origin())
        first = self.publish()
        namers = {"m1": Namer(self, first, [self.serve_http(Empty)]),
                  "m2": Namer(self, first, [f"http://127.0.0.1:{dead}"])}
        for name, namer in namers.items():
            self.follows(name, namer, first)
            namer.sends_on.set()
        newest = self.publish_more()
        for name, namer in namers.items():
            self.reaches(name, newest)
            self.assertSame(name, f"past {namer.sources}")
            self.assertIn(newest, namer.wanted)
            self.assertFalse(self.said(name, "sync failed|entries are missing"))
            self.assertTrue(self.said(name, f"not all has come from where {namer.endpoint} said"))
            self.assertEqual(self.status(name)["state"], "current")

        newest = self.publish_more()
        for name, namer in namers.items():
            self.reaches(name, newest)
            self.assertSame(name, "at the next version")
            self.assertNotIn(newest, namer.wanted)

    def publish_more(self):
        for number in range(4):  # too much for the event itself
            (self.dir / f"a/tree/random{number}").write_bytes(os.urandom(30_000))
        return self.publish()

    def test_one_that_is_named_where_its_namer_is_not_is_never_asked(self):
        """A peer at a loopback address names the link, as one would to reach a cloud's metadata service."""
        dead, content = free_ports(2)
        good = f"http://127.0.0.1:{content}"
        inward = "http://169.254.77.77:80"
        redirects = self.serve_http(Redirects, to=inward)
        RandomTree(self.dir / "a/tree", 100, 6)
        self.up("origin", self.origin(bus=f'advertise_content = "http://127.0.0.1:{dead}"', content=content))
        first = self.publish()
        namer = Namer(self, first, [inward, redirects])
        self.follows("m1", namer, first, more=f'source = ["{good}"]')
        namer.sends_on.set()
        self.reaches("m1", self.publish_more())
        self.assertSame("m1", "past sources that must not be asked")
        sources = {s["url"]: s for s in self.status("m1")["sources"]}
        for url in (inward, redirects):
            self.assertTrue(sources[url]["last_error"].startswith("forbidden_address: "), sources)
            self.assertIn("169.254.77.77", sources[url]["last_error"])
            self.assertEqual((sources[url]["bytes"], sources[url]["state"] == "failing"), (0, False), sources)
        self.assertEqual(sources[good]["state"], "ready")
        self.assertGreaterEqual(
            self.metric("m1.state", 'mirrorbus_refused_total{reason="forbidden_address"}'), 2)
        self.assertFalse(self.said("m1", "sync failed"))


if __name__ == "__main__":
    main(sys.argv)
