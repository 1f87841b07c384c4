//! Generates the control service. `$PROTOC` (set in .cargo/config.toml) names the compiler; see the script `proto/protoc`.

const SCHEMA: &str = "../proto/schema/bookie_control.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={SCHEMA}");
    let descriptors = std::path::PathBuf::from(std::env::var("OUT_DIR")?).join("bookie_control.bin");
    tonic_prost_build::configure()
        .build_transport(false)
        .file_descriptor_set_path(descriptors)
        .compile_protos(&[SCHEMA], &["../proto/schema"])?;
    Ok(())
}
