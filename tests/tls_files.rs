//! Certificates and keys in files: read at the start, read again when they change, never believed when they are bad.

#[path = "support/batches.rs"]
mod batches;
#[path = "support/tls_world.rs"]
mod tls_world;

use batches::batch;
use otlp_embed::export::Fact;
use otlp_embed::{Config, Error, Protocol, Tls};
use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tls_world::*;

/// A folder of one test, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tls_files-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file as a careful operator does: whole, under another name first.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let (path, new) = (self.path(name), self.path("new"));
        fs::write(&new, text).expect("a file");
        fs::rename(&new, &path).expect("a file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn config(tls: Tls) -> Config {
    Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(format!("https://{NAME}:4317"))
        .with_tls(tls)
}

fn refused(tls: Tls) -> Error {
    let error = config(tls).settings().err().expect("refused");
    assert!(error.is_misuse(), "{error}");
    error
}

/// A world whose server can be replaced while it runs.
fn world(tls: Tls, server: &Rc<RefCell<ServerTls>>) -> TlsWorld {
    let server = server.clone();
    TlsWorld::new(config(tls), move |builder, number| {
        Peer::tls(
            server.borrow().config(),
            App::Http2(Box::new(builder.session(number))),
        )
    })
}

/// The connection ends while it is idle; the next export opens another.
fn disconnect(world: &mut TlsWorld) {
    let last = *world.order.last().expect("a connection");
    world.wires.get_mut(&last).expect("it is there").is_closed = true;
    world.fact(Fact::Eof(last));
}

