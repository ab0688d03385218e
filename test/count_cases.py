#!/usr/bin/python3
"""Adds up the test cases of meson test logs: count_cases.py testlog.json...

Catch2 and Python unittest programs count with their test cases, any other test as one. A program
that failed although its cases passed (a leak, a crash on the way out, a timeout) counts as one failure
more. Names what failed and what was skipped; the last line is "N passed, N failed"; exits with 1 if
any failed.
"""
import json
import re
import sys

ALL_PASSED = re.compile(r"^All tests passed \([\d]+ assertions? in (\d+) test cases?\)", re.M)
SOME_FAILED = re.compile(r"^test cases: +\d+(?: \| +(\d+) passed)?(?: \| +(\d+) failed)?", re.M)
UNITTEST = re.compile(r"^Ran (\d+) tests? in .*\n\n(?:OK|FAILED)(?: \((.*)\))?", re.M)


def cases(output):
    """(passed, failed, skipped) as Catch2 or unittest report them, or None."""
    if found := ALL_PASSED.search(output):
        return int(found[1]), 0, 0
    if found := SOME_FAILED.search(output):
        return int(found[1] or 0), int(found[2] or 0), 0
    if found := UNITTEST.search(output):
        failed = sum(map(int, re.findall(r"(?:failures|errors)=(\d+)", found[2] or "")))
        skipped = sum(map(int, re.findall(r"skipped=(\d+)", found[2] or "")))
        return int(found[1]) - failed - skipped, failed, skipped
    return None


def count(test):
    """(passed, failed, skipped) of one entry of the log."""
    if test["result"] == "SKIP":
        return 0, 0, 1
    good = test["result"] in ("OK", "EXPECTEDFAIL")
    passed, failed, skipped = cases(test.get("stdout", "") + test.get("stderr", "")) or (int(good), 0, 0)
    return passed, failed if good or failed else 1, skipped


def main(logs):
    passed = failed = 0
    for log in logs:
        try:
            with open(log, encoding="utf-8", errors="replace") as lines:
                tests = [json.loads(line) for line in lines]
        except FileNotFoundError:
            tests = []
        if not tests:
            print(f"{log}: no test was run")
            failed += 1
        for test in tests:
            good, bad, skipped = count(test)
            passed += good
            failed += bad
            if bad:
                print(f"failed: {test['name']} ({test['result']}), {log}")
            if skipped:
                print(f"skipped: {skipped} of {test['name']}, {log}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
