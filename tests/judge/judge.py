#!/usr/bin/python3
"""What the kernel and a real Docker say about a migrated data root.

    judge.py views  ROOT DRIVER TRUTH   mount every recorded layer and compare each name with TRUTH/manifest
    judge.py tars   ROOT DRIVER TRUTH   the same where Docker extracted some of the layers: of attributes and times a tar holds a part only
    judge.py docker ROOT DRIVER TRUTH   boot dockerd on ROOT and compare what it lists with TRUTH/truth.json; save images; start a container
    judge.py use    ROOT DRIVER         boot dockerd on ROOT and work with it: start, write, create, remove, import; prints JSON of what was done
    judge.py fill   ROOT DRIVER ARCHIVE TAG NAME
                                        boot dockerd on an empty ROOT: load ARCHIVE, import an image as TAG, create a container NAME of the
                                        first and one of the second; prints the truth of it

Everything runs in private mount, network and process namespaces, so nothing stays mounted and no process stays. dockerd writes into
ROOT: give it a copy. One line for each difference; exit code 1 if there is one.
"""
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
DOCKERD = "/usr/sbin/dockerd"
HOME = "/var/lib/docker"
DOCKER = "/usr/bin/docker"
KINDS = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFCHR: "c", stat.S_IFBLK: "b", stat.S_IFIFO: "p", stat.S_IFSOCK: "s"}
FIELDS = "type mode uid gid size mtime rdev links first target sha256 attributes".split()
differences = 0


def differs(*what):
    global differences
    differences += 1
    if differences <= 60:
        print(*what)


def private_namespaces():
    """Runs this script again where mounts, network and processes are its own."""
    if os.environ.get("JUDGE_INSIDE") == "1":
        subprocess.run(["ip", "link", "set", "lo", "up"], stderr=subprocess.DEVNULL, check=False)
        return
    os.environ["JUDGE_INSIDE"] = "1"
    flags = "--mount --net --pid --fork --kill-child=KILL --mount-proc --propagation private".split()
    os.execvp("unshare", ["unshare", *flags, sys.executable, *sys.argv])


# --- the merged views -----------------------------------------------------------------------------------------------------------


def escaped(raw):
    """The manifests' way to write a name in one line of ASCII."""
    return "".join("\\\\" if c == 0x5C else chr(c) if 0x20 < c < 0x7F else "\\x%02x" % c for c in raw)


DIGESTS = {}


def content(path):
    """A file's digest. A file of a lower layer shows in many views, with one inode number and one time of change: it is read once."""
    with open(path, "rb") as f:
        m = os.fstat(f.fileno())
        key = (m.st_ino, m.st_size, m.st_mtime_ns, m.st_ctime_ns)
        if key not in DIGESTS:
            DIGESTS[key] = hashlib.file_digest(f, "sha256").hexdigest()
        return DIGESTS[key]


class View:
    """The tree that a container on this layer would see; overlay ones are mounted while the `with` lasts."""

    def __init__(self, root, driver, layer):
        self.root, self.driver, self.layer, self.point = root, driver, layer, None

    def lowers(self):
        folder = os.path.join(self.root, self.driver, self.layer)
        text = lambda name: open(os.path.join(folder, name)).read()
        if self.driver == "overlay2":
            below = text("lower").split(":") if os.path.exists(folder + "/lower") else []
            return [self.layer + "/diff"] if not below else ["l/" + text("link"), *below]
        if os.path.isdir(folder + "/root"):
            return [self.layer + "/root"]
        return [self.layer + "/upper", text("lower-id") + "/root"]

    def __enter__(self):
        if self.driver == "vfs":
            return os.path.join(self.root, "vfs/dir", self.layer)
        if self.driver == "btrfs":
            # inode numbers repeat from one subvolume to the next
            DIGESTS.clear()
            return os.path.join(self.root, "btrfs/subvolumes", self.layer)
        base, below = os.path.join(self.root, self.driver), self.lowers()
        if len(below) == 1:
            return os.path.join(base, below[0])
        self.point = tempfile.mkdtemp(prefix="view.")
        # relative paths, as Docker mounts: the option string is at most a page. With mount(2), as Docker does it: util-linux 2.41 (Debian
        # 13) would take the new calls, which refuse a long list of relative lowerdirs
        mount = ["mount", "-t", "overlay", "-o", "ro,lowerdir=" + ":".join(below), "overlay", self.point]
        env = dict(os.environ, LIBMOUNT_FORCE_MOUNT2="always")
        done = subprocess.run(mount, cwd=base, capture_output=True, text=True, env=env)
        if done.returncode:
            raise OSError(done.stderr.strip())
        return self.point

    def __exit__(self, *_):
        if self.point:
            subprocess.run(["umount", self.point], check=True)
            os.rmdir(self.point)


