//! The C library as a program finds it: built and installed by `scripts/install-c`, found by pkg-config, linked by the
//! C compiler.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::fs::{FlockOperation, flock};

/// An installed library. While one is held, no other test installs.
pub struct Library {
    prefix: PathBuf,
    _lock: File,
}

/// What a program is written in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Language {
    /// C11
    C,
    /// C++17
    Cpp,
}

/// How a program is linked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Linkage {
    /// With `libcowspace_zx.so`.
    Shared,
    /// With `libcowspace_zx.a`, and all else statically, too.
    Static,
}

impl Library {
    /// Builds it without optimizations and installs it in the build folder; `None`, having said so, where there is no C
    /// compiler, C++ compiler or pkg-config, or the build folder is another user's.
    ///
    /// # Panics
    ///
    /// If `scripts/install-c` fails.
    pub fn installed() -> Option<Library> {
        for tool in ["cc", "c++", "pkg-config"] {
            if Command::new(tool).arg("--version").output().is_err() {
                println!("SKIP the C library: {tool}");
                return None;
            }
        }
        let folder = build_folder();
        let lock = match File::create(folder.join("c-library.lock")) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                println!("SKIP the C library: this user cannot install it in the build folder");
                return None;
            }
            lock => lock.expect("a lock file"),
        };
        flock(&lock, FlockOperation::LockExclusive).expect("the lock");
        let prefix = folder.join("c-library");
        let script = root().join("scripts/install-c");
        run(Command::new(script).arg("--dev").arg(&prefix));
        Some(Library {
            prefix,
            _lock: lock,
        })
    }

    /// Where it is installed.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// Compiles one source file with all warnings as errors, and links it.
    ///
    /// # Panics
    ///
    /// If the compiler says anything.
    pub fn build(&self, source: &Path, language: Language, linkage: Linkage) -> PathBuf {
        let stem = source.file_stem().and_then(OsStr::to_str).expect("a name");
        let program = self.prefix.join(format!("{stem}-{language:?}-{linkage:?}"));
        let mut compiler = compiler(language);
        // As in the README: what pkg-config says before the program.
        let shared = self.pkg_config(&["--cflags", "--libs"]);
        compiler.args(&shared).arg(source);
        if linkage == Linkage::Static {
            compiler.arg("-static");
            compiler.args(self.pkg_config(&["--static", "--libs"]));
        }
        compiler.arg("-pthread").arg("-o").arg(&program);
        run(&mut compiler);
        program
    }

    /// What pkg-config says of the library.
    pub fn pkg_config(&self, options: &[&str]) -> Vec<String> {
        let mut pkg_config = Command::new("pkg-config");
        pkg_config.args(options).arg("cowspace-zx");
        pkg_config.env("PKG_CONFIG_PATH", self.prefix.join("lib/pkgconfig"));
        let said = run(&mut pkg_config).stdout;
        let said = String::from_utf8(said).expect("text");
        said.split_whitespace().map(str::to_owned).collect()
    }

    /// Runs a program to its end, which must be a good one; gives what it printed.
    ///
    /// # Panics
    ///
    /// If it ends otherwise.
    pub fn run(&self, program: &Path) -> String {
        let mut program = Command::new(program);
        program.env("LD_LIBRARY_PATH", self.prefix.join("lib"));
        String::from_utf8(run(&mut program).stdout).expect("text")
    }
}

/// The compiler of a language, with warnings as errors.
pub fn compiler(language: Language) -> Command {
    let (name, standard, as_language) = match language {
        Language::C => ("cc", "-std=c11", "c"),
        Language::Cpp => ("c++", "-std=c++17", "c++"),
    };
    let mut compiler = Command::new(name);
    compiler.args([standard, "-x", as_language, "-D_GNU_SOURCE", "-g", "-O1"]);
    compiler.args(["-Wall", "-Wextra", "-Wpedantic", "-Werror"]);
    compiler
}

/// The C and C++ sources of the tests.
pub fn sources() -> PathBuf {
    root().join("tests/c")
}

/// The folder of the repository.
pub fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("tests/ is in it").to_owned()
}

/// A folder for files of tests in the folder that this test was built in.
fn build_folder() -> PathBuf {
    let test = env::current_exe().expect("the path of the test");
    let target = test.ancestors().nth(3).expect("target/PROFILE/deps/test");
    let folder = target.join("tmp");
    fs::create_dir_all(&folder).expect("a folder in the build folder");
    folder
}

fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
