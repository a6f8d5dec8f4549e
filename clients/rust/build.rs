//! Generates the stubs from ../../protos.

use std::{env, error::Error, fs, path::Path};

use protox::prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../../protos/swarm/v1");
    // protox is a compiler of protos in Rust, so that no protoc has to be on the machine.
    let services = [
        "swarm/v1/scheduler_service.proto",
        "swarm/v1/swarm_service.proto",
    ];
    let protos = protox::compile(services, ["../../protos"])?;

    // What the messages are made of, for the conformance script's JSON; a client does without it.
    let out = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    fs::write(Path::new(&out).join("swarm.bin"), protos.encode_to_vec())?;
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();

    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds_with_config(protos, config)?;
    Ok(())
}
