//! What is decided about notices, what waits on disk, and the ways out, against real servers.

mod command;
mod queue;
mod routing;
