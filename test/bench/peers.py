"""What ostree, casync and zsync make of a change, where they are installed: bytes that a mirror which has the
old state fetches, and processor time to make them. They are asked to make what they make best: ostree a static
delta, casync chunks against the old tree's, zsync (single files) ranges by a control file."""
import os
import resource
import shutil
import subprocess
import tempfile


def cpu_of(*commands, cwd=None):
    """Processor seconds of the commands."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for command in commands:
        subprocess.run(command, check=True, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def size_of(path):
    return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(path) for name in names)


def ostree(work, old, new):
    repo = f"{work}/repo"
    subprocess.run(["ostree", f"--repo={repo}", "init", "--mode=archive"], check=True)
    commits = []
    cpu = []
    for tree in old, new:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        commits.append(subprocess.run(
            ["ostree", f"--repo={repo}", "commit", "--branch=b", f"--tree=dir={tree}", "--subject=x"],
            check=True, text=True, stdout=subprocess.PIPE).stdout.strip())
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    delta = cpu_of(["ostree", f"--repo={repo}", "static-delta", "generate", f"--from={commits[0]}", f"--to={commits[1]}"])
    return size_of(f"{repo}/deltas"), delta, f"commit {cpu[1]:.1f} s of CPU beside it"


def casync(work, old, new):
    cpu = 0.0
    for name, tree in (("old", old), ("new", new)):
        cpu = cpu_of(["casync", "make", f"--store={work}/{name}.castr", f"{work}/{name}.caidx", tree])
    had = {name for _, _, names in os.walk(f"{work}/old.castr") for name in names}
    fetched = sum(os.path.getsize(os.path.join(at, name))
                  for at, _, names in os.walk(f"{work}/new.castr") for name in names if name not in had)
    return fetched + os.path.getsize(f"{work}/new.caidx"), cpu, "chunks and index, without HTTP"


def zsync(work, old, new):
    (name,) = os.listdir(old)
    shutil.copyfile(f"{new}/{name}", f"{work}/{name}")
    cpu = cpu_of(["zsyncmake", "-u", name, "-o", f"{work}/{name}.zsync", f"{work}/{name}"], cwd=work)
    made = subprocess.run(["zsync", "-i", f"{old}/{name}", "-o", f"{work}/made", f"{work}/{name}.zsync"], check=False,
                          cwd=work, text=True, capture_output=True)
    # Without a server it says how much of the file it has, and stops at the first range.
    said = [word.rstrip("%") for word in (made.stdout + made.stderr).replace("\r", "\n").split() if word.endswith("%")]
    if not said:
        return None
    lacking = os.path.getsize(f"{new}/{name}") * (1 - float(said[-1]) / 100)
    return int(lacking) + os.path.getsize(f"{work}/{name}.zsync"), cpu, "control file, and what it lacks by its own count"


def compare(workload, where):
    for tool, run in (("ostree", ostree), ("casync", casync), ("zsync", zsync)):
        if not shutil.which(tool) or (tool == "zsync" and workload.name == "B3"):
            continue
        with tempfile.TemporaryDirectory(prefix="tree-peers-", dir=where) as work:
            workload.make(f"{work}/old")
            subprocess.run(["cp", "-a", f"{work}/old", f"{work}/new"], check=True)
            workload.change(f"{work}/new")
            found = run(work, f"{work}/old", f"{work}/new")
            if found:
                print(f"| {workload.name}, {tool} | {found[2]} | | | | | {found[0] / 1e6:.3f} MB | | | {found[1]:.2f} s "
                      "to make it | | | |", flush=True)
