//! Validates lines of `--json` against docs/events.schema.json, and those of `btsync doctor` against docs/doctor.schema.json.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

/// Panics unless the line is a valid event.
pub fn assert_fits(line: &Value) {
    if let Err(why) = fits(line, &schema("events")) {
        panic!("{line} does not fit the schema: {why}");
    }
}

/// Panics unless the line is a valid check of `btsync doctor`.
pub fn assert_is_check(line: &Value) {
    if let Err(why) = fits(line, &schema("doctor")) {
        panic!("{line} does not fit the schema: {why}");
    }
}

/// The events of the schema, each with the fields that it allows.
pub fn fields_by_event() -> BTreeMap<String, BTreeSet<String>> {
    let schema = schema("events");
    let events = schema["oneOf"].as_array().expect("a list").iter().map(|event| {
        let fields = event["properties"].as_object().expect("an object");
        let name = fields["event"]["const"].as_str().expect("a name");
        (name.to_owned(), fields.keys().cloned().collect())
    });
    events.collect()
}

fn schema(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/{name}.schema.json"));
    serde_json::from_slice(&std::fs::read(path).expect("the schema")).expect("JSON")
}

/// Validates with the part of JSON Schema that our schema uses. An unknown keyword is an error.
fn fits(value: &Value, schema: &Value) -> Result<(), String> {
    let Value::Object(rules) = schema else { return Err("a schema is an object".into()) };
    for (word, rule) in rules {
        let ok = match word.as_str() {
            "$schema" | "title" | "description" => true,
            "oneOf" => {
                let options = rule.as_array().expect("a list");
                let fitting = options.iter().filter(|option| fits(value, option).is_ok()).count();
                let of_its_name = options.iter().find(|o| o["properties"]["event"]["const"] == value["event"]);
                match of_its_name {
                    Some(option) if fitting != 1 => fits(value, option)?,
                    _ => {}
                }
                fitting == 1
            }
            "const" => value == rule,
            "enum" => rule.as_array().is_some_and(|values| values.contains(value)),
            "minimum" => value.is_null() || value.as_f64() >= rule.as_f64(),
            "type" => match rule {
                Value::Array(types) => types.iter().any(|t| is(value, t)),
                one => is(value, one),
            },
            "required" => rule.as_array().expect("a list").iter().all(|key| value.get(key.as_str().unwrap()).is_some()),
            "properties" => {
                for (key, rule) in rule.as_object().expect("an object") {
                    if let Some(member) = value.get(key) {
                        fits(member, rule).map_err(|why| format!("{key}: {why}"))?;
                    }
                }
                true
            }
            "additionalProperties" => {
                let known = &rules["properties"];
                *rule != Value::Bool(false)
                    || value.as_object().is_some_and(|o| o.keys().all(|k| known.get(k).is_some()))
            }
            other => return Err(format!("the schema's word {other} is not known here")),
        };
        if !ok {
            return Err(format!("{word} {rule}"));
        }
    }
    Ok(())
}

fn is(value: &Value, kind: &Value) -> bool {
    match kind.as_str().expect("a type's name") {
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        other => panic!("the type {other} is not known here"),
    }
}
