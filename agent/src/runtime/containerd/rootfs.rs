//! Looking into an image's file system: who its users are.
//!
//! The layers are mounted in a mount namespace that only one thread is in: nobody else sees the mount, and it goes with the
//! thread whatever happens.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use containerd_client::services::v1::snapshots::ViewSnapshotRequest;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::types::Mount;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;

use super::Containerd;
use crate::image::ImageInfo;
use crate::image::accounts::{Accounts, needs_accounts};
use crate::runtime::{ContainerSpec, RuntimeError};

/// More than this is no list of users.
const MAX_FILE: u64 = 1 << 20;
/// Where the thread mounts: a folder that every system has, and that the thread needs for nothing else.
const TARGET: &str = "/proc";
/// How many images' users are remembered.
const REMEMBERED: usize = 128;

impl Containerd {
    /// The users that an image knows, read once for each image.
    ///
    /// A container whose user is given as a number can do without: for it a failure is only logged.
    pub(super) async fn accounts(
        &self,
        spec: &ContainerSpec,
        image: &ImageInfo,
    ) -> Result<Accounts, RuntimeError> {
        if image.chain_id.is_empty() {
            return Ok(Accounts::default());
        }
        let mut known = self.shared.accounts.lock().await;
        if let Some(accounts) = known.get(&image.chain_id) {
            return Ok(accounts.clone());
        }
        match self.read_accounts(image).await {
            Ok(accounts) => {
                if known.len() >= REMEMBERED {
                    known.clear();
                }
                known.insert(image.chain_id.clone(), accounts.clone());
                Ok(accounts)
            }
            Err(error) if !needs_accounts(&spec.user, &image.user) => {
                tracing::warn!(image = image.reference, %error, "the image's groups are not known");
                Ok(Accounts::default())
            }
            Err(error) => Err(error),
        }
    }

    async fn read_accounts(&self, image: &ImageInfo) -> Result<Accounts, RuntimeError> {
        let lease = self.take_lease().await?;
        // the lease's id is unique, and tells what the snapshot is for
        let outcome = self.read_view(image, &lease).await;
        let removed = self.remove_snapshot(&lease).await;
        let released = self.release_lease(&lease).await;
        let accounts = outcome?;
        removed.and(released).map(|()| accounts)
    }

    async fn read_view(&self, image: &ImageInfo, key: &str) -> Result<Accounts, RuntimeError> {
        let view = ViewSnapshotRequest {
            snapshotter: self.options.snapshotter.clone(),
            key: key.to_owned(),
            parent: image.chain_id.clone(),
            ..ViewSnapshotRequest::default()
        };
        let view = SnapshotsClient::new(self.channel.clone()).view(self.leased(view, key)).await;
        let mounts = view
            .map_err(|status| self.failed("look into image", &image.reference, &status))?
            .into_inner()
            .mounts;
        let read = tokio::task::spawn_blocking(move || read_in_private(&mounts)).await;
        let read = read.unwrap_or_else(|error| Err(io::Error::other(error)));
        read.map_err(|error| RuntimeError::Image {
            reference: image.reference.clone(),
            reason: format!("its /etc/passwd and /etc/group cannot be read: {error}"),
        })
    }
}

/// Reads both files on a thread of its own: a thread of the runtime would stay in the namespace and serve others there.
fn read_in_private(mounts: &[Mount]) -> io::Result<Accounts> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // also gives the thread a working directory of its own
            unshare(CloneFlags::CLONE_NEWNS)?;
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
            mount_all(mounts)?;
            let accounts = read_accounts(Path::new(TARGET));
            // now, not when the kernel comes to tidy up the namespace: the snapshot is removed next
            umount2(TARGET, MntFlags::empty())?;
            accounts
        });
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the reading thread panicked")))
    })
}

