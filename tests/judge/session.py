#!/usr/bin/python3
"""A day with a Docker on a migrated root, and what must not change by it.

    session.py starts  ROOT DRIVER         start every container, one by one; prints JSON: what each said
    session.py live    ROOT DRIVER NAME    work with the image NAME and the containers, stop, boot again, look again

dockerd writes into ROOT: give it a copy. `live` asks unaufs too ($UNAUFS), if it has migrated ROOT. One line for each thing that fails; exit code 1 if there is one.
"""
import contextlib
import ctypes
import json
import os
import re
import subprocess
import tempfile
import time

from judge import Docker, call, differs

SHELL = ["--network", "none", "--entrypoint", ""]


def settled(d, c):
    """A container's state once it has ended, or after two seconds."""
    for _ in range(20):
        state = d.inspect("container", [c])[0]["State"]
        if state["Status"] != "running":
            break
        time.sleep(0.1)
    return state


MNT_DETACH = 2


@contextlib.contextmanager
def at_home(root):
    """ROOT at the path where the Docker that wrote it had it: 20.10 looks for volumes there. Only in this mount namespace."""
    told = set()
    for c in os.listdir(root + "/containers"):
        with open("%s/containers/%s/config.v2.json" % (root, c)) as f:
            path = json.load(f).get("HostsPath") or ""
        told.add(path.partition("/containers/" + c)[0])
    told -= {"", root}
    home = told.pop() if len(told) == 1 else root
    made = []
    if home != root:
        for n in range(2, len(home.split("/")) + 1):
            part = "/".join(home.split("/")[:n])
            if not os.path.exists(part):
                os.mkdir(part)
                made.append(part)
        subprocess.run(["mount", "--bind", root, home], check=True)
    try:
        yield home
    finally:
        if home != root:
            # umount(8) of util-linux 2.41 looks the mount up first, and doesn't find it in a chroot
            if ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(home), MNT_DETACH):
                raise OSError(ctypes.get_errno(), "umount " + home)
        for part in reversed(made):
            os.rmdir(part)


def start(d, container):
    """Starts a container; those that it is linked to first, if Docker wants that. Gives what Docker said and which these were."""
    first = []
    while True:
        done = d.call("start", container, ok=False)
        linked = re.search(r"Cannot link to a non running container: /(\S+) AS", done.stderr)
        if not linked or len(first) == 3:
            return done, first
        first += [linked.group(1), *start(d, linked.group(1))[1]]


def starts(root, driver):
    out = {}
    with at_home(os.path.abspath(root)) as home, Docker(home, driver) as d:
        for c in sorted(d.containers(), key=lambda c: c["Name"]):
            started, first = start(d, c["Id"])
            state = settled(d, c["Id"])
            logs = d.call("logs", c["Id"], ok=False)
            # ids and addresses differ from run to run
            said = re.sub(r"[0-9a-f]{12,64}|0x[0-9a-f]+", "ID", started.stderr.strip().splitlines()[-1] if started.returncode else "")
            after = "after " + " ".join(sorted(set(first))) if first else ""
            out[c["Name"].lstrip("/")] = [started.returncode, state["Status"], state["ExitCode"], logs.returncode, said or after]
        for running in d.call("ps", "-q").stdout.split():
            d.call("kill", running, ok=False)
    print(json.dumps(out, indent=1, sort_keys=True))


class Checks:
    def __init__(self):
        self.fine = 0

    def that(self, what, true, *why):
        if true:
            self.fine += 1
        else:
            differs(what, *why)

    def ran(self, what, done, says=""):
        ok = done.returncode == 0 and says in done.stdout
        self.that(what, ok, done.returncode, done.stdout[-300:], done.stderr.strip()[-600:])
        return done.stdout.strip()


def names(d):
    images = sorted((i["Id"], *sorted((i["RepoTags"] or []) + (i["RepoDigests"] or []))) for i in d.images())
    containers = sorted((c["Id"], c["Name"], c["Image"]) for c in d.containers())
    return images, containers


