#!/usr/bin/python3
"""Makes the table of docs/faults.md from what the tests have said: table.py LOG..."""
import re
import sys

LINE = re.compile(
    r"^fault (.*): runs=(\d+) events=(\d+) lost=(\d+) duplicated=(\d+) gaps=(\d+) worst_recovery=([\d.]+ s)", re.M
)


def main(logs):
    print("| fault | runs | events | lost | duplicated | gaps | worst recovery |\n|---|--:|--:|--:|--:|--:|--:|")
    for log in logs:
        with open(log, encoding="utf-8") as said:
            for name, *numbers, recovery in LINE.findall(said.read()):
                print(f"| {name} | " + " | ".join(f"{int(n):,}" for n in numbers) + f" | {recovery} |")


if __name__ == "__main__":
    main(sys.argv[1:])
