//! Who a new file belongs to.

use std::{fs::File, io};

use nix::unistd::{Gid, Group, Uid, User, geteuid};

/// Who the file shall belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    user: Option<Uid>,
    group: Option<Gid>,
}

impl Owner {
    /// Reads `USER` or `USER:GROUP`, names or numbers. A user alone brings the login group, as with chown(1)'s `USER:`.
    pub(super) fn find(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self { user: None, group: None });
        }
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let known = match user.parse() {
            Ok(number) => User::from_uid(Uid::from_raw(number)).ok().flatten(),
            Err(_) => User::from_name(user).ok().flatten(),
        };
        let number = known.as_ref().map(|user| user.uid).or_else(|| user.parse().ok().map(Uid::from_raw));
        let uid = number.ok_or_else(|| format!("there is no user {user:?} for the file to belong to"))?;
        let gid = match group {
            None => known.map(|user| user.gid),
            Some(group) => {
                let number = match group.parse() {
                    Ok(number) => Some(Gid::from_raw(number)),
                    Err(_) => Group::from_name(group).ok().flatten().map(|group| group.gid),
                };
                Some(number.ok_or_else(|| format!("there is no group {group:?} for the file to belong to"))?)
            }
        };
        if !geteuid().is_root() && uid != geteuid() {
            let own = User::from_uid(geteuid()).ok().flatten().map_or_else(|| geteuid().to_string(), |user| user.name);
            return Err(format!(
                "only root can give a file to {user}, and this runs as {own}; restore without an owner, then as root: \
                 chown {text} FILE"
            ));
        }
        Ok(Self { user: Some(uid), group: gid })
    }

    pub(super) fn give(self, file: &File) -> io::Result<()> {
        let (user, group) = (self.user.map(Uid::as_raw), self.group.map(Gid::as_raw));
        if user.is_none() && group.is_none() {
            return Ok(());
        }
        std::os::unix::fs::fchown(file, user, group)
    }
}
