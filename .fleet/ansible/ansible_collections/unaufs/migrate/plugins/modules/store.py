#!/usr/bin/python
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Brings a Docker data root of the aufs driver into a state, with `unaufs --json`."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: store
short_description: Plan, migrate, verify, roll back or clean up a Docker aufs store
description:
  - Runs C(unaufs --json), without a shell, and returns what it said.
  - Docker must be stopped for O(state=migrated) and O(state=rolled_back). The role P(unaufs.migrate.unaufs#role) does that.
  - A host without an aufs store is left alone, and is not a failure.
attributes:
  check_mode:
    description: Nothing is changed. If a migration would fail, the module fails with the same exit code.
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
      - V(inspected) says where the migration is, and never fails because of that.
      - V(planned) plans and never changes anything.
      - V(prepared) builds the image layers while Docker may run.
      - V(migrated) does all of it, and continues a migration that was interrupted.
      - V(verified) compares the new store with the old one.
      - V(rolled_back) puts the old store back.
      - V(cleaned) verifies, then deletes the old store. There is no way back afterwards.
    type: str
    choices: [inspected, planned, prepared, migrated, verified, rolled_back, cleaned]
    required: true
  root:
    description: Docker's data root.
    type: path
    default: /var/lib/docker
  to:
    description: The driver to migrate to.
    type: str
    choices: [overlay2, overlay, vfs, btrfs]
    default: overlay2
  mode:
    description: How to transfer layers.
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
    description: Blocking checks to treat as warnings, for example V(D02).
    type: list
    elements: str
    default: []
  docker_config:
    description: Docker's configuration, if it isn't C(/etc/docker/daemon.json).
    type: path
  verify:
    description: What is compared before the switch, and by O(state=verified).
    type: str
    choices: [none, fast, full]
    default: fast
  keep_going:
    description: Leave out what fails while running.
    type: bool
    default: false
  drop_new:
    description: For O(state=rolled_back), delete the new store instead of keeping it aside.
    type: bool
    default: false
  assume_stopped:
    description: In check mode, plan as if Docker were stopped. For playbooks that stop it first.
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
  description: Where the migration is, V(none) if there is none.
  type: str
  returned: always
reason:
  description: The state in one sentence.
  type: str
  returned: always
work:
  description: Is there something to migrate?
  type: bool
  returned: always
docker_may_start:
  description: V(false) while a switch or a rollback is under way.
  type: bool
  returned: always
driver:
  description: The driver that the migration leads to.
  type: str
  returned: always
next:
  description: The commands that unaufs advises to run next.
  type: list
  elements: str
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
images:
  description: The ids of the images that move.
  type: list
  elements: str
  returned: when a plan was made
containers:
  description: The ids of the containers that move, without those that Docker removes when it starts (C(--rm)).
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
  returned: when a plan or a migration was made
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule

# exit codes of unaufs
PARTIAL = 3
NO_STORE = 10
BUSY = 11
# these checks are about a Docker that is running now, not about the store
WHILE_DOCKER_RUNS = ("H01", "H02", "H10")


class Store(object):
    """One data root."""

    def __init__(self, module):
        self.module, self.p = module, module.params
        self.result = dict(changed=False, state="none", work=False, docker_may_start=True, driver=None, reason="", next=[], exit_code=0)
        self.old_driver = None

    # --- the program

    def unaufs(self, *args):
        """The exit code and the JSON document of a command."""
        command = [self.p["executable"], "--json", "--progress", "none", "--root", self.p["root"]]
        if self.p["jobs"]:
            command += ["--jobs", str(self.p["jobs"])]
        code, out, err = self.module.run_command(command + list(args))
        self.result["exit_code"] = code
        try:
            document = json.loads(out)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            self.fail("unaufs %s printed no JSON object (exit code %d)" % (args[0], code), stdout=out, stderr=err)
        return code, document

    def fail(self, message, **more):
        self.result["changed"] = False
        self.module.fail_json(msg=message, **dict(self.result, **more))

    def failed(self, command, document):
        # the cause begins with the message
        words = [document[k] for k in ("cause", "message") if document.get(k)][:1]
        words += ["do: %s" % document["fix"]] if document.get("fix") else []
        words += ["lost: %s" % document["lost"]] if document.get("lost") else []
        self.fail("unaufs %s failed (exit code %d): %s" % (command, self.result["exit_code"], "; ".join(words)))

    def status(self):
        """Where the migration is."""
        if not os.path.isdir(self.p["root"]):
            self.result["reason"] = "%s does not exist" % self.p["root"]
            return "none"
        code, document = self.unaufs("status")
        if code == NO_STORE:
            self.result.update(exit_code=0, reason="%s has no aufs store" % self.p["root"])
            return "none"
        if code:
            self.failed("status", document)
        state = document["state"]
        self.old_driver = document["store"] or "aufs"
        self.result.update(
            state=state,
            # after a rollback there is still something to migrate
            work=document["work"] or (state == "undone" and document["store"] is not None),
            docker_may_start=document["docker_may_start"],
            driver=document["driver"],
            reason=document["reason"],
            next=[n["command"] for n in document["next"]],
        )
        return state

    def what(self):
        """What to plan, as options."""
        args = ["--to", self.p["to"], "--mode", self.p["mode"]]
        for name in ("only", "exclude", "allow"):
            for value in self.p[name]:
                args += ["--" + name, value]
        if self.p["docker_config"]:
            args += ["--docker-config", self.p["docker_config"]]
        return args

    def plan(self):
        """Plans; False if there is nothing to migrate. A running Docker is no blocker of a plan."""
        code, document = self.unaufs("plan", "--detailed-exitcode", *self.what())
        if code == NO_STORE or "checks" not in document:
            self.result["work"] = False
            if code not in (0, NO_STORE):
                self.failed("plan", document)
            self.result["exit_code"] = 0
            return False
        running = document["docker"]["running"]
        soft = WHILE_DOCKER_RUNS if running else ("H10",)
        hard = [c for c in document["checks"] if c["level"] == "block" and c["id"] not in soft]
        self.result.update(
            work=code != 0,
            blockers=["%s %s - %s" % (c["id"], c["subject"].get("name") or c["subject"].get("id", ""), c["message"]) for c in hard],
            summary=document["summary"],
            images=[i["id"] for i in document["images"]],
            containers=[c["id"] for c in document["containers"] if not c.get("auto_remove")],
            left_behind=left_behind(document),
            exit_code=code if hard else 0,
        )
        if running and self.module.check_mode and self.p["state"] == "migrated" and not self.p["assume_stopped"]:
            self.result["exit_code"] = BUSY
            self.fail("unaufs migrate would fail (exit code %d): Docker runs on %s" % (BUSY, self.p["root"]))
        return self.result["work"]

    def differ(self, before, after):
        counts = dict(self.result.get("summary") or {})
        self.result["diff"] = dict(
            before=json.dumps(dict(counts, **before), indent=2, sort_keys=True) + "\n",
            after=json.dumps(dict(counts, **after), indent=2, sort_keys=True) + "\n",
        )

    # --- the states

    def inspected(self):
        self.status()

    def planned(self):
        state = self.status()
        if state == "undoing":
            self.way_on()
        # the old store is in its place until the switch begins
        if self.result["work"] and state != "switching":
            self.plan()

    def way_on(self):
        """Somebody started this rollback on purpose, so a playbook doesn't reverse it."""
        self.fail("%s Run: %s" % (self.result["reason"], " or: ".join(self.result["next"]) or "unaufs rollback"))

    def migrate(self, done, *more):
        state = self.status()
        if state == "undoing":
            self.way_on()
        if not self.result["work"] or (state != "switching" and not self.plan()):
            return
        if self.result.get("blockers"):
            self.fail("blocked (exit code %d), nothing was changed: %s" % (self.result["exit_code"], "; ".join(self.result["blockers"])))
        self.result["changed"] = True
        after = done == "switched"
        self.differ(dict(driver=self.old_driver, state=state), dict(driver=self.p["to"] if after else self.old_driver, state=done))
        if self.module.check_mode:
            self.result["driver"] = self.p["to"]
            return
        args = ["--yes", "--verify", self.p["verify"]] + (["--keep-going"] if self.p["keep_going"] else [])
        code, document = self.unaufs("migrate", *(self.what() + args + list(more)))
        if code not in (0, PARTIAL):
            self.failed("migrate", document)
        self.result["left_behind"] = left_behind(document)
        self.result["changed"] = after or document.get("built", 0) > 0
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
        if code:
            self.failed("verify", document)

    def rolled_back(self):
        state = self.status()
        if state in ("none", "undone"):
            return
        if state == "cleaned":
            self.fail("the old store was deleted: there is no way back")
        self.result["changed"] = True
        self.differ(dict(driver=self.result["driver"], state=state), dict(driver=self.old_driver, state="undone"))
        if self.module.check_mode:
            return
        code, document = self.unaufs("rollback", "--yes", *(["--drop-new"] if self.p["drop_new"] else []))
        if code:
            self.failed("rollback", document)
        self.status_after(code)

    def cleaned(self):
        state = self.status()
        interrupted = any("cleanup" in command.split() for command in self.result["next"])
        if state in ("none", "undone") or (state == "cleaned" and not interrupted):
            return
        if state not in ("switched", "cleaned"):
            self.fail("%s There is nothing to clean up yet." % self.result["reason"])
        self.result["changed"] = True
        self.differ(dict(driver=self.result["driver"], state=state), dict(driver=self.result["driver"], state="cleaned"))
        if self.module.check_mode:
            return
        # it verifies before it deletes anything
        code, document = self.unaufs("cleanup", "--yes")
        if code:
            self.failed("cleanup", document)
        self.status_after(code)


def left_behind(document):
    return ["%s %s %s - %s" % (x["kind"], x["id"][:19], x["name"], x["reason"]) for x in document.get("left_behind") or []]


def main():
    text = dict(type="list", elements="str", default=[])
    module = AnsibleModule(
        argument_spec=dict(
            state=dict(
                type="str",
                required=True,
                choices=["inspected", "planned", "prepared", "migrated", "verified", "rolled_back", "cleaned"],
            ),
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
            assume_stopped=dict(type="bool", default=False),
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
