//! Each check of the table: a store, or a machine, on which it speaks, and one that is close to it on which it is silent.
//!
//! `bed` is the machine, made of files; `store` and `graph` write a sound root of each generation; `cases` holds the pairs. A new check needs a
//! pair there, or this test fails.

pub mod bed;
mod cases;
mod graph;
pub mod store;

use crate::support::needs;
use crate::support::private::{self, this_test};
use bed::Bed;
use unaufs::checks::{self, Level};

/// Runs the pairs whose id begins with this letter.
fn pairs_of(letter: char) {
    let mine: Vec<_> = cases::all().into_iter().filter(|c| c.id.starts_with(letter)).collect();
    assert!(!mine.is_empty());
    for case in mine {
        let spoken = said(case.speaks, case.id);
        assert!(!spoken.is_empty(), "{} says nothing where it should", case.id);
        for f in &spoken {
            assert!(!f.message.is_empty(), "{}: {f:?}", case.id);
            assert!(!f.subject.to_string().is_empty(), "{}: {f:?}", case.id);
            assert!(f.fix.is_some() || f.effect.is_some(), "what comes of {f:?}, what to do?");
        }
        let silent = said(case.silent, case.id);
        assert!(silent.is_empty(), "{} speaks where it should not: {silent:?}", case.id);
    }
}

/// What the plan for such a machine says under this id, above `ok`.
fn said(make: fn() -> Bed, id: &str) -> Vec<checks::Finding> {
    let bed = make();
    let plan = bed.plan();
    plan.checks.into_iter().filter(|f| f.id == id && f.level > Level::Ok).collect()
}

#[test]
fn containers() {
    if private::elsewhere(this_test!()) {
        return;
    }
    pairs_of('C');
}

#[test]
fn what_is_in_the_store() {
    if private::elsewhere(this_test!()) {
        return;
    }
    pairs_of('D');
}

#[test]
fn stores_before_docker_1_10() {
    if private::elsewhere(this_test!()) {
        return;
    }
    pairs_of('G');
}

#[test]
fn hosts() {
    if private::elsewhere(this_test!()) {
        return;
    }
    pairs_of('H');
}

#[test]
fn content_of_layers() {
    if private::elsewhere(this_test!()) {
        return;
    }
    pairs_of('L');
}

#[test]
fn targets() {
    if private::elsewhere(this_test!()) {
        return;
    }
    pairs_of('T');
}

#[test]
fn new_roots_in_another_place() {
    if private::elsewhere(this_test!()) {
        return;
    }
    pairs_of('N');
}

/// No check without a pair, no pair without a check, and each letter has a test above.
#[test]
fn every_check_has_a_pair() {
    let mut table: Vec<&str> = checks::TABLE.iter().map(|c| c.id).collect();
    let mut pairs: Vec<&str> = cases::all().iter().map(|c| c.id).collect();
    table.sort_unstable();
    pairs.sort_unstable();
    assert_eq!(table, pairs);
    assert!(table.iter().all(|id| "CDGHLNT".contains(&id[..1])), "a new letter needs a test of its own: {table:?}");
}

/// While Docker runs the plan is still of use: it says which containers have to stop.
#[test]
fn a_running_docker_is_told_and_does_not_stop_a_plan() {
    if !needs::root() {
        return;
    }
    let runs = |bed: &mut Bed| bed.write(&format!("containers/{}/config.v2.json", store::WEB), &running());
    type Change = fn(&mut Bed);
    let seen: [(&str, Change); 3] = [
        ("process 4242 (dockerd)", |b| b.process("dockerd", &["dockerd", "--data-root=/data"], "")),
        ("process 4242 (dockerd-current)", |b| {
            b.process("dockerd-current", &["dockerd-current", "-g", "/data"], "");
            b.machine("run/docker.pid", "4242");
        }),
        ("answers on its socket", Bed::answer),
    ];
    for (who, docker) in seen {
        let plan = Bed::content().with(runs).with(docker).plan();
        assert!(plan.docker.running, "{who}");
        let find = |id: &str| plan.checks.iter().find(|c| c.id == id && c.level > Level::Ok).expect("a finding");
        assert!(find("H01").message.contains(who), "{:?}", find("H01"));
        assert_eq!(find("H01").effect.as_deref(), Some("these containers are running: web"));
        assert_eq!(find("C03").fix.as_deref(), Some("docker stop web"));
        assert!(!checks::plan_is_blocked(&plan.checks), "{who}: the plan may go on");
        let text = unaufs::report::plan::text(&plan, Default::default());
        // the header may be wrapped
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("Docker is running") && words.contains("systemctl stop docker"), "{text}");
    }
    // the number of a daemon that is gone, given to another process
    let plan = Bed::content()
        .with(|b| {
            b.process("postgres", &["postgres", "-D", "/data"], "");
            b.machine("run/docker.pid", "4242");
        })
        .plan();
    assert!(!plan.docker.running);
}

fn running() -> String {
    store::config(serde_json::json!({"State": {"Running": true}}))
}

/// On a sound store and a sound machine nothing is worse than worth knowing.
#[test]
fn a_sound_host_gets_no_warning() {
    if !needs::root() {
        return;
    }
    let plan = Bed::content().plan();
    let bad: Vec<_> = plan.checks.iter().filter(|f| f.level > Level::Ok).collect();
    assert!(bad.is_empty(), "{bad:?}");
    assert!(plan.checks.iter().any(|f| f.level == Level::Ok));
    let plan = Bed::graph().plan();
    let bad: Vec<_> = plan.checks.iter().filter(|f| f.level > Level::Ok && f.id != "G05").collect();
    assert!(bad.is_empty(), "{bad:?}");
}
