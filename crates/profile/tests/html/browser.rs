//! A page in headless Chromium.

use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde::de::DeserializeOwned;

/// As Debian and Google call it; scripts/install-deps looks for the same.
const NAMES: [&str; 4] = [
    "chromium-headless-shell",
    "chromium",
    "google-chrome",
    "google-chrome-stable",
];

/// After which Chromium is killed, in seconds. It takes one.
const DEADLINE: &str = "120";

/// What was found on a page.
pub(crate) struct Visit<T> {
    /// What the script says, for each frame.
    pub(crate) found: Vec<T>,
    /// What Chromium said on its console: errors, refused requests and scripts.
    pub(crate) console: Vec<String>,
}

/// The path of a Chromium, or nothing, and then a line that says so.
pub(crate) fn find() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut files = NAMES
        .iter()
        .flat_map(|name| env::split_paths(&path).map(move |folder| folder.join(name)));
    let found = files.find(|file| file.is_file());
    if found.is_none() {
        println!("SKIP the page with a profile in a browser: no Chromium");
    }
    found
}

/// Opens a page in frames of these widths (pixels) and calls the JavaScript function `examine` for each, which gets the frame's window.
///
/// The page is opened as it is, with its own policy of what it may load and run: the script belongs to the page around the frames, which may look into them.
pub(crate) fn visit<T: DeserializeOwned>(
    browser: &PathBuf,
    page: &str,
    widths: &[u32],
    examine: &str,
) -> Visit<T> {
    let source = page.replace('&', "&amp;").replace('"', "&quot;");
    let mut frames = String::new();
    for width in widths {
        let _ = writeln!(
            frames,
            r#"<iframe style="border:0" width="{width}" height="900" srcdoc="{source}"></iframe>"#
        );
    }
    let around = format!(
        r#"<!doctype html><meta charset="utf-8"><body>{frames}<script>
{examine}
addEventListener("load", () => {{
  let found;
  try {{
    found = Array.from(document.querySelectorAll("iframe"), frame => examine(frame.contentWindow));
  }} catch (error) {{
    console.error(error.stack);
  }}
  const said = document.createElement("pre");
  said.id = "found";
  // Nothing that HTML would write in another way.
  said.textContent = JSON.stringify(found).replace(/[<>&\u00a0]/g, c => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
  document.body.append(said);
}});
</script></body>"#
    );

    // In target: some Chromiums are packed so that they see no other /tmp than their own.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = folder.path().join("around.html");
    fs::write(&file, around).unwrap();
    let mut profile = OsString::from("--user-data-dir=");
    profile.push(folder.path().join("user"));
    let mut url = OsString::from("file://");
    url.push(&file);

    // `timeout` puts all of Chromium's processes into a group, and kills that when the time is over, also if this test is killed before.
    let output = Command::new("timeout")
        .args(["--signal=KILL", DEADLINE])
        .arg(browser)
        // It cannot have its sandbox as root or in a container, and the page is our own.
        .args(["--headless", "--no-sandbox", "--disable-gpu"])
        .args(["--disable-dev-shm-usage", "--no-first-run"])
        .args(["--enable-logging=stderr", "--dump-dom"])
        .args([&profile, &url])
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout);
    let log = String::from_utf8_lossy(&output.stderr);
    let found = dom
        .rsplit_once(r#"<pre id="found">"#)
        .and_then(|(_, rest)| rest.split_once("</pre>"))
        .unwrap_or_else(|| panic!("{}: {log}", output.status));
    let console = log.lines().filter(|line| line.contains("CONSOLE"));
    Visit {
        found: serde_json::from_str(found.0)
            .unwrap_or_else(|error| panic!("{error}: {}\n{log}", found.0)),
        console: console.map(str::to_owned).collect(),
    }
}
