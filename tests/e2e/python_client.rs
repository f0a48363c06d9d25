//! The official Python client of MCP does a whole workflow: `tests/clients/python/scenario.py`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::harness::Home;

/// The release line that the scenario is written for.
const CLIENT: &str = "mcp>=2,<3";

/// A Python that has the client, in the build's own folder; made at the first run.
fn python() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-mcp-2");
    let python = folder.join("bin/python");
    let has_client = Command::new(&python).args(["-c", "import mcp.client"]).output();
    if has_client.is_ok_and(|output| output.status.success()) {
        return python;
    }
    let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder).output();
    explain("python3 -m venv", made.expect("python3 is needed for this test"));
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", CLIENT];
    let installed = Command::new(&python).args(install).output().expect("it was made just now");
    explain("pip install", installed);
    python
}

fn explain(what: &str, output: Output) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{what} failed, which this test needs for {CLIENT}:\n{errors}"
    );
}

#[test]
fn a_workflow_is_done_by_the_official_python_client() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let home = Home::new();
    let mut scenario = home.prepare(Command::new(python()));
    scenario.arg(root.join("tests/clients/python/scenario.py"));
    scenario.arg(env!("CARGO_BIN_EXE_ipfs-accelerate"));
    let output = scenario.output().expect("python starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "20 tasks completed\n", "{errors}");
}
