#!/usr/bin/python3
"""The library as others use it: installed into a folder, the examples of docs/ built against that with
nothing but its pkg-config file, and run against each other and bus-tail."""
import json
import os
import pathlib
import subprocess
import sys
import threading

from world import ENVIRONMENT, World, main, until

class Library(World):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.installed = cls.home / "installed"
        build, source = pathlib.Path(os.environ["BUILD"]), pathlib.Path(os.environ["SOURCE"])
        subprocess.run(
            ["meson", "install", "-C", build, "--no-rebuild", "--destdir", cls.installed],
            check=True, capture_output=True,
        )
        (config,) = cls.installed.rglob("mirrorbus.pc")
        libraries = next(cls.installed.rglob("libmirrorbus.so.0")).parent
        environment = {**ENVIRONMENT, "PKG_CONFIG_PATH": config.parent, "PKG_CONFIG_SYSROOT_DIR": cls.installed}
        flags = subprocess.run(
            ["pkg-config", "--cflags", "--libs", "mirrorbus"], env=environment, check=True,
            capture_output=True, text=True,
        ).stdout.split()
        sanitizers = os.environ["SANITIZERS"].split()
        for name in ("listen", "publish"):
            subprocess.run(
                ["g++", "-std=c++20", "-Wall", "-Wextra", "-Werror", *sanitizers,
                 source / f"docs/examples/{name}.cpp", "-o", cls.home / name, *flags,
                 f"-Wl,-rpath,{libraries}"],
                check=True,
            )

    def publisher_config(self):
        # A tool's name for a file of its own: no [relay] in it, and no [http] is needed.
        return self.config("app")

    def publish(self, lines, topic="shell.example.say"):
        return subprocess.Popen(
            [self.home / "publish", self.publisher_config(), topic], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
        ), "".join(json.dumps(line) + "\n" for line in lines)

    def test_one_publishes_and_the_other_listens(self):
        publisher, lines = self.publish([{"n": n} for n in range(20)])
        tail = self.tail(self.listen_config("app"), "--topic", "org.example.dev.shell.**", "--since", "start")
        listener = subprocess.Popen(
            [self.home / "listen", self.listen_config("app"), "org.example.dev.shell.**", "20"],
            stdout=subprocess.PIPE, text=True, env=ENVIRONMENT,
        )
        self.addCleanup(listener.stdout.close)
        publisher.stdin.write(lines)
        publisher.stdin.flush()
        try:
            acknowledged = [int(publisher.stdout.readline()) for _ in range(20)]
            heard = threading.Timer(60, listener.kill)
            heard.start()
            printed = listener.stdout.read().splitlines()
            heard.cancel()
            self.assertEqual(listener.wait(30), 0)
            self.assertEqual(
                [line.split(" ", 3) for line in printed],
                [["org.example.dev.shell.example.say", f"openpgp:{self.key.lower()}", str(seq), f'{{"n":{n}}}']
                 for n, seq in enumerate(acknowledged)],
            )
            until("bus-tail too", lambda: len(tail.events) == 20)
            self.assertEqual([seq for _, seq in tail.seqs()], acknowledged)
        finally:
            _, errors = publisher.communicate(timeout=30)
        self.assertEqual((publisher.returncode, errors), (0, ""))

    def test_what_cannot_be_is_said(self):
        for lines, topic, why in ((["text", "x"], "shell.Bad Topic", "bad_topic"),):
            publisher, text = self.publish(lines, topic)
            _, errors = publisher.communicate(text, timeout=60)
            self.assertEqual(publisher.returncode, 1)
            self.assertIn(why, errors)
        missing = self.dir / "missing.toml"
        missing.write_text('[bus]\nprefix = "org.example"\nenvironment = "dev"\n')
        for program in ("publish", "listen"):
            done = subprocess.run(
                [self.home / program, self.dir / "no.toml", "x"], input="", capture_output=True, text=True,
                check=False, env=ENVIRONMENT,
            )
            self.assertEqual(done.returncode, 1)
            self.assertIn("no.toml", done.stderr)
        done = subprocess.run(
            [self.home / "publish", missing, "x"], input="", capture_output=True, text=True, check=False,
            env=ENVIRONMENT,
        )
        self.assertEqual(done.returncode, 1)
        self.assertIn("state", done.stderr)

if __name__ == "__main__":
    sys.exit(main(sys.argv))
