//! Why a connection could not be secured, in words that name the cause.
//!
//! What another attempt cannot mend is fatal: a certificate that is not good, a peer that wants another one of ours, one
//! that speaks no TLS or none that is acceptable. What may be an accident of this connection is retryable: a connection
//! that ends in the handshake, bytes that are garbled, an internal error of the peer.

use crate::protocol::Failure;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Display;
use core::time::Duration;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

/// Names in a certificate that an error quotes.
const NAMES_MAX: usize = 4;

/// Characters of one name that an error quotes.
const NAME_CHARS_MAX: usize = 100;

/// The words for an error of the library, on a connection of which the peer said `first` to begin with.
pub(super) fn explain(name: &str, error: &Error, is_handshaking: bool, first: &[u8]) -> Failure {
    if let (true, Some(other)) = (is_handshaking, spoken(first)) {
        return fatal(
            name,
            format!("the collector answered in {other} instead of TLS"),
            "use an http endpoint if that is meant, or the port on which the collector speaks TLS",
        );
    }
    match error {
        Error::InvalidCertificate(error) => certificate(name, error),
        Error::AlertReceived(alert) => alerted(name, *alert),
        Error::NoCertificatesPresented => fatal(
            name,
            "the collector presented no certificate",
            "give the collector one",
        ),
        Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => old_version(name),
        Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig) => fatal(
            name,
            "the collector chose a version of TLS that the settings exclude",
            "allow that version, or let the collector speak another",
        ),
        Error::PeerIncompatible(what) => fatal(
            name,
            format!("the collector's TLS has nothing in common with ours ({what:?})"),
            "check the collector's versions and cipher suites",
        ),
        Error::NoApplicationProtocol => no_protocol(name),
        // No record at all, and nothing known either.
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) if is_handshaking => fatal(
            name,
            "the collector's answer is no TLS",
            "check that the endpoint's port speaks TLS",
        ),
        error => Failure::retryable(format!("TLS with {name}: the connection broke: {error}")),
    }
}

/// The connection ended before the handshake did.
pub(super) fn unfinished(name: &str, why: &str, first: &[u8]) -> Failure {
    let what = match spoken(first) {
        Some(other) => format!("the collector answered in {other}"),
        None if first.is_empty() => "the collector had not answered; check that its port speaks TLS".into(),
        None => "the collector had begun to answer".into(),
    };
    Failure::retryable(format!("TLS with {name}: no handshake: {why}; {what}"))
}

/// The peer and we have no protocol in common (RFC 7301, section 3.2).
pub(super) fn no_protocol(name: &str) -> Failure {
    fatal(
        name,
        "no protocol was agreed on (ALPN): gRPC needs h2, OTLP over HTTP takes h2 or http/1.1",
        "enable it at the collector or at what stands in front of it",
    )
}

/// The peer's handshake is larger than any.
pub(super) fn overfull(name: &str, error: &dyn Display) -> Failure {
    Failure::retryable(format!("TLS with {name}: the collector sends too much: {error}"))
}

/// The connection takes no more plaintext.
pub(super) fn exhausted(name: &str, why: &str) -> Failure {
    Failure::retryable(format!(
        "TLS with {name}: the connection cannot be used any more: {why}"
    ))
}

fn fatal(name: &str, what: impl Display, advice: &str) -> Failure {
    Failure::fatal(format!("TLS with {name}: {what}; {advice}"))
}

fn old_version(name: &str) -> Failure {
    fatal(
        name,
        "the collector speaks no TLS 1.2 or newer",
        "older versions are not safe and not spoken here; upgrade the collector",
    )
}

