//! Loads and traces in CSV.

use std::path::Path;

use super::{Trace, check_capacity, steps_from};
use crate::eplb::ExpertLoad;
use crate::{Error, Result};

const LOAD: &str = "expert load (CSV)";
const TRACE: &str = "expert trace (CSV)";

pub(super) fn load(path: &Path, bytes: &[u8]) -> Result<ExpertLoad> {
    let records = Records { path, format: LOAD }.read(bytes)?;
    let is_header = |record: &&Record| record.fields.iter().all(|f| f.parse::<f64>().is_err());
    let skip = usize::from(records.first().as_ref().is_some_and(is_header));
    let rows = records
        .iter()
        .skip(skip)
        .map(|record| record.fields.iter().map(|field| record.number(path, LOAD, field)).collect());
    ExpertLoad::new(rows.collect::<Result<Vec<Vec<f64>>>>()?)
}

pub(super) fn trace(path: &Path, bytes: &[u8]) -> Result<Trace> {
    let records = Records { path, format: TRACE }.read(bytes)?;
    let names: Vec<&str> =
        records.first().map_or(vec![], |header| header.fields.iter().map(String::as_str).collect());
    let entries = match names[..] {
        ["step", "layer", "expert", "count"] => long(path, &records[1..])?,
        ["step", "layer", _, ..] => wide(path, &records[1..], names.len())?,
        _ => {
            let problem = format!(
                "the first line is \"{}\", expected \"step,layer,expert,count\" or \
                 \"step,layer,\" and a name for every expert",
                names.join(",")
            );
            return Err(Error::Format { path: path.into(), format: TRACE, problem });
        }
    };
    fill(path, &entries)
}

/// `(line, [step, layer, expert], count)`
type Entry = (u64, [usize; 3], f64);

fn long(path: &Path, records: &[Record]) -> Result<Vec<Entry>> {
    let entry = |record: &Record| {
        record.check_len(path, 4)?;
        let [step, layer, expert] =
            [0, 1, 2].map(|column| record.index(path, &record.fields[column]));
        let count = record.number(path, TRACE, &record.fields[3])?;
        Ok((record.line, [step?, layer?, expert?], count))
    };
    records.iter().map(entry).collect()
}

fn wide(path: &Path, records: &[Record], num_columns: usize) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for record in records {
        record.check_len(path, num_columns)?;
        let step = record.index(path, &record.fields[0])?;
        let layer = record.index(path, &record.fields[1])?;
        for (expert, field) in record.fields[2..].iter().enumerate() {
            let count = record.number(path, TRACE, field)?;
            entries.push((record.line, [step, layer, expert], count));
        }
    }
    Ok(entries)
}

/// Lays entries out by their indices; what is missing is 0.
fn fill(path: &Path, entries: &[Entry]) -> Result<Trace> {
    let mut extents = [0usize; 3];
    for (_, indices, _) in entries {
        for (extent, index) in extents.iter_mut().zip(indices) {
            *extent = (*extent).max(index.saturating_add(1));
        }
    }
    let num_values = check_capacity("read_trace", "trace", &extents)?;
    let [_, num_layers, num_experts] = extents;
    let mut values = vec![0.0; num_values];
    let mut seen = vec![false; num_values];
    for &(line, [step, layer, expert], count) in entries {
        let at = (step * num_layers + layer) * num_experts + expert;
        if std::mem::replace(&mut seen[at], true) {
            let problem =
                format!("line {line}: step {step}, layer {layer}, expert {expert} comes twice");
            return Err(Error::Format { path: path.into(), format: TRACE, problem });
        }
        values[at] = count;
    }
    if num_values == 0 {
        return Err(Error::value("read_trace", "trace", "at least one record", "none"));
    }
    steps_from(&values, [num_layers, num_experts])
}

struct Records<'a> {
    path: &'a Path,
    format: &'static str,
}

struct Record {
    line: u64,
    fields: Vec<String>,
}

impl Records<'_> {
    fn read(&self, bytes: &[u8]) -> Result<Vec<Record>> {
        let mut reader = ::csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(::csv::Trim::All)
            .from_reader(bytes);
        let record = |record: ::csv::Result<::csv::StringRecord>| {
            let record = record.map_err(|error| Error::Format {
                path: self.path.into(),
                format: self.format,
                problem: error.to_string(),
            })?;
            let line = record.position().map_or(0, ::csv::Position::line);
            Ok(Record { line, fields: record.iter().map(str::to_owned).collect() })
        };
        reader.records().map(record).collect()
    }
}

impl Record {
    fn number(&self, path: &Path, format: &'static str, field: &str) -> Result<f64> {
        field.parse().map_err(|_| Error::Format {
            path: path.into(),
            format,
            problem: format!("line {}: \"{field}\" is no number", self.line),
        })
    }

    fn index(&self, path: &Path, field: &str) -> Result<usize> {
        field.parse().map_err(|_| Error::Format {
            path: path.into(),
            format: TRACE,
            problem: format!("line {}: \"{field}\" is no index (0, 1, ...)", self.line),
        })
    }

    fn check_len(&self, path: &Path, expected: usize) -> Result<()> {
        if self.fields.len() == expected {
            return Ok(());
        }
        let problem =
            format!("line {}: {} fields, expected {expected}", self.line, self.fields.len());
        Err(Error::Format { path: path.into(), format: TRACE, problem })
    }
}
