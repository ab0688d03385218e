#!/usr/bin/python3
"""Every option of every program's --help is in its man page and in what shells complete, and no other.

Usage: options_test.py SOURCE_ROOT PROGRAM...
"""
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(sys.argv[1])
COMPLETIONS = ROOT / "config/completions"
EVERYWHERE = {"--help", "--version"}  # of --help too: man pages need not repeat them
# Called as bash does: `shift` takes the word for $0 away.
BASH = """
source "$1"; shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_mirrorbus "$1"
printf '%s\\n' "${COMPREPLY[@]}"
"""
# _describe and compadd only say what they are given.
ZSH = """
file=$1; shift
words=("$@") CURRENT=$# PREFIX=$@[-1]
_describe() { print -l -- ${${(P)@[-1]}%%:*} }
_files() { }
mirrorbus() { source $file }
mirrorbus
"""

def options_of(program, *command):
    text = subprocess.run([program, *command, "--help"], capture_output=True, text=True, check=True).stdout
    commands = re.findall(r"^  ([a-z]+) ", text.partition("\nSubcommands:\n")[2], re.M)
    return set(re.findall(r"^  (?:-h,)?(--[a-z][a-z-]*)", text, re.M)), commands

def manual(name):
    (page,) = (ROOT / "docs/man").glob(name + ".[18]")
    # "Fl -a , -b" has a second one.
    return {"--" + word for word in re.findall(r"(?:\bFl |, )-([a-z][a-z-]*)", page.read_text())}

def completed(shell, script, file, *words):
    done = subprocess.run(
        [*shell, "-c", script, "complete", file, *words], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())

def faults_of(path):
    name = path.name
    options, commands = options_of(path)
    of_command = {command: options_of(path, command)[0] for command in commands}
    known = options.union(*of_command.values())
    if len(options) < 3:
        yield f"{name}: only {options} in --help: has its form changed?"
    for option in sorted(known - manual(name) - EVERYWHERE):
        yield f"{name}: {option} is not in its man page"
    for option in sorted(manual(name) - known - EVERYWHERE):
        yield f"{name}: {option} is in its man page only"
    shells = [("bash", ["bash"], BASH, COMPLETIONS / "mirrorbus.bash")]
    if shutil.which("zsh"):
        shells.append(("zsh", ["zsh", "-f"], ZSH, COMPLETIONS / "_mirrorbus"))
    for shell, call, script, file in shells:
        if name not in re.search(r"^(?:complete -F \w+|#compdef) (.*)", file.read_text(), re.M)[1].split():
            yield f"{name}: not completed in {shell}"
        said = {(): completed(call, script, file, path, "--")}
        if commands:
            if (found := completed(call, script, file, path, "")) != set(commands):
                yield f"{name}: {shell} completes the commands {found}"
        for command in commands:
            said[command,] = completed(call, script, file, path, command, "--")
        for command, found in said.items():
            if found != options.union(*(of_command[c] for c in command)):
                yield f"{name} {' '.join(command)}: {shell} completes {sorted(found)}"

def main():
    faults = [fault for path in sys.argv[2:] for fault in faults_of(pathlib.Path(path))]
    installed = (ROOT / "config/meson.build").read_text()
    faults += [f"config/meson.build: no completion is installed for {pathlib.Path(path).name}"
               for path in sys.argv[2:] if f"'{pathlib.Path(path).name}'" not in installed]
    print(*faults, sep="\n")
    return 1 if faults else 0

if __name__ == "__main__":
    sys.exit(main())
