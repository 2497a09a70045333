//! Names the shared library, so that programs linked with it look for it by that name.

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcowspace_zx.so");
    println!("cargo::rerun-if-changed=build.rs");
}
