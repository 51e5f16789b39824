//! `docs/dbus-api.md` and `docs/man/org.backupd1.5` are made from the contract `src/bus/org.backupd1.xml`, never by hand, and tell the truth.
//!
//! `BACKUPD_UPDATE_DOCS=1 cargo test --test dbus_api` writes it again.
//! - `contract`: reads the XML and its comments, and refuses what has no documentation.
//! - `document`: writes the page; `introduction.md` and `examples.md` are the parts of it that people write.
//! - `manual`: makes the manual page of it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation is what a test reports")]

mod contract;
mod document;
mod manual;

use std::{collections::HashMap, env, fs};

use backupd::{
    bus::{
        action::Action,
        limits,
        types::{
            create_options_from_wire, delete_options_from_wire, explain_options_from_wire, list_filter_from_wire,
            no_options, pin_options_from_wire, plan_options_from_wire, prune_options_from_wire,
            restore_options_from_wire, undo_options_from_wire, verify_request_from_wire,
        },
    },
    model::error_code::TABLE,
    service::ServiceError,
};
use contract::{Contract, Entry, Member};
use zbus::{OwnedVariant, Variant};

type Wire = HashMap<String, OwnedVariant>;

#[test]
fn the_documents_are_the_contract() {
    let document = document::of(&Contract::read());
    for (name, text) in [("dbus-api.md", &document), ("man/org.backupd1.5", &manual::of(&document))] {
        let path = format!("{}/docs/{name}", env!("CARGO_MANIFEST_DIR"));
        if env::var_os("BACKUPD_UPDATE_DOCS").is_some() {
            fs::write(&path, text).unwrap();
        }
        let written = fs::read_to_string(path).unwrap_or_default();
        assert!(written == *text, "docs/{name} is stale: run BACKUPD_UPDATE_DOCS=1 cargo test --test dbus_api");
    }
}

#[test]
fn the_errors_are_in_the_table() {
    for member in Contract::read().members() {
        for name in &member.text.errors {
            assert!(TABLE.iter().any(|row| row.name == name), "{}: no error is called {name}", member.name);
        }
    }
}

#[test]
fn the_actions_are_those_of_the_policy_and_of_the_code() {
    let policy = include_str!("../../systemd/org.backupd1.policy");
    let ids: Vec<&str> = policy.split("<action id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let known: Vec<&str> = Action::ALL.iter().map(|action| action.id()).collect();
    assert_eq!(ids, known);
    // polkit answers the daemon's user about others, and takes details of him, only because of this.
    let owners = policy.matches("<annotate key=\"org.freedesktop.policykit.owner\">unix-user:backupd</annotate>");
    assert_eq!(owners.count(), ids.len());
    for member in Contract::read().members() {
        let (action, id) = (&member.text.action, format!("org.backupd1.{}", member.text.action));
        assert_eq!(member.kind == "method", !action.is_empty(), "{}: its action is {action:?}", member.name);
        assert!(member.kind != "method" || action == "of the job" || known.contains(&id.as_str()), "{}", member.name);
    }
}

#[test]
fn the_fields_are_those_of_the_structure() {
    for member in Contract::read().members().filter(|member| !member.text.fields.is_empty()) {
        let fields: String = member.text.fields.iter().map(|field| field.signature.as_str()).collect();
        let array = format!("a({fields})");
        assert!(member.arguments.iter().any(|a| a.signature == array), "{}: no argument is {array}", member.name);
    }
}

/// What reads the options of a method; a method with options that is not here fails the test below.
fn reader(method: &str) -> fn(Wire) -> Result<(), ServiceError> {
    match method {
        "CreateBackup" => |wire| create_options_from_wire(wire).map(drop),
        "RestoreBackup" => |wire| restore_options_from_wire(wire).map(drop),
        "PlanRestore" => |wire| plan_options_from_wire(wire).map(drop),
        "UndoRestore" => |wire| undo_options_from_wire(wire).map(drop),
        "VerifyBackup" => |wire| verify_request_from_wire(String::new(), wire).map(drop),
        "ListBackups" => |wire| list_filter_from_wire(wire).map(drop),
        "Prune" => |wire| prune_options_from_wire(wire).map(drop),
        "ExplainRetention" => |wire| explain_options_from_wire(wire).map(drop),
        "DeleteBackup" => |wire| delete_options_from_wire(wire).map(drop),
        "PinBackup" => |wire| pin_options_from_wire(wire).map(drop),
        "DrillBackup" | "ExportBackup" | "OpenBackup" => no_options,
        other => panic!("which function reads the options of {other}? Add it here"),
    }
}

/// A value of the type that the documentation gives an option.
fn value(method: &Member, option: &Entry) -> OwnedVariant {
    let variant: Variant<'static> = match (option.name.as_str(), option.signature.as_str()) {
        ("level", "s") => "data".into(),
        ("subset", "s") => "10%".into(),
        ("run", "s") => "01a1f972-b701-769b-a723-393f6179df4a".into(),
        (_, "s") => "text".into(),
        (_, "as") => vec!["text".to_owned()].into(),
        (_, "b") => true.into(),
        (_, "u") => 1u32.into(),
        (_, "t") => 1u64.into(),
        (name, signature) => panic!("{}: option {name}: no value of type {signature:?} here", method.name),
    };
    variant.try_into().unwrap()
}

#[test]
fn the_limits_are_those_that_hold() {
    let contract = Contract::read();
    let create = contract.members().find(|member| member.name == "CreateBackup").unwrap();
    let stated = [
        ("description", vec![limits::DESCRIPTION]),
        ("tags", vec![limits::TAGS, limits::TAG]),
        ("include-tables", vec![limits::PATTERNS, limits::PATTERN]),
    ];
    for (name, numbers) in stated {
        let option = create.text.options.iter().find(|option| option.name == name).unwrap();
        let said: Vec<usize> = option.text.split(' ').filter_map(|word| word.parse().ok()).collect();
        assert_eq!(said, numbers, "{name}: {}", option.text);
    }
    assert!(document::of(&contract).contains(&format!("may have {} bytes where nothing else is said", limits::TEXT)));
}

#[test]
fn the_options_are_those_that_are_read() {
    let contract = Contract::read();
    let with_options = |m: &&Member| m.arguments.iter().any(|a| a.signature == "a{sv}" && a.direction == "in");
    for method in contract.members().filter(|m| m.kind == "method").filter(with_options) {
        let read = reader(&method.name);
        for option in &method.text.options {
            read(Wire::from([(option.name.clone(), value(method, option))]))
                .unwrap_or_else(|error| panic!("{} does not take what is documented: {error}", method.name));
        }
        // The refusal of an unknown one lists those that are read.
        let refusal = read(Wire::from([("colour".to_owned(), Variant::from(true).try_into().unwrap())])).unwrap_err();
        let refusal = refusal.to_string();
        let mut known: Vec<&str> = match refusal.split_once("; known are ") {
            Some((_, known)) => known.split(", ").collect(),
            None => Vec::new(),
        };
        let mut documented: Vec<&str> = method.text.options.iter().map(|option| option.name.as_str()).collect();
        known.sort_unstable();
        documented.sort_unstable();
        assert_eq!(known, documented, "{}: read, and documented", method.name);
    }
}
