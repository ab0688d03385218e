#!/usr/bin/python3
"""The systemd files as systemd reads them: units that are right and leave a daemon little, the account and its folders.

    units_test.py SYSUSERS TMPFILES UNIT UNIT PROGRAM PROGRAM    each unit's program, in the same order
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

SYSUSERS, TMPFILES = sys.argv[1:3]
UNITS = list(zip(sys.argv[3:5], sys.argv[5:7], strict=True))
MOST_EXPOSED = 2.0  # of 10 at the worst, as `systemd-analyze security` rates


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


class Units(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)

    def test_units_have_no_fault(self):
        for unit, program in UNITS:
            text = pathlib.Path(unit).read_text()
            installed, = re.findall(r"^ExecStart=(\S+)", text, re.M)
            with self.subTest(unit=unit):
                self.assertEqual(pathlib.Path(installed).name, pathlib.Path(program).name)
                here = self.root / pathlib.Path(unit).name
                here.write_text(text.replace(installed, os.path.abspath(program)))
                done = run("systemd-analyze", "verify", "--man=no", here)
                self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_a_fault_is_told(self):
        faulty = self.root / "faulty.service"
        faulty.write_text("[Service]\nExecStart=/no/such/program\nProtectSytsem=strict\n")
        said = run("systemd-analyze", "verify", "--man=no", faulty).stderr
        self.assertIn("ProtectSytsem", said)
        self.assertIn("/no/such/program", said)

    def test_units_leave_a_daemon_little(self):
        for unit, _ in UNITS:
            with self.subTest(unit=unit):
                done = run("systemd-analyze", "security", "--offline=true", "--no-pager", unit)
                rated, = re.findall(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
                self.assertLessEqual(float(rated), MOST_EXPOSED, done.stdout)

    @unittest.skipIf(os.geteuid(), "only root gives files away")
    def test_the_account_and_its_folders_are_made(self):
        (self.root / "etc").mkdir()
        for command in [("systemd-sysusers", f"--root={self.root}", SYSUSERS),
                        ("systemd-tmpfiles", "--create", f"--root={self.root}", TMPFILES)]:
            done = run(*command)
            self.assertEqual(done.returncode, 0, done.stderr)
        accounts = dict(line.split(":", 1) for line in (self.root / "etc/passwd").read_text().splitlines())
        _, user, group, _, home, shell = accounts["mirrorbus"].split(":")
        self.assertEqual((home, shell), ("/var/lib/mirrorbus", "/usr/sbin/nologin"))
        made = {}
        for folder in ["etc/mirrorbus", "etc/mirrorbus/gnupg", "var/lib/mirrorbus"]:
            found = (self.root / folder).stat()
            made[folder] = (oct(found.st_mode & 0o7777), str(found.st_uid), str(found.st_gid))
        self.assertEqual(made, {
            "etc/mirrorbus": ("0o755", "0", "0"),
            "etc/mirrorbus/gnupg": ("0o700", user, group),
            "var/lib/mirrorbus": ("0o750", user, group),
        })


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
