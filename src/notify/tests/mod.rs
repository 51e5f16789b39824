//! What is decided about notices, what waits on disk, and the ways out, against real servers.

mod queue;
mod routing;
