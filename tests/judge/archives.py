#!/usr/bin/python3
"""What other programs make of an archive that unaufs exported.

    archives.py docker ROOT TRUTH ARCHIVE KEEP CONTAINERS
                                                 docker load into an empty dockerd; its data root stays at KEEP. CONTAINERS says which
                                                 containers the archive must hold: `all` of TRUTH, or `none`
    archives.py podman ROOT TRUTH ARCHIVE        podman load
    archives.py skopeo ROOT TRUTH ARCHIVE        skopeo inspect; skopeo copy to oci: and dir:
    archives.py umoci  ROOT TRUTH FOLDER         umoci unpack of each tag of an OCI layout
    archives.py rootfs ROOT TRUTH TAR NAME       a flattened container, with GNU tar

ROOT is the aufs root from which the archive was made, TRUTH what is true of it. Images must have the ids and tags that TRUTH has, and the
trees of its manifests. An image `unaufs/NAME:latest` is the container NAME: `docker create` and `docker export` of it must give the
container's tree. One line for each difference; exit code 1 if there is one.
"""
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile

from judge import Docker, FIELDS, View, differs, entries, escaped, recorded
import judge

# what Docker makes anew in each container that it creates; .dockerinit was its own program, up to 1.9
INIT = {"/.dockerenv", "/.dockerinit", "/dev", "/dev/console", "/dev/pts", "/dev/shm", "/etc", "/etc/hostname", "/etc/hosts", "/etc/mtab", "/etc/resolv.conf", "/proc", "/sys", "/"}


def run(*args, ok=True, env=None, timeout=120):
    done = subprocess.run(args, capture_output=True, text=True, env=env, timeout=timeout)
    if ok and done.returncode:
        raise RuntimeError("%s: %s" % (" ".join(args), done.stderr.strip()[-1500:]))
    return done


class Truth:
    def __init__(self, root, folder):
        self.root, self.folder = root, folder
        with open(folder + "/truth.json") as f:
            self.of = json.load(f)
        self.images = {i["id"]: i for i in self.of["images"]}

    def top(self, diffids):
        """The driver's id of an image's top layer."""
        chain = None
        for d in diffids:
            chain = d if chain is None else "sha256:" + hashlib.sha256((chain + " " + d).encode()).hexdigest()
        hexed = chain.removeprefix("sha256:")
        if "layers" in self.of:
            return self.of["layers"][hexed]["cache_id"] if hexed in self.of["layers"] else self.of["layers"][chain]["cache_id"]
        with open("%s/image/aufs/layerdb/sha256/%s/cache-id" % (self.root, hexed)) as f:
            return f.read().strip()

    def container_layer(self, cid):
        path = "%s/image/aufs/layerdb/mounts/%s/mount-id" % (self.root, cid)
        return open(path).read().strip() if os.path.exists(path) else cid

    def manifest(self, layer):
        path = "%s/manifest/%s.tsv" % (self.folder, layer)
        return path if os.path.exists(path) else None


def normal(rows, seconds, skip=()):
    """Without what a tar of a layer does not carry: the root folder, sockets, fractions of a second where Docker made the tar."""
    out = {}
    for name, fields in rows.items():
        if name == "/" or name in skip or fields[0] == "s" or len(fields) == 1:
            if len(fields) == 1:
                out[name] = fields
            continue
        fields = list(fields)
        if seconds:
            fields[5] = fields[5].split(".")[0]
        fields[7] = "-"
        out[name] = fields
    return out


def compare(what, want, have, ignore=()):
    n = 0
    for name in sorted(want.keys() | have.keys()):
        w, h = want.get(name), have.get(name)
        if w is None or h is None:
            differs(what, name, "is missing" if h is None else "is not wanted")
            continue
        bad = ["%s is %s, wanted %s" % (f, a, b) for f, a, b in zip(FIELDS, h, w) if a != b and f not in ignore]
        if bad:
            differs(what, name, *bad)
        n += 1
    return n