def entries(top):
    """path -> fields, in the manifests' form; a name that readdir shows and lstat does not find is a ghost"""
    found, first = {}, {}

    def visit(path, name):
        try:
            st = os.lstat(path)
        except OSError as e:
            found[name or b"/"] = ["ghost: " + os.strerror(e.errno)]
            return
        kind = KINDS[stat.S_IFMT(st.st_mode)]
        attributes = []
        for a in sorted(os.listxattr(path, follow_symlinks=False)):
            if not a.startswith(("trusted.overlay.", "user.overlay.", "btrfs.")):
                attributes.append(escaped(os.fsencode(a)) + "=" + os.getxattr(path, a, follow_symlinks=False).hex())
        if kind != "d" and st.st_nlink > 1:
            first.setdefault((st.st_dev, st.st_ino), []).append(name)
        found[name or b"/"] = [
            kind,
            "%04o" % stat.S_IMODE(st.st_mode),
            str(st.st_uid),
            str(st.st_gid),
            "0" if kind == "d" else str(st.st_size),
            "%d.%09d" % divmod(st.st_mtime_ns, 10**9),
            "%d:%d" % (os.major(st.st_rdev), os.minor(st.st_rdev)) if kind in "bc" else "-",
            "-",
            "-",
            escaped(os.fsencode(os.readlink(path))) if kind == "l" else "-",
            content(path) if kind == "f" else "-",
            ",".join(attributes) or "-",
        ]
        if kind == "d":
            for child in os.listdir(path):
                visit(os.path.join(path, child), name + b"/" + child)

    visit(os.fsencode(top), b"")
    for names in first.values():
        # names outside the view (the old store has some) make no group
        if len(names) > 1:
            for n in names:
                found[n][8] = escaped(min(names))
    return {escaped(name): fields for name, fields in found.items()}


def recorded(path, driver):
    rows, groups = {}, {}
    for line in open(path, encoding="latin-1"):
        name, *fields = line.rstrip("\n").split("\t")
        if fields[0] == "c" and fields[6] == "0:0" and driver.startswith("overlay"):
            continue  # overlay has no way to hold such a device
        fields[7] = "-"  # the number of links counts names outside the view too
        keep = [a for a in fields[11].split(",") if not a.startswith("trusted.overlay.")]
        fields[11] = ",".join(keep) or "-"
        rows[name] = fields
        if fields[8] != "-":
            groups.setdefault(fields[8], []).append(name)
    for names in groups.values():
        if len(names) == 1:
            rows[names[0]][8] = "-"
    return rows


def tars(root, driver, truth):
    views(root, driver, truth, in_a_tar)


def in_a_tar(fields):
    """What of a name's fields a tar of Docker's holds: whole seconds, and one attribute. A device 0:0 that Docker extracts for overlay
    becomes a ghost."""
    if fields is None or len(fields) == 1:
        return None
    attributes = [a for a in fields[11].split(",") if a.startswith("security.capability=")]
    return [*fields[:5], fields[5].split(".")[0], *fields[6:11], ",".join(attributes) or "-"]


