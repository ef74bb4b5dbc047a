//! The files around the program: manual, completions, packages, and what the documents promise about the source.

#[path = "../common/mod.rs"]
mod common;

mod completion;
mod face;
mod manual;
mod packaging;
mod promises;
