//! Web seeds (BEP 19 and BEP 17), the pure part: which URL has which bytes (`urls`), which requests a set of blocks needs (`runs`),
//! what a response means (`answer`), and what to do after an error (`health`).

mod answer;
mod health;
mod runs;
mod urls;

pub use answer::{BodyContent, RangeAnswer, WebSeedFault, judge, judge_script};
pub use health::{WebSeedHealth, WebSeedStep};
pub use runs::{BlockRun, pick_size, request_size, runs};
pub use urls::{WebSeedFiles, WebSeedKind, WebSeedUrl};
