#!/usr/bin/python3
"""Data roots that a real Docker wrote for a driver that still exists, and what `unaufs export` makes of them.

    native.py make  ROOT DRIVER              boot dockerd on the new folder ROOT: import, build, run, commit
    native.py judge ROOT DRIVER ARCHIVE KEEP the archive of `unaufs export --all --container '*'` against that Docker itself

What `judge` wants: the archive has the images that the daemon on ROOT has, with their tags and configs, and each layer is to the byte the one
that `docker save` of the same daemon writes. Loaded into an empty dockerd, whose root stays at KEEP, the images have the same ids, layers
and merged trees, and what `docker export` gives of a container made of a container's image is what it gives of the container itself. podman
loads the archive, skopeo reads and copies each tag. One line for each difference; exit code 1 if there is one.
"""
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile

import judge as common
from archives import INIT, compare, exported, normal, run
from judge import Docker, View, differs, entries

# what a container does to its layer: changes, adds, removes, replaces, links, makes opaque
CHANGES = """
echo more >>/etc/one; echo new >/etc/new; rm /etc/two; rm -r /usr/share; mkdir /usr/share; echo only >/usr/share/only
ln /etc/one /etc/hard; mv /home /house; rm /pipe; mkdir /pipe; echo in >/pipe/in; rm -r /opt/a; echo file >/opt/a; mkfifo /opt/fifo
chmod 700 /srv; chown 5:6 /srv/owned; ln -s nowhere /etc/dangling; touch -d '2001-02-03 04:05:06' /etc/old
"""
DOCKERFILE = """FROM base:1
ENV A=1
RUN echo two >/made && mkdir -p /opt/a/b && echo x >/opt/a/b/c && ln /made /made.hl
RUN rm -r /usr/share && mkdir /usr/share && echo new >/usr/share/n && rm /etc/two
RUN true
COPY --chown=1000:1000 Dockerfile /home/u/file
RUN rm -r /opt/a && echo 'a file now' >/opt/a && chmod 4755 /srv/owned
VOLUME /vol
USER u
CMD ["true"]
"""


def make(root, driver):
    with Docker(root, driver, named=True) as d, tempfile.TemporaryDirectory(dir="/var/tmp") as t:
        base = t + "/base"
        for folder in ("bin", "etc", "usr/share/deep/er", "home/u", "opt/a/b", "srv", "tmp", "proc", "dev", "sys"):
            os.makedirs("%s/%s" % (base, folder))
        shutil.copy("/bin/busybox", base + "/bin/busybox")
        for name in ("sh", "echo", "rm", "mkdir", "ln", "mv", "mkfifo", "chmod", "chown", "touch", "true"):
            os.symlink("busybox", "%s/bin/%s" % (base, name))
        files = {"etc/passwd": "root:x:0:0::/:/bin/sh\nu:x:1000:1000::/home/u:/bin/sh\n", "etc/one": "1\n", "etc/two": "2\n", "usr/share/s": "s\n"}
        files.update({"usr/share/deep/er/f": "deep\n", "home/u/mine": "u\n", "opt/a/b/c": "c\n", "srv/owned": "o\n", "srv/ü \n": "odd\n"})
        for name, text in files.items():
            with open("%s/%s" % (base, name), "w") as f:
                f.write(text)
        os.chown(base + "/srv/owned", 12345, 4294967293)
        os.setxattr(base + "/srv/owned", "user.test", b"value")
        os.mkfifo(base + "/pipe")
        os.link(base + "/etc/one", base + "/srv/one")
        run("tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-C", base, "-cf", t + "/base.tar", ".")
        d.call("import", "-c", "CMD [\"sh\"]", t + "/base.tar", "base:1")
        d.call("tag", "base:1", "other/name:v1")
        os.makedirs(t + "/context")
        with open(t + "/context/Dockerfile", "w") as f:
            f.write(DOCKERFILE)
        d.env["DOCKER_BUILDKIT"] = "0"
        d.call("build", "-q", "--network", "none", "-t", "app:1", t + "/context", timeout=120)
        d.call("run", "--name", "changed", "--net", "none", "base:1", "sh", "-ec", CHANGES)
        d.call("run", "--name", "root-of-app", "--net", "none", "--user", "0", "app:1", "sh", "-ec", "rm -r /usr/share; echo f >/usr/share")
        d.call("create", "--name", "never-ran", "--label", "a=b", "app:1")
        d.call("commit", "-c", "LABEL c=1", "changed", "committed:1")
        # an image that has no name
        d.call("build", "-q", "--network", "none", "-t", "app:1", "--build-arg", "x=1", "--no-cache", t + "/context", timeout=120)


def archive_of(path):
    """The images in an archive: id -> tags, digests of the layers as they are in it."""
    sums, configs, manifest = {}, {}, None
    with tarfile.open(path) as tar:
        for m in tar:
            if m.name == "manifest.json":
                manifest = json.load(tar.extractfile(m))
            elif m.isfile():
                sums[m.name] = "sha256:" + hashlib.file_digest(tar.extractfile(m), "sha256").hexdigest()
    for item in manifest:
        configs[sums[item["Config"]]] = (sorted(item["RepoTags"] or []), [sums[n] for n in item["Layers"]])
    return configs


