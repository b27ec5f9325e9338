#!/usr/bin/env python3
"""real_stack.py ROOT: a real stack of packages as an aufs root, for benchmarks. Debian 12 by debootstrap, and one layer for each set of packages
by apt, built by the installed Docker on overlay2, with its tar-split data. Then the layers are written down as aufs does it (FORMATS 1.2).

As root, with network; some minutes, and 2 GiB beside ROOT while it works.
"""
import os
import shutil
import stat
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "judge"))
from judge import Docker  # noqa: E402

SETS = """ca-certificates curl
python3
perl
git
build-essential
vim-tiny less
nginx-light
postgresql-client
openssh-client
imagemagick
nodejs
ruby
php-cli
sqlite3
rsync tmux""".splitlines()
FIRST = "FROM bench/base:1\nENV DEBIAN_FRONTEND=noninteractive\nRUN apt-get update\n"
# an image also has small layers between those of packages
BETWEEN = "RUN echo %d > /etc/bench && rm -f /usr/share/doc/%s/copyright\n"


def dockerfile():
    lines = [FIRST]
    for n, packages in enumerate(SETS):
        lines.append("RUN apt-get install -y --no-install-recommends %s\n" % packages)
        if n < 12:
            lines.append(BETWEEN % (n, packages.split()[0]))
    return "".join(lines)


def build(root):
    base = root + ".base"
    subprocess.run(["debootstrap", "--variant=minbase", "bookworm", base], check=True, stdout=subprocess.DEVNULL)
    with Docker(root, "overlay2", named=True) as d:
        tar = subprocess.Popen(["tar", "-C", base, "-c", "."], stdout=subprocess.PIPE)
        d.call("import", "-", "bench/base:1", stdin=tar.stdout, timeout=600)
        d.call("build", "--network=host", "-t", "bench/stack:1", "-", input=dockerfile(), timeout=3600)
    shutil.rmtree(base)


def as_aufs(layer):
    """Overlay's whiteouts and opaque marks as aufs's, times of directories as they were."""
    for at, directories, files in os.walk(layer, topdown=False):
        was = os.stat(at)
        for name in files:
            path = os.path.join(at, name)
            is_now = os.lstat(path)
            if stat.S_ISCHR(is_now.st_mode) and is_now.st_rdev == 0:
                os.unlink(path)
                open(os.path.join(at, ".wh." + name), "w").close()
        if "trusted.overlay.opaque" in os.listxattr(at):
            os.removexattr(at, "trusted.overlay.opaque")
            open(os.path.join(at, ".wh..wh..opq"), "w").close()
        os.utime(at, ns=(was.st_atime_ns, was.st_mtime_ns))


def read(path):
    with open(path) as f:
        return f.read()


def main(root):
    build(root)
    for d in ("layers", "diff", "mnt"):
        os.makedirs(root + "/aufs/" + d)
    os.chmod(root + "/aufs", 0o700)
    os.rename(root + "/image/overlay2", root + "/image/aufs")
    records = root + "/image/aufs/layerdb/sha256"
    ids = {chain: read("%s/%s/cache-id" % (records, chain)) for chain in os.listdir(records)}
    for chain, layer in ids.items():
        os.rename("%s/overlay2/%s/diff" % (root, layer), "%s/aufs/diff/%s" % (root, layer))
        as_aufs("%s/aufs/diff/%s" % (root, layer))
        os.mkdir("%s/aufs/mnt/%s" % (root, layer))
        with open("%s/aufs/layers/%s" % (root, layer), "w") as f:
            while os.path.exists("%s/%s/parent" % (records, chain)):
                chain = read("%s/%s/parent" % (records, chain)).removeprefix("sha256:")
                f.write(ids[chain] + "\n")
    shutil.rmtree(root + "/overlay2")
    print("%d layers" % len(ids))


main(sys.argv[1])
