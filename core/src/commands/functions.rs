//! Functions: code that is loaded into the server by the library, and called by its name.

use super::{Run, Spec, record::Record};
use crate::{
    args::{ToArg, ToArgs},
    reply::{DecodeError, FromReply},
    request::Request,
    resp::View,
};

/// Commands on libraries of functions, and on what is in them.
///
/// Libraries are data: the server keeps them with its keys and sends them to its replicas, so one that was
/// loaded stays until it is deleted.
pub trait Functions: Run {
    /// Runs a function of a loaded library. Since 7.0.
    fn fcall<T: FromReply + Send + 'static>(
        &self,
        function: impl ToArg,
        keys: impl ToArgs,
        args: impl ToArgs,
    ) -> Self::Pending<T> {
        let fcall = Request::of(const { Spec::of("FCALL") }).arg(&function);
        self.run(fcall.count(&keys).args(&keys).args(&args))
    }

    /// Runs a function that is declared to only read (`no-writes`). Since 7.0.
    fn fcall_ro<T: FromReply + Send + 'static>(
        &self,
        function: impl ToArg,
        keys: impl ToArgs,
        args: impl ToArgs,
    ) -> Self::Pending<T> {
        let fcall = Request::of(const { Spec::of("FCALL_RO") }).arg(&function);
        self.run(fcall.count(&keys).args(&keys).args(&args))
    }

    /// Loads a library and gives its name, which stands in the first line of `code`
    /// (`#!lua name=mylib`); an error where there is one of that name. O(length). Since 7.0.
    fn function_load(&self, code: impl ToArg) -> Self::Pending<String> {
        self.run(Request::of(const { Spec::of("FUNCTION LOAD") }).arg(&code))
    }

    /// Loads a library over the one of its name, if there is one, and gives its name. O(length).
    /// Since 7.0.
    fn function_load_replace(&self, code: impl ToArg) -> Self::Pending<String> {
        self.run(Request::of(const { Spec::of("FUNCTION LOAD") }).arg("REPLACE").arg(&code))
    }

    /// All libraries with what is in them, without their code. O(functions). Since 7.0.
    fn function_list(&self) -> Self::Pending<Vec<Library>> {
        self.run(Request::of(const { Spec::of("FUNCTION LIST") }))
    }

    /// The libraries whose names match a glob-style pattern, with their code. O(functions). Since 7.0.
    fn function_list_code(&self, pattern: impl ToArg) -> Self::Pending<Vec<Library>> {
        let list = Request::of(const { Spec::of("FUNCTION LIST") });
        self.run(list.arg("LIBRARYNAME").arg(&pattern).arg("WITHCODE"))
    }

    /// Deletes a library; an error where there is none of that name. O(1). Since 7.0.
    fn function_delete(&self, library: impl ToArg) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("FUNCTION DELETE") }).arg(&library))
    }

    /// Deletes all libraries. O(functions). Since 7.0.
    fn function_flush(&self) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("FUNCTION FLUSH") }))
    }

    /// All libraries in the server's own binary form, for `function_restore`. O(functions). Since 7.0.
    fn function_dump<T: FromReply + Send + 'static>(&self) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("FUNCTION DUMP") }))
    }

    /// Loads the libraries that `function_dump` gave. O(functions). Since 7.0.
    fn function_restore(&self, dump: impl ToArg, existing: ExistingLibraries) -> Self::Pending<()> {
        let restore = Request::of(const { Spec::of("FUNCTION RESTORE") });
        self.run(restore.arg(&dump).arg(existing.word()))
    }

    /// What runs at this moment, and how much is loaded. O(1). Since 7.0.
    fn function_stats(&self) -> Self::Pending<FunctionStats> {
        self.run(Request::of(const { Spec::of("FUNCTION STATS") }))
    }

    /// Ends the function that runs at this moment, if it has not written yet. O(1). Since 7.0.
    fn function_kill(&self) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("FUNCTION KILL") }))
    }
}

impl<R: Run + ?Sized> Functions for R {}

/// What becomes of the libraries that a server has when others are restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExistingLibraries {
    /// They stay; where one has the name of a restored one, nothing is restored.
    Kept,
    /// They stay, but for those that a restored one replaces.
    Replaced,
    /// They are deleted.
    Deleted,
}

impl ExistingLibraries {
    fn word(self) -> &'static str {
        match self {
            ExistingLibraries::Kept => "APPEND",
            ExistingLibraries::Replaced => "REPLACE",
            ExistingLibraries::Deleted => "FLUSH",
        }
    }
}

/// A library of functions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Library {
    /// Its name.
    pub name: String,
    /// What runs it: `LUA`.
    pub engine: String,
    /// What is in it.
    pub functions: Vec<Function>,
    /// Its code, where that was asked for.
    pub code: Option<String>,
}

/// A function of a library.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Function {
    /// Its name, which no other function of the server has.
    pub name: String,
    /// What its author says of it.
    pub description: Option<String>,
    /// How it is declared: `no-writes`, `allow-stale`, …
    pub flags: Vec<String>,
}

/// What functions there are, and what runs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FunctionStats {
    /// What runs at this moment.
    pub running: Option<RunningFunction>,
    /// What is loaded, by engine.
    pub engines: Vec<EngineStats>,
}

/// A function that runs at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunningFunction {
    /// Its name.
    pub name: String,
    /// The call, word by word.
    pub command: Vec<bytes::Bytes>,
    /// For how long it has been running.
    pub duration: std::time::Duration,
}

/// What is loaded into one engine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineStats {
    /// Its name: `LUA`.
    pub name: String,
    /// How many libraries it has.
    pub libraries: u64,
    /// How many functions are in them.
    pub functions: u64,
}

impl FromReply for Library {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        let record = Record::of(view)?;
        Ok(Library {
            name: record.part("library_name")?,
            engine: record.part("engine")?,
            functions: record.part("functions")?,
            code: record.maybe("library_code")?,
        })
    }
}

impl FromReply for Function {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        let record = Record::of(view)?;
        Ok(Function {
            name: record.part("name")?,
            description: record.maybe("description")?,
            flags: record.part("flags")?,
        })
    }
}

impl FromReply for FunctionStats {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        let record = Record::of(view)?;
        let engines: Vec<(String, EngineCounts)> = record.part("engines")?;
        let engines = engines.into_iter().map(|(name, EngineCounts { libraries, functions })| {
            EngineStats { name, libraries, functions }
        });
        Ok(FunctionStats { running: record.maybe("running_script")?, engines: engines.collect() })
    }
}

impl FromReply for RunningFunction {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        let record = Record::of(view)?;
        Ok(RunningFunction {
            name: record.part("name")?,
            command: record.part("command")?,
            duration: std::time::Duration::from_millis(record.part("duration_ms")?),
        })
    }
}

struct EngineCounts {
    libraries: u64,
    functions: u64,
}

impl FromReply for EngineCounts {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        let record = Record::of(view)?;
        Ok(EngineCounts {
            libraries: record.part("libraries_count")?,
            functions: record.part("functions_count")?,
        })
    }
}
