#!/usr/bin/python3
"""Checks who includes whom: layers.py SOURCE_ROOT

A folder may include itself and what LAYERS gives it; a third-party header may be included only by the
files OWNERS names, and the heavy ones by no header of ours. Prints each violation; ends with 1 if
there is one.
"""
import fnmatch
import pathlib
import re
import sys

# Folder -> folders it may include, the longest match of a file's path counts. Nothing may include
# test/, and one service includes no other but services/tree.
LAYERS = {
    "proto": [],
    "bus/base": ["proto"],
    "bus/net": ["bus/base", "proto"],
    "bus/trust": ["bus/base", "proto"],
    "bus/store": ["bus/base", "proto"],
    "bus/precompiled": ["proto"],
    "bus/api": ["bus", "proto"],
    "bus/peer": ["bus", "proto"],
    # No sockets: what it needs from others it is handed.
    "services/tree": ["bus/base", "bus/trust", "proto"],
    "services/*": ["services/tree", "bus", "proto"],
    "tools": ["bus", "proto"],
    "test": ["test", "services", "tools", "bus", "proto"],
}

# Header -> (files that may include it, whether a header of ours may).
OWNERS = {
    "zmq.h*": (["bus/net/zmq_*"], False),
    "ares*.h": (["bus/net/dns*"], False),
    "arpa/nameser*.h": (["bus/net/dns*"], False),
    "curl/*": (["bus/net/http_*"], False),
    "boost/beast*": (["bus/net/http_*"], False),
    "boost/*": (["bus/base/*.cpp", "bus/net/*"], False),
    "gpgme.h": (["bus/trust/*"], False),
    "sodium.h": (["bus/trust/*"], False),
    "sqlite3.h": (["bus/base/sqlite.*"], False),
    "msgpack*": (["proto/*.cpp"], False),
    "openssl/*": (["proto/sha256.cpp", "bus/trust/*", "bus/net/http_tls.cpp"], False),
    "nlohmann/*": (["proto/*.cpp"], False),
    "zstd.h": (["services/tree/*"], False),
    "toml++/*": (["bus/base/config.cpp"], False),
    "spdlog/*": (["bus/base/log.cpp"], False),
    "systemd/*": (["bus/peer/daemon.cpp"], False),
    "CLI/*": (["bus/base/command_line.cpp"], False),
    "catch2/*": (["test/*"], True),
    "fmt/*": (["*"], True),
}

# Headers that are the inside of a module: who may include them. They may include what its .cpp may.
PRIVATE = {
    "bus/net/http_connection.hpp": "bus/net/http_*.cpp",
    "bus/net/http_transport.hpp": "bus/net/http_*",
}

INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)', re.M)
FOLDERS = ["proto", "bus", "services", "tools", "test"]


def is_in(path, folder):
    return path.startswith(folder + "/")


def rule_for(path):
    fitting = [folder for folder in LAYERS if fnmatch.fnmatch(path, folder + "/*")]
    return max(fitting, key=lambda folder: (len(folder.split("/")), "*" not in folder), default=None)


def own_folder(path, rule):
    return "/".join(path.split("/")[: len(rule.split("/"))])


def check_own(path, included):
    rule = rule_for(path)
    if rule is None:
        return "lies in no folder that has a rule"
    if not fnmatch.fnmatch(path, PRIVATE.get(included, "*")):
        return f"{included} is only for {PRIVATE[included]}"
    allowed = LAYERS[rule] + [own_folder(path, rule)]
    if any(is_in(included, folder) for folder in allowed):
        return None
    return f"{own_folder(path, rule)} may not include {included}"


def check_third_party(path, included):
    for pattern, (owners, in_headers) in OWNERS.items():
        if not fnmatch.fnmatch(included, pattern):
            continue
        # Tests may look through the wrappers.
        if not is_in(path, "test") and not any(fnmatch.fnmatch(path, owner) for owner in owners):
            return f"<{included}> belongs to {', '.join(owners)}"
        header = path.endswith(".hpp") and path not in PRIVATE and not is_in(path, "test")
        if header and not in_headers:
            return f"<{included}> stays out of headers"
        return None
    return None


def violations(root):
    files = 0
    for folder in FOLDERS:
        for file in sorted((root / folder).rglob("*")):
            if file.suffix not in (".hpp", ".cpp"):
                continue
            files += 1
            path = file.relative_to(root).as_posix()
            text = file.read_text(encoding="utf-8")
            guarded = "#ifndef" if "/precompiled/" in path else "#pragma once"  # g++ warns of the other
            if file.suffix == ".hpp" and guarded not in text:
                yield f"{path}: no {guarded}"
            for match in INCLUDE.finditer(text):
                own, third = match.groups()
                problem = check_own(path, own) if own else check_third_party(path, third)
                if problem:
                    yield f"{path}:{text.count(chr(10), 0, match.start(0)) + 1}: {problem}"
    if files < 100:
        yield f"{root}: only {files} files found: is that the source?"


def main():
    found = list(violations(pathlib.Path(sys.argv[1])))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
