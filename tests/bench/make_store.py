#!/usr/bin/env python3
"""make_store.py ROOT [--layers N] [--files N] [--size BYTES] [--big-first] [--shared] [--whiteouts N] [--containers N] [--digests]

Makes a content-addressable aufs root for benchmarks: one image whose layers share ROOT's file system, folders of 30 files,
whiteouts of names that do not exist below. --big-first puts all but 1,000 files a layer into the first one. With --shared all layers have
the same directories, as images share /usr/lib, and a whiteout hides a file of the layer below.
With --digests the layers have tar-split data and true digests; without, the digests are made up.
"""
import argparse
import base64
import gzip
import hashlib
import json
import os
import tarfile


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


def fill(folder, files, data, whiteouts, tag, layer=None):
    """files in folders of 30, three levels down; with the number of a layer in folders that all layers have"""
    own, hidden = ("", "gone") if layer is None else (f"l{layer}-", f"l{layer - 1}-f0")
    tag = tag if layer is None else "shared"
    made = marks = folders = 0
    while made < files:
        sub = f"{folder}/usr/{tag}/d{folders // 20}/e{folders % 20}"
        os.makedirs(sub)
        folders += 1
        for i in range(min(30, files - made)):
            with open(f"{sub}/{own}f{i}", "wb") as f:
                f.write(data)
            made += 1
        if marks < whiteouts:
            write(f"{sub}/.wh.{hidden}", "")
            marks += 1


def crc64(data):
    """CRC-64/ISO, as tar-split keeps it of each file"""
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0xD800000000000000 if n & 1 else 0)
        table.append(n)
    crc = 0xFFFFFFFFFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    return (crc ^ 0xFFFFFFFFFFFFFFFF).to_bytes(8, "big")


def record(folder, data, crc, out):
    """Writes the tar-split data of a layer whose files all hold `data`; gives the digest of its tar."""
    tar, values = hashlib.sha256(), []

    def segment(raw):
        tar.update(raw)
        values.append({"type": 2, "payload": base64.b64encode(raw).decode()})

    for at, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = os.path.join(at, name)
            entry = tarfile.TarInfo(os.path.relpath(path, folder))
            is_now = os.stat(path)
            entry.size, entry.mode, entry.mtime = is_now.st_size, is_now.st_mode & 0o7777, int(is_now.st_mtime)
            entry.uid, entry.gid = is_now.st_uid, is_now.st_gid
            segment(entry.tobuf(tarfile.PAX_FORMAT))
            value = {"type": 1, "name": entry.name}
            if entry.size:
                tar.update(data)
                value |= {"size": entry.size, "payload": base64.b64encode(crc).decode()}
            values.append(value)
            segment(bytes(-entry.size % 512))
    segment(bytes(1024))
    with gzip.open(out, "wt") as f:
        for n, value in enumerate(values):
            f.write(json.dumps(value | {"position": n}) + "\n")
    return "sha256:" + tar.hexdigest()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("root")
    p.add_argument("--layers", type=int, default=40)
    p.add_argument("--files", type=int, default=300_000)
    p.add_argument("--size", type=int, default=200)
    p.add_argument("--whiteouts", type=int, default=20, help="a layer")
    p.add_argument("--containers", type=int, default=0, help="of 100 files each")
    p.add_argument("--big-first", action="store_true")
    p.add_argument("--shared", action="store_true")
    p.add_argument("--digests", action="store_true")
    a = p.parse_args()
    root, data = a.root, os.urandom(a.size)
    crc = crc64(data) if a.digests else None
    layerdb = f"{root}/image/aufs/layerdb"
    for d in ("aufs/layers", "aufs/diff", "aufs/mnt", "containers", "image/aufs/imagedb/content/sha256"):
        os.makedirs(f"{root}/{d}")
    os.makedirs(f"{layerdb}/sha256")
    os.chmod(f"{root}/aufs", 0o700)
    stack, diffs, chain = [], [], None
    for n in range(a.layers):
        cache, diff = sha(f"cache {n}"), "sha256:" + sha(f"diff {n}")
        files = a.files // a.layers
        if a.big_first:
            files = a.files - 1000 * (a.layers - 1) if n == 0 else 1000
        os.mkdir(f"{root}/aufs/diff/{cache}")
        fill(f"{root}/aufs/diff/{cache}", files, data, a.whiteouts if n else 0, f"l{n}", n if a.shared else None)
        os.mkdir(f"{root}/aufs/mnt/{cache}")
        write(f"{root}/aufs/layers/{cache}", "".join(x + "\n" for x in reversed(stack)))
        if a.digests:
            diff = record(f"{root}/aufs/diff/{cache}", data, crc, f"{root}/tar-split")
        new = diff if chain is None else "sha256:" + sha(f"{chain} {diff}")
        entry = f"{layerdb}/sha256/{new[7:]}"
        os.mkdir(entry)
        write(f"{entry}/cache-id", cache)
        write(f"{entry}/diff", diff)
        write(f"{entry}/size", str(files * a.size))
        if a.digests:
            os.rename(f"{root}/tar-split", f"{entry}/tar-split.json.gz")
        if chain:
            write(f"{entry}/parent", chain)
        chain = new
        stack.append(cache)
        diffs.append(diff)
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diffs}})
    image = hashlib.sha256(config.encode()).hexdigest()
    write(f"{root}/image/aufs/imagedb/content/sha256/{image}", config)
    refs = {"Repositories": {"bench": {"bench:1": "sha256:" + image}}}
    write(f"{root}/image/aufs/repositories.json", json.dumps(refs))
    for n in range(a.containers):
        cid, mount = sha(f"container {n}"), sha(f"mount {n}")
        lowers = list(reversed(stack))
        for layer, below in ((mount + "-init", lowers), (mount, [mount + "-init"] + lowers)):
            os.mkdir(f"{root}/aufs/diff/{layer}")
            write(f"{root}/aufs/layers/{layer}", "".join(x + "\n" for x in below))
        fill(f"{root}/aufs/diff/{mount}", 100, data, 3, "own")
        os.makedirs(f"{layerdb}/mounts/{cid}")
        write(f"{layerdb}/mounts/{cid}/mount-id", mount)
        write(f"{layerdb}/mounts/{cid}/init-id", mount + "-init")
        write(f"{layerdb}/mounts/{cid}/parent", chain)
        os.mkdir(f"{root}/containers/{cid}")
        doc = {"ID": cid, "Name": f"/bench{n}", "Driver": "aufs", "Image": "sha256:" + image, "Config": {}, "NetworkSettings": {}, "State": {"Running": False}}
        write(f"{root}/containers/{cid}/config.v2.json", json.dumps(doc))
        write(f"{root}/containers/{cid}/hostconfig.json", "{}")


main()