def image_tree(truth, image, driver):
    path = truth.manifest(truth.top(image["diffids"])) if image["diffids"] else None
    return normal(recorded(path, driver), True) if path else None


def exported(stream):
    """A tar of a whole tree in the manifests' form."""
    rows, first = {}, {}
    with tarfile.open(fileobj=stream, mode="r|", encoding="utf-8", errors="surrogateescape") as tar:
        for m in tar:
            name = b"/" + os.fsencode(m.name).strip(b"/").removeprefix(b"./")
            if m.islnk():
                target = b"/" + os.fsencode(m.linkname).strip(b"/").removeprefix(b"./")
                first.setdefault(target, [target]).append(name)
                rows[name] = list(rows[target])
                continue
            kind = "d" if m.isdir() else "l" if m.issym() else "c" if m.ischr() else "b" if m.isblk() else "p" if m.isfifo() else "f"
            attributes = sorted(
                (k.removeprefix("SCHILY.xattr."), v) for k, v in m.pax_headers.items() if k.startswith("SCHILY.xattr.")
            )
            rows[name] = [
                kind, "%04o" % stat.S_IMODE(m.mode), str(m.uid), str(m.gid),
                str(m.size) if kind == "f" else str(len(os.fsencode(m.linkname))) if kind == "l" else "0",
                "%d.0" % (int(m.mtime // 1)), "%d:%d" % (m.devmajor, m.devminor) if kind in "bc" else "-", "-", "-",
                escaped(os.fsencode(m.linkname)) if kind == "l" else "-",
                hashlib.file_digest(tar.extractfile(m), "sha256").hexdigest() if kind == "f" else "-",
                ",".join("%s=%s" % (escaped(os.fsencode(k)), os.fsencode(v).hex()) for k, v in attributes) or "-",
            ]
    for names in first.values():
        for n in names:
            rows[n][8] = escaped(min(names))
    return {escaped(n): f for n, f in rows.items()}


def docker(root, truth_folder, archive, keep, wanted):
    truth = Truth(root, truth_folder)
    os.makedirs(keep)
    # overlay2 is what Docker itself picks on an ordinary disk
    with Docker(keep, "overlay2") as d:
        d.call("load", "-i", archive, timeout=120)
        have = {i["Id"]: i for i in d.images()}
        made = {i["Id"]: i for i in have.values() if any(t.startswith("unaufs/") for t in i["RepoTags"] or [])}
        for want in truth.of["images"]:
            image = have.get(want["id"])
            if image is None:
                differs("image", want["id"], *want["tags"], "is missing")
            elif sorted(image["RepoTags"] or []) != want["tags"]:
                differs("image", want["id"], "has the tags", image["RepoTags"], "wanted", want["tags"])
        for extra in have.keys() - truth.images.keys() - made.keys():
            differs("image", extra, have[extra]["RepoTags"], "is not wanted")
        for want in sorted(truth.of["images"], key=lambda i: -len(i["diffids"])):
            if want["id"] in have and want["diffids"] and want["tags"]:
                layers, config = d.saved_layers(want["id"])
                if layers != want["diffids"] or config != want["id"]:
                    differs("docker save", want["id"], "gives", config, layers)
        containers(d, truth, made, {"all": True, "none": False}[wanted])
    names = 0
    for image, rows in container_trees(truth, made.values(), "overlay2"):
        with View(keep, "overlay2", loaded_layer(keep, image["RootFS"]["Layers"])) as top:
            names += compare("image " + image["RepoTags"][0], rows, bare_links(normal(entries(top), True, INIT)))
    for image in truth.of["images"]:
        want = image_tree(truth, image, "overlay2")
        if want is None or image["id"] not in have:
            continue
        with View(keep, "overlay2", loaded_layer(keep, image["diffids"])) as top:
            names += compare("image " + image["id"][7:19], want, normal(entries(top), True))
    print("%d images, %d containers, %d names in images" % (len(have) - len(made), len(made), names))


def tag_of(name):
    return re.sub("[^a-z0-9]", "-", name.lower())


def container_trees(truth, made, driver):
    """Those of the loaded images that were containers, each with the container's own view. docker export is compared anyway: this is the long
    run's."""
    if not os.environ.get("UNAUFS_LONG"):
        return
    by_name = {tag_of(c["name"]): c for c in truth.of["containers"]}
    for image in made:
        names = {re.sub(r"^.*unaufs/|:latest$", "", t) for t in image["RepoTags"] or []} & by_name.keys()
        for want in (by_name[n] for n in names):
            path = truth.manifest(truth.container_layer(want["id"]))
            if path is not None:
                yield image, bare_links(normal(recorded(path, driver), True, INIT))


def bare_links(rows):
    """Without the attributes of symlinks: Docker 28 can't load them, so an export leaves them out of a container's layer and says so."""
    return {name: [*f[:11], "-"] if f[0] == "l" else f for name, f in rows.items()}


def loaded_layer(root, diffids):
    chain = None
    for d in diffids:
        chain = d if chain is None else "sha256:" + hashlib.sha256((chain + " " + d).encode()).hexdigest()
    with open("%s/image/overlay2/layerdb/sha256/%s/cache-id" % (root, chain.removeprefix("sha256:"))) as f:
        return f.read().strip()


def containers(d, truth, made, wanted):
    by_name = {tag_of(c["name"]): c for c in truth.of["containers"] if wanted and not c.get("optional")}
    missing = by_name.keys() - {t.removeprefix("unaufs/").removesuffix(":latest") for i in made.values() for t in i["RepoTags"]}
    if missing:
        differs("not in the archive: the containers", *sorted(missing))
    for image in made.values():
        for tag in image["RepoTags"]:
            want = by_name.get(tag.removeprefix("unaufs/").removesuffix(":latest"))
            if want is None:
                differs("image", tag, "is no container that the archive was to hold")
                continue
            path = truth.manifest(truth.container_layer(want["id"]))
            if path is None:
                differs("container", want["name"], "has no manifest")
                continue
            command = [] if image["Config"].get("Cmd") or image["Config"].get("Entrypoint") else ["/x"]
            cid = d.call("create", "--net", "none", tag, *command).stdout.strip()
            export = subprocess.Popen([*d.client, "export", cid], stdout=subprocess.PIPE, env=d.env)
            have = normal(exported(export.stdout), True, INIT)
            if export.wait():
                differs("docker export", want["name"], "fails")
            rows = normal(recorded(path, "overlay2"), True, INIT)
            # docker export takes this attribute only along
            for fields in rows.values():
                fields[11] = ",".join(a for a in fields[11].split(",") if a.startswith("security.capability=")) or "-"
            if not compare("container " + want["name"], rows, have):
                differs("container", want["name"], "has nothing in it")
            d.call("rm", "-v", cid)


def podman(root, truth_folder, archive):
    truth = Truth(root, truth_folder)
    with tempfile.TemporaryDirectory(prefix="up.", dir="/var/tmp") as t:
        env = {k: v for k, v in os.environ.items() if k != "DOCKER_CONFIG"}
        base = ["podman", "--root", t + "/root", "--runroot", t + "/run", "--tmpdir", t + "/tmp", "--storage-driver", "vfs"]
        base += ["--cgroup-manager", "cgroupfs", "--events-backend", "file"]
        try:
            run(*base, "load", "-i", archive, env=env)
            have = {"sha256:" + i["Id"]: i for i in json.loads(run(*base, "images", "-a", "--format", "json", env=env).stdout)}
            n = 0
            for image in truth.of["images"]:
                # podman takes the images that have a name
                if not image["tags"]:
                    continue
                if image["id"] not in have:
                    differs("podman", image["id"], *image["tags"], "is missing")
                    continue
                top = run(*base, "image", "mount", image["id"], env=env).stdout.strip()
                want = image_tree(truth, image, "vfs")
                if want:
                    n += compare("podman " + image["id"][7:19], want, normal(entries(top), True))
                run(*base, "image", "unmount", image["id"], env=env)
            made = [dict(i, RepoTags=i["Names"]) for cid, i in have.items() if cid not in truth.images and i.get("Names")]
            for image, rows in container_trees(truth, made, "vfs"):
                top = run(*base, "image", "mount", image["Id"], env=env).stdout.strip()
                n += compare("podman " + image["Names"][0], rows, bare_links(normal(entries(top), True, INIT)))
                run(*base, "image", "unmount", image["Id"], env=env)
            print("%d images, %d of them containers, %d names" % (len(have), len(made), n))
        finally:
            run(*base, "system", "reset", "-f", env=env, ok=False)


def skopeo(root, truth_folder, archive):
    truth = Truth(root, truth_folder)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as t:
        n = 0
        for image in truth.of["images"]:
            for tag in image["tags"][:1]:
                source = "docker-archive:%s:%s" % (archive, tag)
                seen = json.loads(run("skopeo", "--insecure-policy", "inspect", "--raw", source).stdout)
                raw = run("skopeo", "--insecure-policy", "inspect", "--config", "--raw", source).stdout
                if "sha256:" + hashlib.sha256(raw.encode()).hexdigest() != image["id"]:
                    differs("skopeo inspect", tag, "shows another config")
                if [l["digest"] for l in seen["layers"]] != image["diffids"]:
                    differs("skopeo inspect", tag, "shows the layers", seen["layers"])
                for form in ("oci:%s/o%d:x" % (t, n), "dir:%s/d%d" % (t, n)):
                    run("skopeo", "--insecure-policy", "copy", source, form)
                    kept = run("skopeo", "--insecure-policy", "inspect", "--config", "--raw", form).stdout
                    # into an OCI layout skopeo writes the config anew, without what only Docker knows
                    if form.startswith("dir:") and "sha256:" + hashlib.sha256(kept.encode()).hexdigest() != image["id"]:
                        differs("skopeo copy", tag, form, "has another config")
                    if (json.loads(kept)["rootfs"]["diff_ids"] or []) != image["diffids"]:
                        differs("skopeo copy", tag, form, "has other layers")
                shutil.rmtree("%s/o%d" % (t, n)), shutil.rmtree("%s/d%d" % (t, n))
                n += 1
        print("%d images" % n)


def umoci(root, truth_folder, folder):
    truth = Truth(root, truth_folder)
    with open(folder + "/index.json") as f:
        index = json.load(f)["manifests"]
    names, done = 0, set()
    for m in index:
        ref = m.get("annotations", {}).get("org.opencontainers.image.ref.name")
        with open("%s/blobs/%s" % (folder, m["digest"].replace(":", "/"))) as f:
            config = json.load(f)["config"]["digest"]
        if ref is None or config in done or config not in truth.images:
            continue
        done.add(config)
        with tempfile.TemporaryDirectory(dir="/var/tmp") as t:
            run("umoci", "unpack", "--image", "%s:%s" % (folder, ref), t + "/b")
            want = image_tree(truth, truth.images[config], "vfs")
            if want:
                names += compare("umoci " + ref, want, normal(entries(t + "/b/rootfs"), True))
    missing = {i["id"] for i in truth.of["images"] if i["tags"]} - done
    if missing:
        differs("not in the layout:", *missing)
    print("%d images, %d names" % (len(done), names))


def rootfs(root, truth_folder, tar, name):
    truth = Truth(root, truth_folder)
    want = next(c for c in truth.of["containers"] if c["name"] == name)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as t:
        run("tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", tar, "-C", t)
        rows = normal(recorded(truth.manifest(truth.container_layer(want["id"])), "vfs"), False)
        print("%d names" % compare("container " + name, rows, normal(entries(t), False)))


if __name__ == "__main__":
    judge.call({"docker": (docker, 5), "podman": (podman, 3), "skopeo": (skopeo, 3), "umoci": (umoci, 3), "rootfs": (rootfs, 4)}, __doc__)
