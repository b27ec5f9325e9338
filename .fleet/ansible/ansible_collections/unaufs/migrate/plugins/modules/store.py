#!/usr/bin/python
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Brings a Docker data root of the aufs driver into a state, with `unaufs --json`."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: store
short_description: Plan, migrate, verify, roll back or clean up a dead Docker aufs store
description:
  - Runs C(unaufs --json), without a shell, and tells what it did.
  - Docker must be stopped for I(state=migrated) and I(state=rolled_back). The role C(unaufs.migrate.migrate) does that.
  - A host without an aufs store is left alone, and is no failure.
attributes:
  check_mode:
    description: Nothing is changed; for I(state=migrated) it is C(unaufs plan), and a blocker fails as it would without check mode.
    support: full
  diff_mode:
    description: Driver, state and counts, before and after.
    support: full
  platform:
    description: The hosts that it runs on.
    platforms: linux
    support: full
options:
  state:
    description:
      - C(planned) looks and never changes anything.
      - C(prepared) builds the image layers while Docker may run.
      - C(migrated) does all of it; after a crash it goes on.
      - C(verified) compares the new store with the old one.
      - C(rolled_back) puts the old store back.
      - C(cleaned) deletes the old store. There is no way back after it.
    type: str
    choices: [planned, prepared, migrated, verified, rolled_back, cleaned]
    required: true
  root:
    description: Docker's data root.
    type: path
    default: /var/lib/docker
  to:
    description: The driver to move to.
    type: str
    choices: [overlay2, overlay, vfs, btrfs]
    default: overlay2
  mode:
    description: How layers get there.
    type: str
    choices: [auto, link, clone, copy]
    default: auto
  only:
    description: Only these, each C(image=GLOB) or C(container=GLOB).
    type: list
    elements: str
    default: []
  exclude:
    description: Not these.
    type: list
    elements: str
    default: []
  allow:
    description: Checks that shall not block, for example C(D02).
    type: list
    elements: str
    default: []
  docker_config:
    description: Docker's configuration, where it is not C(/etc/docker/daemon.json).
    type: path
  verify:
    description: What is compared before the switch, and by I(state=verified).
    type: str
    choices: [none, fast, full]
    default: fast
  keep_going:
    description: Leave out what fails while running, and go on.
    type: bool
    default: false
  drop_new:
    description: For I(state=rolled_back), delete the new store instead of keeping it aside.
    type: bool
    default: false
  jobs:
    description: Threads.
    type: int
  executable:
    description: The program.
    type: path
    default: unaufs
author:
  - The authors of unaufs (@unaufs)
"""

EXAMPLES = r"""
- name: Look, change nothing
  unaufs.migrate.store:
    state: planned
  register: plan

- name: Migrate
  unaufs.migrate.store:
    state: migrated
    to: overlay2
"""

RETURN = r"""
state:
  description: Where the migration stands, C(none) if there is none.
  type: str
  returned: always
work:
  description: Is there something to migrate?
  type: bool
  returned: always
exit_code:
  description: The exit code of unaufs.
  type: int
  returned: always
blockers:
  description: What keeps a migration from starting, as C(ID subject - message).
  type: list
  elements: str
  returned: when a plan was made
summary:
  description: Counts of what moves - images, tags, layers, containers, bytes and others.
  type: dict
  returned: when a plan was made
left_behind:
  description: What does not move, and why.
  type: list
  elements: str
  returned: when a plan was made, or a migration was
next:
  description: What unaufs advises to do next.
  type: str
  returned: always
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule

# DESIGN: exit codes of unaufs
PARTIAL, BLOCKED, WORK, DIFFERENCE, NO_STORE = 3, 4, 5, 6, 10
IN_FORCE = ("switched", "cleaned")


