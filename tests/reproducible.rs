//! `packaging/reproducible`, which `make` builds with: a small program, built in two places, is the same to the last byte. That this holds
//! of the programs themselves `make reproducible` shows, which takes too long for here.

#![allow(clippy::expect_used, reason = "a broken expectation is what a test reports")]

use std::{fs, path::Path, process::Command};

const MANIFEST: &str = "[package]\nname = \"small\"\nversion = \"1.0.0\"\nedition = \"2024\"\n\
    [profile.release]\ndebug = \"line-tables-only\"\nstrip = \"debuginfo\"\n[workspace]\n";
/// Its own path is in it, in a way that debugging information is not.
const PROGRAM: &str =
    "fn main() { let n: usize = std::env::args().count(); println!(\"{} {}\", file!(), [1, 2][n]); }\n";

/// Builds the program in this folder.
fn build(folder: &Path, wrapped: bool) -> Vec<u8> {
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("write");
    for name in ["src", "packaging"] {
        fs::create_dir_all(folder.join(name)).expect("a folder");
    }
    write("Cargo.toml", MANIFEST);
    // An absolute path, as those of a dependency are.
    write(
        "src/main.rs",
        &format!("#[path = {:?}]\nmod other;\nfn main() {{ other::main() }}\n", folder.join("src/other.rs")),
    );
    write("src/other.rs", &PROGRAM.replace("fn main", "pub fn main"));
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/reproducible");
    fs::copy(ours, folder.join("packaging/reproducible")).expect("copy");
    let cargo = env!("CARGO");
    let mut command = if wrapped {
        let mut command = Command::new(folder.join("packaging/reproducible"));
        command.arg(cargo);
        command
    } else {
        Command::new(cargo)
    };
    command.args(["build", "--quiet", "--release", "--offline"]).current_dir(folder);
    command.env_remove("CARGO_TARGET_DIR").env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("RUSTFLAGS");
    let output = command.output().expect("run cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read(folder.join("target/release/small")).expect("the program")
}

#[test]
fn a_program_does_not_depend_on_where_it_is_built() {
    let folder = tempfile::tempdir().expect("a folder");
    let (short, long) = (folder.path().join("a"), folder.path().join("a longer name/of two parts"));
    let has_path = |program: &[u8]| {
        let path = folder.path().as_os_str().as_encoded_bytes();
        program.windows(path.len()).any(|window| window == path)
    };
    let (first, second) = (build(&short, true), build(&long, true));
    assert!(first == second, "the programs differ");
    assert!(!has_path(&first));
    // What would be there otherwise.
    assert!(has_path(&build(&short, false)));
}
