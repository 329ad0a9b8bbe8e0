//! The users and groups that an image brings along, in its `/etc/passwd` and `/etc/group` (passwd(5), group(5)).

use crate::runtime::UserSpec;

/// The text of both files; empty where the image has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// `/etc/passwd`.
    pub passwd: String,
    /// `/etc/group`.
    pub group: String,
}

/// Who a process runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups, ascending, without repetition.
    pub groups: Vec<u32>,
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl Accounts {
    /// Who runs a container: what the manifest wants, else what the image says, else root.
    ///
    /// A group that nobody names is the user's own of `/etc/passwd`. The groups that `/etc/group` lists the user in are added
    /// to the manifest's, as Kubernetes' `supplementalGroupsPolicy: Merge` (its default) has it. The error names the user or
    /// group that is missing and the field that helps.
    pub fn resolve(&self, wanted: &UserSpec, image_user: &str) -> Result<Identity, String> {
        let (image_name, image_group) = image_user.split_once(':').unwrap_or((image_user, ""));
        let uid = match wanted.uid {
            Some(uid) => uid,
            None => self.uid_of(image_name)?,
        };
        let user = match wanted.uid {
            None if !is_number(image_name) => self.users().find(|user| user.name == image_name),
            _ => None,
        };
        let user = user.or_else(|| self.users().find(|user| user.uid == uid));
        let gid = match wanted.gid {
            Some(gid) => gid,
            None if wanted.uid.is_none() && !image_group.is_empty() => self.gid_of(image_group)?,
            None => user.as_ref().map_or(0, |user| user.gid),
        };
        let mut groups = wanted.groups.clone();
        if let Some(user) = user {
            let lists_user =
                |group: &Group| group.members.split(',').any(|member| member.trim() == user.name);
            groups.extend(self.groups().filter(lists_user).map(|group| group.gid));
        }
        groups.sort_unstable();
        groups.dedup();
        Ok(Identity { uid, gid, groups })
    }

    fn uid_of(&self, name: &str) -> Result<u32, String> {
        if name.is_empty() {
            return Ok(0);
        }
        if let Ok(uid) = name.parse() {
            return Ok(uid);
        }
        let found = self.users().find(|user| user.name == name).map(|user| user.uid);
        found.ok_or_else(|| {
            format!("the image runs as user {name:?}, whom its /etc/passwd does not have; set securityContext.runAsUser")
        })
    }

    fn gid_of(&self, name: &str) -> Result<u32, String> {
        if let Ok(gid) = name.parse() {
            return Ok(gid);
        }
        let found = self.groups().find(|group| group.name == name).map(|group| group.gid);
        found.ok_or_else(|| {
            format!("the image runs in group {name:?}, which its /etc/group does not have; set securityContext.runAsUser and runAsGroup")
        })
    }

    /// Lines that are not right are passed over, as the C library does.
    fn users(&self) -> impl Iterator<Item = User<'_>> {
        self.passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            let uid = fields.nth(1)?.parse().ok()?;
            Some(User { name, uid, gid: fields.next()?.parse().ok()? })
        })
    }

    fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            let gid = fields.nth(1)?.parse().ok()?;
            Some(Group { name, gid, members: fields.next().unwrap_or_default() })
        })
    }
}

/// Whether the files are needed to know who an image's user is.
pub fn needs_accounts(wanted: &UserSpec, image_user: &str) -> bool {
    let (name, group) = image_user.split_once(':').unwrap_or((image_user, ""));
    let named = |text: &str| !text.is_empty() && !is_number(text);
    wanted.uid.is_none() && (named(name) || (wanted.gid.is_none() && named(group)))
}

fn is_number(text: &str) -> bool {
    text.parse::<u32>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\n# comment\nbroken\nwww:x:33:34:web:/www:/bin/false\n".to_owned(),
            group: "root:x:0:\nwww-data:x:34:\nlogs:x:40:nobody,www\nspool:x:41:www\nbad:x:no:www\n".to_owned(),
        }
    }

    fn wanted(uid: Option<u32>, gid: Option<u32>, groups: &[u32]) -> UserSpec {
        UserSpec { uid, gid, groups: groups.to_vec() }
    }

    #[test]
    fn users_and_groups_are_found() {
        type Found<'a> = (u32, u32, &'a [u32]);
        let cases: [(UserSpec, &str, Found); 12] = [
            (wanted(None, None, &[]), "", (0, 0, &[])),
            (wanted(None, None, &[]), "root", (0, 0, &[])),
            (wanted(None, None, &[]), "www", (33, 34, &[40, 41])),
            (wanted(None, None, &[]), "www:logs", (33, 40, &[40, 41])),
            (wanted(None, None, &[]), "33", (33, 34, &[40, 41])),
            (wanted(None, None, &[]), "1000", (1000, 0, &[])),
            (wanted(None, None, &[]), "1000:50", (1000, 50, &[])),
            (wanted(None, None, &[]), ":logs", (0, 40, &[])),
            (wanted(None, Some(7), &[]), "www:nothing", (33, 7, &[40, 41])),
            (wanted(Some(33), None, &[9, 40]), "nobody-knows", (33, 34, &[9, 40, 41])),
            (wanted(Some(1000), None, &[]), "www:logs", (1000, 0, &[])),
            (wanted(Some(1), Some(2), &[]), "", (1, 2, &[])),
        ];
        for (wanted, image, (uid, gid, groups)) in cases {
            let found = accounts().resolve(&wanted, image).unwrap();
            assert_eq!(
                found,
                Identity { uid, gid, groups: groups.to_vec() },
                "{wanted:?} of {image:?}"
            );
        }
    }

    #[test]
    fn whoever_is_missing_is_named() {
        for (image, word) in [("ghost", "\"ghost\""), ("www:ghosts", "\"ghosts\"")] {
            let error = accounts().resolve(&UserSpec::default(), image).unwrap_err();
            assert!(error.contains(word) && error.contains("runAs"), "{error}");
        }
    }

    #[test]
    fn numbers_need_no_files() {
        let none = UserSpec::default();
        for image in ["", "0", "1000:50", "1000", ":7"] {
            assert!(!needs_accounts(&none, image), "{image}");
        }
        for image in ["www", "1000:www", ":www"] {
            assert!(needs_accounts(&none, image), "{image}");
            assert!(!needs_accounts(&wanted(Some(1), Some(1), &[]), image), "{image}");
        }
        assert!(!needs_accounts(&wanted(None, Some(1), &[]), "1000:www"));
    }
}
