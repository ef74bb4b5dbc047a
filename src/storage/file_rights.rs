//! Gives a copy the access rights of its original, and never more.

use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};

use rustix::fs::XattrFlags;

/// The access control list of a file, as an extended attribute.
const ACCESS_LIST: &str = "system.posix_acl_access";
/// The longest access control list in bytes.
const MAX_ACCESS_LIST: usize = 64 << 10;
/// The permissions of the group. If a file has an access control list, these are its mask, and the group may have less.
const GROUP_BITS: u32 = 0o070;

/// Gives a new file the owner, group, mode and access control list of the `original`, as far as permitted; but not the setuid and
/// setgid bits, because the content comes from strangers. Nobody gets more access than the original gives him, and the new file
/// inherits no access control list from its folder.
pub(super) fn take_over_rights(file: &File, original: &File, found: &Metadata) -> io::Result<()> {
    let made = file.metadata()?;
    if (made.uid(), made.gid()) != (found.uid(), found.gid())
        && fchown(file, Some(found.uid()), Some(found.gid())).is_err()
        && let Err(error) = fchown(file, None, Some(found.gid()))
    {
        log::debug!("a copy does not get the owner and group of the file that it replaces: {error}");
    }
    let mut list = vec![0; MAX_ACCESS_LIST];
    let list = match rustix::fs::fgetxattr(original, ACCESS_LIST, &mut list) {
        Ok(length) => list.get(..length),
        Err(_) => None,
    };
    let _ = rustix::fs::fremovexattr(file, ACCESS_LIST);
    let Some(list) = list else { return file.set_permissions(Permissions::from_mode(found.mode() & 0o777)) };
    file.set_permissions(Permissions::from_mode(found.mode() & 0o777 & !GROUP_BITS))?;
    // This also sets the mask.
    if let Err(errno) = rustix::fs::fsetxattr(file, ACCESS_LIST, list, XattrFlags::empty()) {
        log::debug!("a copy does not get the access control list of its original, and its group no access: {errno}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `setfacl -m u:1001:rw` for a file of mode 0600: the group itself has no access, but the mask has the group's bits.
    fn access_list() -> Vec<u8> {
        let nobody = u32::MAX;
        let entries = [(1_u16, 6_u16, nobody), (2, 6, 1001), (4, 0, nobody), (16, 6, nobody), (32, 0, nobody)];
        let encoded = |(tag, rights, id): (u16, u16, u32)| {
            [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        [2_u32.to_le_bytes().to_vec(), entries.map(encoded).concat()].concat()
    }

    fn list_of(file: &File) -> Option<Vec<u8>> {
        let mut list = vec![0; 200];
        rustix::fs::fgetxattr(file, ACCESS_LIST, &mut list).ok().map(|length| list[..length].to_vec())
    }

    #[test]
    fn a_copy_gives_nobody_access_who_had_none() {
        let dir = tempfile::tempdir().unwrap();
        let new = |name: &str, mode: u32| {
            let file = File::create_new(dir.path().join(name)).unwrap();
            file.set_permissions(Permissions::from_mode(mode)).unwrap();
            file
        };
        let mode = |file: &File| file.metadata().unwrap().mode() & 0o7777;
        let (private, copy) = (new("private", 0o600), new("copy", 0o644));
        rustix::fs::fsetxattr(&private, ACCESS_LIST, &access_list(), XattrFlags::empty()).unwrap();
        assert_eq!(mode(&private), 0o660);
        take_over_rights(&copy, &private, &private.metadata().unwrap()).unwrap();
        assert_eq!((list_of(&copy), mode(&copy)), (Some(access_list()), 0o660));
        // The folder of the copy may have a default list, which gives access to others.
        let plain = new("plain", 0o4640);
        take_over_rights(&copy, &plain, &plain.metadata().unwrap()).unwrap();
        assert_eq!((list_of(&copy), mode(&copy)), (None, 0o640));
    }

    /// A user who may not change owners only has files of their own here.
    #[test]
    fn a_copy_has_the_owner_and_the_mode_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let [theirs, ours] = ["theirs", "ours"].map(|name| File::create(dir.path().join(name)).unwrap());
        let _ = fchown(&theirs, Some(1000), Some(100));
        theirs.set_permissions(Permissions::from_mode(0o6750)).unwrap();
        let found = theirs.metadata().unwrap();
        take_over_rights(&ours, &theirs, &found).unwrap();
        let made = ours.metadata().unwrap();
        assert_eq!((made.uid(), made.gid(), made.mode() & 0o7777), (found.uid(), found.gid(), 0o750));
    }
}