def views(root, driver, truth, part=lambda fields: fields):
    manifests = sorted(os.listdir(truth + "/manifest"))
    for file in manifests:
        layer = file.removesuffix(".tsv")
        want = recorded("%s/manifest/%s" % (truth, file), driver)
        try:
            with View(root, driver, layer) as top:
                have = entries(top)
        except OSError as e:
            differs(layer[:16], "cannot be viewed:", e)
            continue
        for name in sorted(want.keys() | have.keys()):
            w, h = want.get(name), have.get(name)
            if w == h or part(w) == part(h):
                continue
            if w is None or h is None or len(h) == 1:
                differs(layer[:16], name, "is missing" if h is None else "is not wanted" if w is None else h[0])
            else:
                differs(layer[:16], name, *("%s is %s, wanted %s" % t for t in zip(FIELDS, h, w) if t[1] != t[2]))
    print("%d views compared" % len(manifests))


# --- a real Docker --------------------------------------------------------------------------------------------------------------


class NoAnswer(Exception):
    """dockerd ended instead of starting; the text is the end of its log."""


class Docker:
    """A dockerd of its own on ROOT while the `with` lasts, with `config` as its daemon.json. Only vfs has to be named: every Docker finds the
    others by their folder, once that is there."""

    def __init__(self, root, driver, named=False, config="{}"):
        self.root, self.driver, self.run = os.path.abspath(root), driver, tempfile.mkdtemp(prefix="uj.", dir="/tmp")
        self.named, self.config = named or driver == "vfs", config

    def __enter__(self):
        with open(self.run + "/daemon.json", "w") as f:
            f.write(self.config)
        self.group = "unaufs-" + os.path.basename(self.run)
        socket = "unix://%s/s" % self.run
        args = [DOCKERD, "--config-file", self.run + "/daemon.json", "--exec-root", self.run + "/x", "-H", socket]
        # a file may name it too, and Docker takes it from one place only
        args += ["--data-root", self.root] if self.root != HOME else []
        args += ["--pidfile", self.run + "/pid", "--iptables=false", "--ip6tables=false", "--cgroup-parent", "/" + self.group, "-l", "warn"]
        args += ["--storage-driver", self.driver] if self.named else []
        env = dict(os.environ, PATH=HERE + ":" + os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), DOCKER_CONFIG=self.run + "/cli")
        self.client, self.env = [DOCKER, "-H", socket], env
        self.log = open(self.run + "/log", "w+")
        self.daemon = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=env)
        for _ in range(600):
            if self.daemon.poll() is not None:
                break
            if os.path.exists(self.run + "/s") and self.call("version", ok=False).returncode == 0:
                return self
            time.sleep(0.1)
        tail = open(self.run + "/log").read()[-1500:]
        self.__exit__()
        raise NoAnswer("dockerd does not answer:\n" + tail)

    def __exit__(self, *_):
        if self.daemon.poll() is None:
            self.daemon.terminate()
            try:
                self.daemon.wait(30)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
        self.log.close()
        for base in ("/sys/fs/cgroup", *("/sys/fs/cgroup/" + d for d in os.listdir("/sys/fs/cgroup"))):
            if os.path.isdir("%s/%s" % (base, self.group)):
                for folder, _, _ in os.walk("%s/%s" % (base, self.group), topdown=False):
                    try:
                        os.rmdir(folder)
                    except OSError:
                        pass
        shutil.rmtree(self.run, ignore_errors=True)

    def call(self, *args, ok=True, timeout=60, **more):
        done = subprocess.run([*self.client, *args], capture_output=True, text=True, timeout=timeout, env=self.env, **more)
        if ok and done.returncode:
            raise RuntimeError("docker %s: %s" % (" ".join(args), done.stderr.strip()))
        return done

    def inspect(self, kind, ids):
        return json.loads(self.call(kind, "inspect", *ids).stdout) if ids else []

    def images(self):
        return self.inspect("image", sorted(set(self.call("images", "-aq", "--no-trunc").stdout.split())))

    def containers(self):
        return self.inspect("container", self.call("ps", "-aq", "--no-trunc").stdout.split())

    def saved_layers(self, image):
        """The digests of the layer tars that `docker save` rebuilds from the store, in order, and of the image's config."""
        sums, same_as, manifest = {}, {}, None
        save = subprocess.Popen([*self.client, "save", image], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env)
        with tarfile.open(fileobj=save.stdout, mode="r|") as tar:
            for m in tar:
                if m.issym():
                    same_as[m.name] = os.path.normpath(os.path.join(os.path.dirname(m.name), m.linkname))
                elif m.name == "manifest.json":
                    manifest = json.load(tar.extractfile(m))[0]
                elif m.isfile():
                    sums[m.name] = "sha256:" + hashlib.file_digest(tar.extractfile(m), "sha256").hexdigest()
        error = save.stderr.read().decode()
        if save.wait():
            raise RuntimeError(error.strip())
        return [sums.get(same_as.get(n, n)) for n in manifest["Layers"] or []], sums[manifest["Config"]]


