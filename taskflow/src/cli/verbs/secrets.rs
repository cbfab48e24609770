//! `taskflow password` and `taskflow token`: what `taskflow serve` and `taskflow::web::Access` are configured with.

use std::io::IsTerminal;

use serde_json::json;
use taskflow::web::{Token, User};

use crate::cli::failure::{Failure, Result};
use crate::cli::options::Global;

pub(in crate::cli) fn password(global: &Global) -> Result<()> {
    let password = if std::io::stdin().is_terminal() {
        let ask = |prompt| {
            rpassword::prompt_password(prompt)
                .map_err(|error| Failure::failed(format!("cannot read the password: {error}")))
        };
        let first = ask("Password: ")?;
        if ask("Again: ")? != first {
            return Err(Failure::usage("the two passwords differ"));
        }
        first
    } else {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    };
    if password.is_empty() {
        return Err(Failure::usage("the password is empty"));
    }
    let hash = User::hash_password(&password);
    let out = global.out();
    if out.is_json() { out.json(&json!({ "hash": hash })) } else { out.line(&hash) }
}

pub(in crate::cli) fn token(global: &Global) -> Result<()> {
    let (secret, sha256) = Token::generate();
    let out = global.out();
    if out.is_json() {
        return out.json(&json!({ "token": secret, "sha256": sha256 }));
    }
    out.line(&format!("token\t{secret}\nsha256\t{sha256}"))?;
    if out.is_for_people() {
        eprintln!("give the token to the program, and configure the sha256; the token cannot be shown again");
    }
    Ok(())
}
