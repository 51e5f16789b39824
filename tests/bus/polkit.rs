//! Who may do what on a message bus: every member asks for the action that the contract names, and does what the answer
//! says, before anything is changed. polkit is an object of the test's on the bus; `tests/clients/polkit.rs` has the real one.

use std::{
    collections::HashMap,
    fs::File,
    os::fd::OwnedFd,
    process::{Command, Output},
    sync::{Arc, Mutex},
    time::Instant,
};

use backupd::{
    bus::{
        MANAGER_PATH,
        action::Action,
        job_path,
        log_control::{LOG_CONTROL_PATH, Logging},
        proxy::ManagerProxy,
        server::{Bus, Server},
        source_path,
        types::Options,
    },
    model::job::JobType,
    service::operations::{Caller, CreateOptions, Operations, RestoreOptions, VerifyRequest},
};
use tokio::sync::Semaphore;
use zbus::{Connection, OwnedVariant, connection::Builder};

use crate::{
    documented::Contract,
    private_bus::{PrivateBus, text},
    support::{LONG, Simulation},
    users::{as_user, copy_of_this_program},
};

const NOBODY: u32 = 65534;
const DENIED: &str = "Access denied";
const MUST_AUTHENTICATE: &str = "needs authentication for org.backupd1.";
/// The backup that the simulation finds, whatever it is called.
const FOUND: &str = "00ff10a5deadbeef0123456789abcdef";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    Challenge,
    Dismissed,
    /// Not before the test says so, and then yes.
    Later,
}

/// A question that polkit was asked.
#[derive(Debug, Clone)]
struct Asked {
    subject: String,
    name: String,
    action: String,
    details: HashMap<String, String>,
    may_ask_a_person: bool,
}

#[derive(Clone)]
struct Fake {
    answer: Arc<Mutex<Answer>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    later: Arc<Semaphore>,
    taken_back: Arc<Semaphore>,
}

#[zbus::interface(name = "org.freedesktop.PolicyKit1.Authority")]
impl Fake {
    async fn check_authorization(
        &self,
        subject: (String, HashMap<String, OwnedVariant>),
        action_id: String,
        details: HashMap<String, String>,
        flags: u32,
        _cancellation_id: String,
    ) -> ((bool, bool, HashMap<String, String>),) {
        let name: String = subject.1["name"].try_clone().unwrap().try_into().unwrap();
        let asked = Asked { subject: subject.0, name, action: action_id, details, may_ask_a_person: flags == 1 };
        self.asked.lock().unwrap().push(asked);
        let answer = *self.answer.lock().unwrap();
        let dismissed = HashMap::from([("polkit.dismissed".to_owned(), "true".to_owned())]);
        match answer {
            Answer::Yes => ((true, false, HashMap::new()),),
            Answer::No => ((false, false, HashMap::new()),),
            Answer::Challenge => ((false, true, HashMap::new()),),
            Answer::Dismissed => ((false, true, dismissed),),
            Answer::Later => {
                self.later.acquire().await.unwrap().forget();
                ((true, false, HashMap::new()),)
            }
        }
    }

    fn cancel_check_authorization(&self, _cancellation_id: String) {
        self.taken_back.add_permits(1);
    }
}

impl Fake {
    async fn start(bus: &PrivateBus) -> (Self, Connection) {
        let fake = Self {
            answer: Arc::new(Mutex::new(Answer::No)),
            asked: Arc::default(),
            later: Arc::new(Semaphore::new(0)),
            taken_back: Arc::new(Semaphore::new(0)),
        };
        let connection = Builder::address(bus.address.as_str())
            .serve_at("/org/freedesktop/PolicyKit1/Authority", fake.clone())
            .name("org.freedesktop.PolicyKit1")
            .build()
            .await
            .unwrap();
        (fake, connection)
    }

    fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// What was asked since the last look.
    fn questions(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    async fn wait_for_questions(&self, count: usize) {
        let enough = async {
            while self.asked.lock().unwrap().len() < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, enough).await.unwrap();
    }
}

/// The levels that were set.
#[derive(Default)]
struct Levels(Mutex<Vec<String>>);

impl Logging for Levels {
    fn level(&self) -> String {
        "info".to_owned()
    }

    fn set_level(&self, level: &str) -> Result<(), String> {
        self.0.lock().unwrap().push(level.to_owned());
        Ok(())
    }

    fn target(&self) -> String {
        "journal".to_owned()
    }

