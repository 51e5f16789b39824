//! Which backups of a source stay, and why. Pure: no clock, no disk, no zone but the one that is given.
//!
//! - [`decide`] judges; [`calendar`] counts hours, days, ISO weeks, months and years in a time zone; [`clock`] says
//!   whether the times of backups can be believed; [`reason`]: why; [`forecast`]: when a backup will go.
//!
//! Invariants, each a property in `tests`:
//! - The newest backup, the newest complete, the newest verified and the newest drilled one, the newest `min_backups`
//!   good ones and pinned ones stay, whatever a policy says.
//! - What is kept is kept again when the rest is gone (idempotent), in whatever order backups are given.
//! - Only backups tell that time has passed: ages are counted to the newest one, so a clock that runs ahead, or backups
//!   that stopped, delete nothing. A time that several later backups contradict counts for nothing; until it is clear which
//!   of two is wrong, nothing goes at all.
//! - A suspect, damaged or narrower backup takes no place from a good one: the rules are applied to the good ones alone,
//!   and once more to all.

pub mod calendar;
mod clock;
mod decide;
pub mod forecast;
pub mod reason;
#[cfg(test)]
pub(crate) mod tests;

pub use decide::{Candidate, Decision, Question, Space};
pub use reason::{Going, Staying};
