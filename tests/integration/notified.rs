//! Servers that notices go to, with the failures that such servers have: of HTTP and SMTP, plain and with TLS.
//!
//! Each listens on a port of its own and does to each connection what its script says; the last step is repeated.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, mpsc},
    thread,
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::common::{LIMIT, Scratch};

/// What a server does to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// Takes what is sent.
    Takes,
    /// Answers with this status of HTTP.
    Answers(u16),
    /// Reads, and never answers.
    Hangs,
}

/// A request of HTTP, or a mail.
#[derive(Debug, Clone)]
pub struct Received {
    /// The first line of a request; of a mail the user and password that were given, with a space between.
    pub line: String,
    /// The header of a request; what is empty for a mail.
    pub header: String,
    /// The body, or the whole mail.
    pub body: String,
}

/// A server that receives notices.
pub struct Receiver {
    /// Where it listens.
    pub port: u16,
    received: mpsc::Receiver<Received>,
}

impl Receiver {
    /// What comes next.
    #[track_caller]
    pub fn next(&self) -> Received {
        self.received.recv_timeout(LIMIT).expect("something is sent")
    }

    /// Whether nothing has come beyond what was taken.
    pub fn is_empty(&self) -> bool {
        self.received.try_recv().is_err()
    }

    /// A server of HTTP, with TLS where there is a certificate.
    pub fn http(script: &[Does], tls: Option<&Authority>) -> Self {
        let tls = tls.map(Authority::server);
        Self::serve(script, move |stream, does, sender| match &tls {
            Some(tls) => answer_http(rustls_stream(stream, tls), does, sender),
            None => answer_http(stream, does, sender),
        })
    }

    /// A server for mail that wants STARTTLS and then the password `open sesame`.
    pub fn smtp(script: &[Does], tls: &Authority) -> Self {
        let tls = tls.server();
        Self::serve(script, move |stream, does, sender| answer_smtp(stream, &tls, does, sender))
    }

    fn serve(
        script: &[Does],
        answer: impl Fn(TcpStream, Does, &mpsc::Sender<Received>) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let port = listener.local_addr().expect("an address").port();
        let (sender, received) = mpsc::channel();
        let (script, answer) = (script.to_vec(), Arc::new(answer));
        // It ends with the program.
        thread::spawn(move || {
            for (i, stream) in listener.incoming().enumerate() {
                let does = script[i.min(script.len() - 1)];
                let (sender, answer) = (sender.clone(), Arc::clone(&answer));
                thread::spawn(move || stream.and_then(|stream| answer(stream, does, &sender)));
            }
        });
        Self { port, received }
    }
}

type Tls = rustls::StreamOwned<rustls::ServerConnection, TcpStream>;

fn rustls_stream(stream: TcpStream, config: &Arc<rustls::ServerConfig>) -> Tls {
    rustls::StreamOwned::new(rustls::ServerConnection::new(Arc::clone(config)).expect("TLS"), stream)
}

fn answer_http<S: Read + Write>(stream: S, does: Does, sender: &mpsc::Sender<Received>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut header, mut length) = (String::new(), String::new(), 0);
    reader.read_line(&mut line)?;
    loop {
        let mut one = String::new();
        if reader.read_line(&mut one)? <= 2 {
            break;
        }
        if let Some((name, value)) = one.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().expect("a length");
        }
        header.push_str(&one.to_lowercase());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let received =
        Received { line: line.trim_end().to_owned(), header, body: String::from_utf8_lossy(&body).into_owned() };
    let status = match does {
        Does::Takes => 204,
        Does::Answers(status) => status,
        Does::Hangs => {
            let _ = sender.send(received);
            // Until the other side has had enough.
            return std::io::copy(&mut reader, &mut std::io::sink()).map(drop);
        }
    };
    let answer = format!("HTTP/1.1 {status} So\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    reader.get_mut().write_all(answer.as_bytes())?;
    reader.get_mut().flush()?;
    let _ = sender.send(received);
    Ok(())
}