    fn set_target(&self, _: &str) -> Result<(), String> {
        Ok(())
    }
}

/// A daemon and polkit on a bus of their own.
struct World {
    service: Arc<Simulation>,
    server: Server,
    logging: Arc<Levels>,
    polkit: Fake,
    authority: Connection,
    bus: PrivateBus,
}

impl World {
    async fn start() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root can become another user");
            return None;
        }
        let bus = PrivateBus::start()?;
        let (polkit, authority) = Fake::start(&bus).await;
        let service = Simulation::new(&bus.folder.path().join("state"));
        let logging = Arc::new(Levels::default());
        let server = Server::new(Arc::clone(&service) as Arc<dyn Operations>).with_logging(logging.clone());
        let _connection = server.join_bus(&Bus::At(bus.address.clone())).await.unwrap();
        Some(Self { service, server, logging, polkit, authority, bus })
    }

    /// What somebody with nothing to do with the daemon gets; `flag` lets a person be asked.
    async fn nobody(&self, path: &str, member: &str, arguments: &[&str], flag: bool) -> Output {
        let mut command = self.bus.busctl(path, Some(NOBODY), member, arguments);
        command.arg(format!("--allow-interactive-authorization={flag}"));
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// Waits until the job is an object.
    async fn announced(&self, number: u64) {
        let number = number.to_string();
        while !self.bus.call(None, "GetJob", &["t", &number]).await.status.success() {
            tokio::task::yield_now().await;
        }
    }
}

/// A method, its arguments, the details.
type Call = (&'static str, Vec<&'static str>, Vec<(&'static str, &'static str)>);

