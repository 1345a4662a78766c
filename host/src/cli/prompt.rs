//! Asks for what was not given as an argument.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context, ensure};

/// Asks for a line. It may be empty.
pub fn line(question: &str) -> anyhow::Result<String> {
    let mut err = io::stderr().lock();
    let _ = write!(err, "{question}: ").and_then(|()| err.flush());
    drop(err);
    read(question)
}

/// Asks for a secret: on a terminal it is not echoed; otherwise it is the next line of standard input.
pub fn secret(question: &str) -> anyhow::Result<String> {
    if io::stdin().is_terminal() {
        let secret = rpassword::prompt_password(format!("{question}: ")).context("cannot read from the terminal")?;
        return Ok(secret.trim().to_owned());
    }
    line(question)
}

fn read(question: &str) -> anyhow::Result<String> {
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer).context("cannot read from standard input")?;
    ensure!(read > 0, "no answer to `{question}`: standard input has ended");
    Ok(answer.trim().to_owned())
}