/// spec 54
#[test]
fn a_bad_file_is_a_mistake_that_names_setting_path_and_fault() {
    let folder = Folder::new("bad");
    let authority = Authority::new("ours");
    let (own, other) = (authority.client("a"), authority.client("b"));
    let ca = folder.write("ca.pem", &authority.pem);
    let chain = folder.write("chain.pem", &own.chain_pem);
    let key = folder.write("key.pem", &own.key_pem);
    let other_key = folder.write("other.pem", &other.key_pem);
    let empty = folder.write("empty.pem", "");
    let cut = folder.write("cut.pem", &authority.pem[..authority.pem.len() / 2]);
    let garbage = folder.write(
        "garbage.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let large = folder.write("large.pem", &"x".repeat((4 << 20) + 1));
    config(
        Tls::new()
            .with_ca_file(&ca)
            .with_client_certificate_files(&chain, &key),
    )
    .settings()
    .unwrap_or_else(|error| panic!("a control: {error}"));
    for (path, fault) in [
        (folder.path("missing.pem"), "No such file"),
        (folder.0.clone(), "no regular file"),
        (empty.clone(), "no certificate in it"),
        (key.clone(), "no certificate in it"),
        (cut, "without an END line"),
        (garbage, "cannot be trusted"),
        (large, "longer than"),
    ] {
        let text = refused(Tls::new().with_ca_file(&path)).to_string();
        let place = format!("Tls::with_ca_file: {}", path.display());
        assert!(text.contains(&place) && text.contains(fault), "{text}");
        assert!(text.contains(NAME), "which endpoint: {text}");
    }
    let with = |chain: &Path, key: &Path| {
        let tls = Tls::new()
            .with_ca_file(&ca)
            .with_client_certificate_files(chain, key);
        refused(tls).to_string()
    };
    let text = with(&chain, &other_key);
    assert!(
        text.contains("other.pem") && text.contains("does not belong"),
        "{text}"
    );
    let text = with(&chain, &empty);
    assert!(
        text.contains("empty.pem") && text.contains("no private key"),
        "{text}"
    );
    let text = with(&chain, &chain);
    assert!(text.contains("no private key"), "{text}");
    let text = with(&key, &key);
    assert!(text.contains("no certificate in it"), "{text}");
    let text = refused(Tls::new().with_ca_pem("nothing")).to_string();
    assert!(text.contains("Tls::with_ca_pem: no certificate in it"), "{text}");
    let text = refused(Tls::new().with_ca_file(&ca).with_server_name("not a name")).to_string();
    assert!(text.contains("Tls::with_server_name: \"not a name\""), "{text}");
}

#[test]
fn neither_errors_nor_debug_show_a_key() {
    let folder = Folder::new("secret");
    let authority = Authority::new("ours");
    let own = authority.client("a");
    // A key whose armour is broken: the words must not quote it.
    let broken = own.key_pem.replace("-----END", "----END");
    let secret = own.key_pem.lines().nth(1).expect("a line");
    let key = folder.write("key.pem", &broken);
    let chain = folder.write("chain.pem", &own.chain_pem);
    let tls = Tls::new()
        .with_ca_pem(&authority.pem)
        .with_client_certificate_files(&chain, &key);
    let text = format!("{:?} {}", tls, refused(tls.clone()));
    assert!(
        !text.contains(&secret[..12]) && text.contains("key.pem"),
        "{text}"
    );
    let tls = Tls::new().with_client_certificate_pem(&own.chain_pem, &own.key_pem);
    let text = format!("{tls:?} {:?}", config(tls.clone()));
    assert!(!text.contains(&secret[..12]), "{text}");
}

#[test]
fn a_replaced_authority_is_trusted_from_the_next_connection_on() {
    let folder = Folder::new("reload");
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let ca = folder.write("ca.pem", &old.pem);
    let server = Rc::new(RefCell::new(ServerTls::new(old.server(NAME, |_| ()))));
    let mut world = world(Tls::new().with_ca_file(&ca), &server);
    world.export(batch(0, 1)).expect("delivered");
    disconnect(&mut world);

    // The server moves on first: until the file does, too, it is refused.
    server.replace(ServerTls::new(new.server(NAME, |_| ())));
    let error = world.export(batch(1, 1)).expect_err("not trusted yet");
    assert!(error.to_string().contains("unknown issuer"), "{error}");
    folder.write("ca.pem", &new.pem);
    world.export(batch(2, 1)).expect("delivered");
    assert_eq!(world.builder.inbox().counters().spans, 2);
}

/// spec 54
#[test]
fn a_bad_replacement_leaves_the_last_good_one_in_use_and_is_told() {
    let folder = Folder::new("bad_reload");
    let authority = Authority::new("ours");
    let ca = folder.write("ca.pem", &authority.pem);
    let server = Rc::new(RefCell::new(ServerTls::new(authority.server(NAME, |_| ()))));
    let mut world = world(Tls::new().with_ca_file(&ca), &server);
    let said = |world: &TlsWorld| world.engine.stats().last_error.unwrap_or_default();
    world.export(batch(0, 1)).expect("delivered");
    assert_eq!(said(&world), "");

    for (text, fault) in [("garbage", "no certificate in it"), ("", "no certificate in it")] {
        disconnect(&mut world);
        folder.write("ca.pem", text);
        world
            .export(batch(1, 1))
            .expect("delivered with what was read before");
        assert!(
            said(&world).contains(fault) && said(&world).contains("stays in use"),
            "{}",
            said(&world)
        );
    }
    disconnect(&mut world);
    fs::remove_file(&ca).expect("a file");
    world
        .export(batch(2, 1))
        .expect("delivered with what was read before");
    assert!(said(&world).contains("No such file"), "{}", said(&world));

    // One that is good again is used again.
    disconnect(&mut world);
    let new = Authority::new("new");
    folder.write("ca.pem", &new.pem);
    server.replace(ServerTls::new(new.server(NAME, |_| ())));
    world.export(batch(3, 1)).expect("delivered");
    assert_eq!(world.builder.inbox().counters().spans, 5);
}

#[test]
fn a_client_certificate_and_its_key_are_replaced_together() {
    let folder = Folder::new("identity");
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let (before, after) = (old.client("a"), new.client("a"));
    let chain = folder.write("chain.pem", &before.chain_pem);
    let key = folder.write("key.pem", &before.key_pem);
    let admitting = |clients: &Authority| {
        let mut server = ServerTls::new(old.server(NAME, |_| ()));
        server.clients = Some(clients.der());
        server
    };
    let server = Rc::new(RefCell::new(admitting(&old)));
    let tls = Tls::new()
        .with_ca_pem(&old.pem)
        .with_client_certificate_files(&chain, &key);
    let mut world = world(tls, &server);
    world.export(batch(0, 1)).expect("delivered");

    // Between the two writes certificate and key do not belong together: the old ones serve on.
    disconnect(&mut world);
    folder.write("chain.pem", &after.chain_pem);
    world.export(batch(1, 1)).expect("delivered with the old ones");
    let said = world.engine.stats().last_error.expect("a warning");
    assert!(
        said.contains("does not belong") && said.contains("key.pem"),
        "{said}"
    );
    disconnect(&mut world);
    folder.write("key.pem", &after.key_pem);
    server.replace(admitting(&new));
    world.export(batch(2, 1)).expect("delivered with the new ones");
    assert_eq!(world.builder.inbox().counters().spans, 3);
}
