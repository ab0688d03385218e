#!/usr/bin/python3
"""docs/operations.md lists every metric that the code has, and no other; the alert rules use only those.

Usage: metrics.py SOURCE_ROOT
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(sys.argv[1])
REGISTERED = re.compile(r'\b(?:counter|gauge|grown)\(\s*"(mirrorbus_\w+)"')
ROW = re.compile(r"^\| `(mirrorbus_\w+)(?:\{\w+\})?` \| .*\w.* \|$", re.M)


def main():
    registered = {}
    for folder in ("bus", "services", "tools"):
        for path in sorted((ROOT / folder).rglob("*.[ch]pp")):
            for name in REGISTERED.findall(path.read_text(encoding="utf-8")):
                registered.setdefault(name, path.relative_to(ROOT))
    listed = ROW.findall((ROOT / "docs/operations.md").read_text(encoding="utf-8"))
    faults = [f"{path}: {name} is not in docs/operations.md" for name, path in registered.items()
              if name not in listed]
    for name in sorted(set(listed)):
        if name not in registered:
            faults.append(f"docs/operations.md: {name} is in no code")
        if listed.count(name) > 1:
            faults.append(f"docs/operations.md: {name} stands twice")
    rules = "config/prometheus/mirrorbus.rules.yml"
    used = set(re.findall(r"mirrorbus_\w+", (ROOT / rules).read_text(encoding="utf-8")))
    faults += [f"{rules}: {name} is in no code" for name in sorted(used - set(registered))]
    if len(used) < 10:
        faults.append(f"{rules}: only {len(used)} metrics found")
    if len(registered) < 40:
        faults.append(f"only {len(registered)} metrics found: has registering changed?")
    print(*faults, f"{len(registered)} metrics", sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
