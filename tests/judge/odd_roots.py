#!/usr/bin/python3
"""aufs roots that are seldom met, and what is true of them.

    odd_roots.py remapped ROOT TRUTH           the root ROOT with the truth TRUTH becomes one of a Docker with userns-remap: a container has a
                                               file with an owner, a POSIX ACL and a capability of its own
    odd_roots.py deep     ROOT TRUTH LAYERS    a new root: an image of so many layers, and a container on it; TRUTH is made too
    odd_roots.py broken   ROOT TRUTH           the writable layer of one container is gone; TRUTH no longer has the container. Prints its name

The views in TRUTH are made here from what is true of aufs branches, not by unaufs.
"""
import hashlib
import json
import os
import shutil
import stat
import struct
import subprocess
import sys

from judge import call, entries

HERE = os.path.dirname(os.path.abspath(__file__))
SHIFT = 231072
CAPABILITY = bytes([1, 0, 0, 2, 0, 4, 0, 0]) + bytes(12)
ACCESS = "system.posix_acl_access"


def acl(user):
    nobody = 0xFFFFFFFF
    entry = [(1, 6, nobody), (2, 4, user), (4, 4, nobody), (16, 4, nobody), (32, 4, nobody)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entry)


def read(path):
    with open(path) as f:
        return f.read()


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


def line(name, fields):
    return "\t".join([name, *fields]) + "\n"


def truth_of(folder):
    return json.loads(read(folder + "/truth.json"))


def mount_id(root, container):
    return read("%s/image/aufs/layerdb/mounts/%s/mount-id" % (root, container)).strip()


def remapped(root, truth):
    container = next(c for c in truth_of(truth)["containers"] if c["name"] == "c-changes")
    layer = mount_id(root, container["id"])
    path = "%s/aufs/diff/%s/of-a-namespace" % (root, layer)
    write(path, "x")
    os.chown(path, 1234, 50)
    os.setxattr(path, "security.capability", CAPABILITY)
    os.setxattr(path, ACCESS, acl(1234))
    # as the container sees it
    with open("%s/manifest/%s.tsv" % (truth, layer), "a") as f:
        f.write(line("/of-a-namespace", entries(os.path.dirname(path))["/of-a-namespace"]))
    own = {mount_id(root, c) for c in os.listdir(root + "/image/aufs/layerdb/mounts")}
    for branch in os.listdir(root + "/aufs/diff"):
        shift("%s/aufs/diff/%s" % (root, branch), branch in own)
    for path in root, root + "/aufs", root + "/containers":
        os.chown(path, SHIFT, SHIFT)


def shift(top, by_the_container):
    """The owners as Docker has them on the disk. What a process in a user namespace sets, the kernel converts; what Docker itself sets when
    it unpacks an image it sets as the image has it, from outside."""
    seen = set()
    for folder, folders, files in os.walk(top):
        for path in [folder, *(os.path.join(folder, n) for n in files), *(p for n in folders if os.path.islink(p := os.path.join(folder, n)))]:
            st = os.lstat(path)
            if st.st_ino in seen:
                continue
            seen.add(st.st_ino)
            link = stat.S_ISLNK(st.st_mode)
            held = {} if link else {a: os.getxattr(path, a) for a in os.listxattr(path) if a == "security.capability" or a.startswith("system.posix_acl")}
            os.lchown(path, st.st_uid + SHIFT, st.st_gid + SHIFT)
            if not link:
                os.chmod(path, stat.S_IMODE(st.st_mode))
            for name, value in held.items():
                os.setxattr(path, name, converted(name, value) if by_the_container else value)


def converted(name, value):
    if name == "security.capability":
        return bytes([1, 0, 0, 3]) + value[4:] + struct.pack("<I", SHIFT)
    entry = [struct.unpack("<HHI", value[at : at + 8]) for at in range(4, len(value), 8)]
    return value[:4] + b"".join(struct.pack("<HHI", tag, may, who + SHIFT if tag in (2, 8) else who) for tag, may, who in entry)


def deep(root, truth, layers):
    make = [sys.executable, HERE + "/../bench/make_store.py", root, "--layers", layers, "--files", str(4 * int(layers)), "--digests", "--containers", "1"]
    subprocess.run([*make, "--shared", "--whiteouts", "1"], check=True)
    cid = os.listdir(root + "/containers")[0]
    layer = mount_id(root, cid)
    below = read("%s/aufs/layers/%s" % (root, layer)).split()
    images = [b for b in below if not b.endswith("-init")]
    own = "%s/aufs/diff/%s" % (root, layer)
    change(own, int(layers))
    os.makedirs(truth + "/manifest")
    # the image's own view is proved by its digests: its tars have no directories, which then are as old as the archive is loaded
    rows = merged(["%s/aufs/diff/%s" % (root, b) for b in reversed([layer, *images])])
    write("%s/manifest/%s.tsv" % (truth, layer), "".join(line(n, f) for n, f in sorted(rows.items())))
    folder = root + "/image/aufs/imagedb/content/sha256/"
    image = os.listdir(folder)[0]
    diffids = json.loads(read(folder + image))["rootfs"]["diff_ids"]
    tags = {"id": "sha256:" + image, "tags": ["bench:1"], "digests": [], "parent": "", "diffids": diffids}
    write(truth + "/truth.json", json.dumps({"images": [tags], "containers": [{"id": cid, "name": "bench0", "image": tags["id"]}], "volumes": []}))


def change(own, layers):
    """What a container does to the layers below, the uppermost ones above all: these are the ones that are merged where the stack is full."""
    shared = own + "/usr/shared/d0/e0"
    os.makedirs(shared)
    top = layers - 1
    write("%s/.wh.l%d-f1" % (shared, top), "")
    write("%s/.wh.l%d-f1" % (shared, top - 1), "")
    write("%s/.wh.l0-f2" % shared, "")
    write("%s/l%d-f2" % (shared, top), "changed in the container\n")
    os.chown("%s/l%d-f2" % (shared, top), 12, 34)
    os.chmod("%s/l%d-f2" % (shared, top), 0o4750)
    write(shared + "/new", "new\n")
    os.link(shared + "/new", own + "/another-name")
    os.symlink("new", shared + "/link")
    os.setxattr(shared + "/new", "user.test", b"value")


def merged(branches):
    """The view of a stack, base first, without opaque marks."""
    view = {}
    for branch in branches:
        rows = {n: f for n, f in entries(branch).items() if not any(part.startswith(".wh..wh.") for part in n.split("/"))}
        for name in [n for n in rows if n.rsplit("/", 1)[1].startswith(".wh.")]:
            folder, hidden = name.rsplit("/", 1)
            hidden = folder + "/" + hidden[4:]
            view = {n: f for n, f in view.items() if n != hidden and not n.startswith(hidden + "/")}
            del rows[name]
        view.update(rows)
    return view


def broken(root, truth):
    all_of = truth_of(truth)
    victim = next(c for c in all_of["containers"] if c["name"] == "c-changes")
    shutil.rmtree("%s/aufs/diff/%s" % (root, mount_id(root, victim["id"])))
    all_of["containers"].remove(victim)
    write(truth + "/truth.json", json.dumps(all_of))
    print(victim["name"])


if __name__ == "__main__":
    call({"remapped": (remapped, 2), "deep": (deep, 3), "broken": (broken, 2)}, __doc__)
