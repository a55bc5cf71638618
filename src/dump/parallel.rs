//! The same work on many items, on all processors.
//!
//! Reading /proc takes most of the time of a checkpoint, and the tasks stand still meanwhile.

use std::thread;

use super::interrupt;
use crate::error::DumpError;
use crate::sys::signal::Blocked;

/// Fewer items than this for a thread are not worth its start.
const FEWEST: usize = 8;
/// More threads than this only wait for each other in the kernel.
const MOST: usize = 8;

/// `work` on each item; the results in order, or the error of the first item that has one.
///
/// The threads take no signals: those are for the threads of the caller.
pub(super) fn map<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R, DumpError> + Sync,
) -> Result<Vec<R>, DumpError> {
    let threads = match items.len() / FEWEST {
        // How many processors there are takes longer to find out than a little work does.
        0 | 1 => 1,
        most => thread::available_parallelism().map_or(1, usize::from).min(MOST).min(most),
    };
    let size = items.len().div_ceil(threads).max(1);
    let work = |item: &T| interrupt::check().and_then(|()| work(item));
    let run = |chunk: &[T]| chunk.iter().map(work).collect::<Result<Vec<R>, DumpError>>();
    let mut chunks = items.chunks(size);
    let Some(first) = chunks.next() else { return Ok(Vec::new()) };
    let parts: Vec<Result<Vec<R>, DumpError>> = thread::scope(|scope| {
        let blocked = Blocked::all();
        let started: Vec<_> = chunks
            .map(|chunk| (chunk, thread::Builder::new().spawn_scoped(scope, || run(chunk)).ok()))
            .collect();
        drop(blocked);
        let own = run(first);
        // What no thread could be started for, or what panicked in one, is done here.
        let others = started.into_iter().map(|(chunk, handle)| {
            handle.and_then(|h| h.join().ok()).unwrap_or_else(|| run(chunk))
        });
        std::iter::once(own).chain(others).collect()
    });
    let mut results = Vec::with_capacity(items.len());
    for part in parts {
        results.extend(part?);
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_the_first_error_wins() {
        let items: Vec<i32> = (0..1000).collect();
        let squares = map(&items, |&i| Ok(i * i)).expect("no error");
        assert!(squares.iter().zip(&items).all(|(s, i)| *s == i * i) && squares.len() == 1000);
        let fail = |pid: i32| DumpError::Argument { pid, reason: "test" };
        let error = map(&items, |&i| if i % 300 == 299 { Err(fail(i)) } else { Ok(()) });
        assert!(matches!(error, Err(DumpError::Argument { pid: 299, .. })), "{error:?}");
        assert!(map(&[] as &[i32], |_| Ok(())).expect("nothing to do").is_empty());
    }
}
