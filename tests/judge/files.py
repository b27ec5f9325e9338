#!/usr/bin/python3
"""What `unaufs diff` and `unaufs cp NAME:/ -` give of each container, against `docker diff` and `docker cp NAME:/ -` of a real Docker.

    files.py old ROOT DRIVER     unaufs ($UNAUFS) reads the old store, where the migration parked it
    files.py new ROOT DRIVER     unaufs reads the new store

ROOT was migrated to DRIVER, and Docker works on that. dockerd writes into ROOT: give it a copy. One line for each difference; exit code 1 if there is one.

Known differences, all of them Docker's:
  - overlay lists an opaque directory as deleted, where unaufs lists what it hides; so a path may be D for Docker and C, or only C, for unaufs;
  - a device 0:0 can't exist on overlay;
  - Docker mounts volumes, /etc/hosts, /etc/hostname and /etc/resolv.conf before it copies;
  - a directory of which only the owner changed is C for unaufs alone;
  - Docker's tars have whole seconds, and of the attributes security.capability only.
"""
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile

from judge import Docker, differs
import judge

UNAUFS = os.environ.get("UNAUFS", "unaufs")
MOUNTED = {"etc/hosts", "etc/hostname", "etc/resolv.conf"}


def unaufs(root, *args):
    return subprocess.run([UNAUFS, "--root", root, *args], capture_output=True, timeout=120)


def listed(text):
    return {line[2:]: line[0] for line in text.splitlines()}


def compare_diff(root, options, docker, c, name):
    ours = unaufs(root, "diff", *options, name)
    if ours.returncode:
        return differs(name, "unaufs diff:", ours.returncode, ours.stderr.decode().strip())
    have = listed(ours.stdout.decode())
    want = listed(docker.call("diff", c["Id"]).stdout)
    opaque = {p for p, how in want.items() if how == "D" and have.get(p) == "C"}
    below = lambda p, tops: any(p.startswith(t + "/") for t in tops)
    for path in sorted(want.keys() | have.keys()):
        w, h = want.get(path), have.get(path)
        if w == h or path in opaque:
            continue
        # what an opaque directory hides
        if w is None and h == "D" and below(path, opaque):
            continue
        if w is None and h == "C" and below(path, opaque):
            continue
        differs(name, "diff:", path, "is", h, "for unaufs,", w, "for Docker")
    return len(have)


def tree(stream):
    out = {}
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for m in tar:
            name = m.name.strip("/").removeprefix("./") if m.name not in (".", "./", "/") else ""
            content = hashlib.sha256(tar.extractfile(m).read()).hexdigest() if m.isreg() else ""
            capability = m.pax_headers.get("SCHILY.xattr.security.capability", "")
            link = m.linkname.strip("/").removeprefix("./") if m.islnk() else m.linkname
            device = (m.devmajor, m.devminor) if m.isdev() and not m.isfifo() else ""
            # which name of a file comes first is each program's own
            out[name] = [m.type, oct(m.mode & 0o7777), m.uid, m.gid, m.size, int(m.mtime), link, device, capability, content]
    for name, fields in list(out.items()):
        if fields[0] == tarfile.LNKTYPE and fields[6] in out:
            out[name] = [*out[fields[6]]]
    return out


def compare_cp(root, options, docker, c, name, driver):
    with tempfile.TemporaryFile() as mine, tempfile.TemporaryFile() as theirs:
        ours = subprocess.run([UNAUFS, "--root", root, "cp", *options, "-q", name + ":/", "-"], stdout=mine, stderr=subprocess.PIPE, timeout=120)
        if ours.returncode:
            return differs(name, "unaufs cp:", ours.returncode, ours.stderr.decode().strip())
        done = subprocess.run([*docker.client, "cp", c["Id"] + ":/", "-"], stdout=theirs, stderr=subprocess.PIPE, env=docker.env, timeout=120)
        if done.returncode:
            return differs(name, "docker cp:", done.stderr.decode().strip())
        mine.seek(0)
        theirs.seek(0)
        have, want = tree(mine), tree(theirs)
    mounts = {m["Destination"].strip("/") for m in c["Mounts"]} | MOUNTED
    for path in sorted(have.keys() | want.keys()):
        w, h = want.get(path), have.get(path)
        if w == h or any(path == m or path.startswith(m + "/") for m in mounts):
            continue
        if w is None and h[0] == tarfile.CHRTYPE and h[7] == (0, 0) and driver.startswith("overlay"):
            continue
        # a mount point on the way was made by Docker just now
        if w and h and w[0] == h[0] == tarfile.DIRTYPE and [*w[:5], *w[6:]] == [*h[:5], *h[6:]] and any(m.startswith(path + "/") or not path for m in mounts):
            continue
        differs(name, "cp:", path, "is", h, "for unaufs,", w, "for Docker")
    return len(have)


def compare(root, driver, reads):
    paths = files = n = 0
    options = ("--driver", reads)
    with Docker(root, driver) as docker:
        for c in sorted(docker.containers(), key=lambda c: c["Name"]):
            name = c["Name"].lstrip("/")
            n += 1
            paths += compare_diff(root, options, docker, c, name) or 0
            files += compare_cp(root, options, docker, c, name, driver) or 0
    print("%d containers: %d changed paths, %d files compared" % (n, paths, files))


def old(root, driver):
    compare(root, driver, "aufs")


def new(root, driver):
    compare(root, driver, driver)


if __name__ == "__main__":
    judge.call({"old": (old, 2), "new": (new, 2)}, __doc__)
