//! Where an image goes: standard output, or a file that takes its name when it is complete.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;

use super::Failure;

/// Has `write` put an image on standard output.
pub fn to_stdout(write: impl FnOnce(BorrowedFd<'_>) -> Result<(), Failure>) -> Result<(), Failure> {
    let stdout = io::stdout();
    if stdout.is_terminal() {
        let refused = io::Error::other("an image is not written to a terminal");
        return Err(Failure::file("standard output")(refused));
    }
    write(stdout.as_fd())
}

/// Has `write` put an image into the file `name`; what is there already is replaced only if `replace`.
pub fn to_file(
    name: &Path,
    replace: bool,
    write: impl FnOnce(BorrowedFd<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    NewFile::create(name, replace)?.fill(write)
}

/// A file that takes its name when it is complete, so that a failure neither leaves half an image nor
/// costs the one that was there.
struct NewFile<'a> {
    file: File,
    name: &'a Path,
    /// Its name until then; none where `name` is no regular file, which is written to in place.
    unfinished: Option<PathBuf>,
    /// Whether it takes the place of another.
    replace: bool,
}

impl<'a> NewFile<'a> {
    fn create(name: &'a Path, replace: bool) -> Result<NewFile<'a>, Failure> {
        if !replace && fs::symlink_metadata(name).is_ok() {
            return Err(Failure::file(name.display())(io::Error::from_raw_os_error(libc::EEXIST)));
        }
        if fs::metadata(name).is_ok_and(|meta| !meta.is_file()) {
            let file = OpenOptions::new().write(true).open(name);
            let file = file.map_err(Failure::file(name.display()))?;
            return Ok(NewFile { file, name, unfinished: None, replace });
        }
        let mut unfinished = OsString::from(name);
        unfinished.push(format!(".{}.part", process::id()));
        let unfinished = PathBuf::from(unfinished);
        // An image holds all that the tasks had in memory: it is nobody else's business.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished);
        let file = file.map_err(Failure::file(unfinished.display()))?;
        Ok(NewFile { file, name, unfinished: Some(unfinished), replace })
    }

    fn fill(
        mut self,
        write: impl FnOnce(BorrowedFd<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        write(self.file.as_fd())?;
        // From here on the unfinished file may be all that is left of a tree: it is never removed.
        match self.unfinished.take() {
            Some(path) => {
                let what = format!("rename {} to {}", path.display(), self.name.display());
                self.name_it(&path).map_err(Failure::file(what))
            }
            None => Ok(()),
        }
    }

    /// Gives the complete file its name.
    fn name_it(&self, unfinished: &Path) -> io::Result<()> {
        if !self.replace {
            // Unlike a rename, a link never takes the place of what came there meanwhile.
            match fs::hard_link(unfinished, self.name) {
                Ok(()) => return fs::remove_file(unfinished),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(e),
                // Some filesystems have no links.
                Err(_) => {}
            }
        }
        fs::rename(unfinished, self.name)
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if let Some(path) = &self.unfinished {
            // That it stays is not worth another message than the one about the failure.
            let _ = fs::remove_file(path);
        }
    }
}
