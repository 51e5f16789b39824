//! The text of a source's file: made from options, or changed in one key with everything else left as it is; and how a
//! file is written.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown},
    path::Path,
};

use toml_edit::{Array, DocumentMut, Item, Table, value};

use super::super::super::{arguments::AddArguments, error::CtlError};
use crate::{config::uri, model::ErrorCode};

/// The first line of a file that was made here.
const HEAD: &str = "# Made by `backupctl source add`. All keys: backupd.toml(5).\n";
/// The server that a role with a password restores to where sockets are used for reading: by a socket, Debian's
/// configuration of PostgreSQL asks for no password but for the system user.
const LOOPBACK: &str = "127.0.0.1";

/// The text for what was asked. `password` and `restore_password` are names of credentials.
pub(super) fn compose(arguments: &AddArguments, password: Option<&str>, restore_password: Option<&str>) -> String {
    let mut document = DocumentMut::new();
    let mut put = |key: &str, item: Option<Item>| {
        if let Some(item) = item {
            document.insert(key, item);
        }
    };
    put("type", Some(value(if arguments.sqlite.is_some() { "sqlite" } else { "postgresql" })));
    put("description", Some(&arguments.description).filter(|text| !text.is_empty()).map(value));
    put("path", arguments.sqlite.as_ref().map(|path| value(path.to_string_lossy().as_ref())));
    put("uri", arguments.uri.as_ref().map(value));
    put("host", arguments.host.as_ref().map(value));
    put("port", arguments.port.map(|port| value(i64::from(port))));
    put("database", arguments.database.as_ref().map(value));
    put("user", arguments.user.as_ref().map(value));
    put("password_credential", password.map(value));
    put(
        "schedule",
        match arguments.schedule.as_slice() {
            [] => None,
            [one] => Some(value(one)),
            several => Some(value(several.iter().collect::<Array>())),
        },
    );
    if let Some(user) = &arguments.restore_user {
        let mut table = Table::new();
        let of_uri = arguments.uri.as_ref().and_then(|uri| uri::parse(uri).ok()?.host);
        let local = arguments.host.as_ref().or(of_uri.as_ref()).is_none_or(|host| host.starts_with('/'));
        let loopback = (restore_password.is_some() && local).then(|| LOOPBACK.to_owned());
        if let Some(host) = arguments.restore_host.clone().or(loopback) {
            table.insert("host", value(host));
        }
        table.insert("user", value(user));
        if let Some(name) = restore_password {
            table.insert("password_credential", value(name));
        }
        document.insert("restore", Item::Table(table));
    }
    format!("{HEAD}{document}")
}

/// The text with `enabled` set, and nothing else changed: comments and the order of keys are somebody's.
pub(super) fn set_enabled(text: &str, enabled: bool) -> Result<String, toml_edit::TomlError> {
    let mut document: DocumentMut = text.parse()?;
    match document.get_mut("enabled").and_then(Item::as_value_mut) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = enabled.into();
            *old.decor_mut() = decor;
        }
        None if enabled => return Ok(text.to_owned()),
        None => drop(document.insert("enabled", value(false))),
    }
    Ok(document.to_string())
}

/// The names of the credentials that a text names, whatever else is wrong with it.
pub(super) fn credentials(text: &str) -> Result<Vec<String>, toml_edit::TomlError> {
    let document: DocumentMut = text.parse()?;
    let of = |item: Option<&Item>| item.and_then(Item::as_str).map(str::to_owned);
    let restore = document.get("restore").and_then(|restore| restore.get("password_credential"));
    Ok([of(document.get("password_credential")), of(restore)].into_iter().flatten().collect())
}

/// Writes a new file that everybody may read, as files of a configuration are; there is no secret in it.
pub(super) fn create(path: &Path, text: &str) -> Result<(), CtlError> {
    let attempted = || format!("cannot write {}", path.display());
    let file = prepared(path, text.as_bytes(), 0o644).map_err(|error| CtlError::io(attempted(), &error))?;
    match file.persist_noclobber(path) {
        Ok(_) => sync_folder(path).map_err(|error| CtlError::io(attempted(), &error)),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            let message = format!("{} was made by somebody else meanwhile; nothing was changed", path.display());
            Err(CtlError::new(ErrorCode::InvalidArgs, message))
        }
        Err(error) => Err(CtlError::io(attempted(), &error.error)),
    }
}

/// Puts a text in the place of a file's, with the mode and the owner that the file has. Where a link leads to it, the link
/// stays.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), CtlError> {
    let attempt = || {
        let path = fs::canonicalize(path)?;
        let old = fs::metadata(&path)?;
        let file = prepared(&path, text.as_bytes(), old.mode() & 0o7777)?;
        let new = file.as_file().metadata()?;
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            fchown(file.as_file(), Some(old.uid()), Some(old.gid()))?;
        }
        file.persist(&path).map_err(|error| error.error)?;
        sync_folder(&path)
    };
    attempt().map_err(|error| CtlError::io(format_args!("cannot write {}", path.display()), &error))
}

