//! Loads and traces in JSON.

use std::path::Path;

use serde_json::Value;

use super::{Trace, check_steps};
use crate::eplb::{ExpertLoad, Placement};
use crate::{Error, Result};

pub(super) fn load(path: &Path, bytes: &[u8]) -> Result<ExpertLoad> {
    let file = File { path, op: "read_load", format: "expert load (JSON)", key: "weight" };
    file.matrix(file.body(&file.parse(bytes)?)?, "")
}

pub(super) fn trace(path: &Path, bytes: &[u8]) -> Result<Trace> {
    let file = File { path, op: "read_trace", format: "expert trace (JSON)", key: "trace" };
    let value = file.parse(bytes)?;
    let steps = file.list(file.body(&value)?, "")?;
    let load = |(i, step)| file.matrix(step, &format!("[{i}]"));
    check_steps(steps.iter().enumerate().map(load).collect::<Result<_>>()?)
}

pub(super) fn placement(path: &Path, bytes: &[u8], num_experts: usize) -> Result<Placement> {
    let problem =
        |problem: String| Error::Format { path: path.into(), format: "placement (JSON)", problem };
    let mut value: Value =
        serde_json::from_slice(bytes).map_err(|error| problem(error.to_string()))?;
    let (rows, inverse) = match &mut value {
        Value::Object(map) => {
            let key = "physical_to_logical_map";
            let rows = map.remove(key).ok_or_else(|| problem(format!("no key \"{key}\"")))?;
            (rows, map.remove("logical_to_physical_map"))
        }
        bare => (bare.take(), None),
    };
    let rows: Vec<Vec<i32>> =
        serde_json::from_value(rows).map_err(|error| problem(error.to_string()))?;
    let Some(inverse) = inverse else { return Placement::new(&rows, num_experts) };
    let inverse: Vec<Vec<Vec<i32>>> =
        serde_json::from_value(inverse).map_err(|error| problem(error.to_string()))?;
    let placement = Placement::from_maps(&rows, &inverse)?;
    let got = placement.num_logical_experts();
    if got != num_experts {
        let expected = format!("{num_experts} experts");
        return Err(Error::value("read_placement", "logical_to_physical_map", expected, got));
    }
    Ok(placement)
}

struct File<'a> {
    path: &'a Path,
    op: &'static str,
    format: &'static str,
    key: &'static str,
}

impl File<'_> {
    fn parse(&self, bytes: &[u8]) -> Result<Value> {
        serde_json::from_slice(bytes).map_err(|error| {
            match not_a_number(bytes) {
                // Some writers emit these, though JSON has no such numbers.
                Some(word) => self.refuse(word, error.to_string()),
                None => self.problem(error),
            }
        })
    }

    /// Finds the value under the key, or the value itself if it is bare.
    fn body<'v>(&self, value: &'v Value) -> Result<&'v Value> {
        match value {
            Value::Object(map) => {
                map.get(self.key).ok_or_else(|| self.problem(format!("no key \"{}\"", self.key)))
            }
            bare => Ok(bare),
        }
    }

    fn matrix(&self, value: &Value, place: &str) -> Result<ExpertLoad> {
        let mut rows = Vec::new();
        for (layer_idx, row) in self.list(value, place)?.iter().enumerate() {
            let place = format!("{place}[{layer_idx}]");
            let numbers = self.list(row, &place)?.iter().enumerate();
            let number = |(i, value): (usize, &Value)| {
                value
                    .as_f64()
                    .ok_or_else(|| self.refuse(value, format!("{}{place}[{i}]", self.key)))
            };
            rows.push(numbers.map(number).collect::<Result<Vec<f64>>>()?);
        }
        ExpertLoad::new(rows)
    }

    fn list<'v>(&self, value: &'v Value, place: &str) -> Result<&'v Vec<Value>> {
        value.as_array().ok_or_else(|| {
            let kind = match value {
                Value::Object(_) => "an object",
                Value::String(_) => "a string",
                Value::Number(_) => "a number",
                _ => "no list",
            };
            self.problem(format!("{}{place} is {kind}, expected a list", self.key))
        })
    }

    fn refuse(&self, got: impl std::fmt::Display, place: String) -> Error {
        let arg = if self.key == "weight" { "load" } else { "trace" };
        Error::value(self.op, arg, "finite numbers >= 0", format!("{got} ({place})"))
    }

    fn problem(&self, problem: impl ToString) -> Error {
        let (path, format) = (self.path.into(), self.format);
        Error::Format { path, format, problem: problem.to_string() }
    }
}

/// Finds a word that stands for a float that JSON cannot write.
fn not_a_number(bytes: &[u8]) -> Option<&'static str> {
    let holds = |word: &&str| bytes.windows(word.len()).any(|window| window == word.as_bytes());
    ["NaN", "nan", "-Infinity", "Infinity"].into_iter().find(holds)
}
