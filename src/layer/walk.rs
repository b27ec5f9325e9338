//! Trees walked on all cores: every directory is a task of its own, so that one huge layer keeps all of them busy.
//!
//! ```text
//! walk(root, each)      each(directory) works on one directory and hands on those in it ─▶ tasks that idle cores take
//! ```

use crate::error::{Error, Result};
use rayon::Scope;
use std::sync::Mutex;

/// Does `first`, what that hands on, and so on, in any order.
///
/// A task that waits should hold little: there are as many as there are directories in the directories being worked on.
///
/// # Errors
/// The first one of any task; or that a signal came, which is looked for before each. Tasks that have not begun then are left out.
pub fn walk<T: Send>(first: T, each: impl Fn(T, &mut dyn FnMut(T)) -> Result<()> + Sync) -> Result<()> {
    let failed = Mutex::new(None);
    rayon::scope(|s| task(s, &each, &failed, first));
    match failed.into_inner().unwrap_or_else(|e| e.into_inner()) {
        Some(e) => Err(e),
        None => Ok(()),
    }
}

fn task<'s, T: Send + 's>(
    scope: &Scope<'s>,
    each: &'s (impl Fn(T, &mut dyn FnMut(T)) -> Result<()> + Sync),
    failed: &'s Mutex<Option<Error>>,
    this: T,
) {
    if failed.lock().unwrap_or_else(|e| e.into_inner()).is_some() {
        return;
    }
    let done = crate::stop::check()
        .and_then(|()| each(this, &mut |sub| scope.spawn(move |scope| task(scope, each, failed, sub))));
    if let Err(e) = done {
        failed.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(e);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn everything_that_is_handed_on_is_done_until_something_fails() {
        let done = AtomicUsize::new(0);
        let tree = |depth: usize, hand_on: &mut dyn FnMut(usize)| {
            done.fetch_add(1, Ordering::Relaxed);
            (0..depth).for_each(|_| hand_on(depth - 1));
            Ok(())
        };
        walk(5, tree).expect("walk");
        assert_eq!(done.into_inner(), 1 + 5 + 20 + 60 + 120 + 120);

        let failing = |depth: usize, hand_on: &mut dyn FnMut(usize)| {
            hand_on(depth.checked_sub(1).ok_or_else(|| Error::corrupt("the end"))?);
            Ok(())
        };
        let error = walk(3, failing).expect_err("the end is an error");
        assert!(error.to_string().contains("the end"), "{error}");
    }
}
