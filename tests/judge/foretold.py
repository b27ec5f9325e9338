#!/usr/bin/python3
"""Does Docker do what unaufs foretells? Roots with the remains of other drivers, and every daemon.json that may be on such a host.

    foretold.py drivers    ROOT    each row of the table below on a copy of the aufs root ROOT: what `plan` and `status` say, and what
                                   dockerd then does: the driver of `docker info`, or its error
    foretold.py containers ROOT    containers that are broken, or have a name twice: what the plan says, and which of them Docker loads

unaufs ($UNAUFS) and dockerd both run here: below engine.sh the Docker of that release is the one that is installed. ROWS names some rows. Prints
what each row gave; exit code 1 where a foretelling was wrong.
"""
import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile

from judge import HOME, Docker, NoAnswer, call, differs

UNAUFS = os.environ.get("UNAUFS", "unaufs")
LAYER = "a" * 64
# what says how Docker starts; the others say how a migration goes
SAYS = ("H07", "H15", "H17", "T05", "T11")

OF = {
    "overlay": "overlay/%s/root/etc/file" % LAYER,
    "overlay2": "overlay2/%s/diff/etc/file" % LAYER,
    "devicemapper": "devicemapper/metadata/base",
    "btrfs": "btrfs/subvolumes/%s/etc/file" % LAYER,
    "zfs": "zfs/graph/%s/file" % LAYER,
    "vfs": "vfs/dir/%s/etc/file" % LAYER,
    "fuse-overlayfs": "fuse-overlayfs/%s/diff/etc/file" % LAYER,
    "aufs": "aufs/diff/%s/etc/file" % LAYER,
}
MANY = [d for d in OF if d not in ("aufs", "overlay2")]


def put(*paths):
    """Files, and directories where the name ends in a slash."""

    def make(root):
        for path in paths:
            at = os.path.join(root, path)
            os.makedirs(at if path.endswith("/") else os.path.dirname(at), exist_ok=True)
            if not path.endswith("/"):
                with open(at, "w") as f:
                    f.write("x")

    return make


def of(*drivers):
    return put(*(OF[d] for d in drivers))


def images_too(*drivers):
    return put(*(OF[d] for d in drivers), *("image/%s/layerdb/sha256/" % d for d in drivers))


def link(name, to):
    return lambda root: os.symlink(to, os.path.join(root, name))


def row(name, before=None, config=None, to="overlay2", after=None):
    return {"name": name, "before": before, "config": config, "to": to, "after": after}


ROWS = [
    row("nothing else"),
    *(row(d + "/", of(d)) for d in MANY),
    *(row("%s/ and image/%s" % (d, d), images_too(d)) for d in ("overlay", "btrfs", "vfs")),
    row("btrfs/ and devicemapper/", of("btrfs", "devicemapper")),
    row("all others", of(*MANY)),
    row("all others, and overlay2 named", of(*MANY), '{"storage-driver":"overlay2"}'),
    row("all others, empty", put(*(d + "/" for d in MANY))),
    row("image/ of others only", put(*("image/%s/layerdb/sha256/" % d for d in MANY))),
    row("btrfs is a file", put("btrfs")),
    row("overlay is a link to a directory", lambda root: (put("x/%s/root/file" % LAYER)(root), link("overlay", "x")(root))),
    row("btrfs is a link to nothing", link("btrfs", "nowhere")),
    row("overlay2/ without a layer before", put("overlay2/l/", "image/overlay2/layerdb/sha256/")),
    row("aufs/ again afterwards", after=of("aufs")),
    row("aufs/ again afterwards, empty", after=put("aufs/")),
    row("aufs/ again afterwards, and overlay2 named", None, '{"storage-driver":"overlay2"}', after=of("aufs")),
    row("overlay2 named", None, '{"storage-driver":"overlay2"}'),
    *(row(d + " named", None, json.dumps({"storage-driver": d})) for d in ("aufs", "overlay", "btrfs", "vfs", "devicemapper", "Overlay2", "")),
    *(row("storage-driver: " + v, None, '{"storage-driver":%s}' % v) for v in ("7", "null", '["overlay2"]')),
    row("two of them", None, '{"storage-driver":"aufs","storage-driver":"overlay2"}'),
    row("containerd's store", None, '{"features":{"containerd-snapshotter":true}}'),
    row("containerd's store, and overlay2 named", None, '{"storage-driver":"overlay2","features":{"containerd-snapshotter":true}}'),
    row("containerd's store: a text", None, '{"features":{"containerd-snapshotter":"true"}}'),
    row("containerd's store off", None, '{"features":{"containerd-snapshotter":false}}'),
    *(row("daemon.json: " + repr(v), None, v) for v in ("", "null", "[]", '{"debug":true,}', "{} x", "\ufeff{}")),
    *(
        row("storage option " + o, None, json.dumps({"storage-opts": [o]}))
        for o in ("dm.basesize=20G", "overlay2.override_kernel_check=true", "overlay2.size=10G", "btrfs.min_space=1G")
    ),
    row("storage-opts: a text", None, '{"storage-opts":"dm.fs=xfs"}'),
    row("graph", None, json.dumps({"graph": HOME})),
    row("vfs", to="vfs"),
    row("vfs, named", None, '{"storage-driver":"vfs"}', to="vfs"),
    row("vfs, another named", None, '{"storage-driver":"overlay2"}', to="vfs"),
    row("vfs, with overlay2/", of("overlay2"), to="vfs"),
    row("vfs, with btrfs/, named", of("btrfs"), '{"storage-driver":"vfs"}', to="vfs"),
    row("vfs, named, with an option", None, '{"storage-driver":"vfs","storage-opts":["overlay2.size=10G"]}', to="vfs"),
    row("overlay", to="overlay"),
    row("overlay, named", None, '{"storage-driver":"overlay"}', to="overlay"),
    row("overlay, with devicemapper/", of("devicemapper"), to="overlay"),
    row("overlay, with vfs/", of("vfs"), to="overlay"),
    row("on btrfs: btrfs", to="btrfs"),
    row("on btrfs: btrfs, overlay2 named", None, '{"storage-driver":"overlay2"}', to="btrfs"),
    row("on btrfs: btrfs, with overlay2/", of("overlay2"), to="btrfs"),
    row("on btrfs: btrfs, with overlay2/, named", of("overlay2"), '{"storage-driver":"btrfs"}', to="btrfs"),
]


