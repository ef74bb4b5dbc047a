//! The terminal: the screen, the keyboard, and the queues in front of stdout and stderr.

pub mod keys;
pub(crate) mod output_queue;
pub(crate) mod outputs;
pub mod screen;
