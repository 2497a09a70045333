//! Names the shared library, so that programs linked with it look for it by that name.

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcowspace_zx.so");
    // A program may close the library with dlclose(3): its threads and what runs at the end of a thread stay.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo::rerun-if-changed=build.rs");
}
