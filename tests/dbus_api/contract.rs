//! The contract as its XML has it: members, arguments, and what the comments say of them.
//!
//! Invariant: nothing without documentation comes out of here; it panics by name.

use backupd::bus::INTROSPECTION;
use roxmltree::{Document, Node, ParsingOptions};

/// All interfaces, in the order of the file.
pub(crate) struct Contract {
    pub(crate) interfaces: Vec<Interface>,
}

pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) text: Text,
    pub(crate) members: Vec<Member>,
}

/// A method, signal or property.
pub(crate) struct Member {
    pub(crate) kind: String,
    pub(crate) name: String,
    /// Of a property its type, otherwise empty.
    pub(crate) signature: String,
    /// Of a property whether and how its changes are announced.
    pub(crate) changes: String,
    pub(crate) text: Text,
    pub(crate) arguments: Vec<Argument>,
}

pub(crate) struct Argument {
    pub(crate) name: String,
    pub(crate) signature: String,
    /// `in` or `out`; empty for a signal's.
    pub(crate) direction: String,
    pub(crate) text: String,
}

/// A comment, taken apart.
#[derive(Default)]
pub(crate) struct Text {
    pub(crate) paragraphs: Vec<String>,
    pub(crate) arguments: Vec<Entry>,
    pub(crate) options: Vec<Entry>,
    pub(crate) fields: Vec<Entry>,
    pub(crate) errors: Vec<String>,
    /// The polkit action, as the contract's comment puts it; empty where there is none.
    pub(crate) action: String,
}

pub(crate) struct Entry {
    pub(crate) name: String,
    /// Empty for an argument: its element has it.
    pub(crate) signature: String,
    pub(crate) text: String,
}

impl Contract {
    pub(crate) fn read() -> Self {
        let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
        let document = Document::parse_with_options(INTROSPECTION, options).unwrap();
        let interfaces = elements(document.root_element()).map(interface).collect();
        Self { interfaces }
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.interfaces.iter().flat_map(|interface| &interface.members)
    }
}

fn elements<'a, 'input>(node: Node<'a, 'input>) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children().filter(Node::is_element)
}

fn attribute(node: Node<'_, '_>, name: &str) -> String {
    node.attribute(name).unwrap_or_default().to_owned()
}

fn interface(node: Node<'_, '_>) -> Interface {
    let text = text_before(node);
    let members = elements(node).map(|child| member(child, &text)).collect();
    Interface { name: attribute(node, "name"), text, members }
}

fn member(node: Node<'_, '_>, of_interface: &Text) -> Member {
    let (kind, name) = (node.tag_name().name().to_owned(), attribute(node, "name"));
    let text = text_before(node);
    let argument = |child: Node<'_, '_>| {
        let argument = attribute(child, "name");
        let mut entries = text.arguments.iter().chain(&of_interface.arguments);
        let entry = entries.find(|entry| entry.name == argument);
        Argument {
            text: entry
                .unwrap_or_else(|| panic!("{name}: the argument {argument:?} has no documentation"))
                .text
                .clone(),
            name: argument,
            signature: attribute(child, "type"),
            direction: attribute(child, "direction"),
        }
    };
    let arguments: Vec<_> = elements(node).filter(|child| child.has_tag_name("arg")).map(argument).collect();
    for entry in &text.arguments {
        assert!(arguments.iter().any(|a| a.name == entry.name), "{name} has no argument {:?}", entry.name);
    }
    let changes = elements(node).find(|child| attribute(*child, "name").ends_with("EmitsChangedSignal"));
    let changes = changes.map_or_else(|| "true".to_owned(), |annotation| attribute(annotation, "value"));
    Member { signature: attribute(node, "type"), kind, name, changes, text, arguments }
}

/// The comment directly before an element.
fn text_before(node: Node<'_, '_>) -> Text {
    let before = node.prev_siblings().skip(1).find(|sibling| sibling.is_comment() || sibling.is_element());
    let comment = before.filter(Node::is_comment).and_then(|comment| comment.text());
    parse(comment.unwrap_or_else(|| panic!("{:?} has no documentation", attribute(node, "name"))))
}

/// An entry of a list is indented by two more than the comment, and what continues it by more.
fn parse(comment: &str) -> Text {
    let lines = comment.lines().filter(|line| !line.trim().is_empty());
    let margin = lines.map(|line| line.len() - line.trim_start().len()).min().unwrap_or_default();
    let mut text = Text::default();
    let (mut section, mut new_paragraph) = (String::new(), true);
    for line in comment.lines() {
        let words = line.trim();
        let indentation = (line.len() - line.trim_start().len()).saturating_sub(margin);
        if words.is_empty() {
            (section, new_paragraph) = (String::new(), true);
        } else if let Some(heading) = words.strip_suffix(':').filter(|_| indentation == 0) {
            section = heading.to_owned();
        } else if let Some(action) = words.strip_prefix("Action: ") {
            text.action = action.to_owned();
        } else if let Some(names) = words.strip_prefix("Errors:") {
            section = "Errors".to_owned();
            text.errors.extend(list(names));
        } else if section == "Errors" {
            text.errors.extend(list(words));
        } else if section.is_empty() {
            if new_paragraph {
                text.paragraphs.push(words.to_owned())
            } else {
                append(text.paragraphs.last_mut(), words)
            }
            new_paragraph = false;
        } else {
            let entries = match section.as_str() {
                "Arguments" => &mut text.arguments,
                "Options" => &mut text.options,
                "Fields" => &mut text.fields,
                other => panic!("a list is headed {other:?}"),
            };
            if indentation == 2 {
                entries.push(entry(words))
            } else {
                append(entries.last_mut().map(|e| &mut e.text), words)
            }
        }
    }
    assert!(!text.paragraphs.is_empty(), "no sentence in {comment:?}");
    text
}

fn list(names: &str) -> impl Iterator<Item = String> {
    names.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty())
}

fn append(to: Option<&mut String>, words: &str) {
    let to = to.expect("something to continue");
    to.push(' ');
    to.push_str(words);
}

fn entry(words: &str) -> Entry {
    let (name, text) = words.split_once(": ").unwrap_or_else(|| panic!("{words:?} is not \"name: text\""));
    let (name, signature) = match name.split_once(" (") {
        Some((name, signature)) => (name, signature.strip_suffix(')').expect("a closing parenthesis")),
        None => (name, ""),
    };
    Entry { name: name.to_owned(), signature: signature.to_owned(), text: text.to_owned() }
}
