//! Independent work on several threads: the only file that names `rayon`.
//!
//! Without the feature `parallel` everything runs on the calling thread. No function here changes the
//! order of a sum, so results do not depend on the number of threads.

#[cfg(feature = "parallel")]
use std::sync::{Mutex, PoisonError};

/// Calls `f` on every item, in any order.
pub(crate) fn for_each<I: Send>(items: Vec<I>, f: impl Fn(I) + Sync + Send) {
    map(items, f);
}

/// `f` of every item, in the order of the items.
pub(crate) fn map<I: Send, O: Send>(items: Vec<I>, f: impl Fn(I) -> O + Sync + Send) -> Vec<O> {
    #[cfg(feature = "parallel")]
    if items.len() > 1 && rayon::current_num_threads() > 1 {
        let (items, results): (Vec<_>, Vec<_>) =
            items.into_iter().map(|item| (Mutex::new(Some(item)), Mutex::new(None))).unzip();
        for_each_index(items.len(), &|i| {
            let result = take(&items[i]).map(&f);
            *results[i].lock().unwrap_or_else(PoisonError::into_inner) = result;
        });
        return results.iter().filter_map(take).collect();
    }
    items.into_iter().map(f).collect()
}

/// Calls `f` with every number below `count`, in any order. Not generic, so that what it takes of `rayon` is compiled once
/// and not with each closure.
#[cfg(feature = "parallel")]
fn for_each_index(count: usize, f: &(dyn Fn(usize) + Sync)) {
    use rayon::prelude::*;
    (0..count).into_par_iter().with_max_len(1).for_each(f);
}

/// What one thread takes from a place, if it is there.
#[cfg(feature = "parallel")]
fn take<T>(place: &Mutex<Option<T>>) -> Option<T> {
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Both results, the two calls side by side if there are threads for it.
pub(crate) fn join<A: Send, B: Send>(a: impl FnOnce() -> A + Send, b: impl FnOnce() -> B + Send) -> (A, B) {
    #[cfg(feature = "parallel")]
    return rayon::join(a, b);
    #[cfg(not(feature = "parallel"))]
    (a(), b())
}

/// `f` on one of the threads that the others of this module share work with, so that many short pieces of parallel work in
/// a row need not each wake them up.
pub(crate) fn within<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    #[cfg(feature = "parallel")]
    if rayon::current_num_threads() > 1 {
        return rayon::scope(|_| f());
    }
    f()
}

/// How many threads there are to fill.
pub(crate) fn threads() -> usize {
    #[cfg(feature = "parallel")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "parallel"))]
    1
}

/// `f` with `threads` threads to fill; on the threads at hand if no others can be started.
#[cfg(feature = "cli")]
pub(crate) fn with_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    #[cfg(feature = "parallel")]
    if let Ok(pool) = rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
        return pool.install(f);
    }
    #[cfg(not(feature = "parallel"))]
    let _ = threads;
    f()
}
