//! Generates the protobuf messages. `$PROTOC` (set in .cargo/config.toml) names the compiler; see the script `protoc`.

const SCHEMAS: [&str; 4] = [
    "schema/pulsar.proto",
    "schema/managed_ledger.proto",
    "schema/bookkeeper.proto",
    "schema/ledger_metadata.proto",
];

/// Bodies so large, and so rare, that every other command would pay for them with a bigger enum.
const BOXED: [&str; 9] = [
    "connect",
    "subscribe",
    "producer",
    "lookupTopic",
    "partitionMetadata",
    "consumerStatsResponse",
    "getLastMessageIdResponse",
    "getSchemaResponse",
    "getOrCreateSchema",
];

fn main() -> std::io::Result<()> {
    for schema in SCHEMAS {
        println!("cargo:rerun-if-changed={schema}");
    }
    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    config.btree_map(["."]);
    for field in BOXED {
        config.boxed(format!(".magnetar.pulsar.BaseCommand.body.{field}"));
    }
    config.compile_protos(&SCHEMAS, &["schema"])
}
