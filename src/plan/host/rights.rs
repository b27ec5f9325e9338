//! What this process may do, read off `/proc/self`: nothing is tried out.

use super::Machine;
use crate::checks::Finding;

/// The capabilities that making a store takes, by their bit (capabilities(7)).
const NEEDED: [(u32, &str); 7] = [
    (0, "CAP_CHOWN"),
    (1, "CAP_DAC_OVERRIDE"),
    (3, "CAP_FOWNER"),
    (4, "CAP_FSETID"),
    (21, "CAP_SYS_ADMIN"),
    (27, "CAP_MKNOD"),
    (31, "CAP_SETFCAP"),
];

pub(super) fn check(machine: &Machine, out: &mut Vec<Finding>) {
    let missing = missing(&machine.text("proc/self/status"));
    if !missing.is_empty() {
        out.push(
            Finding::new("H03", "this process", format!("it doesn't have {}", missing.join(", ")))
                .fix("run unaufs as root with all capabilities")
                .effect("unaufs can't create devices, owners and trusted.* attributes"),
        );
    } else if !in_first_user_namespace(&machine.text("proc/self/uid_map")) {
        out.push(
            Finding::new("H03", "this process", "it runs in a user namespace")
                .fix("run unaufs on the host itself")
                .effect("unaufs can't create devices and trusted.* attributes there"),
        );
    }
}

/// Those that `CapEff` of `/proc/self/status` lacks; without that line, all.
fn missing(status: &str) -> Vec<&'static str> {
    let bits = status.lines().find_map(|l| u64::from_str_radix(l.strip_prefix("CapEff:")?.trim(), 16).ok());
    NEEDED.iter().filter(|(bit, _)| bits.unwrap_or(0) >> bit & 1 == 0).map(|(_, name)| *name).collect()
}

/// All ids map to themselves in the first user namespace (user_namespaces(7)). No such file: a kernel without them.
fn in_first_user_namespace(uid_map: &str) -> bool {
    uid_map.trim().is_empty() || uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities() {
        for (status, want) in [
            ("Name:\tx\nCapEff:\t000001ffffffffff\n", vec![]),
            ("CapEff:\t000001fff7ffffff\n", vec!["CAP_MKNOD"]),
            ("CapEff:\t00000000a80425fb\n", vec!["CAP_SYS_ADMIN"]),
        ] {
            assert_eq!(missing(status), want);
        }
        assert_eq!(missing("CapEff:\t0000000000000000\n").len(), NEEDED.len());
        assert_eq!(missing("").len(), NEEDED.len());
    }

    #[test]
    fn user_namespaces() {
        assert!(in_first_user_namespace("         0          0 4294967295\n"));
        assert!(in_first_user_namespace(""));
        assert!(!in_first_user_namespace("0 1000 1\n"));
    }
}
