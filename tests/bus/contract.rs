//! Every member of the contract, one by one: what is served is what it says, and what it does not know is refused.

use std::{collections::HashMap, fs::OpenOptions, os::fd::OwnedFd};

use backupd::bus::{INTROSPECTION, MANAGER_PATH, proxy::ManagerProxy, types::Options};
use roxmltree::{Document, Node, ParsingOptions};
use zbus::{Connection, OwnedVariant, Structure, Variant, wire::StructureBuilder};

use crate::{
    listening::{JOB, MANAGER, SOURCE, error_name},
    support::Daemon,
};

const INVALID_ARGS: &str = "org.freedesktop.DBus.Error.InvalidArgs";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// A member of an interface: its kind and name, its arguments (direction, name, type), its access and annotations.
type Member = (String, String, Vec<[String; 3]>, Vec<String>);

/// The members of the interfaces in introspection data, in an order of their own.
fn members(xml: &str) -> HashMap<String, Vec<Member>> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let document = Document::parse_with_options(xml.trim(), options).unwrap();
    let interfaces = document.root_element().children().filter(|node| node.has_tag_name("interface"));
    interfaces.map(|interface| (attribute(interface, "name"), members_of(interface))).collect()
}

fn members_of(interface: Node<'_, '_>) -> Vec<Member> {
    let mut members: Vec<Member> = interface
        .children()
        .filter(Node::is_element)
        .map(|member| {
            let parts = |tag: &'static str| member.children().filter(move |part| part.has_tag_name(tag));
            let arguments = parts("arg").map(|arg| ["direction", "name", "type"].map(|key| attribute(arg, key)));
            let mut facts = vec![attribute(member, "type"), attribute(member, "access")];
            let annotation = |a: Node<'_, '_>| attribute(a, "name") + "=" + &attribute(a, "value");
            facts.extend(parts("annotation").map(annotation));
            (member.tag_name().name().to_owned(), attribute(member, "name"), arguments.collect(), facts)
        })
        .collect();
    members.sort();
    members
}

fn attribute(node: Node<'_, '_>, name: &str) -> String {
    node.attribute(name).unwrap_or_default().to_owned()
}

