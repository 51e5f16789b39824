//! `[retention]`.

use std::time::Duration;

use super::*;

#[test]
fn a_source_has_its_own_retention_key_by_key() {
    let main = "[retention]\nkeep_daily = 30\nmax_count = 50\n";
    let source = "type = \"sqlite\"\npath = \"/x\"\n[retention]\nkeep_daily = 3\nkeep_within = \"2d\"\n";
    let config = load(directory(Some(main), &[("shop.toml", source)]).path()).unwrap();
    let policy = config.retention_of(&"shop".parse().unwrap()).unwrap();
    let own = RetentionPolicy {
        keep_daily: 3,
        keep_within: Some(Duration::from_secs(2 * 86_400)),
        max_count: 50,
        ..RetentionPolicy::default()
    };
    assert_eq!(policy, own);
    assert_eq!(config.retention_of(&"other".parse().unwrap()), None);
    for (bad, said) in [
        ("undelete = \"1d\"", "is for backupd.toml"),
        ("max_size = 0", "allows no backup at all"),
        ("keep_within = \"9d\"\nmax_age = \"8d\"", "keeps what max_age takes away"),
        ("min_backups = 0", "must be from 1"),
        ("keep_dayly = 3", "did you mean \"keep_daily\"?"),
    ] {
        let source = format!("type = \"sqlite\"\npath = \"/x\"\n[retention]\n{bad}\n");
        let config = load(directory(None, &[("shop.toml", &source)]).path()).unwrap();
        let problems: Vec<_> = config.problems().map(ToString::to_string).collect();
        assert!(problems.len() == 1 && problems[0].contains(said), "{bad}: {problems:?}");
    }
}
