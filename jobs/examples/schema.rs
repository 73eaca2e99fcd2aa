//! Writes the JSON Schema of every kind to `jobs/schema/`. Run it after changing a payload type:
//! `cargo run -p klaviyo-jobs --example schema`.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema");
    std::fs::create_dir_all(&folder)?;
    for info in klaviyo_jobs::kinds() {
        let schema = serde_json::to_string_pretty(&(info.schema)())? + "\n";
        std::fs::write(folder.join(format!("{}.json", info.kind)), schema)?;
    }
    Ok(())
}
