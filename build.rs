//! Which way into a Python string there is, on the interpreter that is built for.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(strings_in_place)");
    #[cfg(feature = "python")]
    if shows_characters() {
        println!("cargo::rustc-cfg=strings_in_place");
    }
}

/// Whether a string's characters can be read where they are: on CPython with the GIL, not over the
/// stable ABI, and where C lays out a string's bit field as pyo3 reads it. PyPy and GraalPy keep
/// strings in a form of their own.
#[cfg(feature = "python")]
fn shows_characters() -> bool {
    use pyo3_build_config::{GilUsed, PythonAbiKind, PythonImplementation};

    let abi = pyo3_build_config::get().target_abi();
    let endian = std::env::var("CARGO_CFG_TARGET_ENDIAN");
    abi.implementation() == PythonImplementation::CPython
        && abi.kind() == PythonAbiKind::VersionSpecific(GilUsed::GilEnabled)
        && endian.is_ok_and(|endian| endian == "little")
}