def compare_images(docker, truth):
    have = {i["Id"]: i for i in docker.images()}
    for want in truth["images"]:
        image = have.pop(want["id"], None)
        if image is None:
            differs("image", want["id"], *want["tags"], "is missing")
            continue
        got = {
            "tags": sorted(image["RepoTags"] or []),
            "digests": sorted(image["RepoDigests"] or []),
            "parent": image["Parent"],
            "diffids": image["RootFS"].get("Layers") or [],
        }
        for key, value in got.items():
            if value != want[key]:
                differs("image", want["id"], key, value, "wanted", want[key])
    for extra in have:
        differs("image", extra, "is not wanted")
    # the longest chains first: an image whose layers have all been read back needs no second time
    proved = set()
    for want in sorted(truth["images"], key=lambda i: -len(i["diffids"])):
        chain = tuple(want["diffids"])
        if not chain or chain in proved:
            continue
        try:
            layers, config = docker.saved_layers(want["id"])
        except (RuntimeError, tarfile.TarError, TypeError) as e:
            differs("docker save", want["id"], e)
            continue
        if layers != want["diffids"] or config != want["id"]:
            differs("docker save", want["id"], "gives", config, layers)
        proved.update(chain[:n] for n in range(1, len(chain) + 1))


def compare_containers(docker, root, truth):
    have = {c["Id"]: c for c in docker.containers()}
    for want in truth["containers"]:
        c = have.pop(want["id"], None)
        if want.get("optional"):
            continue  # dockerd itself removes it at its next start (--rm, half removed)
        if c is None:
            differs("container", want["name"], "is missing")
            continue
        if (c["Name"].lstrip("/"), c["Image"]) != (want["name"], want["image"]):
            differs("container", want["name"], "is", c["Name"], "of", c["Image"])
        state = (c["State"]["Status"], c["State"]["ExitCode"])
        if want["status"] in ("created", "exited") and state != (want["status"], want["exit"]):
            differs("container", want["name"], "state", state, "wanted", want["status"], want["exit"])
        if "links" in want:
            with open("%s/containers/%s/hostconfig.json" % (root, want["id"])) as f:
                links = sorted(json.load(f).get("Links") or [])
            if links != want["links"]:
                differs("container", want["name"], "links", links, "wanted", want["links"])
        args = [*docker.client, "export", want["id"]]
        export = subprocess.run(args, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=docker.env)
        if export.returncode:
            differs("container", want["name"], "export:", export.stderr.strip())
    for extra in have.values():
        differs("container", extra["Name"], "is not wanted")


def start_one(docker):
    """Starts containers until one runs; some of a store's containers cannot run in a network namespace without a bridge."""
    errors = []
    for c in sorted(docker.containers(), key=lambda c: c["Name"]):
        if c["State"]["Status"] not in ("created", "exited"):
            continue
        done = docker.call("start", c["Id"], ok=False)
        if done.returncode == 0:
            return c
        errors.append(done.stderr.strip())
    return differs("no container starts:", *errors)


def docker(root, driver, truth):
    with open(truth + "/truth.json") as f:
        truth_of = json.load(f)
    with Docker(root, driver) as d:
        info = json.loads(d.call("info", "-f", "{{json .}}").stdout)
        if info["Driver"] != driver:
            differs("dockerd chose the driver", info["Driver"])
        compare_images(d, truth_of)
        compare_containers(d, root, truth_of)
        volumes = d.call("volume", "ls", "-q").stdout.split()
        for v in truth_of["volumes"]:
            if v not in volumes:
                differs("volume", v, "is missing")
        for chain, want in truth_of.get("layers", {}).items():
            for file, value in (("cache-id", want["cache_id"]), ("diff", want["diff"])):
                with open("%s/image/%s/layerdb/sha256/%s/%s" % (root, driver, chain, file)) as f:
                    if f.read().strip() != value:
                        differs("layer", chain, file, "is not", value)
        if truth_of["containers"]:
            start_one(d)


