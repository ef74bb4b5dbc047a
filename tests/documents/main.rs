//! Tests of everything around the program: the manual, completions, packages, and claims of the documents about the source.

#[path = "../common/mod.rs"]
mod common;

mod completion;
mod face;
mod layers;
mod links;
mod manual;
mod packaging;
mod promises;
mod sockets;
mod type_names;
