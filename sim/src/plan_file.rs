//! A plan on disk: JSON with a version, so that a file of another form is refused, not misread.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::plan::Plan;

/// The version of the files that this simulator writes and reads.
pub const VERSION: u64 = 1;

/// A plan with what it shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanFile {
    version: u64,
    /// What the plan shows, in a sentence for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub shows: String,
    /// The plan.
    #[serde(flatten)]
    pub plan: Plan,
}

/// Why a plan was not read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanFileError {
    path: PathBuf,
    text: String,
}

impl fmt::Display for PlanFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.text)
    }
}

impl std::error::Error for PlanFileError {}

impl PlanFile {
    /// A file of this plan.
    pub fn new(plan: Plan, shows: impl Into<String>) -> Self {
        Self {
            version: VERSION,
            shows: shows.into(),
            plan,
        }
    }

    /// Reads a plan.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is no plan of this version.
    pub fn read(path: &Path) -> Result<Self, PlanFileError> {
        let failed = |text: String| PlanFileError {
            path: path.to_owned(),
            text,
        };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        parse(&text).map_err(failed)
    }

    /// Writes the plan, and the directory if there is none.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), PlanFileError> {
        let written = || -> std::io::Result<()> {
            let text = self.text().map_err(std::io::Error::other)?;
            if let Some(directory) = path.parent() {
                std::fs::create_dir_all(directory)?;
            }
            std::fs::write(path, text)
        };
        written().map_err(|error| PlanFileError {
            path: path.to_owned(),
            text: error.to_string(),
        })
    }

    /// The plan as JSON with a line for each action, so that people can read and change it.
    fn text(&self) -> serde_json::Result<String> {
        let mut head = serde_json::to_value(self)?;
        let actions = head.as_object_mut().and_then(|head| head.remove("actions"));
        let lines: Vec<String> = match actions {
            Some(Value::Array(actions)) => actions.iter().map(|a| format!("    {a}")).collect(),
            Some(_) | None => Vec::new(),
        };
        let head = serde_json::to_string_pretty(&head)?;
        let head = head.trim_end_matches("\n}");
        Ok(format!(
            "{head},\n  \"actions\": [\n{}\n  ]\n}}\n",
            lines.join(",\n")
        ))
    }
}

fn parse(text: &str) -> Result<PlanFile, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
    match value.get("version").and_then(Value::as_u64) {
        Some(VERSION) => {}
        Some(other) => return Err(format!("a plan of version {other}; {VERSION} is known")),
        None => return Err("no plan: it has no version".to_owned()),
    }
    let file: PlanFile = serde_json::from_value(value).map_err(|e| format!("no plan: {e}"))?;
    let network = &file.plan.network;
    if network.tick_ms == 0 || !(1..=8).contains(&network.zones) {
        return Err("no plan: a tick of 1 ms and 1 to 8 zones are needed".to_owned());
    }
    let least = if file.plan.wild.is_some() {
        0 // Our own network knows no ticks.
    } else {
        network.tick_ms
    };
    if network.latency_ms_min < least || network.latency_ms_max < network.latency_ms_min {
        return Err("no plan: the latency is below a tick, or its most below its least".to_owned());
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::gathering;

    #[test]
    fn what_is_written_is_what_is_read() {
        let file = PlanFile::new(gathering(7), "a crowd");
        let text = file.text().expect("a plan is JSON");
        assert_eq!(parse(&text), Ok(file));
        assert!(text.lines().count() > 100, "a line for each action");
    }

    #[test]
    fn a_bad_file_is_told_in_one_line() {
        let told = |text| parse(text).expect_err("it is bad");
        assert!(told("{").starts_with("no JSON: "));
        assert_eq!(told("{}"), "no plan: it has no version");
        assert_eq!(told(r#"{"version": 9}"#), "a plan of version 9; 1 is known");
        assert_eq!(told(r#"{"version": 1}"#), "no plan: missing field `seed`");
        let mut plan = gathering(7);
        plan.network.tick_ms = 0;
        let text = PlanFile::new(plan, "").text().expect("a plan is JSON");
        assert!(told(&text).contains("a tick of 1 ms"));
    }
}