def judge(root, driver, archive, keep):
    have = archive_of(archive)
    trees, saved = {}, {}
    with Docker(root, driver) as d:
        images = {i["Id"]: i for i in d.images()}
        for cid, image in images.items():
            tags, layers = have.pop(cid, (None, None))
            if tags != sorted(image["RepoTags"] or []):
                differs("image", cid, "has the tags", tags, "wanted", image["RepoTags"])
            # docker save refuses an image without layers
            if image["RootFS"].get("Layers"):
                saved[cid] = d.saved_layers(cid)
                if saved[cid] != (layers, cid):
                    differs("image", cid, image["RepoTags"], "has the layers", layers, "docker save gives", saved[cid])
        containers = {c["Name"].lstrip("/").lower(): exported_by(d, c["Id"]) for c in d.containers()}
    made = {t.removeprefix("unaufs/").removesuffix(":latest") for tags, _ in have.values() for t in tags}
    if made != containers.keys():
        differs("containers:", made, "wanted", containers.keys())
    for cid in saved:
        with View(root, driver, layer(root, driver, images[cid])) as top:
            trees[cid] = normal(entries(top), True)
    os.makedirs(keep)
    with Docker(keep, "overlay2") as d:
        d.call("load", "-i", archive, timeout=120)
        loaded = {i["Id"]: i for i in d.images()}
        for cid in images:
            if cid not in loaded or sorted(loaded[cid]["RepoTags"] or []) != sorted(images[cid]["RepoTags"] or []):
                differs("image", cid, images[cid]["RepoTags"], "is not loaded")
            elif cid in saved and d.saved_layers(cid) != saved[cid]:
                differs("image", cid, "loaded and saved again has other layers")
        for name, want in containers.items():
            image = d.inspect("image", ["unaufs/" + name])[0]["Config"]
            command = [] if image.get("Cmd") or image.get("Entrypoint") else ["/x"]
            again = exported_by(d, d.call("create", "--net", "none", "unaufs/" + name, *command).stdout.strip())
            if not compare("container " + name, want, again):
                differs("container", name, "has nothing in it")
    names = 0
    # what Docker's own trees have of attributes depends on the driver: vfs and overlay copy without them, a snapshot of btrfs keeps those of
    # a folder that a later layer's tar has without. The layers' tars are the same, and were compared
    ignore = () if driver == "overlay2" else ("attributes",)
    for cid, want in trees.items():
        with View(keep, "overlay2", layer(keep, "overlay2", images[cid])) as top:
            names += compare("image " + cid[7:19], want, normal(entries(top), True), ignore)
    podman(archive, images)
    skopeo(archive, images)
    print("%d images, %d containers, %d names in images" % (len(images), len(containers), names))


def exported_by(d, container):
    export = subprocess.Popen([*d.client, "export", container], stdout=subprocess.PIPE, env=d.env)
    rows = normal(exported(export.stdout), True, INIT)
    if export.wait():
        differs("docker export", container, "fails")
    return rows


def layer(root, driver, image):
    chain = None
    for diff in image["RootFS"]["Layers"]:
        chain = diff if chain is None else "sha256:" + hashlib.sha256((chain + " " + diff).encode()).hexdigest()
    with open("%s/image/%s/layerdb/sha256/%s/cache-id" % (root, driver, chain.removeprefix("sha256:"))) as f:
        return f.read().strip()


def podman(archive, images):
    with tempfile.TemporaryDirectory(prefix="up.", dir="/var/tmp") as t:
        env = {k: v for k, v in os.environ.items() if k != "DOCKER_CONFIG"}
        base = ["podman", "--root", t + "/root", "--runroot", t + "/run", "--tmpdir", t + "/tmp", "--storage-driver", "vfs"]
        base += ["--cgroup-manager", "cgroupfs", "--events-backend", "file"]
        try:
            run(*base, "load", "-i", archive, env=env, timeout=300)
            have = {"sha256:" + i["Id"] for i in json.loads(run(*base, "images", "-a", "--format", "json", env=env).stdout)}
            # it takes the images that have a name
            for missing in {cid for cid, i in images.items() if i["RepoTags"]} - have:
                differs("podman", missing, "is missing")
        finally:
            run(*base, "system", "reset", "-f", env=env, ok=False)


def skopeo(archive, images):
    with tempfile.TemporaryDirectory(dir="/var/tmp") as t:
        for cid, image in images.items():
            for tag in (image["RepoTags"] or [])[:1]:
                source = "docker-archive:%s:%s" % (archive, tag)
                raw = run("skopeo", "--insecure-policy", "inspect", "--config", "--raw", source).stdout
                if "sha256:" + hashlib.sha256(raw.encode()).hexdigest() != cid:
                    differs("skopeo inspect", tag, "shows another config")
                for form in ("oci:%s/%s/o:x" % (t, cid[7:]), "dir:%s/%s/d" % (t, cid[7:])):
                    os.makedirs("%s/%s" % (t, cid[7:]), exist_ok=True)
                    run("skopeo", "--insecure-policy", "copy", source, form)
                    kept = json.loads(run("skopeo", "--insecure-policy", "inspect", "--config", "--raw", form).stdout)
                    if (kept["rootfs"].get("diff_ids") or []) != (image["RootFS"].get("Layers") or []):
                        differs("skopeo copy", tag, form, "has other layers")
                shutil.rmtree("%s/%s" % (t, cid[7:]))


if __name__ == "__main__":
    common.call({"make": (make, 2), "judge": (judge, 4)}, __doc__)