fn answer_smtp(
    mut stream: TcpStream,
    tls: &Arc<rustls::ServerConfig>,
    does: Does,
    sender: &mpsc::Sender<Received>,
) -> std::io::Result<()> {
    if does == Does::Hangs {
        return std::io::copy(&mut stream, &mut std::io::sink()).map(drop);
    }
    stream.write_all(b"220 test\r\n")?;
    let mut plain = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if plain.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let answer = match line.trim_end() {
            line if line.starts_with("EHLO") => "250-test\r\n250 STARTTLS\r\n",
            "STARTTLS" => "220 go\r\n",
            "QUIT" => return Ok(()),
            _ => "530 STARTTLS first\r\n",
        };
        plain.get_mut().write_all(answer.as_bytes())?;
        if line.starts_with("STARTTLS") {
            break;
        }
    }
    let mut reader = BufReader::new(rustls_stream(plain.into_inner(), tls));
    let (mut login, mut mail) = (String::new(), String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut answer = "250 fine\r\n".to_owned();
        match line.trim_end() {
            line if line.starts_with("EHLO") => answer = "250-test\r\n250 AUTH PLAIN LOGIN\r\n".to_owned(),
            line if line.starts_with("AUTH PLAIN ") => {
                use base64::Engine as _;
                let given = base64::engine::general_purpose::STANDARD.decode(&line["AUTH PLAIN ".len()..]);
                login = String::from_utf8_lossy(&given.expect("base64")).trim_matches('\0').replace('\0', " ");
                let is_right = login.ends_with(" open sesame");
                answer = if is_right { "235 welcome\r\n" } else { "535 wrong password\r\n" }.to_owned();
            }
            line if line.starts_with("RCPT") => {
                if let Does::Answers(code) = does {
                    answer = format!("{code} not you\r\n");
                }
            }
            "DATA" => {
                reader.get_mut().write_all(b"354 go on\r\n")?;
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line)? == 0 || line == ".\r\n" {
                        break;
                    }
                    mail.push_str(&line);
                }
                let received = Received { line: login.clone(), header: String::new(), body: std::mem::take(&mut mail) };
                let _ = sender.send(received);
            }
            "QUIT" => {
                let _ = reader.get_mut().write_all(b"221 bye\r\n");
                return Ok(());
            }
            _ => {}
        }
        reader.get_mut().write_all(answer.as_bytes())?;
    }
}

/// An authority of certificates, and the certificate of a server on this host that it gave.
pub struct Authority {
    folder: Scratch,
    config: Mutex<Option<Arc<rustls::ServerConfig>>>,
}

impl Authority {
    /// Makes them with openssl, for this name of a host, or an address as `IP:127.0.0.1`.
    pub fn new(name: &str) -> Self {
        let folder = Scratch::new();
        let openssl = |arguments: &str| {
            let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder.path()).output();
            let output = output.expect("openssl");
            assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
        };
        let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        openssl(&format!("req -x509 {new_key} -keyout ca.key -out ca.pem -days 2 -subj /CN=authority"));
        openssl(&format!("req {new_key} -keyout server.key -out server.csr -subj /CN=server"));
        fs::write(folder.join("names"), format!("subjectAltName={name}\n")).expect("names");
        openssl(
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
        );
        Self { folder, config: Mutex::default() }
    }

    /// The certificate of the authority.
    pub fn file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    fn server(&self) -> Arc<rustls::ServerConfig> {
        let mut config = self.config.lock().expect("no panic");
        let made = config.get_or_insert_with(|| {
            let chain = CertificateDer::pem_file_iter(self.folder.join("server.pem")).expect("server.pem");
            let chain = chain.collect::<Result<_, _>>().expect("a certificate");
            let key = PrivateKeyDer::from_pem_file(self.folder.join("server.key")).expect("server.key");
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            let config = builder.expect("versions").with_no_client_auth().with_single_cert(chain, key);
            Arc::new(config.expect("a configuration"))
        });
        Arc::clone(made)
    }
}

/// Puts credentials into a folder, as systemd passes them.
pub fn credentials(folder: &Path, credentials: &[(&str, &str)]) -> String {
    let folder = folder.join("credentials");
    fs::create_dir_all(&folder).expect("a folder for credentials");
    for (name, text) in credentials {
        fs::write(folder.join(name), text).expect("write a credential");
    }
    folder.display().to_string()
}
