//! Leaves the linked module a core module: `plugins/build` takes a snapshot of it before it makes a component of it.

fn main() {
    // The linter looks at it natively, where no linker knows this.
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        println!("cargo::rustc-link-arg-cdylib=--skip-wit-component");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
