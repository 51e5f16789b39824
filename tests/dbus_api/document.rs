//! The page: an introduction, each interface with its listing, members and properties, and examples.

use std::fmt::Write as _;

use roxmltree::{Document, ParsingOptions};

use super::contract::{Argument, Contract, Entry, Interface, Member};

const POLICY: &str = include_str!("../../systemd/org.backupd1.policy");
const INTRODUCTION: &str = include_str!("introduction.md");
const EXAMPLES: &str = include_str!("examples.md");

pub(crate) fn of(contract: &Contract) -> String {
    let mut page = INTRODUCTION.replace("@ACTIONS@", &actions());
    for interface in &contract.interfaces {
        write_interface(&mut page, interface);
    }
    page.push('\n');
    page.push_str(EXAMPLES);
    page
}

/// The table of polkit actions, as the policy file has them.
fn actions() -> String {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let policy = Document::parse_with_options(POLICY, options).unwrap();
    let mut rows = String::new();
    for action in policy.descendants().filter(|node| node.has_tag_name("action")) {
        let text = |tag| action.descendants().find(|node| node.has_tag_name(tag)).and_then(|node| node.text()).unwrap();
        let meaning = |tag| match text(tag) {
            "yes" => "allowed",
            "auth_admin" => "an administrator's password, each time",
            "auth_admin_keep" => "an administrator's password, kept a while",
            other => panic!("{other} has no words here"),
        };
        assert_eq!(text("allow_any"), text("allow_inactive"));
        let (id, what) = (action.attribute("id").unwrap(), text("description"));
        writeln!(rows, "| `{id}` | {what} | {} | {} |", meaning("allow_active"), meaning("allow_any")).unwrap();
    }
    rows
}

fn write_interface(page: &mut String, interface: &Interface) {
    write!(page, "\n## {}\n\n", interface.name).unwrap();
    write_paragraphs(page, &interface.text.paragraphs);
    write!(page, "```\n{} {{\n", interface.name).unwrap();
    let kinds = [("method", "methods"), ("signal", "signals"), ("property", "properties")];
    for (kind, heading) in kinds.into_iter().filter(|(kind, _)| interface.members.iter().any(|m| m.kind == *kind)) {
        writeln!(page, "  {heading}:").unwrap();
        for member in interface.members.iter().filter(|member| member.kind == kind) {
            page.push_str(&listed(member));
        }
    }
    page.push_str("};\n```\n");
    let has = |kind: &str| interface.members.iter().any(|member| member.kind == kind);
    for (kind, heading) in [("method", "Methods"), ("signal", "Signals")].into_iter().filter(|(kind, _)| has(kind)) {
        write!(page, "\n### {heading}\n").unwrap();
        for member in interface.members.iter().filter(|member| member.kind == kind) {
            write_member(page, member);
        }
    }
    if !has("property") {
        return;
    }
    page.push_str("\n### Properties\n\n| name | type | changes | meaning |\n|---|---|---|---|\n");
    for member in interface.members.iter().filter(|member| member.kind == "property") {
        let changes = match member.changes.as_str() {
            "true" => "announced",
            "const" => "never",
            "invalidates" => "announced without the value",
            "false" => "not announced: read it when needed",
            other => panic!("{}: EmitsChangedSignal is {other:?}", member.name),
        };
        let text = cell(&member.text.paragraphs.join(" "));
        writeln!(page, "| `{}` | `{}` | {changes} | {text} |", member.name, member.signature).unwrap();
    }
}

fn listed(member: &Member) -> String {
    let argument = |a: &Argument| [a.direction.as_str(), &a.signature, &a.name].join(" ").trim_start().to_owned();
    match member.kind.as_str() {
        "property" => format!("    readonly {} {};\n", member.signature, member.name),
        _ => {
            let separator = format!(",\n{}", " ".repeat(member.name.len() + 5));
            let arguments: Vec<_> = member.arguments.iter().map(argument).collect();
            format!("    {}({});\n", member.name, arguments.join(&separator))
        }
    }
}

fn write_paragraphs(page: &mut String, paragraphs: &[String]) {
    for paragraph in paragraphs {
        write!(page, "{paragraph}\n\n").unwrap();
    }
}

fn write_member(page: &mut String, member: &Member) {
    write!(page, "\n#### {}()\n\n", member.name).unwrap();
    write_paragraphs(page, &member.text.paragraphs);
    if !member.arguments.is_empty() {
        page.push_str("| argument | type | meaning |\n|---|---|---|\n");
        for argument in &member.arguments {
            let answered = if argument.direction == "out" { "answered: " } else { "" };
            let (name, signature, text) = (&argument.name, &argument.signature, cell(&argument.text));
            writeln!(page, "| `{name}` | `{signature}` | {answered}{text} |").unwrap();
        }
    }
    write_entries(page, "option", &member.text.options);
    write_entries(page, "field", &member.text.fields);
    match member.text.action.as_str() {
        "" => {}
        "of the job" => page.push_str("\nAction: that of the job's kind; none for who started it\n"),
        action => write!(page, "\nAction: `org.backupd1.{action}`\n").unwrap(),
    }
    if !member.text.errors.is_empty() {
        let names: Vec<_> = member.text.errors.iter().map(|name| format!("`{name}`")).collect();
        write!(page, "\nErrors: {}\n", names.join(", ")).unwrap();
    }
}

fn write_entries(page: &mut String, what: &str, entries: &[Entry]) {
    if entries.is_empty() {
        return;
    }
    write!(page, "\n| {what} | type | meaning |\n|---|---|---|\n").unwrap();
    for entry in entries {
        writeln!(page, "| `{}` | `{}` | {} |", entry.name, entry.signature, cell(&entry.text)).unwrap();
    }
}

/// Text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
