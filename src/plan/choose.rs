//! In which branch of the tree a session leader that has ended was, where several need its session.
//!
//! Comes in: edges between sessions and branches. Goes out: for each edge which of its two ends pays for
//! it, each end paying at most once. In a history that can have happened the edges form no circle, so
//! that one pass over them decides.

use std::collections::HashMap;

/// A branch with members of a session whose leader is a ghost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    /// The ghost.
    pub session: u32,
    /// Topmost process of the branch.
    pub branch: u32,
    /// The process whose child the ghost was, if it was in this branch.
    pub at: u32,
    /// The session cannot have been handed down from the top of the branch to `at`.
    pub blocked: bool,
}

/// Whether the ghost was in the branch, for each edge. No ghost is in two branches, and of each branch
/// the top is born in no more than one session.
///
/// # Errors
/// An edge that cannot be satisfied.
pub(super) fn inside(edges: &[Edge]) -> Result<Vec<bool>, Edge> {
    let by = |end: fn(&Edge) -> u32| {
        let mut map: HashMap<u32, Vec<usize>> = HashMap::new();
        for (i, edge) in edges.iter().enumerate() {
            map.entry(end(edge)).or_default().push(i);
        }
        map
    };
    let (mut by_session, mut by_branch) = (by(|e| e.session), by(|e| e.branch));
    let mut decided: Vec<Option<bool>> = vec![None; edges.len()];
    let forced = edges.iter().enumerate().filter(|(_, e)| e.blocked).map(|(i, _)| i);
    let seeds: Vec<usize> = forced.chain(0..edges.len()).collect();
    for seed in seeds {
        if !edges[seed].blocked && decided[seed].is_some() {
            continue;
        }
        let mut work = vec![(seed, true)];
        while let Some((i, inside)) = work.pop() {
            match decided[i] {
                Some(before) if before == inside => continue,
                Some(_) => return Err(edges[i]),
                None => decided[i] = Some(inside),
            }
            // The end that pays cannot pay for its other edges.
            let paid = match inside {
                true => by_session.remove(&edges[i].session),
                false => by_branch.remove(&edges[i].branch),
            };
            let others = paid.ok_or(edges[i])?;
            work.extend(others.into_iter().filter(|&o| o != i).map(|o| (o, !inside)));
        }
    }
    Ok(decided.into_iter().map(|d| d == Some(true)).collect())
}
