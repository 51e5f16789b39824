//! Listening to a connection, message by message.

use std::collections::HashMap;

use futures_util::StreamExt as _;
use zbus::{Connection, Message, MessageStream, OwnedObjectPath, OwnedVariant, message::Type};

use crate::support::LONG;

pub(crate) const MANAGER: &str = "org.backupd1.Manager";
pub(crate) const JOB: &str = "org.backupd1.Job";
pub(crate) const SOURCE: &str = "org.backupd1.Source";

/// The name under which a call fails.
pub(crate) async fn error_name<B>(
    connection: &Connection,
    path: &str,
    interface: &str,
    method: &str,
    body: &B,
) -> String
where
    B: serde::Serialize + zbus::DynamicType,
{
    match connection.call_method(Some("org.backupd1"), path, Some(interface), method, body).await {
        Err(zbus::Error::MethodError(name, ..)) => name.to_string(),
        Err(zbus::Error::FDO(error)) => zbus::DBusError::name(&error).to_string(),
        other => panic!("{method} gave {other:?}"),
    }
}

pub(crate) async fn next(stream: &mut MessageStream) -> Message {
    tokio::time::timeout(LONG, stream.next()).await.expect("no message comes").unwrap().unwrap()
}

pub(crate) fn what(message: &Message) -> String {
    let header = message.header();
    let member = header.member().map_or_else(String::new, ToString::to_string);
    match (message.message_type(), member.as_str()) {
        (Type::MethodReturn, _) => "answer".to_owned(),
        (_, "InterfacesAdded" | "InterfacesRemoved") if !object_of(message).contains("/job/") => {
            member.replace("Interfaces", "Source")
        }
        _ => member,
    }
}

/// The object that InterfacesAdded or InterfacesRemoved is about, or whose signal this is.
pub(crate) fn object_of(message: &Message) -> String {
    let header = message.header();
    match header.member().map(|member| member.as_str()) {
        Some("InterfacesAdded") => message.body().deserialize::<(OwnedObjectPath, Objects)>().unwrap().0.to_string(),
        Some("InterfacesRemoved") => {
            message.body().deserialize::<(OwnedObjectPath, Vec<String>)>().unwrap().0.to_string()
        }
        _ => header.path().map_or_else(String::new, ToString::to_string),
    }
}

/// The interfaces of an object, with their properties.
pub(crate) type Objects = HashMap<String, HashMap<String, OwnedVariant>>;

/// The next PropertiesChanged of this interface, with the values in it.
pub(crate) async fn changes_of(stream: &mut MessageStream, interface: &str) -> HashMap<String, OwnedVariant> {
    loop {
        let message = next(stream).await;
        if what(&message) != "PropertiesChanged" {
            continue;
        }
        let body = message.body();
        let (of, changed, invalidated): (String, HashMap<String, OwnedVariant>, Vec<String>) =
            body.deserialize().unwrap();
        assert!(invalidated.is_empty(), "a change without its value: {invalidated:?}");
        if of == interface {
            return changed;
        }
    }
}

/// The messages up to one of this kind, without what depends on time.
pub(crate) async fn until(stream: &mut MessageStream, last: &str) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        let name = what(&next(stream).await);
        if !["PropertiesChanged", "SourceAdded"].contains(&name.as_str()) {
            seen.push(name.clone());
        }
        if name == last {
            return seen;
        }
    }
}
