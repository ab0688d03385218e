#!/usr/bin/python3
"""One daemon is the origin of one tree and the mirror of another, its neighbour the reverse: a
distribution goes out to labs, and their logs come back. And what both say of themselves in files."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import unittest

from world import World, free_ports, main, until

HOST = """
[discovery]
static = [{{ publish = "ipc://{dir}/{other}.publish", serve = "ipc://{dir}/{other}.serve" }}]
[content]
listen = "127.0.0.1:0"
[[tree]]
name = "{out}"
path = "{dir}/{name}/{out}"
role = "origin"
publish = "manual"
[[tree]]
name = "{back}"
path = "{dir}/{name}/{back}"
role = "mirror"
status_file = "{dir}/{name}/{back}.json"
trace_file = "{dir}/{name}/{back}.trace"
"""


class Crossing(World):
    def setUp(self):
        super().setUp()
        for name, other, out, back in [("hub", "lab", "dist", "logs"), ("lab", "hub", "logs", "dist")]:
            (self.dir / name / out).mkdir(parents=True)
            self.config(name, HOST.format(dir=self.dir, name=name, other=other, out=out, back=back),
                        state=f"{name}.state")
        self.daemons = {name: self.start("bus-mirrord", self.dir / f"{name}.toml", name)
                        for name in ("hub", "lab")}

    def ask(self, name, verb, **request):
        return until(f"{name} answers {verb}", lambda: self.control(f"{name}.state", verb, **request))

    def crosses(self, origin, mirror, tree, text):
        (self.dir / origin / tree / "file").write_text(text)
        version = self.ask(origin, "publish", tree=tree)
        until(f"{mirror} has {tree} {version}",
              lambda: self.control(f"{mirror}.state", "wait", tree=tree, version=version))
        said = subprocess.run(
            ["rsync", "-naHAXc", "-@-1", "--delete", "-i", f"{self.dir}/{origin}/{tree}/", f"{self.dir}/{mirror}/{tree}/"],
            capture_output=True, text=True, check=True).stdout
        self.assertEqual(said, "")
        return version

    def test_two_trees_cross(self):
        for number in range(3):
            self.crosses("hub", "lab", "dist", f"release {number}")
            self.crosses("lab", "hub", "logs", f"results {number}")
        # Neither waits for the other one.
        self.end(self.daemons["hub"])
        (self.dir / "lab/logs/file").write_text("while the hub was away")
        version = self.ask("lab", "publish", tree="logs")
        self.start("bus-mirrord", self.dir / "hub.toml", "hub")
        until("the hub catches up",
              lambda: self.control("hub.state", "wait", tree="logs", version=version))
        self.assertEqual((self.dir / "hub/logs/file").read_text(), "while the hub was away")
        self.crosses("hub", "lab", "dist", "the last one")

    def test_files_say_how_a_mirror_stands(self):
        version = self.crosses("lab", "hub", "logs", "one")
        status, trace = self.dir / "hub/logs.json", self.dir / "hub/logs.trace"

        def says(number):
            found = json.loads(status.read_text()) if status.exists() else {}
            return found.get("version") == number and found["state"] == "current" and found

        found = until("the status file says so", lambda: says(version))
        self.assertEqual(found["name"], "logs")
        self.assertEqual(found["tree_hash"],
                         self.control("lab.state", "status")[0]["tree_hash"])
        until("there is a trace", trace.exists)
        lines = trace.read_text().splitlines()
        when = subprocess.run(["date", "-u", "-d", lines[0], "+%s"], capture_output=True, text=True, check=True)
        now = subprocess.run(["date", "+%s"], capture_output=True, text=True, check=True)
        self.assertLess(abs(int(now.stdout) - int(when.stdout)), 120)
        self.assertIn(f"Version: {version}", lines)
        # A restart is no news.
        before = trace.stat().st_mtime_ns
        self.end(self.daemons["hub"])
        status.unlink()
        self.start("bus-mirrord", self.dir / "hub.toml", "hub")
        until("the status is written again", lambda: says(version))
        self.assertEqual(trace.stat().st_mtime_ns, before)
        following = self.crosses("lab", "hub", "logs", "two")
        until("the trace follows", lambda: f"Version: {following}" in trace.read_text())


SAMPLES = pathlib.Path(__file__).resolve().parents[2] / "config"


class Leaving(World):
    """config/rsyncd.conf and config/nginx.conf serve a mirror's tree, without the work folder."""

    def sample(self, name, **replace):
        text = (SAMPLES / name).read_text()
        for old, new in replace.items():
            self.assertIn(old, text)
            text = text.replace(old, new)
        path = self.dir / name
        path.write_text(text)
        return path

    def setUp(self):
        super().setUp()
        self.tree = self.dir / "distribution"
        (self.tree / ".mirrorbus").mkdir(parents=True)
        (self.tree / ".mirrorbus/secret").write_text("not for applications")
        (self.tree / "dir").mkdir()
        (self.tree / "dir/file").write_text("for applications")
        (self.port,) = free_ports(1)

    def run_server(self, *command):
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(self.end, server)

    def test_rsync_serves_the_tree(self):
        config = self.sample("rsyncd.conf", **{"/srv/mirror/distribution": str(self.tree)})
        # Not as nobody, who may not enter this test's folder.
        config.write_text(f"port = {self.port}\naddress = 127.0.0.1\nuse chroot = no\n"
                          f"uid = {os.getuid()}\ngid = {os.getgid()}\n" + "\n".join(
            line for line in config.read_text().splitlines()
            if not line.startswith(("uid", "gid", "use chroot", "address"))))
        self.run_server("rsync", "--daemon", "--no-detach", f"--config={config}")
        url = f"rsync://127.0.0.1:{self.port}/distribution/"
        until("rsync answers", lambda: subprocess.run(
            ["rsync", url], capture_output=True, check=False).returncode == 0)
        subprocess.run(["rsync", "-a", url, f"{self.dir}/got/"], check=True)
        self.assertEqual(sorted(str(p.relative_to(self.dir / "got")) for p in (self.dir / "got").rglob("*")),
                         ["dir", "dir/file"])
        refused = subprocess.run(["rsync", url + ".mirrorbus/secret", f"{self.dir}/got/"],
                                 capture_output=True, check=False)
        self.assertNotEqual(refused.returncode, 0)

    @unittest.skipUnless(shutil.which("nginx"), "no nginx here")
    def test_nginx_serves_the_tree(self):
        config = self.sample("nginx.conf", **{
            "/srv/mirror/distribution": str(self.tree), "listen 80": f"listen 127.0.0.1:{self.port}",
            "/var/lib/mirrorbus/distribution.trace": f"{self.dir}/trace"})
        (self.dir / "trace").write_text("a trace\n")
        whole = self.dir / "whole.conf"
        whole.write_text(
            f"daemon off; pid {self.dir}/pid; error_log {self.dir}/nginx-error.log;\nevents {{}}\n"
            f"http {{ access_log off; client_body_temp_path {self.dir}/body; proxy_temp_path {self.dir}/proxy;\n"
            f"fastcgi_temp_path {self.dir}/f; uwsgi_temp_path {self.dir}/u; scgi_temp_path {self.dir}/s;\n"
            f"include {config}; }}\n")
        if os.geteuid() == 0:
            whole.write_text("user root;\n" + whole.read_text())
        self.run_server("nginx", "-c", whole, "-e", f"{self.dir}/nginx-error.log")

        def get(path):
            done = subprocess.run(["curl", "-s", "-o", "-", "-w", "\n%{http_code}",
                                   f"http://127.0.0.1:{self.port}{path}"], capture_output=True, text=True, check=False)
            body, _, code = done.stdout.rpartition("\n")
            return int(code), body

        until("nginx answers", lambda: get("/dir/file")[0] == 200)
        self.assertEqual(get("/dir/file")[1], "for applications")
        self.assertEqual(get("/.mirrorbus/secret")[0], 404)
        self.assertIn("file", get("/dir/")[1])
        self.assertEqual(get("/project/trace/mirrorbus"), (200, "a trace\n"))


if __name__ == "__main__":
    main(sys.argv)