/// What the methods of the daemon's object are called with by `busctl`, and the details that polkit gets.
fn calls() -> Vec<Call> {
    let found = vec![("backup", FOUND), ("source", "shop"), ("database", "caf\u{e9}")];
    let undo = vec![("source", "shop"), ("job", "1")];
    let replacing = || [found.clone(), vec![("to", "copy"), ("replace", "true")]].concat();
    let found_to = || [found.clone(), vec![("to", "copy")]].concat();
    vec![
        ("CreateBackup", vec!["sa{sv}t", "shop", "0", "0"], vec![("source", "shop")]),
        ("PlanRestore", vec!["sa{sv}t", "shop@latest", "1", "to", "s", "copy", "0"], found_to()),
        ("RestoreBackup", vec!["sa{sv}t", "shop@latest", "1", "to", "s", "copy", "0"], found_to()),
        // Rules see what a plan does as they see what options ask for.
        (
            "RestoreBackup",
            vec!["sa{sv}t", "shop@latest", "2", "to", "s", "copy", "replace", "b", "true", "0"],
            replacing(),
        ),
        ("RestoreBackup", vec!["sa{sv}t", "", "1", "plan", "s", "kept", "0"], replacing()),
        ("PlanUndo", vec!["tt", "1", "0"], undo.clone()),
        ("UndoRestore", vec!["ta{sv}t", "1", "0", "0"], undo.clone()),
        ("ForgetUndo", vec!["tt", "1", "0"], undo),
        ("ListUndo", vec!["t", "0"], vec![]),
        ("VerifyBackup", vec!["sa{sv}t", "", "1", "source", "s", "shop", "0"], vec![("source", "shop")]),
        ("VerifyBackup", vec!["sa{sv}t", "shop@latest", "0", "0"], found.clone()),
        ("DrillBackup", vec!["sa{sv}t", "shop@latest", "0", "0"], found.clone()),
        ("DeleteBackup", vec!["sa{sv}t", "shop@latest", "0", "0"], found.clone()),
        ("OpenBackup", vec!["sa{sv}t", "shop@latest", "0", "0"], found.clone()),
        ("ListBackups", vec!["a{sv}tst", "1", "source", "s", "shop", "0", "", "0"], vec![("source", "shop")]),
        ("GetBackup", vec!["st", "shop@latest", "0"], found.clone()),
        ("DescribeBackup", vec!["st", "shop@latest", "0"], found.clone()),
        ("ListSources", vec!["t", "0"], vec![]),
        ("GetSource", vec!["s", "shop"], vec![("source", "shop")]),
        ("ListJobs", vec!["t", "0"], vec![]),
        ("GetJob", vec!["t", "7"], vec![("job", "7")]),
        ("DescribeJob", vec!["tt", "7", "0"], vec![("job", "7")]),
        ("CancelJob", vec!["tt", "7", "0"], vec![("job", "7")]),
        ("Reload", vec!["t", "0"], vec![]),
        (
            "org.backupd1.Retention PinBackup",
            vec!["sa{sv}t", "shop@latest", "1", "reason", "s", "audit", "0"],
            found.clone(),
        ),
        ("org.backupd1.Notices TestNotice", vec!["st", "oncall", "0"], vec![("notifier", "oncall")]),
        ("org.backupd1.Notices ListNotices", vec!["t", "0"], vec![]),
        ("org.backupd1.Health GetHealth", vec!["st", "shop", "0"], vec![("source", "shop")]),
        (
            "org.backupd1.Retention Prune",
            vec!["a{sv}t", "2", "source", "s", "shop", "force", "b", "true", "0"],
            vec![("source", "shop"), ("force", "true")],
        ),
        ("org.backupd1.Retention ExplainRetention", vec!["sa{sv}t", "shop", "0", "0"], vec![("source", "shop")]),
        ("org.backupd1.Retention ListDeleted", vec!["t", "0"], vec![]),
        ("org.backupd1.Retention UndeleteBackup", vec!["st", "00ff", "0"], vec![("backup", "00ff")]),
        ("org.backupd1.Retention DescribeSpace", vec!["t", "0"], vec![]),
        ("org.backupd1.Retention UnpinBackup", vec!["st", "shop@latest", "0"], found.clone()),
        ("org.backupd1.Statistics GetStatistics", vec!["st", "shop", "0"], vec![("source", "shop")]),
        ("org.backupd1.Statistics DiffBackups", vec!["sst", "shop@latest", "shop@latest", "0"], found),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_asks_for_its_action_and_does_as_polkit_says() {
    let Some(world) = World::start().await else { return };
    let contract = Contract::read();
    let of_the_daemon = contract
        .interfaces
        .iter()
        .filter(|interface| !["org.backupd1.Job", "org.backupd1.Source"].contains(&&*interface.name));
    let methods = of_the_daemon.flat_map(|interface| &interface.members).filter(|member| member.kind == "method");
    for method in methods {
        let is_its = |call: &Call| call.0.rsplit(' ').next() == Some(&method.name);
        let calls: Vec<_> = calls().into_iter().filter(is_its).collect();
        // busctl cannot send a descriptor: `an_export_to_a_descriptor_asks_too` has that one.
        assert!(!calls.is_empty() || method.name == "ExportBackup", "how is {} called? Add it here", method.name);
        for (member, arguments, details) in calls {
            let action = match method.text.action.as_str() {
                "of the job" => "inspect", // There is no job 7; the jobs that are there have a test of their own.
                action => action,
            };
            for (answer, flag, expected) in [
                (Answer::No, false, DENIED),
                (Answer::No, true, DENIED),
                (Answer::Dismissed, true, DENIED),
                (Answer::Challenge, false, MUST_AUTHENTICATE),
                (Answer::Challenge, true, MUST_AUTHENTICATE),
            ] {
                world.polkit.answers(answer);
                let output = world.nobody(MANAGER_PATH, member, &arguments, flag).await;
                let seen = text(&output);
                assert!(!output.status.success() && seen.contains(expected), "{member}, {answer:?}, {flag}: {seen}");
                let [asked] = &world.polkit.questions()[..] else { panic!("{member}: not one question") };
                assert_eq!(asked.action, format!("org.backupd1.{action}"), "{member}");
                assert_eq!(asked.may_ask_a_person, flag, "{member}");
                assert_eq!((asked.subject.as_str(), &asked.name[..1]), ("system-bus-name", ":"), "{member}");
                let expected: HashMap<_, _> =
                    details.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
                assert_eq!(asked.details, expected, "{member}");
                assert!(world.service.jobs().list().is_empty(), "{member} changed something before it was allowed");
            }
        }
    }
    // What is allowed is done: what comes back is not a refusal of who calls.
    for (member, arguments, _) in calls() {
        world.polkit.answers(Answer::Yes);
        let seen = text(&world.nobody(MANAGER_PATH, member, &arguments, false).await);
        assert!(!seen.contains(DENIED) && !seen.contains(MUST_AUTHENTICATE), "{member}: {seen}");
        assert_eq!(world.polkit.questions().len(), 1, "{member}");
    }
    let started = world.service.jobs().list();
    assert!(started.iter().any(|job| job.record.job_type == JobType::Create && job.record.started_by_uid == NOBODY));
    // root needs nobody's leave.
    world.polkit.answers(Answer::No);
    for (member, arguments, _) in calls() {
        let seen = text(&world.bus.call(None, member, &arguments).await);
        assert!(!seen.contains(DENIED), "{member}: {seen}");
    }
    assert!(world.polkit.questions().is_empty());
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_done_is_what_was_allowed_and_nothing_is_told_before() {
    let Some(world) = World::start().await else { return };
    world.polkit.answers(Answer::Yes);
    let plan = text(&world.nobody(MANAGER_PATH, "PlanRestore", &["sa{sv}t", "shop@latest", "0", "0"], false).await);
    assert!(
        plan.contains(FOUND) && !plan.contains("latest"),
        "the plan is for another backup than was allowed: {plan}"
    );
    let missing = ["sa{sv}t", "missing", "0", "0"];
    let seen = text(&world.nobody(MANAGER_PATH, "DeleteBackup", &missing, false).await);
    assert!(seen.contains("no backup"), "{seen}");
    world.polkit.answers(Answer::No);
    let seen = text(&world.nobody(MANAGER_PATH, "DeleteBackup", &missing, false).await);
    assert!(seen.contains(DENIED), "who may not is told whether it is there: {seen}");
    let details: Vec<_> = world.polkit.questions().into_iter().map(|asked| asked.details).collect();
    assert_eq!(details[1..], vec![HashMap::from([("backup".to_owned(), "missing".to_owned())]); 2]);
    // All backups of a run are named by the run, which stays the same when another comes.
    world.polkit.answers(Answer::Yes);
    let run = "shop@01a1f972-b701-769b-a723-393f6179df4a";
    // A run of two databases, of one, and one database of a run.
    for (name, means) in [("server@latest", run), ("server@1", run), ("server/db@latest", FOUND)] {
        let plan = text(&world.nobody(MANAGER_PATH, "PlanRestore", &["sa{sv}t", name, "0", "0"], false).await);
        let asked = world.polkit.questions().remove(0).details;
        assert!(plan.contains(means) && !plan.contains("latest"), "{plan}");
        assert_eq!((asked["source"].as_str(), asked["backup"].as_str()), ("shop", means));
    }
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_cancelled_by_its_starter_or_with_the_action_of_its_kind() {
    let Some(world) = World::start().await else { return };
    let (service, root) = (&world.service, Caller { uid: 0 });
    let started = [
        (JobType::Create, service.create(root, "held", CreateOptions::default()).unwrap()),
        (JobType::Verify, service.verify(root, VerifyRequest::default()).unwrap()),
        (JobType::Restore, service.restore(root, "kept", RestoreOptions::default()).unwrap()),
    ];
    for (job_type, number) in started {
        world.announced(number).await;
        let argument = number.to_string();
        for (path, member, arguments) in [
            (MANAGER_PATH, "CancelJob", vec!["tt", &argument, "0"]),
            (&job_path(number), "org.backupd1.Job Cancel", vec!["t", "0"]),
        ] {
            let seen = text(&world.nobody(path, member, &arguments, true).await);
            assert!(seen.contains(DENIED), "{member}: {seen}");
            let asked = world.polkit.questions().remove(0);
            assert_eq!(asked.action, Action::of_job(job_type).id());
            assert_eq!(asked.details["job"], argument);
        }
        assert!(service.jobs().get(number).unwrap().cancelable, "job {number} was cancelled");
    }
    world.polkit.answers(Answer::Yes);
    let seen = text(&world.nobody(MANAGER_PATH, "CreateBackup", &["sa{sv}t", "mine", "0", "0"], false).await);
    world.polkit.questions();
    world.polkit.answers(Answer::No);
    assert!(seen.contains("/org/backupd1/job/_4"), "{seen}");
    let cancelled = world.nobody(MANAGER_PATH, "CancelJob", &["tt", "4", "0"], false).await;
    assert!(cancelled.status.success(), "{}", text(&cancelled));
    assert!(world.polkit.questions().is_empty(), "who started a job was asked about cancelling it");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn properties_and_objects_are_for_who_may_look() {
    let Some(world) = World::start().await else { return };
    let number = world.service.create(Caller { uid: 0 }, "shop", CreateOptions::default()).unwrap();
    world.announced(number).await;
    let contract = Contract::read();
    let objects = [MANAGER_PATH.to_owned(), job_path(number), source_path("shop")];
    for interface in contract.interfaces.iter().filter(|i| i.members.iter().any(|member| member.kind == "property")) {
        let path = match interface.name.as_str() {
            "org.backupd1.Job" => &objects[1],
            "org.backupd1.Source" => &objects[2],
            _ => &objects[0],
        };
        let properties = || interface.members.iter().filter(|member| member.kind == "property");
        let is_open = |name: &str| ["Version", "RepositoryState", "Health"].contains(&name);
        for property in properties() {
            let open = is_open(&property.name);
            let get = ["ss", interface.name.as_str(), property.name.as_str()];
            for answer in [Answer::No, Answer::Challenge, Answer::Yes] {
                world.polkit.answers(answer);
                let output = world.nobody(path, "org.freedesktop.DBus.Properties Get", &get, true).await;
                let seen = text(&output);
                assert_eq!(output.status.success(), open || answer == Answer::Yes, "{}: {seen}", property.name);
                let questions = world.polkit.questions();
                assert_eq!(questions.len(), usize::from(!open), "{}", property.name);
                for asked in questions {
                    assert_eq!(asked.action, "org.backupd1.inspect", "{}", property.name);
                    assert!(!asked.may_ask_a_person, "{}: a person is asked for a property", property.name);
                }
            }
        }
        // All of one interface are one question, if there is anything to ask.
        let open = properties().filter(|property| is_open(&property.name)).count();
        for (answer, expected) in [(Answer::Yes, properties().count()), (Answer::No, open)] {
            world.polkit.answers(answer);
            let all = world.nobody(path, "org.freedesktop.DBus.Properties GetAll", &["s", &interface.name], true).await;
            let seen = text(&all);
            assert!(seen.starts_with(&format!("a{{sv}} {expected} ")) || seen == "a{sv} 0\n", "{seen}");
            assert_eq!(world.polkit.questions().len(), usize::from(open < properties().count()), "{path}");
        }
    }
    let objects = "org.freedesktop.DBus.ObjectManager GetManagedObjects";
    for (answer, success) in [(Answer::No, false), (Answer::Yes, true)] {
        world.polkit.answers(answer);
        assert_eq!(world.nobody(MANAGER_PATH, objects, &[], false).await.status.success(), success);
        assert_eq!(world.polkit.questions()[0].action, "org.backupd1.inspect");
    }
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_look_may_not_set_how_much_is_logged() {
    let Some(world) = World::start().await else { return };
    let get = ["ss", "org.freedesktop.LogControl1", "LogLevel"];
    let set = ["ssv", "org.freedesktop.LogControl1", "LogLevel", "s", "debug"];
    world.polkit.answers(Answer::Yes);
    let seen = text(&world.nobody(LOG_CONTROL_PATH, "org.freedesktop.DBus.Properties Get", &get, true).await);
    assert_eq!(seen, "v s \"info\"\n");
    for (answer, expected) in [(Answer::No, DENIED), (Answer::Challenge, MUST_AUTHENTICATE), (Answer::Yes, "")] {
        world.polkit.questions();
        world.polkit.answers(answer);
        let seen = text(&world.nobody(LOG_CONTROL_PATH, "org.freedesktop.DBus.Properties Set", &set, true).await);
        assert!(seen.contains(expected) && expected.is_empty() == seen.is_empty(), "{answer:?}: {seen}");
        let [asked] = &world.polkit.questions()[..] else { panic!("not one question") };
        assert_eq!((asked.action.as_str(), asked.may_ask_a_person), ("org.backupd1.reload", false));
        assert_eq!(asked.details["log-level"], "debug");
        assert_eq!(world.logging.0.lock().unwrap().len(), usize::from(answer == Answer::Yes), "{answer:?}");
    }
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_are_bounded_and_an_answer_for_one_who_left_starts_nothing() {
    let Some(world) = World::start().await else { return };
    world.polkit.answers(Answer::Later);
    let spawn = || {
        let mut command: Command =
            world.bus.busctl(MANAGER_PATH, Some(NOBODY), "CreateBackup", &["sa{sv}t", "shop", "0", "0"]);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
    };
    let mut waiting: Vec<_> = (0..8).map(|_| spawn()).collect();
    world.polkit.wait_for_questions(8).await;
    let seen = text(&world.nobody(MANAGER_PATH, "ListJobs", &["t", "0"], true).await);
    assert!(seen.contains("wait for authorisation"), "{seen}");
    // Nobody else waits for those.
    assert!(world.bus.call(None, "ListJobs", &["t", "0"]).await.status.success());
    for client in &mut waiting {
        client.kill().unwrap();
        client.wait().unwrap();
    }
    world.polkit.later.add_permits(8);
    // All eight are answered when a question is asked again.
    let answered = async {
        loop {
            world.polkit.answers(Answer::No);
            if text(&world.nobody(MANAGER_PATH, "ListJobs", &["t", "0"], true).await).contains(DENIED) {
                break;
            }
        }
    };
    tokio::time::timeout(LONG, answered).await.unwrap();
    assert!(world.service.jobs().list().is_empty(), "a job was started for a caller who had left");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polkit_that_hangs_or_is_gone_means_no_and_holds_nothing_up() {
    let Some(world) = World::start().await else { return };
    world.polkit.answers(Answer::Later);
    let began = Instant::now();
    let all =
        world.nobody(MANAGER_PATH, "org.freedesktop.DBus.Properties GetAll", &["s", "org.backupd1.Manager"], true);
    let (all, number) = tokio::join!(all, async {
        world.polkit.wait_for_questions(1).await;
        // Objects come and go meanwhile, if a little later.
        let number = world.service.create(Caller { uid: 0 }, "shop", CreateOptions::default()).unwrap();
        world.announced(number).await;
        number
    });
    assert_eq!(number, 1);
    assert!(text(&all).starts_with("a{sv} 2 "), "{}", text(&all));
    assert!(began.elapsed().as_secs() < 8, "{:?}", began.elapsed());
    tokio::time::timeout(LONG, world.polkit.taken_back.acquire()).await.unwrap().unwrap().forget();

    world.authority.clone().close().await.unwrap();
    let seen = dbus_send(&world.bus, "ListJobs");
    assert!(seen.contains("Error.AccessDenied") && seen.contains("polkit is not running"), "{seen}");
    let seen = text(&world.nobody(MANAGER_PATH, "Reload", &["t", "0"], true).await);
    assert!(seen.contains(DENIED), "{seen}");
    world.server.stop().await;
}

/// Not a test: what another test runs as another user, since `busctl` cannot send a descriptor.
#[test]
#[ignore = "run by another test"]
fn export_probe() {
    let Ok(address) = std::env::var("BACKUPD_TEST_BUS") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        let client = Builder::address(address.as_str()).build().await?;
        let output = OwnedFd::from(File::options().write(true).open("/dev/null")?);
        ManagerProxy::new(&client).await?.export_backup("shop@latest", output.into(), &Options::new(), 0).await
    });
    println!("probe: {answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_to_a_descriptor_asks_too() {
    let Some(world) = World::start().await else { return };
    let program = copy_of_this_program(world.bus.folder.path());
    for (answer, expected) in [(Answer::No, "AccessDenied"), (Answer::Yes, "Ok((1, ")] {
        world.polkit.answers(answer);
        let mut command = as_user(NOBODY, &program);
        command.args(["--exact", "polkit::export_probe", "--ignored", "--nocapture"]);
        command.env("BACKUPD_TEST_BUS", &world.bus.address);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(text(&output).contains(expected), "{answer:?}: {}", text(&output));
        let [asked] = &world.polkit.questions()[..] else { panic!("not one question") };
        assert_eq!((asked.action.as_str(), asked.details["backup"].as_str()), ("org.backupd1.export", FOUND));
    }
    world.server.stop().await;
}

/// The error of a call as it is on the wire; `busctl` has texts of its own.
fn dbus_send(bus: &PrivateBus, member: &str) -> String {
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups", "dbus-send"]);
    command.args([&format!("--bus={}", bus.address), "--print-reply", "--dest=org.backupd1", MANAGER_PATH]);
    command.args([&format!("org.backupd1.Manager.{member}"), "uint64:0"]);
    text(&command.output().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_may_not_be_asked_has_the_standard_error() {
    let Some(world) = World::start().await else { return };
    world.polkit.answers(Answer::Challenge);
    let seen = dbus_send(&world.bus, "Reload");
    assert!(seen.contains("org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"), "{seen}");
    assert!(seen.contains("Reload needs authentication for org.backupd1.reload"), "{seen}");
    world.server.stop().await;
}