def use(root, driver):
    """What people do with a Docker in a week."""
    did = {}
    with Docker(root, driver) as d:
        c = start_one(d)
        if c:
            did["started"] = c["Id"]
            time.sleep(0.2)
        with tempfile.TemporaryDirectory() as t:
            with open(t + "/written", "w") as f:
                f.write("by Docker on the new store\n")
            if c:
                d.call("cp", t + "/written", c["Id"] + ":/written-on-the-new-store")
            with tarfile.open(t + "/image.tar", "w") as tar:
                tar.add(t + "/written", "only-file")
            d.call("import", t + "/image.tar", "imported:new")
        tagged = next(i for i in d.images() if i["RepoTags"] and i["RootFS"].get("Layers"))
        d.call("tag", tagged["Id"], "made/here:1")
        did["created"] = d.call("create", "--name", "made-here", "imported:new", "/only-file").stdout.strip()
        d.call("volume", "create", "volume-made-here")
        left = [x for x in d.containers() if x["State"]["Status"] in ("created", "exited") and x["Id"] not in (did.get("started"), did["created"])]
        if left:
            did["removed"] = left[0]["Id"]
            d.call("rm", left[0]["Id"])
        if len(left) > 1:
            did["renamed"] = left[1]["Id"]
            d.call("rename", left[1]["Id"], "renamed-here")
        for running in d.call("ps", "-q").stdout.split():
            d.call("kill", running, ok=False)
    print(json.dumps(did))


def fill(root, driver, archive, tag, name):
    """A store that Docker wrote itself, with some of what another store has."""
    with Docker(root, driver, named=True) as d, tempfile.TemporaryDirectory() as t:
        d.call("load", "-q", "-i", archive)
        loaded = next(i for i in d.images() if len(i["RootFS"].get("Layers") or []) > 1)
        with open(t + "/file", "w") as f:
            f.write("of another store\n")
        with tarfile.open(t + "/image.tar", "w") as tar:
            tar.add(t + "/file", "only-file")
        d.call("import", t + "/image.tar", tag)
        d.call("create", "--name", name, loaded["Id"], "true")
        d.call("create", "--name", "theirs", tag, "/only-file")
        d.call("cp", t + "/file", "theirs:/written")
        d.call("volume", "create", "volume-of-theirs")
        images = [
            {
                "id": i["Id"],
                "tags": sorted(i["RepoTags"] or []),
                "digests": sorted(i["RepoDigests"] or []),
                "parent": i["Parent"],
                "diffids": i["RootFS"].get("Layers") or [],
            }
            for i in d.images()
        ]
        containers = [
            {"id": c["Id"], "name": c["Name"].lstrip("/"), "image": c["Image"], "status": c["State"]["Status"], "exit": c["State"]["ExitCode"]}
            for c in d.containers()
        ]
        print(json.dumps({"images": images, "containers": containers, "volumes": d.call("volume", "ls", "-q").stdout.split()}))


def call(verbs, doc):
    """The command line of all judges: a verb, and as many arguments as it wants; exit code 1 if something differs."""
    verb, wants = verbs.get(sys.argv[1] if len(sys.argv) > 1 else "", (None, 0))
    if verb is None or len(sys.argv) != 2 + wants:
        sys.exit(doc)
    private_namespaces()
    try:
        verb(*sys.argv[2:])
    except NoAnswer as e:
        sys.exit(str(e))
    if differences:
        print("%d differences" % differences)
        sys.exit(1)


if __name__ == "__main__":
    call({"views": (views, 3), "tars": (tars, 3), "docker": (docker, 3), "use": (use, 2), "fill": (fill, 5)}, __doc__)
