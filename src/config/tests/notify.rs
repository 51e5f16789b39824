//! `[notify.NAME]`.

use super::*;

const NOTIFIERS: &str = r#"
[notify.oncall]
type = "mail"
to = ["Ops <ops@example.org>", "dba@example.org"]
server = "smtp.example.org"
user = "backupd"
password_credential = "smtp"
sources = ["shop"]
events = ["failure", "missing"]
min_severity = "critical"
repeat = "4h"
group = "off"
[notify.local]
type = "mail"
to = ["root@localhost"]
[notify.chat]
type = "webhook"
url_credential = "slack"
signing_key_credential = "key"
repeat = "off"
[notify.monitor]
type = "ping"
url_credential = "hc"
[notify.program]
type = "command"
command = ["/bin/tell", "--loud"]
"#;

#[test]
fn notifiers_are_read() {
    use crate::config::notify::{Carrier, MailTls, Transport};
    use crate::model::notice::{Event, Severity};
    let directory = directory(Some(NOTIFIERS), &[]);
    let notifiers = load(directory.path()).unwrap().notify;
    assert_eq!(notifiers.keys().collect::<Vec<_>>(), ["chat", "local", "monitor", "oncall", "program"]);
    let oncall = &notifiers["oncall"];
    assert_eq!((oncall.sources.as_slice(), oncall.min_severity), (&["shop".to_owned()][..], Severity::Critical));
    assert_eq!(oncall.events, [Event::Failure, Event::Missing]);
    assert_eq!((oncall.repeat, oncall.group), (Some(Duration::from_secs(4 * 3600)), Duration::ZERO));
    let Transport::Mail(mail) = &oncall.transport else { panic!("{oncall:?}") };
    let Carrier::Smtp(smtp) = &mail.carrier else { panic!("{mail:?}") };
    assert_eq!((smtp.port, smtp.tls), (587, MailTls::StartTls));
    assert_eq!(smtp.login, Some(("backupd".to_owned(), "smtp".to_owned())));
    let Transport::Mail(mail) = &notifiers["local"].transport else { panic!() };
    assert_eq!(mail.carrier, Carrier::Sendmail("/usr/sbin/sendmail".into()));
    assert_eq!(notifiers["chat"].repeat, None);
    assert_eq!(notifiers["chat"].min_severity, Severity::Warning);
    assert!(notifiers["monitor"].is_ping() && notifiers["monitor"].min_severity == Severity::Info);
    assert_eq!(notifiers["program"].transport, Transport::Command(vec!["/bin/tell".into(), "--loud".into()]));
}

#[test]
fn problems_of_notifiers_are_named_and_secrets_are_not_repeated() {
    let problem = |table: &str| problems_of_main(&format!("[notify.x]\n{table}\n")).join("\n");
    for (table, wanted) in [
        ("to = [\"a@b.c\"]", "notify.x.type: must be given"),
        ("type = \"mail\"", "notify.x.to: must be given for this type"),
        ("type = \"mail\"\nto = [\"nobody\"]", "is not a mail address"),
        ("type = \"mail\"\nto = [\"a@b.c\"]\nport = 25", "is for a mail server"),
        (
            "type = \"mail\"\nto = [\"a@b.c\"]\nserver = \"s\"\ntls = \"none\"\nuser = \"u\"\npassword_credential = \"p\"",
            "a password is never sent over a connection without TLS",
        ),
        ("type = \"mail\"\nto = [\"a@b.c\"]\nserver = \"s\"\nuser = \"u\"", "go together"),
        ("type = \"webhook\"", "notify.x.url_credential: must be given"),
        ("type = \"ping\"\nurl_credential = \"c\"\nrepeat = \"1h\"", "a ping tells each start"),
        ("type = \"command\"\ncommand = [\"tell\"]", "must begin with the absolute path"),
        ("type = \"command\"\ncommand = [\"/tell\"]\nevents = [\"fire\"]", "\"fire\" is no event"),
        ("type = \"command\"\ncommand = [\"/tell\"]\nrepeats = \"1h\"", "did you mean \"repeat\"?"),
    ] {
        let problem = problem(table);
        assert!(problem.contains(wanted), "{table}: {problem}");
    }
    for key in ["url", "url_credential"] {
        let problem = problem(&format!("type = \"webhook\"\n{key} = \"https://hooks.example.org/T0/S3CR3T\""));
        assert!(!problem.is_empty() && !problem.contains("S3CR3T"), "{problem}");
    }
    assert!(
        problems_of_main("[notify.\"a b\"]\ntype = \"mail\"\nto = [\"a@b.c\"]\n")[0].contains("the name of a notifier")
    );
    assert!(problems_of_main("notify = 1\n")[0].contains("must be a table"));
    assert!(problems_of_main("[notify]\ntype = \"mail\"\n")[0].contains("notify.type: must be a table"));
}
