//! Restoring a backup of a PostgreSQL database into a new database, which may then take the place of an existing one.
//!
//! - `request`, `plan`, `survey`, `server_checks`, `role_checks`: what is asked, what stands in its way, what is decided;
//! - `run`, `create_roles`, `database`, `load`, `compare`, `report`: carrying it out;
//! - `existing`, `swap`, `hooks`: which database a restore in place replaces, how, and back again;
//! - `restorer`: the restoring role before there is a backup;
//! - `beside`: single tables put beside the live ones;
//! - `witness`: what tells that the server did not crash meanwhile;
//! - `all_roles`: the roles of a whole server, before its databases; `vacant`: which database may be replaced;
//! - `statements`, `script`, `roles`, `toc`, `archive`: reading the files of the set;
//! - `by_hand`: the same by a person with a shell.

mod all_roles;
mod archive;
mod beside;
pub mod by_hand;
mod compare;
mod create_roles;
mod database;
pub mod existing;
mod hooks;
mod load;
pub mod plan;
mod publish;
pub mod report;
pub mod request;
pub mod restorer;
mod role_checks;
pub mod roles;
mod run;
pub mod script;
mod server_checks;
pub mod statements;
mod survey;
pub mod swap;
pub mod toc;
mod vacant;
mod witness;

#[cfg(test)]
mod tests;

pub use all_roles::{CreatedRoles, RolesPlan, create_all_roles, plan_roles};
pub use database::{reach, sweep};
pub use plan::{RestorePlan, plan};
pub use report::RestoreReport;
pub use request::{Milestone, OnExisting, RestoreChoices, RestoreRequest};
pub use run::carry_out;
pub use swap::{Swap, drop_kept, kept_size, settle, undo};
