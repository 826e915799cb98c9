//! Greets a server, or the embedded store: `cargo run --example quickstart-tokio -- memory://`.

use unfazed_tokio::{Client, prelude::*};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redis://localhost".to_owned());
    let client = Client::connect(url).await?;
    client.set("greeting", "hello").await?;
    let greeting: Option<String> = client.get("greeting").await?;
    println!("{greeting:?}");
    client.close().await;
    Ok(())
}