fn certificate(name: &str, error: &CertificateError) -> Failure {
    let clock = "renew it, or set this host's clock if that is wrong";
    match error {
        CertificateError::UnknownIssuer => fatal(
            name,
            "the collector's certificate comes from an unknown issuer: its authority (CA) is not trusted, or the collector \
             does not send the intermediate certificate between them",
            "give the authority with Tls::with_ca_file, or complete the collector's chain",
        ),
        CertificateError::BadSignature => fatal(
            name,
            "the collector's certificate comes from an unknown issuer: it names a trusted authority (CA) and does not bear its \
             signature",
            "give the authority that signed it with Tls::with_ca_file",
        ),
        CertificateError::NotValidForName => fatal(
            name,
            "the collector's certificate is made out for another name",
            "use that name in the endpoint, or give it with Tls::with_server_name",
        ),
        CertificateError::NotValidForNameContext { expected, presented } => fatal(
            name,
            format!(
                "the collector's certificate is not made out for {} but for {}",
                expected.to_str(),
                names(presented)
            ),
            "use such a name in the endpoint, or give it with Tls::with_server_name",
        ),
        CertificateError::Expired => fatal(name, "a certificate of the collector's has expired", clock),
        CertificateError::ExpiredContext { time, not_after } => {
            let what = format!(
                "a certificate of the collector's has expired {} ago",
                between(*not_after, *time)
            );
            fatal(name, what, clock)
        }
        CertificateError::NotValidYet => {
            fatal(name, "a certificate of the collector's is not valid yet", clock)
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            let what = format!(
                "a certificate of the collector's is not valid yet, but in {}",
                between(*time, *not_before)
            );
            fatal(name, what, clock)
        }
        CertificateError::Revoked => fatal(
            name,
            "a certificate of the collector's was revoked",
            "give the collector a new one",
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => fatal(
            name,
            "the collector's certificate is not made for servers",
            "give the collector one with the key usage serverAuth",
        ),
        CertificateError::BadEncoding => fatal(
            name,
            "a certificate of the collector's cannot be read",
            "give the collector a certificate of X.509 version 3",
        ),
        error => fatal(
            name,
            format!("the collector's certificate is not good: {error}"),
            "give the collector another",
        ),
    }
}

/// The peer refused, and says why in one number (RFC 8446, section 6.2).
fn alerted(name: &str, alert: AlertDescription) -> Failure {
    use AlertDescription as A;
    let ours = "check Tls::with_client_certificate_files and what the collector trusts";
    match alert {
        A::CertificateRequired | A::NoCertificate => fatal(
            name,
            "the collector asks for a client certificate and none was presented",
            "give one with Tls::with_client_certificate_files",
        ),
        A::UnknownCA => fatal(
            name,
            "the collector does not know the authority (CA) of the client certificate",
            ours,
        ),
        A::CertificateExpired => fatal(name, "the client certificate has expired", "renew it"),
        A::CertificateRevoked => fatal(name, "the client certificate was revoked", "renew it"),
        A::BadCertificate | A::CertificateUnknown | A::UnsupportedCertificate => fatal(
            name,
            format!(
                "the collector refuses the client certificate, or misses one ({})",
                told(alert)
            ),
            ours,
        ),
        A::AccessDenied => fatal(name, "the collector denies access to this client", ours),
        A::ProtocolVersion => old_version(name),
        A::HandshakeFailure | A::InsufficientSecurity => fatal(
            name,
            format!(
                "the collector finds no common ground ({}): versions, cipher suites, or a client certificate that it misses",
                told(alert)
            ),
            ours,
        ),
        A::UnrecognisedName => fatal(
            name,
            "the collector does not know itself by that name",
            "check the endpoint's host, or give Tls::with_server_name",
        ),
        A::NoApplicationProtocol => no_protocol(name),
        alert => Failure::retryable(format!(
            "TLS with {name}: the collector ended the connection ({})",
            told(alert)
        )),
    }
}

/// The number that a collector's log or a trace shows, with its name.
fn told(alert: AlertDescription) -> String {
    format!("alert {} {alert:?}", u8::from(alert))
}

/// What a peer speaks that does not speak TLS.
fn spoken(first: &[u8]) -> Option<&'static str> {
    // The SETTINGS frame of HTTP/2: three bytes of length, a type of 4, no flags, stream 0 (RFC 9113, section 4.1).
    let is_settings = |first: &[u8]| first.len() >= 9 && first[0] == 0 && first[3..9] == [4, 0, 0, 0, 0, 0];
    if first.starts_with(b"HTTP/") {
        Some("plain HTTP")
    } else if is_settings(first) {
        Some("plain HTTP/2")
    } else if first.starts_with(b"SSH-") {
        Some("SSH")
    } else {
        None
    }
}

/// The time between two moments, roughly.
fn between(from: UnixTime, to: UnixTime) -> String {
    let secs = to.as_secs().saturating_sub(from.as_secs());
    let (count, unit) = match Duration::from_secs(secs).as_secs() {
        0..=119 => (secs, "s"),
        120..=7_199 => (secs / 60, "minutes"),
        7_200..=172_799 => (secs / 3_600, "hours"),
        _ => (secs / 86_400, "days"),
    };
    format!("{count} {unit}")
}

/// The names in a certificate, which are the peer's words.
fn names(presented: &[String]) -> String {
    let mut text = String::new();
    for (at, name) in presented.iter().take(NAMES_MAX).enumerate() {
        if at > 0 {
            text += ", ";
        }
        text.extend(
            name.chars()
                .take(NAME_CHARS_MAX)
                .map(|c| if c.is_control() { '.' } else { c }),
        );
    }
    match presented.len() {
        0 => "no name at all".to_string(),
        len if len > NAMES_MAX => format!("{text} and {} more", len - NAMES_MAX),
        _ => text,
    }
}