def unaufs(*args, fine=(0,)):
    done = subprocess.run([UNAUFS, "--root", HOME, *args], capture_output=True, text=True)
    if done.returncode not in fine:
        raise RuntimeError("unaufs %s: %d %s%s" % (" ".join(args), done.returncode, done.stdout[-500:], done.stderr[-500:]))
    return done.stdout


def planned(*args):
    """The whole document, and those of its findings that speak against a start."""
    plan = json.loads(unaufs("plan", "--json", *args, fine=(0, 3, 4)))
    return plan, [c for c in plan["checks"] if c["id"] in SAYS and c["level"] in ("warn", "block")]


@contextlib.contextmanager
def at_home(source, config=None, btrfs=False):
    """A copy of the root at /var/lib/docker, with this daemon.json. Only in this mount namespace."""
    os.makedirs(HOME, exist_ok=True)
    os.makedirs("/etc/docker", exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="foretold.", dir=os.environ.get("TMPDIR", "/var/tmp")) as t:
        place = t + "/place"
        os.mkdir(place)
        if btrfs:
            subprocess.run(["truncate", "-s", "1G", t + "/disk"], check=True)
            subprocess.run(["mkfs.btrfs", "-q", t + "/disk"], check=True, stdout=subprocess.DEVNULL)
            subprocess.run(["mount", "-o", "loop", t + "/disk", place], check=True)
        subprocess.run(["cp", "-a", source, place + "/root"], check=True)
        subprocess.run(["mount", "--bind", place + "/root", HOME], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "etc-docker", "/etc/docker"], check=True)
        if config is not None:
            with open("/etc/docker/daemon.json", "w") as f:
                f.write(config)
        try:
            yield
        finally:
            # a dockerd that ends early leaves mounts too
            with open("/proc/self/mountinfo") as f:
                points = [line.split()[4] for line in f]
            for point in reversed(points):
                if (point + "/").startswith((HOME + "/", "/etc/docker/", place + "/")):
                    subprocess.run(["umount", "-l", point], check=True)


def started(config):
    """What Docker does: its driver, how many images and containers it has; or its error."""
    try:
        with Docker(HOME, "", config=config) as d:
            info = json.loads(d.call("info", "-f", "{{json .}}").stdout)
            return "%s, %d images, %d containers" % (info["Driver"], info["Images"], info["Containers"])
    except NoAnswer as e:
        lines = str(e).splitlines()
        errors = [l for l in lines if "failed to start" in l or "unable to configure" in l]
        return "doesn't start: " + (errors or lines)[-1][-200:]


def drivers(source):
    chosen = os.environ.get("ROWS", "").split(",")
    for r in ROWS:
        if any(c in r["name"] for c in chosen):
            with at_home(source, r["config"], r["to"] == "btrfs"):
                one(r)


