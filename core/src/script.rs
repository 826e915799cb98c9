//! A script that is sent once and called by its digest from then on.

use std::{fmt, sync::Arc};

use sha1_smol::Sha1;

use crate::commands::Spec;

/// A Lua script, with the digest by which a server knows it again.
///
/// A call of it sends the digest alone. Where the server does not know the script (it was restarted, or
/// somebody flushed its scripts), it is sent again with its source, by itself; the server keeps it then.
/// Cloning is cheap; a script is made once, in a `static` for example:
///
/// ```
/// use std::sync::LazyLock;
/// # mod unfazed_tokio { pub use unfazed_core::{*, handle::Handle as Client}; }
/// use unfazed_tokio::{Client, prelude::*};
///
/// /// Adds to a counter, up to a limit.
/// static ADD_UP_TO: LazyLock<Script> = LazyLock::new(|| {
///     Script::new(
///         "local sum = tonumber(redis.call('GET', KEYS[1]) or 0) + ARGV[1]
///          if sum <= tonumber(ARGV[2]) then redis.call('SET', KEYS[1], sum) end
///          return sum",
///     )
/// });
///
/// async fn visit(client: &Client) -> Result<(), Failure> {
///     let visits: i64 = client.script(&ADD_UP_TO).key("visits").arg(1).arg(100).run().await?;
///     let (visits, name) = client
///         .pipeline(|p| {
///             (
///                 p.script(&ADD_UP_TO).key("visits").args([1, 100]).run::<i64>(),
///                 p.get::<String>("name"),
///             )
///         })
///         .await?;
/// #   let _ = (visits, name);
///     Ok(())
/// }
/// ```
///
/// # Order
///
/// A call that has to be sent again with its source runs when that arrives, which is after what was sent
/// behind it. In a pipeline this is avoided: the first call of a script whose source this client has not
/// sent on its present connection brings it along, so that a pipeline runs in its order. Only where the
/// server forgets a script between two pipelines on one connection (SCRIPT FLUSH) do its calls run after
/// the rest of the pipeline, in their order among themselves.
/// A transaction always brings its scripts along, since in the middle of one nothing can be sent again.
///
/// # When it fails
///
/// Nobody knows what a script does, so one that may have run is not sent again by itself, and one that
/// answers with an error counts as maybe executed. [`read_only`](Self::read_only) ones go again by themselves,
/// also where they are answered that the server is loading, busy or a replica for now.
#[derive(Clone)]
pub struct Script(Arc<Inner>);

struct Inner {
    source: Box<[u8]>,
    digest: Digest,
    read_only: bool,
}

/// A SHA-1 as 40 hexadecimal digits.
pub(crate) type Digest = [u8; 40];

impl Script {
    /// Takes the source of a script. O(length).
    #[must_use]
    pub fn new(source: impl AsRef<[u8]>) -> Self {
        Script::made(source.as_ref().into(), false)
    }

    /// The same script, to be run as one that may only read: the server refuses its writes, replicas run
    /// it, and it is sent again by itself when a connection is lost. Since 7.0.
    #[must_use]
    pub fn read_only(self) -> Self {
        Script::made(self.0.source.clone(), true)
    }

    fn made(source: Box<[u8]>, read_only: bool) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let bytes = Sha1::from(&source).digest().bytes();
        let mut digest = [0; 40];
        for (pair, byte) in digest.chunks_exact_mut(2).zip(bytes) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        Script(Arc::new(Inner { source, digest, read_only }))
    }

    /// The source.
    #[must_use]
    pub fn source(&self) -> &[u8] {
        &self.0.source
    }

    /// The SHA-1 of the source in lower-case hexadecimal, as EVALSHA and SCRIPT EXISTS take it.
    #[must_use]
    pub fn sha1(&self) -> &str {
        std::str::from_utf8(&self.0.digest).expect("it is made of digits")
    }

    /// Whether it may only read.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.0.read_only
    }

    pub(crate) fn digest(&self) -> &Digest {
        &self.0.digest
    }

    /// The command that calls it by its digest.
    pub(crate) fn by_digest(&self) -> &'static Spec {
        if self.0.read_only {
            const { Spec::of("EVALSHA_RO") }
        } else {
            const { Spec::of("EVALSHA") }
        }
    }

    /// The command that calls it by its source.
    pub(crate) fn by_source(&self) -> &'static Spec {
        if self.0.read_only { const { Spec::of("EVAL_RO") } } else { const { Spec::of("EVAL") } }
    }
}

impl From<&str> for Script {
    fn from(source: &str) -> Self {
        Script::new(source)
    }
}

/// The source is left out: it may be long.
impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script")
            .field("sha1", &self.sha1())
            .field("bytes", &self.0.source.len())
            .field("read_only", &self.0.read_only)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_known_by_the_digest_that_servers_give_it() {
        let script = Script::new("return 1");
        assert_eq!(script.sha1(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        assert_eq!((script.by_digest().name(), script.by_source().name()), ("EVALSHA", "EVAL"));
        let reads = script.clone().read_only();
        assert_eq!(reads.sha1(), script.sha1());
        assert_eq!((reads.by_digest().name(), reads.by_source().name()), ("EVALSHA_RO", "EVAL_RO"));
        assert_eq!(Script::new("").sha1(), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    }
}
