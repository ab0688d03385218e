#!/usr/bin/python3
"""One message through bus-logger, from its start to its end with the acknowledgement.

logger_bench.py NAME=PATH...

Real keys, a real bus-relayd that syncs. Prints the time of 200 calls, and the memory of one more.
"""
import os
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
from world import World, main, peak_memory_kib, until  # noqa: E402

CALLS = 200

class Logger(World):
    def test_start_to_acknowledgement(self):
        config = self.relay_config()
        self.relay(config)
        program = str(self.programs["bus-logger"])
        times = []
        for i in range(CALLS):
            begin = time.monotonic()
            child = os.posix_spawn(
                program, [program, "--config", str(config), "--message", str(i)], os.environ
            )
            _, status = os.waitpid(child, 0)
            times.append((time.monotonic() - begin) * 1000)
            self.assertEqual(status, 0)
        times.sort()
        # What wait4() tells of a child begins with the memory of its parent; /proc does not.
        reader = subprocess.Popen([program, "--config", str(config)], stdin=subprocess.PIPE)
        reader.stdin.write(b"one more\n")
        reader.stdin.flush()
        accepted = "mirrorbus_relay_accepted_total"
        until("it is acknowledged", lambda: self.metric("relayd", accepted) == CALLS + 1)
        memory = peak_memory_kib(reader)
        reader.communicate()
        p50, p95, most = times[CALLS // 2], times[CALLS * 95 // 100], times[-1]
        print(
            f"bus-logger, start to acknowledgement: p50 {p50:.1f} ms, p95 {p95:.1f} ms, "
            f"most {most:.1f} ms; {memory / 1024:.1f} MB", flush=True,
        )

main(sys.argv)