def one(r):
    to, config = r["to"], r["config"]
    if r["before"]:
        r["before"](HOME)
    plan, against = planned("--to", to)
    if config is not None:
        # the same file, where only the option tells of it
        os.rename("/etc/docker/daemon.json", "/etc/docker/elsewhere.json")
        named = planned("--to", to, "--docker-config", "/etc/docker/elsewhere.json")[1]
        os.rename("/etc/docker/elsewhere.json", "/etc/docker/daemon.json")
        if [c["message"] for c in named] != [c["message"] for c in against]:
            differs(r["name"], "with --docker-config:", named, "without:", against)
    unaufs("migrate", "--yes", "-q", "--verify", "none", "--allow", "H07", "--to", to)
    if r["after"]:
        r["after"](HOME)
    status = json.loads(unaufs("status", "--json"))["reason"]
    got = started(config if config is not None else "{}")
    print("%-44s %s" % (r["name"], got), flush=True)
    judge(r, got, status, against, "%s, %d images, %d containers" % (to, len(plan["images"]), len(plan["containers"])))


def judge(r, got, status, against, want):
    says = [" ".join((c["message"], "=>", c.get("effect") or "")) for c in against]
    for line in says:
        print("    " + line)
    # whether a driver is built in can't be seen
    if any("if it is built with" in line for line in says):
        return
    if ("Docker may be started; it runs on" in status) != (got == want):
        differs("  WRONG:", r["name"], "status says:", status)
    # what comes after the migration no plan can know
    if r["after"]:
        return
    if bool(against) == (got == want):
        differs("  WRONG:", r["name"], "the plan says:", says or "nothing")
    for line in says:
        dies = "doesn't start here" in line or "Docker doesn't start with this" in line
        if dies and not got.startswith("doesn't start") or "empty store" in line.split(";")[0] and got.startswith("doesn't start"):
            differs("  WRONG:", r["name"], line)


# --- containers -----------------------------------------------------------------------------------------------------------------


def containers(source):
    with open(source + "/../truth/truth.json") as f:
        everyone = {c["id"]: c["name"] for c in json.load(f)["containers"]}
    victim, other = sorted(everyone, key=everyone.get)[:2]
    cut = lambda text: text[: len(text) // 2]
    renamed = lambda text: text.replace('"Name":"/%s"' % everyone[victim], '"Name":"/%s"' % everyone[other])
    for what, file, change, alone in (
        ("hostconfig.json: empty", "hostconfig.json", lambda text: "", "left out"),
        ("hostconfig.json: cut", "hostconfig.json", cut, "left out"),
        ("hostconfig.json: only NUL bytes", "hostconfig.json", lambda text: "\0" * len(text), "left out"),
        ("hostconfig.json: null", "hostconfig.json", lambda text: "null", "crashes"),
        ("config.v2.json: empty", "config.v2.json", lambda text: "", "left out"),
        ("config.v2.json: cut", "config.v2.json", cut, "left out"),
        ("two containers with one name", "config.v2.json", renamed, "one of two"),
    ):
        whole = set(everyone.values())

        def damage(root):
            path = "%s/containers/%s/%s" % (root, victim, file)
            with open(path) as f:
                text = f.read()
            if change(text) == text:
                differs(what, "changes nothing")
            with open(path, "w") as f:
                f.write(change(text))

        # what Docker does if the store is whole but for that
        with at_home(source):
            unaufs("migrate", "--yes", "-q", "--verify", "none")
            damage(HOME)
            got = loaded()
        if alone == "crashes":
            fine = got is None
        elif alone == "left out":
            fine = got == whole - {everyone[victim]}
        else:
            fine = got == whole - {everyone[victim]} and len(got) == len(whole) - 1
        print("%-44s Docker: %s" % (what, "crashes" if got is None else "%d of %d containers" % (len(got), len(whole))), flush=True)
        if not fine:
            differs("  WRONG:", what, "Docker:", got, "wanted:", alone)

        # what the plan says of it, and what Docker shows after the migration
        with at_home(source):
            damage(HOME)
            plan = json.loads(unaufs("plan", "--json", fine=(0, 3)))
            says = [(c["id"], c["message"], c.get("effect")) for c in plan["checks"] if c["id"] in ("C01", "G09") and c["level"] != "ok"]
            moves = {c["name"] for c in plan["containers"]}
            unaufs("migrate", "--yes", "-q", "--verify", "none", fine=(0, 3))
            got = loaded()
        print("    %s\n    after the migration: %d containers" % (says, len(got or ())), flush=True)
        crashes = any("crashes on this file" in (effect or "") for _, _, effect in says)
        if got != moves or len(says) != 1 or crashes != (alone == "crashes") or len(moves) != len(whole) - (alone != "one of two"):
            differs("  WRONG:", what, "the plan moves", sorted(moves), "Docker shows", sorted(got or ()))


def loaded():
    """The names of the containers that Docker has; None where it doesn't start."""
    try:
        with Docker(HOME, "") as d:
            return {c["Name"].lstrip("/") for c in d.containers()}
    except NoAnswer:
        return None


if __name__ == "__main__":
    call({"drivers": (drivers, 1), "containers": (containers, 1)}, __doc__)
