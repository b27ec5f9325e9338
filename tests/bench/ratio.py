#!/usr/bin/env python3
"""ratio.py NAME GOAL --ours CMD --theirs CMD [--before-ours CMD] [--after-ours CMD] [--after-theirs CMD] [-n RUNS]

Runs two shell commands in turn, ours and theirs, after one warm-up each, and prints one row of a Markdown table: the medians of the
wall time, their ratio (median of the ratios pair by pair), CPU time over wall time and the peak memory of ours, and the goal. The commands
between the runs (to undo what a run made) are not timed. It states, it does not judge.
"""
import argparse
import os
import statistics
import subprocess
import sys
import time


def run(cmd):
    start = time.monotonic()
    p = subprocess.Popen(["bash", "-c", cmd], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    err = p.stderr.read()
    _, status, usage = os.wait4(p.pid, 0)
    wall = time.monotonic() - start
    if os.waitstatus_to_exitcode(status) not in (0, 3):
        sys.exit(f"{cmd}: {err.decode(errors='replace')[-500:]}")
    return wall, usage.ru_utime + usage.ru_stime


def peak(cmd):
    """MiB of the program itself, without those that it starts: rusage would give the largest of all. Seen every few milliseconds."""
    p = subprocess.Popen(["bash", "-c", "exec " + cmd], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    most = 0
    while p.poll() is None:
        try:
            status = open(f"/proc/{p.pid}/status").read()
            if not status.startswith("Name:\tbash\n"):
                most = max([most] + [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")])
        except OSError:
            pass
        time.sleep(0.005)
    return most / 1024


def between(cmd):
    if cmd:
        subprocess.run(["bash", "-c", cmd], check=True, stdout=subprocess.DEVNULL)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("name")
    p.add_argument("goal")
    p.add_argument("--ours", required=True)
    p.add_argument("--theirs", required=True)
    p.add_argument("--before-ours")
    p.add_argument("--after-ours")
    p.add_argument("--after-theirs")
    p.add_argument("-n", type=int, default=5)
    a = p.parse_args()
    ours, theirs = [], []
    for i in range(a.n + 1):
        between(a.before_ours)
        if i == 0:
            memory = peak(a.ours)
        else:
            o = run(a.ours)
        between(a.after_ours)
        t = run(a.theirs)
        between(a.after_theirs)
        if i:
            ours.append(o)
            theirs.append(t)
    med = statistics.median
    ratio = med([o[0] / t[0] for o, t in zip(ours, theirs)])
    # of a pipeline nothing is known
    told = f"{memory:.0f} MiB" if memory else "-"
    load = med([o[1] / o[0] for o in ours])
    print(f"| {a.name} | {med([o[0] for o in ours]):.2f} s | {med([t[0] for t in theirs]):.2f} s | **{ratio:.2f}** | {a.goal} | "
          f"{load:.2f} | {told} |", flush=True)


main()
