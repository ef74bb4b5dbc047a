//! The parameters of a request. Values of the wrong type count as missing, as in Transmission, whose clients are not careful
//! with types: 0 and 1 are booleans too, and `"2.5"` is a number.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::service::model::FileIndexes;
use crate::service::rpc::Dialect;
use crate::service::rpc::error::{ErrorCode, RpcError};
use crate::service::text_limits::check_path;

/// The parameters of a request, by their names in JSON-RPC.
pub struct Params(Map<String, Value>);

impl Params {
    /// Reads the parameters. Programs in PHP send an empty list for an empty object.
    ///
    /// # Errors
    /// If they are no object. Transmission then acts on all torrents.
    pub fn new(value: Option<Value>, dialect: Dialect) -> Result<Params, RpcError> {
        let members = match value {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Array(list)) if list.is_empty() => Map::new(),
            Some(Value::Object(members)) => members,
            Some(_) => return Err(RpcError::invalid("parameters must be an object")),
        };
        Ok(Params(match dialect {
            Dialect::Legacy => members.into_iter().map(|(name, value)| (to_snake_case(&name), value)).collect(),
            Dialect::JsonRpc => members,
        }))
    }

    /// The value of a parameter, whatever its type.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A string.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.value(name)?.as_str()
    }

    /// A whole number.
    pub fn int(&self, name: &str) -> Option<i64> {
        to_int(self.value(name)?)
    }

    /// A whole number, as near as `T` can come to it between its smallest and its largest value.
    pub fn bounded<T: TryFrom<i64>>(&self, name: &str, least: i64, most: i64) -> Option<T> {
        T::try_from(self.int(name)?.clamp(least, most)).ok()
    }

    /// A number.
    pub fn float(&self, name: &str) -> Option<f64> {
        match self.value(name)? {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        }
        .filter(|number: &f64| number.is_finite())
    }

    /// A boolean.
    pub fn bool(&self, name: &str) -> Option<bool> {
        match self.value(name)? {
            Value::Bool(value) => Some(*value),
            Value::Number(number) => match number.as_i64()? {
                0 => Some(false),
                1 => Some(true),
                _ => None,
            },
            Value::String(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// A list.
    pub fn list(&self, name: &str) -> Option<&[Value]> {
        self.value(name)?.as_array().map(Vec::as_slice)
    }

    /// The strings of a list.
    pub fn texts(&self, name: &str) -> Option<Vec<&str>> {
        Some(self.list(name)?.iter().filter_map(Value::as_str).collect())
    }

    /// A path, which must be absolute. An empty one counts as missing.
    ///
    /// # Errors
    /// If it is relative, which `what` names then, or too long.
    pub fn folder(&self, name: &str, what: &str) -> Result<Option<PathBuf>, RpcError> {
        match self.text(name) {
            None | Some("") => Ok(None),
            Some(path) if path.starts_with('/') => {
                let path = PathBuf::from(path);
                check_path(&path)?;
                Ok(Some(path))
            }
            Some(_) => Err(RpcError::new(ErrorCode::PathNotAbsolute, format!("{what} is not absolute"))),
        }
    }

    /// Indexes of files; an empty list means `empty`.
    ///
    /// # Errors
    /// If one is negative.
    pub fn files(&self, name: &str, empty: FileIndexes) -> Result<FileIndexes, RpcError> {
        let Some(list) = self.list(name) else { return Ok(FileIndexes::None) };
        if list.is_empty() {
            return Ok(empty);
        }
        let indexes = list
            .iter()
            .filter_map(to_int)
            .map(|index| u32::try_from(index).map_err(|_| RpcError::from(ErrorCode::FileIndexOutOfRange)));
        Ok(FileIndexes::Some(indexes.collect::<Result<_, _>>()?))
    }
}

/// A whole number; `true` and `false` count as 1 and 0.
pub fn to_int(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::Bool(value) => Some(i64::from(*value)),
        _ => None,
    }
}

/// `download-dir` and `downloadDir` as `download_dir`.
pub fn to_snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for char in name.chars() {
        match char {
            '-' => snake.push('_'),
            'A'..='Z' => snake.extend(['_', char.to_ascii_lowercase()]),
            _ => snake.push(char),
        }
    }
    snake
}