/// A daemon's objects, one of each interface.
async fn objects(client: &Connection) -> [(String, &'static str); 7] {
    let manager = ManagerProxy::new(client).await.unwrap();
    let (_, job) = manager.create_backup("shop", &Options::new(), 0).await.unwrap();
    let source = manager.get_source("shop").await.unwrap();
    let own = |interface| (MANAGER_PATH.to_owned(), interface);
    [
        own(MANAGER),
        own("org.backupd1.Health"),
        own("org.backupd1.Notices"),
        own("org.backupd1.Retention"),
        own("org.backupd1.Statistics"),
        (job.to_string(), JOB),
        (source.to_string(), SOURCE),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_served_is_the_contract() {
    let daemon = Daemon::start();
    let client = daemon.connect().await;
    let contract = members(INTROSPECTION);
    let objects = objects(&client).await;
    assert_eq!(contract.len(), objects.len());
    for (path, interface) in objects {
        let introspect = Some("org.freedesktop.DBus.Introspectable");
        let reply = client.call_method(None::<&str>, path.as_str(), introspect, "Introspect", &()).await.unwrap();
        let served: String = reply.body().deserialize().unwrap();
        assert_eq!(members(&served)[interface], contract[interface]);
        let reply = client.call_method(None::<&str>, path.as_str(), Some(PROPERTIES), "GetAll", &(interface,)).await;
        let all: HashMap<String, OwnedVariant> = reply.unwrap().body().deserialize().unwrap();
        let is_property = |member: &&Member| member.0 == "property";
        for (_, name, _, facts) in contract[interface].iter().filter(is_property) {
            assert_eq!(all[name].value_signature().to_string(), facts[0], "{interface}.{name}");
        }
        assert_eq!(all.len(), contract[interface].iter().filter(is_property).count());
    }
}

/// Arguments of a method as its signature wants them; `flags`, and what the options have beyond nothing.
fn arguments(of: &Member, flags: u64, options: &HashMap<&'static str, Variant<'static>>) -> Structure<'static> {
    let mut body = StructureBuilder::new();
    for [direction, name, signature] in &of.2 {
        let value: Variant<'static> = match (direction.as_str(), name.as_str(), signature.as_str()) {
            ("out", ..) => continue,
            (_, "flags", "t") => flags.into(),
            (_, _, "t") => 0_u64.into(),
            (_, _, "s") => "shop".into(),
            (_, _, "a{sv}") => options.clone().into(),
            (_, _, "h") => {
                let file = OpenOptions::new().write(true).open("/dev/null").unwrap();
                zbus::Fd::from(OwnedFd::from(file)).into()
            }
            (_, name, other) => panic!("{}: no value of the type {other} for {name} here", of.1),
        };
        body = body.append_field(value);
    }
    body.build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_method_does_not_know_is_an_invalid_argument() {
    let daemon = Daemon::start();
    let client = daemon.connect().await;
    let contract = members(INTROSPECTION);
    let (none, unknown) = (HashMap::new(), HashMap::from([("colour", Variant::from("red"))]));
    let mut methods = 0;
    for (path, interface) in objects(&client).await {
        for method in contract[interface].iter().filter(|member| member.0 == "method") {
            methods += 1;
            let name = method.1.as_str();
            // Wrong signatures: nothing, another type, too many arguments.
            let refused = async |body: &Structure<'_>| error_name(&client, &path, interface, name, body).await;
            assert_eq!(error_name(&client, &path, interface, name, &()).await, INVALID_ARGS, "{name}()");
            let byte = StructureBuilder::new().add_field(7_u8).build().unwrap();
            assert_eq!(refused(&byte).await, INVALID_ARGS, "{name}(y)");
            let mut longer = StructureBuilder::new();
            for field in arguments(method, 0, &none).into_fields() {
                longer.push_value(field);
            }
            let longer = longer.add_field("more").build().unwrap();
            assert_eq!(refused(&longer).await, INVALID_ARGS, "{name} with an argument more");
            let has = |argument: &str| {
                method.2.iter().any(|[direction, name, signature]| {
                    direction == "in" && (name == argument || signature == argument)
                })
            };
            assert!(has("flags") || ["GetJob", "GetSource"].contains(&name), "{name} has no flags");
            for flags in [1, 1 << 63].into_iter().filter(|_| has("flags")) {
                assert_eq!(refused(&arguments(method, flags, &none)).await, INVALID_ARGS, "{name}, flags {flags:#x}");
            }
            if has("a{sv}") {
                assert_eq!(refused(&arguments(method, 0, &unknown)).await, INVALID_ARGS, "{name}, an unknown option");
            }
        }
    }
    assert!(methods > 15, "{methods}");
    // None of them did anything.
    assert_eq!(ManagerProxy::new(&client).await.unwrap().list_jobs(0).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_exist_has_the_standard_names() {
    let daemon = Daemon::start();
    let client = daemon.connect().await;
    let standard = |name: &str| format!("org.freedesktop.DBus.Error.{name}");
    for (path, interface) in objects(&client).await {
        let call = async |interface: &'static str, method: &'static str, body: &[&str]| {
            let mut arguments = StructureBuilder::new();
            for argument in body {
                arguments = arguments.add_field((*argument).to_owned());
            }
            error_name(&client, &path, interface, method, &arguments.build().unwrap()).await
        };
        assert_eq!(call(interface, "Nonsense", &["x"]).await, standard("UnknownMethod"));
        assert_eq!(call("org.example.Nonsense", "Nonsense", &["x"]).await, standard("UnknownInterface"));
        assert_eq!(call(PROPERTIES, "Get", &[interface, "Nonsense"]).await, standard("UnknownProperty"));
        assert_eq!(call(PROPERTIES, "Get", &["org.example.Nonsense", "Id"]).await, standard("UnknownInterface"));
        assert_eq!(call(PROPERTIES, "GetAll", &["org.example.Nonsense"]).await, standard("UnknownInterface"));
        // Wrong signatures of the standard methods; nothing can be set.
        assert_eq!(call(PROPERTIES, "Get", &[interface]).await, INVALID_ARGS);
        assert_eq!(call(PROPERTIES, "GetAll", &[interface, "x"]).await, INVALID_ARGS);
        assert_eq!(call(PROPERTIES, "Set", &[interface, "Version"]).await, INVALID_ARGS);
        let property = if interface == MANAGER { "Version" } else { "RunningJob" };
        let set = (interface, property, Variant::from(7_u64));
        let set = error_name(&client, &path, PROPERTIES, "Set", &set).await;
        assert_eq!(set, standard("UnknownProperty"), "zbus's answer for a property that cannot be set");
        let missing = format!("{path}x");
        for (of, method) in [(interface, "Nonsense"), (PROPERTIES, "GetAll")] {
            assert_eq!(error_name(&client, &missing, of, method, &("x",)).await, standard("UnknownObject"));
        }
    }
    let more = error_name(&client, MANAGER_PATH, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", &("x",));
    assert_eq!(more.await, INVALID_ARGS);
}
