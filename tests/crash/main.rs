//! Killed, interrupted, out of space, without power: the promise that no half state is left (docs/safety.md).
//!
//! ```text
//! points    dies before each effect on the disk, then continues or goes back
//! effects   each change of the disk has its point                    
//! random    kill -9 at random instants
//! signals   SIGINT, SIGTERM, SIGHUP; two runs at once; journals of other schemas
//! elsewhere all of these with the new root on another disk
//! full      no blocks, no inodes
//! power     an image of the disk taken while it runs, as a power cut would leave it
//! calls     errors injected into system calls with strace
//! ```
//!
//! A plain run is short. `run.sh N` makes it long: `UNAUFS_LONG=1`, `UNAUFS_CRASH_ROUNDS=N`. Other variables: `UNAUFS_CRASH_DIR`, where
//! the copies lie; `UNAUFS_CRASH_CASE`, of the points only `STORE TARGET MODE`; `UNAUFS_CRASH_BIN`, another binary for the tests that need no fault points.

mod bed;
mod calls;
mod docker;
mod effects;
mod elsewhere;
mod full;
mod points;
mod power;
mod random;
mod signals;
mod stores;
// a part of it is enough here
#[allow(dead_code, unused_macros, unused_imports)]
#[path = "../support/mod.rs"]
mod support;
mod tree;
