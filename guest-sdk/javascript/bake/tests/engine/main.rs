//! What a JavaScript function can rely on, shown on the committed `engine.wasm`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod calls;
mod errors;
mod limits;
mod loading;
mod logging;
mod sandbox;
mod transactions;
mod web;

#[test]
#[ignore = "a probe: PROBE names a file to run"]
fn probe() {
    let source = std::fs::read_to_string(std::env::var("PROBE").unwrap()).unwrap();
    match sandbox::upload(&source) {
        Err(text) => println!("refused: {text}"),
        Ok(function) => {
            println!("loading: {:?}", function.loading.logs);
            let run = function.call(&[]);
            match run.result {
                Err(trap) => println!("trap: {trap:#}"),
                Ok(Ok(json)) => println!("ok: {json:?}"),
                Ok(Err(text)) => println!("error: {text}"),
            }
            for (level, text) in &run.world.logs {
                println!("{level} ({}) {}", text.len(), &text[..text.len().min(300)]);
            }
            println!("fuel {} peak {}", run.fuel, run.world.peak);
        }
    }
}
