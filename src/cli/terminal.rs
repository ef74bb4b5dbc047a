//! The terminal: the screen, the keyboard, standard output, and the queues in front of stdout and stderr.

pub mod keys;
pub(crate) mod output_queue;
pub mod screen;
pub(crate) mod stdout;
