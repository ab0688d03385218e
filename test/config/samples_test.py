#!/usr/bin/python3
"""The samples in config/ are read by the daemons, and document every key that the code asks for.

    samples_test.py SOURCE_ROOT DAEMON=CONFIG...     e.g. build/…/bus-relayd=config/relayd.toml
"""
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(sys.argv[1])
SAMPLES = [argument.split("=") for argument in sys.argv[2:]]
# Where keys are asked for: TABLE.text("key", ...), endpoint(table, "key") and the like.
READERS = [
    "bus/peer/settings.cpp",
    "services/relay/forward_rules.cpp",
    "services/relay/relay_settings.cpp",
    "services/mirror/transfer_settings.cpp",
    "services/mirror/tree_settings.cpp",
]
ASKED = re.compile(
    r'\.(?:text|find_text|texts|choice|integer|boolean|duration|size|table|tables)\("([a-z_]+)"'
    r'|\b(?:endpoint|url|directory)\(\w+, "([a-z_]+)"\)'
)
COMMENTED = re.compile(r"^#([a-z_]+ = |\[+[a-z_.]+\]+$)", re.M)


def uncommented(sample):
    return COMMENTED.sub(r"\1", sample.read_text())


def documented(text):
    keys = set(re.findall(r"^([a-z_]+) = ", text, re.M))
    for table in re.findall(r"^\[+([a-z_.]+)\]+$", text, re.M):
        keys.update(table.split("."))
    return keys


class Samples(unittest.TestCase):
    def check(self, daemon, path):
        done = subprocess.run(
            [daemon, "--config", path, "--check-config"], capture_output=True, text=True, check=False
        )
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_samples_are_good(self):
        for daemon, sample in SAMPLES:
            with self.subTest(sample=sample):
                self.check(daemon, sample)

    def test_samples_with_every_default_written_out_are_good(self):
        for daemon, sample in SAMPLES:
            text = uncommented(pathlib.Path(sample))
            # What belongs to a scheme or rule of another kind cannot stand beside the example.
            text = re.sub(r"^(unsigned|certificate) = .*\n", "", text, flags=re.M)
            with self.subTest(sample=sample), tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
                file.write(text)
                file.flush()
                self.check(daemon, file.name)

    def test_every_key_is_documented(self):
        asked = set()
        for reader in READERS:
            for groups in ASKED.findall((ROOT / reader).read_text()):
                asked.update(filter(None, groups))
        self.assertGreater(len(asked), 50)
        samples = (ROOT / "config").glob("*.toml")
        known = set().union(*(documented(uncommented(sample)) for sample in samples))
        self.assertEqual(asked - known, set())


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
