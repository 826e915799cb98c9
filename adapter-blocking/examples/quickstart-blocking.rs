//! `cargo run --example quickstart-blocking -- redis://localhost`; `memory://` needs no server.

use unfazed_blocking::{Client, prelude::*};

fn main() -> Result<(), Failure> {
    let url = std::env::args().nth(1).or_else(|| std::env::var("REDIS_URL").ok());
    let client = Client::connect(url.as_deref().unwrap_or("redis://localhost"))?;
    client.set("greeting", "hello")?;
    let greeting: Option<String> = client.get("greeting")?;
    println!("{}, visitor {}", greeting.unwrap_or_default(), client.incr("visits")?);
    Ok(())
}
