//! How the shared library is linked.

fn main() {
    // Programs linked with it look for it by this name.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcowspace_zx.so");
    // It stays after dlclose(): its threads run on, there are mappings whose page faults they serve, and the handlers
    // of fork() and of the ends of threads cannot be taken back.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo::rerun-if-changed=build.rs");
}
