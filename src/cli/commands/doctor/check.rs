//! One check of `btsync doctor`: its result, as a line for people or a JSON object.

use serde_json::{Map, Value, json};

use crate::util::printable_text::printable;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CheckStatus {
    /// It works, or is turned off.
    Ok,
    /// btsync works, but worse than it could; or the check found nothing out.
    Warning,
    /// Something does not work.
    Problem,
}

impl CheckStatus {
    pub fn name(self) -> &'static str {
        match self {
            CheckStatus::Ok => "ok",
            CheckStatus::Warning => "warning",
            CheckStatus::Problem => "problem",
        }
    }
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Check {
    pub name: &'static str,
    pub status: CheckStatus,
    /// What was found.
    pub message: String,
    /// What the user can do about it.
    pub advice: Option<String>,
    /// What programs may want to read: numbers and addresses.
    pub figures: Map<String, Value>,
}

impl Check {
    pub fn ok(name: &'static str, message: impl Into<String>) -> Check {
        let message = printable(&message.into());
        Check { name, status: CheckStatus::Ok, message, advice: None, figures: Map::new() }
    }

    pub fn warning(name: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Check {
        Check { status: CheckStatus::Warning, advice: Some(advice.into()), ..Check::ok(name, message) }
    }

    pub fn problem(name: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Check {
        Check { status: CheckStatus::Problem, ..Check::warning(name, message, advice) }
    }

    /// Adds a figure; the names are part of the public format.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Check {
        self.figures.insert(name.to_owned(), value.into());
        self
    }

    /// The line for people.
    pub fn line(&self) -> String {
        let advice = self.advice.as_ref().map(|advice| format!(". What to do: {advice}"));
        format!("{:<8} {:<13} {}{}\n", self.status.name(), self.name, self.message, advice.unwrap_or_default())
    }

    /// The line for programs.
    pub fn json(&self) -> String {
        let object = json!({
            "check": self.name,
            "status": self.status.name(),
            "message": self.message,
            "advice": self.advice,
            "figures": self.figures,
        });
        format!("{object}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_one_line_in_both_forms() {
        let check = Check::problem("port", "port 1 is\nin use", "choose another one").with("port", 1);
        assert_eq!(check.line(), "problem  port          port 1 is in use. What to do: choose another one\n");
        let value: Value = serde_json::from_str(&check.json()).expect("JSON");
        assert_eq!((&value["status"], &value["figures"]["port"]), (&json!("problem"), &json!(1)));
        assert_eq!(Check::ok("clock", "right").line(), "ok       clock         right\n");
    }
}
