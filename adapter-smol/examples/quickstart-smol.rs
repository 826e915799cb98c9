//! Greets a server, or the embedded store: `cargo run --example quickstart-smol -- memory://`.

use unfazed_smol::{Client, prelude::*};

fn main() -> Result<(), Failure> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redis://localhost".to_owned());
    smol::block_on(async {
        let client = Client::connect(url).await?;
        client.set("greeting", "hello").await?;
        let greeting: Option<String> = client.get("greeting").await?;
        println!("{greeting:?}");
        client.close().await;
        Ok(())
    })
}
