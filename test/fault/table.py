#!/usr/bin/python3
"""Makes the tables of docs/faults.md from what the tests have said: table.py [--trees] LOG..."""
import re
import sys

LINE = re.compile(
    r"^fault (.*): runs=(\d+) events=(\d+) lost=(\d+) duplicated=(\d+) gaps=(\d+) worst_recovery=([\d.]+ s)", re.M
)
TREES = re.compile(
    r"^tree fault (.*): runs=(\d+) versions=(\d+) lost=(\d+) wrong=(\d+) worst_recovery=([\d.]+ s)", re.M
)
KINDS = {
    False: (LINE, ["events", "lost", "duplicated", "gaps"]),
    True: (TREES, ["versions", "lost", "wrong"]),
}


def main(arguments):
    logs = [a for a in arguments if a != "--trees"]
    line, columns = KINDS[logs != arguments]
    print(f"| fault | runs | {' | '.join(columns)} | worst recovery |\n|---" + "|--:" * (len(columns) + 2) + "|")
    for log in logs:
        with open(log, encoding="utf-8") as said:
            for name, *numbers, recovery in line.findall(said.read()):
                print(f"| {name} | " + " | ".join(f"{int(n):,}" for n in numbers) + f" | {recovery} |")


if __name__ == "__main__":
    main(sys.argv[1:])