class Store(object):
    """One data root."""

    def __init__(self, module):
        self.module, self.p = module, module.params
        self.result = dict(changed=False, work=False, exit_code=0)

    def unaufs(self, *args):
        """The exit code and the JSON document of a verb."""
        command = [self.p["executable"], "--json", "--progress", "none", "--root", self.p["root"]]
        if self.p["jobs"]:
            command += ["--jobs", str(self.p["jobs"])]
        code, out, err = self.module.run_command(command + list(args))
        try:
            document = json.loads(out)
        except ValueError:
            self.module.fail_json(msg="unaufs %s did not answer in JSON (exit code %d)" % (args[0], code), stdout=out, stderr=err, **self.result)
        self.result["exit_code"] = code
        return code, document

    def fail(self, document, what):
        words = [document.get(k) for k in ("cause", "message") if document.get(k)][:1]
        words += ["do: " + document["fix"]] if document.get("fix") else []
        words += ["lost: " + document["lost"]] if document.get("lost") else []
        self.module.fail_json(msg="%s: %s" % (what, "; ".join(words) or "exit code %d" % self.result["exit_code"]), **self.result)

    def what(self):
        """What to plan, as options."""
        args = ["--to", self.p["to"], "--mode", self.p["mode"]]
        for name in ("only", "exclude", "allow"):
            for value in self.p[name]:
                args += ["--" + name, value]
        if self.p["docker_config"]:
            args += ["--docker-config", self.p["docker_config"]]
        return args

    def status(self):
        if not os.path.isdir(self.p["root"]):
            self.result.update(state="none", next="")
            return None
        code, document = self.unaufs("status")
        if code:
            self.fail(document, "status")
        self.result.update(state=document["state"] or "none", next=document["next"])
        self.driver = document["driver"]
        return document["state"]

    def plan(self):
        """Plans; False if there is nothing to migrate."""
        code, document = self.unaufs("plan", "--detailed-exitcode", *self.what())
        if code == NO_STORE:
            self.result["exit_code"] = 0
            return False
        if code not in (0, BLOCKED, WORK):
            self.fail(document, "plan")
        # a running Docker, its mounts, and a root that is read-only for now do not make `plan` of no use
        soft = ("H01", "H10") + (("H02",) if document["docker"]["running"] else ())
        hard = [c for c in document["checks"] if c["level"] == "block" and c["id"] not in soft]
        self.result.update(
            work=code != 0,
            blockers=["%s %s - %s" % (c["id"], c["subject"].get("name") or c["subject"].get("id", ""), c["message"]) for c in hard],
            summary=document["summary"],
            left_behind=["%s %s %s - %s" % (x["kind"], x["id"][:19], x["name"], x["reason"]) for x in document["left_behind"]],
        )
        self.result["exit_code"] = 0 if code == WORK else code
        return True

    def differ(self, before, after):
        counts = dict(self.result.get("summary") or {})
        self.result["diff"] = dict(
            before=json.dumps(dict(counts, **before), indent=2, sort_keys=True) + "\n",
            after=json.dumps(dict(counts, **after), indent=2, sort_keys=True) + "\n",
        )

    # --- the states

    def planned(self):
        if self.status() not in IN_FORCE:
            self.plan()

    def migrate(self, done, *more):
        state = self.status()
        if state in IN_FORCE or (state == "building" and done == "prepared" and self.module.check_mode):
            return
        if state in (None, "undone"):
            if not self.plan():
                return
            if self.result["blockers"]:
                self.module.fail_json(msg="blocked, nothing was changed: " + "; ".join(self.result["blockers"]), **self.result)
        self.result.update(changed=True, work=True)
        self.differ(dict(driver="aufs", state=state or "none"), dict(driver=self.p["to"] if done == "switched" else "aufs", state=done))
        if self.module.check_mode:
            return
        args = ["--yes", "--verify", self.p["verify"]] + (["--keep-going"] if self.p["keep_going"] else [])
        code, document = self.unaufs("migrate", *(self.what() + args + list(more)))
        if code not in (0, PARTIAL):
            self.fail(document, "migrate")
        self.result["left_behind"] = ["%s %s %s - %s" % (x["kind"], x["id"][:19], x["name"], x["reason"]) for x in document.get("left_behind", [])]
        self.result["changed"] = done == "switched" or document.get("built", 0) > 0
        self.result["work"] = False
        self.status_after(code)

    def status_after(self, code):
        self.status()
        self.result["exit_code"] = code

    def prepared(self):
        self.migrate("prepared", "--prepare")

    def migrated(self):
        self.migrate("switched")

    def verified(self):
        state = self.status()
        if state not in ("built", "verified", "switched") or self.module.check_mode:
            return
        code, document = self.unaufs("verify", "--level", "fast" if self.p["verify"] == "none" else self.p["verify"])
        if code == DIFFERENCE:
            first = (document.get("differences") or ["?"])[0]
            self.module.fail_json(msg="the new store differs from the old one, first: %s" % (first,), **self.result)
        if code:
            self.fail(document, "verify")

    def rolled_back(self):
        state = self.status()
        if state in (None, "undone"):
            return
        if state == "cleaned":
            self.module.fail_json(msg="the old store was deleted: there is no way back", **self.result)
        self.result["changed"] = True
        self.differ(dict(driver=self.driver, state=state), dict(driver="aufs", state="undone"))
        if self.module.check_mode:
            return
        code, document = self.unaufs("rollback", "--yes", *(["--drop-new"] if self.p["drop_new"] else []))
        if code:
            self.fail(document, "rollback")
        self.status_after(code)

    def cleaned(self):
        state = self.status()
        # `next` is empty, unless the deletion was interrupted
        if state in (None, "undone") or (state == "cleaned" and not self.result["next"]):
            return
        self.result["changed"] = True
        self.differ(dict(driver=self.driver, state=state), dict(driver=self.driver, state="cleaned"))
        if self.module.check_mode:
            return
        code, document = self.unaufs("cleanup", "--yes")
        if code:
            self.fail(document, "cleanup")
        self.status_after(code)


def main():
    text = dict(type="list", elements="str", default=[])
    module = AnsibleModule(
        argument_spec=dict(
            state=dict(type="str", required=True, choices=["planned", "prepared", "migrated", "verified", "rolled_back", "cleaned"]),
            root=dict(type="path", default="/var/lib/docker"),
            to=dict(type="str", default="overlay2", choices=["overlay2", "overlay", "vfs", "btrfs"]),
            mode=dict(type="str", default="auto", choices=["auto", "link", "clone", "copy"]),
            only=text,
            exclude=text,
            allow=text,
            docker_config=dict(type="path"),
            verify=dict(type="str", default="fast", choices=["none", "fast", "full"]),
            keep_going=dict(type="bool", default=False),
            drop_new=dict(type="bool", default=False),
            jobs=dict(type="int"),
            executable=dict(type="path", default="unaufs"),
        ),
        supports_check_mode=True,
    )
    store = Store(module)
    getattr(store, module.params["state"])()
    module.exit_json(**store.result)


if __name__ == "__main__":
    main()
