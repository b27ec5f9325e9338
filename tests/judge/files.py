#!/usr/bin/python3
"""What `unaufs diff` and `unaufs cp NAME:/ -` give of each container, against `docker diff` and `docker cp NAME:/ -` of a real Docker.

    files.py old ROOT DRIVER     unaufs ($UNAUFS) reads the old store, where the migration parked it
    files.py new ROOT DRIVER     unaufs reads the new store

ROOT was migrated to DRIVER, and Docker works on that. dockerd writes into ROOT: give it a copy. One line for each difference; exit code 1 if there is one.

Known differences, all of them Docker's:
  - Docker on overlay2 compares trees, Docker on aufs listed what is in the layer, as unaufs does: a file that was written and has the same
    mode, owner, size and time, and a directory of which only the time changed, are not listed by the former (both are checked here);
  - a device 0:0 can't exist on overlay;
  - Docker mounts volumes, /etc/hosts, /etc/hostname and /etc/resolv.conf before it copies; if it can't, `docker export` is compared;
  - Docker's tars have whole seconds, and of the attributes security.capability only.
"""
import hashlib
import json
import os
import re
import socket
import stat
import subprocess
import sys
import tarfile
import tempfile
import time

from judge import Docker, View, differs
import judge

UNAUFS = os.environ.get("UNAUFS", "unaufs")
MOUNTED = {"etc/hosts", "etc/hostname", "etc/resolv.conf"}


def unaufs(root, *args):
    return subprocess.run([UNAUFS, "--root", root, *args], capture_output=True, timeout=120)


def plain(shown):
    """A name as it is: unaufs escapes what a terminal would obey."""
    one = lambda m: chr(int(m[1], 16)) if m[1] else bytes([int(m[2], 16)]).decode("utf-8", "surrogateescape") if m[2] else "\\"
    return re.sub(r"\\u\{([0-9a-f]+)\}|\\x([0-9a-f]{2})|\\\\", one, shown)


def listed(lines):
    return {line[2:]: line[0] for line in lines}


def api_changes(docker, container):
    """What `docker diff` prints, before a newline in a name is one in the list."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(docker.run + "/s")
        s.sendall(b"GET /containers/%s/changes HTTP/1.0\r\nHost: d\r\n\r\n" % container.encode())
        answer = b"".join(iter(lambda: s.recv(1 << 16), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.splitlines()[0]:
        raise RuntimeError(answer.decode())
    return {c["Path"]: "CAD"[c["Kind"]] for c in json.loads(body) or []}


def same(root, driver, layer, path):
    """Has a container the file or directory just as what is below has it?"""
    with View(root, driver, layer) as top, View(root, driver, layer + "-init") as below:
        a, b = (os.lstat(t + path) for t in (top, below))
    fields = lambda m: (m.st_mode, m.st_uid, m.st_gid, m.st_rdev) + (() if stat.S_ISDIR(m.st_mode) else (m.st_size, m.st_mtime_ns))
    return fields(a) == fields(b)


def whiteout(root, layer, path):
    """Is it a device 0:0 in the old store?"""
    for home in (".unaufs/old/aufs/diff", "aufs/diff"):
        try:
            m = os.lstat("%s/%s/%s%s" % (root, home, layer, path))
            return stat.S_ISCHR(m.st_mode) and m.st_rdev == 0
        except OSError:
            pass
    return False


def compare_diff(root, driver, options, docker, c, name):
    ours = unaufs(root, "diff", *options, name)
    if ours.returncode:
        return differs(name, "unaufs diff:", ours.returncode, ours.stderr.decode().strip())
    have = listed(map(plain, ours.stdout.decode().splitlines()))
    want = api_changes(docker, c["Id"])
    with open("%s/image/%s/layerdb/mounts/%s/mount-id" % (root, driver, c["Id"])) as f:
        layer = f.read()
    for path in sorted(want.keys() | have.keys()):
        w, h = want.get(path), have.get(path)
        if w == h or (w is None and h == "C" and same(root, driver, layer, path)):
            continue
        if w is None and h == "A" and whiteout(root, layer, path):
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
        if b"mount source" in done.stderr:
            theirs.truncate(0)
            done = subprocess.run([*docker.client, "export", c["Id"]], stdout=theirs, stderr=subprocess.PIPE, env=docker.env, timeout=120)
        if done.returncode:
            return differs(name, "docker cp:", done.stderr.decode().strip())
        mine.seek(0)
        theirs.seek(0)
        have, want = tree(mine), tree(theirs)
    # an export has no entry for the top
    if "" not in want:
        have.pop("", None)
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
    begun = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    with Docker(root, driver) as docker:
        for c in sorted(docker.containers(), key=lambda c: c["Name"]):
            name = c["Name"].lstrip("/")
            # with a restart policy: it writes into the new store
            if reads == "aufs" and c["State"]["StartedAt"] > begun:
                continue
            n += 1
            paths += compare_diff(root, driver, options, docker, c, name) or 0
            files += compare_cp(root, options, docker, c, name, driver) or 0
    print("%d containers: %d changed paths, %d files compared" % (n, paths, files))


def old(root, driver):
    compare(root, driver, "aufs")


def new(root, driver):
    compare(root, driver, driver)


if __name__ == "__main__":
    judge.call({"old": (old, 2), "new": (new, 2)}, __doc__)