/// A temporary file beside the target, whose name nobody takes for a source's.
pub(super) fn prepared(path: &Path, bytes: &[u8], mode: u32) -> io::Result<tempfile::NamedTempFile> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new().prefix(".").suffix(".tmp").tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Makes what happened to names in the folder of this path durable.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{
        config::{self, PasswordSource, SourceKind},
        ctl::arguments::{Arguments, SourceVerb, Verb},
    };

    fn composed(words: &[&str], password: Option<&str>, restore: Option<&str>) -> String {
        let line = ["backupctl", "source", "add", "shop"].iter().chain(words);
        match Arguments::try_parse_from(line).unwrap().verb {
            Some(Verb::Source(SourceVerb::Add(arguments))) => compose(&arguments, password, restore),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_text_says_what_was_asked_and_no_more() {
        let text = composed(&["--database", "shop"], None, None);
        assert_eq!(text, format!("{HEAD}type = \"postgresql\"\ndatabase = \"shop\"\n"));
        let words = [
            "--database",
            "shop",
            "--host",
            "db",
            "--port",
            "6432",
            "--user",
            "reader",
            "--schedule",
            "daily",
            "--schedule",
            "30 2 * * 1-5",
            "--restore-user",
            "restorer",
            "--description",
            "a \"b\"",
        ];
        let expected = "type = \"postgresql\"\ndescription = 'a \"b\"'\nhost = \"db\"\nport = 6432\ndatabase = \"shop\"\n\
            user = \"reader\"\npassword_credential = \"p\"\nschedule = [\"daily\", \"30 2 * * 1-5\"]\n\n\
            [restore]\nuser = \"restorer\"\npassword_credential = \"r\"\n";
        assert_eq!(composed(&words, Some("p"), Some("r")), format!("{HEAD}{expected}"));
    }

    #[test]
    fn a_password_needs_tcp_where_sockets_are_read() {
        let host = |words: &[&str], restore| {
            let text = composed(words, None, restore);
            match config::read_source(Path::new("/x/shop.toml"), &text).unwrap().kind {
                SourceKind::Postgres(postgres) => postgres.restore.unwrap().host,
                SourceKind::Sqlite(_) => panic!("{text}"),
            }
        };
        let base = ["--database", "shop", "--restore-user", "r"];
        assert_eq!(host(&base, Some("c")), "127.0.0.1");
        assert_eq!(host(&base, None), "/run/postgresql");
        for (uri, expected) in [("postgresql://r@db/shop", "db"), ("postgresql:///shop?host=/run/x", "127.0.0.1")] {
            assert_eq!(host(&["--uri", uri, "--restore-user", "r"], Some("c")), expected);
        }
        assert_eq!(host(&[&base[..], &["--host", "db"]].concat(), Some("c")), "db");
        assert_eq!(host(&[&base[..], &["--restore-host", "new"]].concat(), Some("c")), "new");
    }

    #[test]
    fn hostile_texts_stay_values() {
        for hostile in ["a\"b", "a\nb = 1", "'", "ü\\", "[restore]", "\"\"\"", "a\tb#c"] {
            let text = composed(&["--database", hostile, "--user", hostile, "--description", hostile], None, None);
            let source = config::read_source(Path::new("/x/shop.toml"), &text).unwrap();
            let SourceKind::Postgres(postgres) = source.kind else { panic!("{text}") };
            assert_eq!((postgres.connection.database, source.description), (hostile.into(), hostile.to_owned()));
            assert_eq!(postgres.connection.user, hostile);
            assert_eq!(postgres.connection.password, PasswordSource::None);
        }
    }

    #[test]
    fn only_enabled_changes() {
        let text = "# mine\ntype = \"sqlite\" # kind\n\npath   = '/a'\n# before\n[restore]\nuser = \"x\"\n# end\n";
        let off = set_enabled(text, false).unwrap();
        assert_eq!(off, text.replace("path   = '/a'\n", "path   = '/a'\nenabled = false\n"));
        assert_eq!(set_enabled(text, true).unwrap(), text);
        let on = set_enabled("enabled =  false   # for now\nx = 1\n", true).unwrap();
        assert_eq!(on, "enabled =  true   # for now\nx = 1\n");
        assert_eq!(set_enabled(&on, false).unwrap(), "enabled =  false   # for now\nx = 1\n");
        assert!(set_enabled("x = ", true).is_err());
    }

    #[test]
    fn credentials_are_found_in_both_places() {
        let text = "password_credential = \"a\"\nnonsense = 1\n[restore]\npassword_credential = \"b\"\n";
        assert_eq!(credentials(text).unwrap(), ["a", "b"]);
        assert_eq!(credentials("type = \"sqlite\"\n").unwrap(), [""; 0]);
    }

    #[test]
    fn a_file_is_replaced_where_a_link_leads_and_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("shop.toml"));
        create(&real, "a").unwrap();
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o7777, 0o644);
        assert_eq!(create(&real, "b").unwrap_err().exit_code(), 2);
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        replace(&link, "c").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(
            (fs::read_to_string(&real).unwrap().as_str(), fs::metadata(&real).unwrap().mode() & 0o777),
            ("c", 0o640)
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
