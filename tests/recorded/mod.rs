//! The recorded cases of `golden/`, and the random trees next to them.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde_json::Value;
use usercr::error::Error;
use usercr::image::{ImageHead, Reader};
use usercr::plan::{self, Plan, PlanOptions};

/// The limit of pids where the cases were recorded.
pub const PID_MAX: i32 = 32768;

/// The folder of the cases.
pub fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// An image, how it was restarted, and what was seen.
pub struct Case {
    pub name: String,
    pub args: Value,
    pub expected: Value,
    pub image: Vec<u8>,
}

impl Case {
    /// A number among the arguments of the call.
    pub fn arg(&self, name: &str) -> i64 {
        self.args["args"][name].as_i64().unwrap_or(0)
    }

    /// A number that says what the kernel did.
    pub fn kernel(&self, name: &str) -> i64 {
        self.args["kernel"][name].as_i64().unwrap_or(0)
    }

    /// Something that is known of the task table.
    pub fn built(&self, name: &str) -> &Value {
        &self.expected["build"][name]
    }

    pub fn pidns(&self) -> bool {
        self.arg("pidns") != 0
    }

    pub fn head(&self) -> Result<ImageHead, Error> {
        Ok(Reader::new(self.image.as_slice()).head()?)
    }

    pub fn plan(&self) -> Result<(ImageHead, Plan), Error> {
        let head = self.head()?;
        let pid_max = self.args["pid_max"].as_i64().map_or(PID_MAX, |max| max as i32);
        let plan = plan::build(&head, &PlanOptions { pidns: self.pidns(), pid_max })?;
        Ok((head, plan))
    }
}

/// All cases, by name.
pub fn cases() -> Vec<Case> {
    let json =
        |path: &Path| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let entries = std::fs::read_dir(golden()).unwrap();
    let dirs = entries.map(|e| e.unwrap().path()).filter(|d| d.is_dir());
    let mut cases: Vec<Case> = dirs
        .map(|dir| Case {
            name: dir.file_name().unwrap().to_str().unwrap().into(),
            args: json(&dir.join("args.json")),
            expected: json(&dir.join("expected.json")),
            image: std::fs::read(dir.join("image.bin")).unwrap(),
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(cases.len(), 287, "cases");
    cases
}

/// A random tree.
pub struct Random {
    pub kind: String,
    /// Pid, parent, thread group, process group, session.
    pub tasks: Vec<[i32; 5]>,
    pub offset: i32,
    pub value: Value,
}

/// All random trees.
pub fn random() -> Vec<Random> {
    let file = std::fs::File::open(golden().join("random.jsonl.gz")).unwrap();
    let lines = BufReader::new(flate2::read::GzDecoder::new(file)).lines();
    let one = |line: std::io::Result<String>| {
        let value: Value = serde_json::from_str(&line.unwrap()).unwrap();
        Random {
            kind: value["in"]["kind"].as_str().unwrap().into(),
            tasks: serde_json::from_value(value["in"]["tasks"].clone()).unwrap(),
            offset: value["in"]["pid_offset"].as_i64().unwrap_or(1) as i32,
            value,
        }
    };
    let trees: Vec<Random> = lines.map(one).collect();
    assert_eq!(trees.len(), 1000, "random trees");
    trees
}