def work(d, checks, image):
    """Containers, old and new; images, made in every way that a Docker without network has."""
    run = lambda *args, **more: d.call("run", "--rm", *SHELL, *args, ok=False, **more)
    checks.ran("run -d", d.call("run", "-d", "--name", "session", *SHELL, image, "sleep", "1000", ok=False))
    checks.ran("exec: write", d.call("exec", "-u", "0", "session", "sh", "-c", "echo here >/written; cat /written", ok=False), "here")
    checks.ran("exec: rename a directory of the image", d.call("exec", "-u", "0", "session", "sh", "-c", "mv /bin /was && /was/mv /was /bin && cat /written", ok=False), "here")
    checks.ran("diff", d.call("diff", "session", ok=False), "/written")
    checks.ran("commit", d.call("commit", "session", "session/committed:1", ok=False))
    checks.ran("run what was committed", run("session/committed:1", "cat", "/written"), "here")
    checks.ran("run with a volume", run("-v", "session:/v", image, "sh", "-c", "echo v >/v/f; cat /v/f"), "v")
    checks.ran("run as another user", run("-u", "1000", image, "sh", "-c", "echo $$"))
    with tempfile.TemporaryDirectory() as t:
        with open(t + "/Dockerfile", "w") as f:
            f.write("FROM %s\nUSER 0\nCOPY Dockerfile /copied\nRUN echo built >/built && cat /copied\nENTRYPOINT []\nCMD [\"cat\",\"/built\"]\n" % image)
        for kit in "0", "1":
            d.env["DOCKER_BUILDKIT"] = kit
            if kit == "1" and not os.path.exists("/usr/libexec/docker/cli-plugins/docker-buildx"):
                continue
            checks.ran("build, DOCKER_BUILDKIT=" + kit, d.call("build", "--network", "none", "-t", "session/built:" + kit, t, ok=False))
            checks.ran("run what was built", d.call("run", "--rm", "--network", "none", "session/built:" + kit, ok=False), "built")
        d.call("save", "-o", t + "/saved.tar", "session/committed:1", image, ok=False)
        checks.ran("load what was saved", d.call("load", "-i", t + "/saved.tar", ok=False), "Loaded")
    with tempfile.TemporaryDirectory() as t:
        old = [c for c in d.containers() if c["State"]["Status"] in ("created", "exited")]
        for c in old[:1]:
            checks.ran("export " + c["Name"], d.call("export", "-o", t + "/tree.tar", c["Id"], ok=False))
    checks.ran("system df", d.call("system", "df", ok=False))
    checks.ran("history", d.call("history", image, ok=False))


def unaufs(checks, root, *args, wants=0):
    program = os.environ.get("UNAUFS")
    if program and os.path.isdir(root + "/.unaufs"):
        done = subprocess.run([program, "--root", root, *args], capture_output=True, text=True)
        checks.that("unaufs " + args[0], done.returncode == wants, done.returncode, done.stdout[-600:], done.stderr[-600:])


def live(root, driver, image):
    checks = Checks()
    with Docker(root, driver) as d:
        before = names(d)
        work(d, checks, image)
        unaufs(checks, root, "status")
        unaufs(checks, root, "verify")
        unaufs(checks, root, "rollback", "--yes", wants=11)
        d.call("kill", "session", ok=False)
    with Docker(root, driver) as d:
        images, containers = names(d)
        ours = lambda i: any(n.startswith("session/") for n in i[1:])
        untouched = [[i for i in images if not ours(i) and i in before[0]], [c for c in containers if c in before[1]]]
        checks.that("images and containers after a restart", untouched == [before[0], before[1]], before, untouched)
        checks.ran("start again", d.call("start", "session", ok=False))
        checks.ran("what was written is there", d.call("exec", "session", "cat", "/written", ok=False), "here")
        d.call("kill", "session", ok=False)
    unaufs(checks, root, "verify")
    print("%d checks are fine" % checks.fine)


if __name__ == "__main__":
    call({"starts": (starts, 2), "live": (live, 3)}, __doc__)
