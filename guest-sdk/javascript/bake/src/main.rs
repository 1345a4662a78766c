//! `thimble-bake build <engine folder> <module>` makes `engine.wasm`; `thimble-bake check <engine folder>` tells whether it is
//! that of the sources. `build.sh` calls both.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use thimble_bake::{bake, sources};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["build", engine, module] => build(Path::new(engine), Path::new(module)).await,
        ["check", engine] => check(Path::new(engine)),
        _ => bail!("usage: thimble-bake build <engine folder> <module> | thimble-bake check <engine folder>"),
    }
}

async fn build(engine: &Path, module: &Path) -> Result<()> {
    let raw = fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    let baked = bake(&raw).await?;
    fs::write(engine.join("engine.wasm"), &baked.component)?;
    fs::write(sources::file(engine), sources::hash(engine)? + "\n")?;
    println!("built   {:>9} bytes", raw.len());
    println!("module  {:>9} bytes, of its memory {} are stack", baked.module_bytes, baked.stack_bytes);
    println!("engine  {:>9} bytes", baked.component.len());
    Ok(())
}

fn check(engine: &Path) -> Result<()> {
    let built_from = fs::read_to_string(sources::file(engine)).context("engine.sources is missing: run build.sh")?;
    ensure!(
        built_from.trim() == sources::hash(engine)?,
        "engine.wasm was built from other sources: run guest-sdk/javascript/build.sh and commit what it makes"
    );
    Ok(())
}