fn mount_all(mounts: &[Mount]) -> io::Result<()> {
    for one in mounts {
        let (mut flags, data) = split_options(&one.options);
        flags |= MsFlags::MS_RDONLY;
        let (folder, data) = shorten(&data);
        if let Some(folder) = folder {
            nix::unistd::chdir(&folder)?;
        }
        let data = (!data.is_empty()).then_some(data.as_str());
        if one.r#type == "bind" {
            flags |= MsFlags::MS_BIND;
        }
        let (source, kind) = (Some(one.source.as_str()), Some(one.r#type.as_str()));
        mount(source, TARGET, kind, flags, data)?;
    }
    Ok(())
}

/// Options in the form of fstab(5) as mount(2) has them: flags and the file system's own.
fn split_options(options: &[String]) -> (MsFlags, String) {
    let mut flags = MsFlags::empty();
    let mut data: Vec<&str> = Vec::new();
    for option in options {
        match option.as_str() {
            "ro" => flags |= MsFlags::MS_RDONLY,
            "rbind" => flags |= MsFlags::MS_BIND | MsFlags::MS_REC,
            "bind" => flags |= MsFlags::MS_BIND,
            "nosuid" => flags |= MsFlags::MS_NOSUID,
            "nodev" => flags |= MsFlags::MS_NODEV,
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            "rw" | "defaults" => {}
            other => data.push(other),
        }
    }
    (flags, data.join(","))
}

/// mount(2) takes a page of options, which the full paths of some thirty layers fill: they are given from the folder that they
/// share.
fn shorten(data: &str) -> (Option<PathBuf>, String) {
    let Some(layers) = data.split(',').find_map(|option| option.strip_prefix("lowerdir=")) else {
        return (None, data.to_owned());
    };
    let paths: Vec<&Path> = layers.split(':').map(Path::new).collect();
    let shared = paths.iter().skip(1).fold(paths[0].parent(), |shared, path| {
        shared?.ancestors().find(|ancestor| path.starts_with(ancestor))
    });
    let Some(shared) = shared.filter(|shared| shared.is_absolute()) else {
        return (None, data.to_owned());
    };
    let short: Option<Vec<_>> =
        paths.iter().map(|path| path.strip_prefix(shared).ok()?.to_str()).collect();
    match short {
        Some(short) => (Some(shared.to_owned()), data.replace(layers, &short.join(":"))),
        None => (None, data.to_owned()),
    }
}

fn read_accounts(root: &Path) -> io::Result<Accounts> {
    let root = open(root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let read = |path: &str| {
        // a symbolic link of the image must not lead to the node's files, nor a FIFO stop the agent
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let file = match openat2(&root, path, how) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(String::new()),
            Err(error) => return Err(io::Error::from(error)),
        };
        if !file.metadata()?.is_file() {
            return Ok(String::new());
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(Accounts { passwd: read("etc/passwd")?, group: read("etc/group")? })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn mounted(kind: &str, source: &Path, options: &[&str]) -> Mount {
        Mount {
            r#type: kind.to_owned(),
            source: source.display().to_string(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            ..Mount::default()
        }
    }

    #[test]
    fn many_layers_fit_into_the_options() {
        let cases = [
            ("lowerdir=/a/b/2/fs:/a/b/1/fs", Some("/a/b"), "lowerdir=2/fs:1/fs"),
            (
                "index=off,lowerdir=/a/20/fs:/a/2/fs,x=y",
                Some("/a"),
                "index=off,lowerdir=20/fs:2/fs,x=y",
            ),
            ("lowerdir=/a/b:/c/d", Some("/"), "lowerdir=a/b:c/d"),
            ("lowerdir=l", None, "lowerdir=l"),
            ("size=1m", None, "size=1m"),
        ];
        for (long, folder, short) in cases {
            assert_eq!(shorten(long), (folder.map(PathBuf::from), short.to_owned()), "{long}");
        }
    }

    #[test]
    fn files_are_read_through_the_layers_and_never_outside() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        fs::write(at("1/fs/etc/passwd"), "old").unwrap();
        fs::write(at("1/fs/etc/group"), "group").unwrap();
        fs::write(at("2/fs/etc/passwd"), "new").unwrap();
        std::os::unix::fs::symlink("/etc/../../../etc/outside", at("3/fs/etc/passwd")).unwrap();
        let lower = |layers: &[&str]| {
            let paths: Vec<_> =
                layers.iter().map(|layer| at(layer).join("fs").display().to_string()).collect();
            format!("lowerdir={}", paths.join(":"))
        };
        let both = [mounted("overlay", Path::new("overlay"), &[&lower(&["2", "1"])])];
        let accounts = read_in_private(&both).unwrap();
        assert_eq!((accounts.passwd.as_str(), accounts.group.as_str()), ("new", "group"));
        let one = [mounted("bind", &at("1/fs"), &["ro", "rbind"])];
        assert_eq!(read_in_private(&one).unwrap().passwd, "old");
        // the link leads to the image's own root, where there is no such file
        let link = [mounted("overlay", Path::new("overlay"), &[&lower(&["3", "1"])])];
        assert_eq!(read_in_private(&link).unwrap().passwd, "");
        fs::write(at("1/fs/etc/outside"), "inside").unwrap();
        assert_eq!(read_in_private(&link).unwrap().passwd, "inside");
        let inside = folder.path().display().to_string();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(&inside), "nobody else sees the mount");
    }
}
