//! The commands of a restore by hand.
